"""The example set: reproducible, labelled, readable without a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeinspect.errors import DataError, OutputError
from edgeinspect.imaging import WASHER_CLASSES, render_washer
from edgeinspect.learning.datasets import (
    check_dataset,
    open_dataset,
    scan_dataset,
    split_dataset,
    write_example_set,
    write_split,
)
from edgeinspect.learning.evaluate import apply_split


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


def test_a_split_file_comes_before_the_training_split(tmp_path: Path) -> None:
    write_example_set(tmp_path / "set", 20, seed=1)
    dataset = open_dataset(tmp_path / "set")
    for seed in (1, 2):
        path = tmp_path / f"{seed}.json"
        write_split(path, split_dataset(dataset, seed), seed, (0.7, 0.15, 0.15))
    first, second = (apply_split(dataset, tmp_path / f"{seed}.json") for seed in (1, 2))
    assert [s.split for s in first.samples] != [s.split for s in second.samples]
    both = apply_split(dataset, tmp_path / "1.json", tmp_path / "2.json")
    assert both.samples == first.samples
    assert apply_split(dataset, None, tmp_path / "2.json").samples == second.samples
    write_example_set(tmp_path / "other", 10, seed=2)
    other = open_dataset(tmp_path / "other")
    kept = apply_split(other, None, tmp_path / "2.json")
    assert "other images" in kept.notes[-1]
    assert not any(sample.split for sample in kept.samples)
    with pytest.raises(DataError):
        apply_split(other, tmp_path / "2.json")
