"""A mask belongs to one image, also where names of images repeat from folder to folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.open import open_dataset


def spot(number: int) -> np.ndarray:
    """Return a mask that differs from those of other numbers."""
    mask = np.zeros((40, 64), np.uint8)
    mask[4:12, 2 * number : 2 * number + 8] = 255
    return mask


def paired(make: Any, *pairs: tuple[str, str]) -> dict[str, np.ndarray]:
    """Write four images of each folder, with masks of their own; `{}` is the number of each."""
    written = {}
    for image, mask in pairs:
        for index in range(4):
            make.write(image.format(index))
            if mask:
                written[image.format(index)] = spot(len(written))
                make.write(mask.format(index), written[image.format(index)])
    return written


def check_masks(make: Any, written: dict[str, np.ndarray], layout: str) -> None:
    data = open_dataset(make.root)
    assert data.layout == layout
    assert {sample.name for sample in data.samples if sample.is_defective} == set(written)
    for sample in data.samples:
        want = written.get(sample.name, np.zeros((40, 64), np.uint8))
        assert np.array_equal(sample.read_mask(40, 64) > 0, want > 0), sample.name


@pytest.mark.parametrize(
    ("folders", "mask", "both"),
    [
        # MVTec AD and BTAD: cameras; defects in another split
        (
            ("train/good", "test/good", "test/crack/cam1", "test/crack/cam2"),
            "ground_truth/crack/{}_mask.png",
            "test/crack/cam1/0.png and test/crack/cam2/0.png",
        ),
        (
            ("train/good", "test/good", "test/crack", "train/crack"),
            "ground_truth/crack/{}_mask.png",
            "train/crack/0.png and test/crack/0.png",
        ),
        (
            ("train/good", "test/good", "test/crack", "validation/crack"),
            "ground_truth/crack/{}/00.png",
            "validation/crack/0.png and test/crack/0.png",
        ),
        (
            ("train/ok", "test/ok", "test/ko", "train/ko"),
            "ground_truth/ko/{}.png",
            "train/ko/0.png and test/ko/0.png",
        ),
        # a folder of masks beside class folders
        (
            ("train/good", "test/good", "train/crack", "test/crack"),
            "masks/crack/{}.png",
            "test/crack/0.png and train/crack/0.png",
        ),
        (
            ("good/day1", "good/day2", "crack/day1", "crack/day2"),
            "masks/crack/{}.png",
            "crack/day1/0.png and crack/day2/0.png",
        ),
        (
            ("normal/day1", "normal/day2", "abnormal/day1", "abnormal/day2"),
            "mask/{}.png",
            "abnormal/day1/0.png and abnormal/day2/0.png",
        ),
    ],
)
def test_a_mask_of_two_images_is_refused(
    make: Any, folders: tuple[str, ...], mask: str, both: str
) -> None:
    paired(make, *((f"{folder}/{{}}.png", "") for folder in folders))
    for index in range(4):
        make.write(mask.format(index), spot(index))
    with pytest.raises(DataError, match=f"would be the mask of two images: {both}"):
        open_dataset(make.root)


def test_a_mask_of_two_images_of_an_index_is_refused(make: Any) -> None:
    names = [f"{day}/{index}.png" for day in ("day1", "day2") for index in range(3)]
    paired(make, *((f"images/{day}/{{}}.png", "") for day in ("day1", "day2")))
    for index in range(3):
        make.write(f"masks/{index}.png", spot(index))
    make.text("index.csv", "image,class_id", *(f"{name},1" for name in names))
    with pytest.raises(DataError, match=r"two images: day1/0\.png and day2/0\.png"):
        open_dataset(make.root)


@pytest.mark.parametrize("columns", ["image,class_id", "image"])
def test_masks_of_an_index_are_in_the_folders_of_their_images(make: Any, columns: str) -> None:
    written = paired(
        make,
        ("images/{}.png", ""),
        ("images/day1/{}.png", "masks/day1/{}.png"),
        ("images/day2/{}.png", "masks/day2/{}.png"),
        ("images/day3/{}.png", ""),
    )
    written = {name.removeprefix("images/"): mask for name, mask in written.items()}
    rows = [
        f"{name},{int(name in written)}"
        for folder in ("", "day1/", "day2/", "day3/")
        for name in (f"{folder}{index}.png" for index in range(4))
    ]
    make.text("index.csv", columns, *(row if "," in columns else row.split(",")[0] for row in rows))
    check_masks(make, written, "indexed")


def test_two_masks_of_an_image_of_an_index_are_named(make: Any) -> None:
    paired(make, ("images/day1/{}.png", "masks/day1/{}.png"))
    make.write("masks/day2/0.png", spot(9))
    make.text("index.csv", "image,class_id", "day1/0.png,1", "day1/1.png,0")
    with pytest.raises(DataError, match=r"one image: day1/0\.png and day2/0\.png"):
        open_dataset(make.root)


def test_good_images_may_share_an_empty_mask(make: Any) -> None:
    written = paired(make, ("train/crack/c{}.png", "masks/crack/c{}.png"))
    for folder in ("train", "test"):
        paired(make, (f"{folder}/good/{{}}.png", ""))
    for index in range(4):
        make.write(f"masks/good/{index}.png", spot(0) * 0)
    check_masks(make, written, "class_masks")


def test_one_image_under_two_suffixes_may_have_one_mask(make: Any) -> None:
    written = paired(make, ("good/{}.png", ""), ("crack/{}.png", "masks/crack/{}.png"))
    for index in range(4):
        make.write(f"crack/{index}.bmp")
    check_masks(make, written, "class_masks")


@pytest.mark.parametrize(
    "pairs",
    [
        [
            ("good/day1", ""),
            ("crack/day1", "masks/crack/day1"),
            ("crack/day2", "masks/crack/day2"),
        ],
        [("OK", ""), ("NG/dent", "masks/NG/dent"), ("NG/scratch", "masks/NG/scratch")],
        [("OK", ""), ("NG/dent", "masks/dent"), ("NG/scratch", "masks/scratch")],
        [
            ("train/good", ""),
            ("train/crack", "masks/train/crack"),
            ("test/crack", "masks/test/crack"),
        ],
        [("val/ok", ""), ("val/ng", "masks/valid/ng"), ("test/ng", "masks/test/ng")],
        [("train/ok", ""), ("train/ng", "masks/train"), ("test/ng", "masks/test")],
        [("ok/day1", ""), ("ng/day1", "masks/day1"), ("ng/day2", "masks/day2")],
        # masks in the folders of classes or splits
        [("ok/images", "ok/masks"), ("ng/images", "ng/masks")],
        [("ok", "ok/mask"), ("ng", "ng/mask")],
        [("ok", ""), ("ng", "ng/mask")],
        [("ok/img", ""), ("ng/img", "ng/mask")],
        [("train/ok", ""), ("train/ng", "train/ng/mask"), ("test/ng", "test/ng/mask")],
        [("train/ok", ""), ("train/ng", "train/masks/ng"), ("test/ng", "test/masks/ng")],
        [("ok/day1", ""), ("ng/day1", "ng/day1/mask"), ("ng/day2", "ng/day2/mask")],
        # a mask without a day is that of the image without one
        [("ok", ""), ("ng", "masks/ng"), ("ng/day1", "masks/ng/day1")],
    ],
)
def test_masks_in_folders_like_those_of_their_images(
    make: Any, pairs: list[tuple[str, str]]
) -> None:
    written = paired(
        make, *((f"{image}/{{}}.png", mask and f"{mask}/{{}}.png") for image, mask in pairs)
    )
    for name in [name for name in written if name.startswith("ok/")]:
        folder = "ok/masks" if "images" in name else "ok/mask"
        make.write(f"{folder}/{name[-5:]}", written.pop(name) * 0)
    check_masks(make, written, "class_masks")


@pytest.mark.parametrize("mask", ["crack/gt/{}.png", "masks/crack/{}.png"])
def test_other_views_of_the_images_with_masks_are_refused(make: Any, mask: str) -> None:
    paired(make, ("good/rgb/{}.png", ""), ("good/depth/{}.png", ""), ("crack/rgb/{}.png", mask))
    paired(make, ("crack/depth/{}.png", ""))
    with pytest.raises(DataError, match=r"4 images have no mask, .*: crack/depth/0\.png"):
        open_dataset(make.root)


def test_folders_of_masks_in_classes_of_unknown_meaning_are_of_two_sets(make: Any) -> None:
    written = paired(
        make,
        ("bottle/images/{}.png", "bottle/masks/{}.png"),
        ("cable/images/{}.png", "cable/masks/{}.png"),
    )
    with pytest.raises(DataError, match="holds several data sets"):
        open_dataset(make.root)
    data = open_dataset(make.root, "class_masks", good_classes=["none"])
    assert {sample.name for sample in data.samples} == set(written), "a person's word"


@pytest.mark.parametrize("names", [("cam1", "cam2"), ("cap", "cover")])
def test_classes_below_parts_are_refused_with_masks_too(make: Any, names: tuple[str, str]) -> None:
    pairs = []
    for name in names:
        pairs += [(f"{name}/ok/{{}}.png", ""), (f"{name}/ng/{{}}.png", f"masks/{name}/ng/{{}}.png")]
    written = paired(make, *pairs)
    if "cam1" in names:
        check_masks(make, written, "class_masks")
    else:
        with pytest.raises(DataError, match=r"both contain ng and ok.*--layout class_masks"):
            open_dataset(make.root)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("crack/day2/9.png", "masks/crack/day1/9.png"),
        ("test/crack/9.png", "masks/train/crack/9.png"),
        ("crack/9.png", "masks/train/hole/9.png"),
    ],
)
def test_a_mask_in_the_folders_of_other_images_is_not_its_own(
    make: Any, image: str, mask: str
) -> None:
    paired(
        make,
        ("train/good/{}.png", ""),
        ("train/crack/{}.png", "masks/train/crack/{}.png"),
        ("crack/day1/{}.png", "masks/crack/day1/{}.png"),
    )
    make.write(image)
    make.write(mask, spot(0))
    data = open_dataset(make.root)
    assert [one.name for one in data.skipped] == [mask]
    assert next(sample for sample in data.samples if sample.name == image).mask is None


def test_two_masks_of_an_image_are_named_with_their_folders(make: Any) -> None:
    paired(make, ("good/{}.png", ""), ("crack/{}.png", "masks/crack/a/{}.png"))
    make.write("masks/crack/b/0.png", spot(9))
    with pytest.raises(
        DataError, match=r"two masks: masks/crack/a/0\.png and masks/crack/b/0\.png"
    ):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["{}_mask.png", "{}.png", "{}/00.png"])
def test_mvtec_masks_in_all_folders_of_their_images(make: Any, name: str) -> None:
    written = paired(
        make,
        ("train/good/{}.png", ""),
        *(
            (f"test/crack/{part}/{{}}.png", f"ground_truth/crack/{part}/{name}")
            for part in ("cam1/day1", "cam2/day1", "0")
        ),
    )
    check_masks(make, written, "mvtec")
