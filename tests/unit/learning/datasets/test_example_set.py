"""The example set: reproducible, labelled, readable without a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeinspect.errors import OutputError
from edgeinspect.imaging import WASHER_CLASSES, render_washer
from edgeinspect.learning.datasets import (
    check_dataset,
    open_dataset,
    scan_dataset,
    write_example_set,
)


@pytest.mark.parametrize("defect", WASHER_CLASSES)
def test_a_defect_is_where_the_mask_says(defect: str) -> None:
    for index in range(10):
        washer = render_washer(1, index, defect)
        assert set(np.unique(washer.mask)) == {0, WASHER_CLASSES.index(defect) + 1}
        good = render_washer(1, index)
        assert not good.mask.any()
        assert np.array_equal(washer.image, render_washer(1, index, defect).image)
        # Random numbers after the defect differ, so compare regions, not pixels.
        inside = washer.image[washer.mask > 0].astype(float)
        same_place = good.image[washer.mask > 0].astype(float)
        assert abs(inside - same_place).mean() > 8, (defect, index)


def test_parts_and_batches_differ() -> None:
    images = [render_washer(seed, index).image for seed in (1, 2) for index in (0, 1)]
    assert len({image.tobytes() for image in images}) == 4


def test_the_set_is_read_without_a_warning(tmp_path: Path) -> None:
    counts = write_example_set(tmp_path / "washers", 40, seed=1)
    assert counts == {"good": 22, "scratch": 6, "dent": 6, "stain": 6}
    dataset = open_dataset(tmp_path / "washers")
    assert (dataset.layout, dataset.classes) == ("mask_folder", WASHER_CLASSES)
    scan = scan_dataset(dataset)
    assert [finding.level for finding in check_dataset(scan)] == ["note", "note"]
    assert not scan.duplicates
    for sample in dataset.samples:
        kind = Path(sample.name).name.partition("-")[0]
        assert [dataset.classes[i - 1] for i in sample.class_ids] == [kind] * sample.is_defective


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not empty"):
        write_example_set(tmp_path, 10, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
