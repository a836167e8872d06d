"""A folder of good images: what else is in it may say that they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import (
    NoLayoutError,
    OnlyGoodError,
    open_dataset,
    read_plain_folder,
)
from tests import needs


@pytest.fixture
def good(make: Any) -> Any:
    for index in range(6):
        make.write(f"p{index}.png")
    return make


def test_every_image_is_good(good: Any) -> None:
    with pytest.raises(
        NoLayoutError, match="learn from these alone with `edgeinspect train anomaly`"
    ):
        open_dataset(good.root)
    data = read_plain_folder(good.root)
    assert len(data) == 6
    assert not any(sample.is_defective for sample in data.samples)
    assert data.notes == ("the folder has no labels: every image is taken as good",)


@pytest.mark.parametrize(
    "name",
    ["README.txt", "LICENSE", "license.txt", "report.pdf", "cam.log"],
)
def test_files_that_hold_no_labels_are_passed_over(good: Any, name: str) -> None:
    good.text(name, "good castings")
    data = read_plain_folder(good.root)
    assert len(data) == 6
    assert data.notes[-1] == f"1 other file is not read, such as {name}"
    good.text("Thumbs.db", "of the desktop, as all hidden files")
    assert read_plain_folder(good.root).notes == data.notes


@pytest.mark.parametrize(
    "name",
    ["camera.json", "p0.txt", "labels.csv", "a.yaml", "train/x.xml", "p0.npy", "d.txt"],
)
def test_a_file_that_may_hold_labels_is_named(good: Any, name: str) -> None:
    good.text(name, "{}")
    with pytest.raises(DataError, match=rf"{name}: may hold labels"):
        read_plain_folder(good.root)


@pytest.mark.parametrize("name", ["2026-11-29", "images", "train", "good", "ok_parts"])
def test_folders_of_good_images_are_read(good: Any, name: str) -> None:
    good.write(f"{name}/x.png")
    assert len(read_plain_folder(good.root)) == 7


@pytest.mark.parametrize("name", ["crack", "test", "masks", "line 3", "not ok"])
def test_another_folder_may_say_that_its_images_are_not(good: Any, name: str) -> None:
    good.write(f"{name}/x.png")
    with pytest.raises(DataError, match=rf"{name}: (is in a folder of good images|has images)"):
        read_plain_folder(good.root)
    assert len(read_plain_folder(good.root, [name])) == 7


def test_folders_that_the_user_calls_good_are_read(make: Any) -> None:
    names = ("day1", "day2")
    for name in names:
        for index in range(3):
            make.write(f"{name}/p{index}.png")
    with pytest.raises(DataError, match="--good-class day1 as good"):
        open_dataset(make.root)
    with pytest.raises(OnlyGoodError, match="edgeinspect train anomaly"):
        open_dataset(make.root, good_classes=names)
    data = read_plain_folder(make.root, names)
    assert [sample.is_defective for sample in data.samples] == [False] * 6


def test_masks_are_not_images_of_good_parts(good: Any) -> None:
    for index in range(6):
        good.write(f"p{index}_lab.png", good.mask(1, value=255))
    with pytest.raises(DataError, match="masks among its images"):
        read_plain_folder(good.root)


def test_an_image_in_an_unsupported_format_is_named(good: Any) -> None:
    good.text("x.webp", "no image")
    with pytest.raises(DataError, match=r"x\.webp: is in a format that is not supported"):
        read_plain_folder(good.root)


def test_a_refused_set_is_no_folder_of_good_images(make: Any) -> None:
    """Masks in two encodings: the set is recognised, and refused."""
    for index in range(8):
        make.write(f"p{index}.png")
        mask = make.mask(1, 2) if index % 4 else np.where(make.mask(1), 1, 0).astype(np.uint8) * 255
        make.write(f"p{index}_mask.png", mask)
    with pytest.raises(DataError) as refused:
        open_dataset(make.root)
    assert type(refused.value) is DataError


@pytest.mark.parametrize(
    ("folders", "good_classes"),
    [
        (("train/good", "test/good"), ("good",)),
        (("train/good", "test/good"), ()),
        (("cam1/good", "cam2/good"), ()),
        (("Tag1/iO", "Tag2/iO"), ()),
        (("good/day1", "good/day2"), ()),
        (("good/day1", "good/day2"), ("good",)),
    ],
)
def test_a_training_from_good_parts_reads_folders_that_say_good(
    make: Any, folders: tuple[str, ...], good_classes: tuple[str, ...]
) -> None:
    needs.library("torch")
    from edgeinspect.learning.train.anomaly.config import AnomalyConfig
    from edgeinspect.learning.train.anomaly.images import open_good

    for folder in folders:
        for index in range(4):
            make.write(f"{folder}/p{index}.png")
    data = open_good(AnomalyConfig(make.root, make.root / "run", "m", good_classes=good_classes))
    assert len(data) == 4 * len(folders)
    assert not any(sample.is_defective for sample in data.samples)


@pytest.mark.parametrize("folders", [("0", "1"), ("1", "2", "3"), ("cam1", "cam2/NG")])
def test_folders_that_say_nothing_are_not_taken_as_good(
    make: Any, folders: tuple[str, ...]
) -> None:
    needs.library("torch")
    from edgeinspect.learning.train.anomaly.config import AnomalyConfig
    from edgeinspect.learning.train.anomaly.images import open_good, split_good

    for folder in folders:
        for index in range(4):
            make.write(f"{folder}/p{index}.png")
    config = AnomalyConfig(make.root, make.root / "run", "m")
    with pytest.raises(DataError):
        split_good(open_good(config), config)


def test_folders_of_days_hold_good_folders_and_say_nothing_themselves(make: Any) -> None:
    make.write("cam1/good/a.png")
    make.write("cam2/b.png")
    with pytest.raises(DataError, match=r"cam2: has images.*--good-class cam2"):
        read_plain_folder(make.root)
    assert len(read_plain_folder(make.root, ("good", "cam2"))) == 2


def test_three_folders_are_groups_and_two_are_not(make: Any) -> None:
    for day in ("day1", "day2"):
        make.write(f"good/{day}/a.png")
    assert {sample.group for sample in read_plain_folder(make.root).samples} == {""}
    make.write("good/day3/a.png")
    assert {sample.group for sample in read_plain_folder(make.root).samples} == {
        f"good/day{number}" for number in (1, 2, 3)
    }


@pytest.mark.parametrize("name", ["ng_0.png", "b1_NOK.png", "good/b0_NG.png", "cast_def_0_1.png"])
def test_a_name_that_says_defective_beside_others_is_refused(good: Any, name: str) -> None:
    good.write(name)
    with pytest.raises(DataError, match="1 image whose names say defective, such as"):
        read_plain_folder(good.root)


def test_letters_within_a_code_are_no_word(good: Any) -> None:
    good.write("a8ng2.png")
    assert len(read_plain_folder(good.root)) == 7
