"""Folders of images with masks: classes, kinds below a class, days and parts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.open import open_dataset


def counts(data: Dataset) -> dict[str, int]:
    """Return the images of each class, whose masks have pixels of that class only."""
    for sample in data.samples:
        name = str(sample.class_name)
        assert sample.is_defective == (name in data.classes)
        mask = sample.read_mask(40, 64)
        want = {data.classes.index(name) + 1} if sample.is_defective else set()
        assert set(np.unique(mask).tolist()) - {0} == want, sample.name
    return dict(Counter(str(sample.class_name) for sample in data.samples))


# -- kinds below a folder that says only defective --------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [
        "masks/NG/{kind}/{kind}{at}.png",
        "masks/{kind}/{kind}{at}.png",
        "masks/{kind}{at}.png",
        "NG/{kind}/masks/{kind}{at}.png",
        "NG/{kind}/{kind}{at}_mask.png",
    ],
)
def test_kinds_in_class_folders_with_masks(make: Any, mask: str) -> None:
    for at in range(4):
        make.write(f"OK/ok{at}.png")
        for kind in ("dent", "pit"):
            make.write(f"NG/{kind}/{kind}{at}.png")
            make.write(mask.format(kind=kind, at=at), make.mask(1, value=255))
    data = open_dataset(make.root)
    assert counts(data) == {"OK": 4, "NG/dent": 4, "NG/pit": 4}


@pytest.mark.parametrize(
    "mask", ["defect/{kind}/{kind}{at}_mask.png", "defect/{kind}{at}.png", "{kind}/{kind}{at}.png"]
)
def test_kinds_in_the_layout_of_mvtec(make: Any, mask: str) -> None:
    for at in range(4):
        make.write(f"train/good/{at}.png")
        make.write(f"test/good/{at}.png")
        for kind in ("crack", "hole"):
            make.write(f"test/defect/{kind}/{kind}{at}.png")
            name = mask.format(kind=kind, at=at)
            make.write(f"ground_truth/{name}", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert counts(data) == {"good": 8, "defect/crack": 4, "defect/hole": 4}


@pytest.mark.parametrize(("below", "is_noted"), [(("left", "right"), True), (("cam1",), False)])
def test_folders_of_mvtec_that_may_be_no_kinds_are_told(
    make: Any, below: tuple[str, ...], is_noted: bool
) -> None:
    for at in range(4):
        make.write(f"train/good/{at}.png")
        for name in below:
            make.write(f"test/defect/{name}/{at}.png")
            make.write(f"ground_truth/defect/{name}/{at}_mask.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert counts(data) == {"good": 4, "defect": 4 * len(below)}
    assert any("read as one class, defect" in note for note in data.notes) == is_noted


def test_a_folder_of_images_below_a_defect_is_no_kind(make: Any) -> None:
    for at in range(4):
        make.write(f"train/good/{at}.png")
        make.write(f"test/defect/images/{at}.png")
        make.write(f"ground_truth/defect/{at}_mask.png", make.mask(1, value=255))
    assert counts(open_dataset(make.root)) == {"good": 4, "defect": 4}


# -- days and parts ---------------------------------------------------------------------------

PLACES = [
    ("images/{}/{}.png", "masks/{}/{}.png"),
    ("{}/{}.png", "{}/{}_mask.png"),
    ("{}/{}.png", "masks/{}/{}.png"),
]


@pytest.mark.parametrize(("image", "mask"), PLACES[:2])
@pytest.mark.parametrize("place", ["NG/{}", "{}/NG"])
def test_days_beside_classes_are_groups(make: Any, image: str, mask: str, place: str) -> None:
    days = ("2024-01-03", "monday 1", "cam_a")
    for at in range(4):
        for day in days:
            name = place.format(day)
            make.write(image.format(name, at))
            make.write(mask.format(name, at), make.mask(1, value=255))
            make.write(image.format(name.replace("NG", "OK"), at))
    data = open_dataset(make.root)
    assert counts(data) == {"OK": 12, "NG": 12}
    assert {sample.group for sample in data.samples} == set(days)


@pytest.mark.parametrize(("image", "mask"), PLACES)
@pytest.mark.parametrize(
    ("folders", "is_noted"),
    [(("2024-01-03", "cam2", "monday 1"), False), (("housing", "cover", "cap"), True)],
)
def test_images_with_an_empty_mask_are_good_in_folders_of_days_and_parts(
    make: Any, image: str, mask: str, folders: tuple[str, ...], is_noted: bool
) -> None:
    for folder in folders:
        for at in range(4):
            make.write(image.format(folder, at))
            make.write(mask.format(folder, at), make.mask(*([1] if at % 2 else []), value=255))
    data = open_dataset(make.root)
    assert data.classes == ("defect",)
    assert [sample.is_defective for sample in data.samples] == [False, True] * 6
    assert {sample.group for sample in data.samples} == set(folders)
    assert any("are taken as parts" in note for note in data.notes) == is_noted


def test_a_part_whose_images_have_no_mask_is_not_labelled(make: Any) -> None:
    for folder in ("housing", "cover"):
        for at in range(8):
            make.write(f"images/{folder}/{at}.png")
            mask = make.mask(*([1] if at % 2 else []), value=255)
            make.write(f"masks/{folder}/{at}.png", mask)
    make.write("images/cap/0.png")
    data = open_dataset(make.root)
    assert (len(data), [one.name for one in data.skipped]) == (16, ["images/cap/0.png"])
    assert "no image of cap/ has a mask" in data.skipped[0].reason


@pytest.mark.parametrize(("image", "mask"), PLACES)
@pytest.mark.parametrize("kinds", [("pit", "stain"), ("pit", "stain", "plain")])
def test_images_without_a_mask_in_folders_of_unknown_meaning_are_refused(
    make: Any, image: str, mask: str, kinds: tuple[str, ...]
) -> None:
    for kind in kinds:
        for at in range(8):
            make.write(image.format(kind, at))
            if at % 4 and kind != "plain":
                make.write(mask.format(kind, at), make.mask(1, value=255))
    with pytest.raises(DataError, match="images have no mask, and the names") as caught:
        open_dataset(make.root)
    layout = caught.value.remedy.rpartition("--layout ")[2].split()[0]
    assert open_dataset(make.root, layout).classes == tuple(sorted(kinds))
    if "plain" in kinds:
        assert open_dataset(make.root, good_classes=["plain"]).classes == ("pit", "stain")


def test_folders_of_kinds_whose_images_all_have_a_mask_are_classes(make: Any) -> None:
    for kind in ("pit", "stain"):
        for at in range(8):
            make.write(f"images/{kind}/{at}.png")
            make.write(f"masks/{kind}/{at}.png", make.mask(1, value=255))
    assert counts(open_dataset(make.root)) == {"pit": 8, "stain": 8}


# -- names of masks and their folders ---------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}", "mask_{}"),
        ("{}", "mask{}"),
        ("a{}", "gt-a{}"),
        ("a{}_x", "label_a{}_x"),
        ("image_{}", "mask_{}"),
        ("img{}", "mask{}"),
        ("image_{}", "{}"),
        ("{}_image", "{}_mask"),
        ("{}_img", "{}_gt"),
        ("{}", "{}_label"),
        ("{}", "{}_labelIds"),
        ("b{}_leftImg8bit", "b{}_gtFine_labelIds"),
    ],
)
def test_names_of_masks(make: Any, image: str, mask: str) -> None:
    for at in range(12):
        make.write(f"images/{image.format(at)}.png")
        drawn = make.mask()
        drawn[4:8, 4 * at : 4 * at + 4 if at % 2 else 0] = 255
        make.write(f"masks/{mask.format(at)}.png", drawn)
    data = open_dataset(make.root)
    assert (data.layout, data.classes, len(data)) == ("mask_folder", ("defect",), 12)
    for at in range(12):
        sample = next(one for one in data.samples if one.name == f"{image.format(at)}.png")
        columns = np.flatnonzero(sample.read_mask(40, 64).any(axis=0)).tolist()
        assert columns == (list(range(4 * at, 4 * at + 4)) if at % 2 else [])


@pytest.mark.parametrize(
    ("images", "message"),
    [(("3", "image_3"), "two masks"), (("img_3", "image_3"), "mask of two images")],
)
def test_a_mask_that_may_be_of_two_images_is_refused(
    make: Any, images: tuple[str, str], message: str
) -> None:
    for name in (*images, "p5"):
        make.write(f"images/{name}.png")
    make.write("masks/mask_3.png", make.mask(1, value=255))
    if "3" in images:
        make.write("masks/3.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("img_dir/{}/{}.jpg", "ann_dir/{}/{}.png"),
        ("input/{}/{}.jpg", "target/{}/{}.png"),
        ("{}/input/{}.jpg", "{}/target/{}.png"),
        ("leftImg8bit/{}/aachen/{}_leftImg8bit.png", "gtFine/{}/aachen/{}_gtFine_labelIds.png"),
    ],
)
def test_folders_of_masks(make: Any, image: str, mask: str) -> None:
    for split in ("train", "val"):
        for at in range(4):
            make.write(image.format(split, f"{split}{at}"))
            make.write(mask.format(split, f"{split}{at}"), make.mask(*([1] if at % 2 else [])))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("mask_folder", ("defect",))
    assert [sample.split for sample in data.samples] == ["train"] * 4 + ["val"] * 4
    assert [sample.is_defective for sample in data.samples] == [False, True] * 4


def test_a_class_named_target_stays_one(make: Any) -> None:
    make.class_folder("ok", "target")
    assert open_dataset(make.root).classes == ("target",)


# -- masks beside their images -----------------------------------------------------------------


@pytest.mark.parametrize(("good", "masked"), [(6, 6), (5, 6), (6, 5), (12, 1)])
@pytest.mark.parametrize("folder", ["", "train/", "images/"])
@pytest.mark.parametrize("layout", [None, "mask_beside"])
def test_masks_beside_any_number_of_images(
    make: Any, good: int, masked: int, folder: str, layout: str | None
) -> None:
    for at in range(good + masked):
        make.write(f"{folder}{at:03}.png")
        if at >= good:
            make.write(f"{folder}{at:03}_mask.png", make.mask(1, value=255))
    data = open_dataset(make.root, layout)
    assert data.layout == "mask_beside"
    assert [sample.is_defective for sample in data.samples] == [False] * good + [True] * masked
    assert all(sample.read_mask(40, 64).any() == sample.is_defective for sample in data.samples)


def test_masks_beside_half_of_the_images_of_days(make: Any) -> None:
    for at in range(6):
        for day in ("2024-01-03", "2024-01-04"):
            make.write(f"{day}/{at}.png")
            if at > 2:
                make.write(f"{day}/{at}_mask.png", make.mask(1, value=255))
    data = open_dataset(make.root, "mask_beside")
    assert [sample.is_defective for sample in data.samples] == [at > 2 for at in range(6)] * 2


@pytest.mark.parametrize("layout", ["mask_folder", "class_masks"])
def test_a_class_before_the_name_of_the_image_is_told(make: Any, layout: str) -> None:
    for at in range(4):
        make.write(f"OK/{at:03}.png" if layout == "class_masks" else f"images/{at:03}.png")
        make.write(f"NG/{at + 4:03}.png" if layout == "class_masks" else f"images/{at + 4:03}.png")
        make.write(f"masks/crack_{at + 4:03}.png", make.mask(1, value=255))
    with pytest.raises(DataError) as at_fault:
        open_dataset(make.root)
    assert "004_crack.png instead of crack_004.png" in str(at_fault.value.remedy)


def test_masks_of_two_classes_that_overlap_are_told(make: Any) -> None:
    for at in range(4):
        make.write(f"images/{at}.png")
        make.write(f"masks/crack/{at}.png", make.mask(1, value=255))
        dent = make.mask(1, 2) if at == 2 else make.mask(0, 2)
        make.write(f"masks/dent/{at}.png", (255 * (dent > 0)).astype(np.uint8))
    data = open_dataset(make.root)
    assert [note for note in data.notes if "overlap" in note] == [
        "1 image has masks of several classes that overlap: the later class wins "
        "(masks/crack/2.png and masks/dent/2.png)"
    ]
    assert set(np.unique(data.samples[2].read_mask(40, 64))) == {0, 2}


def test_masks_of_two_objects_of_one_class_may_overlap(make: Any) -> None:
    for at in range(4):
        make.write(f"images/{at}.png")
        for number in range(2):
            make.write(f"masks/{at}_mask_{number}.png", make.mask(1, value=255))
    assert not [note for note in open_dataset(make.root).notes if "overlap" in note]


@pytest.mark.parametrize(
    "mask",
    [
        "masks/NG/{kind}/{at}.png",
        "masks/{kind}/{at}.png",
        "NG/{kind}/masks/{at}.png",
        "ground_truth/NG/{kind}/{at}_mask.png",
    ],
)
def test_kinds_whose_images_have_the_same_names(make: Any, mask: str) -> None:
    for at in range(4):
        make.write(f"OK/{at}.png")
        for kind in ("dent", "pit"):
            make.write(f"NG/{kind}/{at}.png")
            make.write(mask.format(kind=kind, at=at), make.mask(1, value=255))
    assert counts(open_dataset(make.root)) == {"OK": 4, "NG/dent": 4, "NG/pit": 4}
