"""Mask encodings are inferred over the whole set, and void is never a defect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.arrays import downsample_masks
from edgeinspect.learning.datasets.dataset import VOID, Dataset, has_class
from edgeinspect.learning.datasets.load import load_arrays
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.scan import scan_dataset


def masks(make: Any, *files: np.ndarray) -> Path:
    for index, mask in enumerate(files):
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", mask)
    return Path(make.root)


def bordered(make: Any, class_id: int = 1) -> np.ndarray:
    """A block of a class with a void border, as in VOC."""
    mask = make.mask(1) * np.uint8(class_id)
    ring = cv2.dilate(make.mask(1), np.ones((5, 5), np.uint8)) - make.mask(1)
    return np.asarray(np.where(ring > 0, 255, mask), np.uint8)


def test_a_void_border_is_no_defect(make: Any) -> None:
    data = open_dataset(masks(make, bordered(make), make.mask(), bordered(make), make.mask(1)))
    assert data.classes == ("defect",)
    found = data.samples[0].read_mask(40, 64)
    assert np.array_equal(found == 1, make.mask(1) == 1)
    assert np.count_nonzero(found == VOID) == np.count_nonzero(bordered(make) == 255)
    seen = scan_dataset(data).images
    assert [one.defect_px for one in seen] == [96, 0, 96, 96]
    assert seen[0].void_px == np.count_nonzero(bordered(make) == 255)


def test_void_is_kept_by_loading(make: Any) -> None:
    only_void = np.where(make.mask(1) > 0, 255, 0).astype(np.uint8)
    make.text("labels.txt", "__ignore__", "_background_", "pit")
    data = open_dataset(masks(make, bordered(make), only_void, make.mask()))
    images = load_arrays(data, data.samples, height_px=40, width_px=64, channels=1)
    assert images.defective.tolist() == [True, False, False]
    assert [sample.is_defective for sample in data.samples] == [True, False, False]
    assert set(np.unique(images.masks[1])) == {0, VOID}


def test_two_mask_encodings_are_an_error_with_names(make: Any) -> None:
    root = masks(make, make.mask(1), make.mask(1, value=255), make.mask(1), make.mask())
    with pytest.raises(
        DataError, match=r"two encodings: 1 have 255 alone \(masks/p1\.png\).*p0\.png"
    ):
        open_dataset(root)


@pytest.mark.parametrize("second", [128, 200])
def test_two_mask_encodings_without_white_are_an_error_too(make: Any, second: int) -> None:
    with pytest.raises(DataError, match="two encodings"):
        open_dataset(masks(make, make.mask(1), make.mask(1, value=second)))


def test_ids_that_were_resized_with_smoothing_are_an_error(make: Any) -> None:
    """Bilinear, the default of most programs: a 3 gets a rim of 2 and 1."""
    drawn = [make.mask(1) * np.uint8(each) for each in (1, 2, 3, 2, 3)]
    blended = [cv2.resize(cv2.resize(each, (53, 33)), (64, 40)) for each in drawn]
    assert set(np.unique(blended[2])) == {0, 1, 2, 3}
    root = masks(make, *blended, make.mask())
    with pytest.raises(DataError, match=r"in 4 of 4 masks of several ids, .*resized") as caught:
        open_dataset(root)
    assert caught.value.remedy
    make.text("classes.txt", "pit", "scratch", "patch")
    assert open_dataset(root).classes == ("pit", "scratch", "patch")


def test_ids_that_lie_beside_and_within_each_other_are_classes(make: Any) -> None:
    mask = make.mask(2)
    mask[6:24, 2:40] += mask[6:24, 2:40] == 0  # a part, and the defect on it
    assert open_dataset(masks(make, mask, mask, mask, make.mask())).classes == (
        "class_1",
        "class_2",
    )


def test_ids_among_soft_masks_are_an_error(make: Any) -> None:
    soft = np.asarray(cv2.GaussianBlur(make.mask(1, 1, value=255), (0, 0), 2))
    with pytest.raises(DataError, match=r"small values only \(masks/p2\.png\)"):
        open_dataset(masks(make, soft, soft, make.mask(1)))


def test_a_lone_id_keeps_its_number(make: Any) -> None:
    data = open_dataset(masks(make, make.mask(), make.mask(2, 2)))
    assert data.classes == ("class_1", "class_2")
    assert data.samples[1].class_ids == (2,)


def test_unnamed_greys_are_named_after_their_value(make: Any, tmp_path: Path) -> None:
    other = type(make)(tmp_path / "other")
    first = open_dataset(masks(make, make.mask(1, 2) * np.uint8(85), make.mask(2) * np.uint8(85)))
    second = open_dataset(
        masks(
            other,
            make.mask(2) * np.uint8(85),
            make.mask(3) * np.uint8(85),
            make.mask(1) * np.uint8(85),
        )
    )
    assert first.classes == ("grey_85", "grey_170")
    assert second.classes == ("grey_85", "grey_170", "grey_255")


def test_a_jpeg_of_ids_is_refused_and_never_good(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.jpg", make.mask(1, 2, 3))
    data = open_dataset(make.root)
    assert all(sample.is_defective for sample in data.samples)
    with pytest.raises(DataError, match="JPEG of more than black and white"):
        data.samples[0].read_mask(40, 64)


def test_a_black_and_white_jpeg_is_read(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.jpg", make.mask(*[1] * (index % 2), value=255))
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [False, True, False, True]


def alpha(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return np.dstack([colour, colour, colour, opacity])


@pytest.mark.parametrize("form", ["in alpha", "white below", "opaque", "16 bits", "2 bits"])
def test_a_mask_is_the_same_however_it_is_stored(make: Any, form: str) -> None:
    mask = make.mask(1, value=255)
    black, white = np.zeros_like(mask), np.full_like(mask, 255)
    stored = {
        "in alpha": alpha(black, mask),
        "white below": alpha(white, mask),
        "opaque": alpha(mask, white),
        "16 bits": mask.astype(np.uint16) * 257,
        "2 bits": mask,
    }[form]
    data = open_dataset(masks(make, stored, np.zeros_like(stored)))
    assert data.classes == ("defect",)
    assert np.array_equal(data.samples[0].read_mask(40, 64), make.mask(1))


def test_a_half_transparent_mask_is_refused(make: Any) -> None:
    data = open_dataset(
        masks(
            make,
            alpha(make.mask(1, value=255), make.mask(1, value=100)),
            make.mask(1, value=255),
            make.mask(),
        )
    )
    with pytest.raises(DataError, match="partly transparent"):
        data.samples[0].read_mask(40, 64)


def test_images_instead_of_masks_are_refused(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}.png", make.pixels())
    with pytest.raises(DataError, match="look like images"):
        open_dataset(make.root)


def test_a_palette_with_a_colour_twice_keeps_its_indices(make: Any) -> None:
    from tests.unit.learning.datasets.test_layouts import palette_png

    colors = np.array([(0, 0, 0), (9, 9, 9), (9, 9, 9), (9, 9, 9)], np.uint8)
    for index, classes in enumerate([(1,), (2, 3)]):
        make.write(f"images/p{index}.png")
        path = make.root / f"masks/p{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(palette_png(make.mask(*classes), colors))
    assert [sample.class_ids for sample in open_dataset(make.root).samples] == [(1,), (2, 3)]


def test_void_in_files_per_class(make: Any) -> None:
    for index in range(2):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}_pit.png", bordered(make, 1) * (index != 0))
    data: Dataset = open_dataset(make.root)
    found = data.samples[1].read_mask(40, 64)
    assert np.array_equal(found == 1, make.mask(1) == 1)
    assert (found == VOID).any()


def test_a_cell_of_void_is_void_unless_a_class_is_in_it() -> None:
    mask = np.zeros((1, 8, 12), np.uint8)
    mask[0, :4, :4] = VOID
    mask[0, :4, 4:8] = VOID
    mask[0, 0, 4:8] = 2
    mask[0, 0, 8] = VOID
    assert downsample_masks(mask, 4).tolist() == [[[VOID, 2, 0], [0, 0, 0]]]
    assert has_class(mask)
    assert not has_class(np.full((2, 2), VOID, np.uint8))


@pytest.mark.parametrize("way", ["blurred", "doubled", "halved"])
def test_few_greys_beside_each_other_are_soft_edges(make: Any, way: str) -> None:
    for index in range(8):
        drawn = np.zeros((80, 128), np.uint8)
        if index % 2:
            cv2.circle(drawn, (30 + index, 40), 12, 255, -1)
            cv2.line(drawn, (60, 10), (110, 60 - index), 255, 5)
        if way == "blurred":
            drawn = cv2.GaussianBlur(drawn, (3, 3), 0)
        else:
            factor = 2.0 if way == "doubled" else 0.5
            drawn = cv2.resize(
                drawn,
                None,
                fx=factor,
                fy=factor,
                interpolation=(cv2.INTER_LINEAR if way == "doubled" else cv2.INTER_AREA),
            )
        assert len(np.unique(drawn)) <= 17
        rng = np.random.default_rng(index)
        make.write(f"images/p{index}.png", rng.integers(0, 255, drawn.shape).astype(np.uint8))
        make.write(f"masks/p{index}.png", drawn)
    data = open_dataset(make.root)
    assert data.classes == ("defect",)
    assert any("soft edges" in note for note in data.notes)


def test_few_greys_in_separate_areas_are_classes(make: Any) -> None:
    for index in range(8):
        drawn = np.zeros((40, 64), np.uint8)
        grey = (60, 120, 180, 255)[index % 4]
        cv2.line(drawn, (5, 5), (50, 30), grey, 1)  # thin, and beside another
        cv2.line(drawn, (6, 5), (51, 30), 255, 1)
        cv2.circle(drawn, (20, 30), 4, grey, -1)
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", drawn)
    assert open_dataset(make.root).classes == ("grey_60", "grey_120", "grey_180", "grey_255")


@pytest.mark.parametrize("colors", [((250, 50, 83),), ((250, 50, 83), (51, 221, 255))])
def test_colours_that_were_mixed_at_edges_are_not_classes(make: Any, colors: Any) -> None:
    for index in range(6):
        drawn = np.zeros((40, 64, 3), np.uint8)
        for at, color in enumerate(colors):
            cv2.circle(drawn, (16 + 30 * at, 20), 8, color, -1)
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", cv2.GaussianBlur(drawn, (3, 3), 0))
    with pytest.raises(DataError, match="occur only at the edges of others"):
        open_dataset(make.root)
