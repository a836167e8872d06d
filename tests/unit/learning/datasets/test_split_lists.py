"""The lists of splits beside images are read in any layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.open import open_dataset
from tests.unit.learning.datasets.test_unread_labels import labelme

COUNT = 12
TRAINED = 8


def write_masks(make: Any) -> list[str]:
    make.mask_folder(count=COUNT)
    return [f"images/p{index}.jpg" for index in range(COUNT)]


def write_classes(make: Any) -> list[str]:
    make.class_folder("good", "pit", count=COUNT // 2)
    return [f"{name}/{name}_{index}.jpeg" for index in range(6) for name in ("good", "pit")]


def write_labelme(make: Any) -> list[str]:
    for index in range(COUNT):
        make.write(f"p{index}.png")
        labelme(make, f"p{index}", "pit" if index % 2 else "dent")
    return [f"p{index}.png" for index in range(COUNT)]


def write_masks_beside(make: Any) -> list[str]:
    for index in range(COUNT):
        make.write(f"p{index}.png")
        make.write(f"p{index}_mask.png", make.mask(*([1] if index % 2 else []), value=255))
    return [f"p{index}.png" for index in range(COUNT)]


def splits(data: Dataset) -> dict[str, str | None]:
    return {sample.path.relative_to(data.root).as_posix(): sample.split for sample in data.samples}


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("{}.txt", "{name}"),
        ("splits/{}.txt", "./{name}"),
        ("{}.txt", "/home/me/set/{name}"),
        ("{}_list.txt", "{base}"),
        ("ImageSets/Main/{}.txt", "{stem}"),
        ("lists/{}.lst", "{stem}.json"),
        ("ImageSets/{}.txt", "{name} 1"),
        ("Splits/{}.txt", "{name} masks/{base}"),
        ("{}.txt", "{name},scratch"),
        ("pit_{}.txt", "{name}"),
    ],
)
@pytest.mark.parametrize("write", [write_masks, write_classes, write_labelme, write_masks_beside])
def test_lists_of_names(
    make: Any, write: Callable[[Any], list[str]], place: str, line: str
) -> None:
    names = write(make)
    expected = dict.fromkeys(names[:TRAINED], "train") | dict.fromkeys(names[TRAINED:], "val")
    for split, some in (("train", names[:TRAINED]), ("val", names[TRAINED:])):
        lines = [
            line.format(name=name, base=(base := name.split("/")[-1]), stem=base.split(".")[0])
            for name in some
        ]
        make.text(place.format(split), *lines)
    data = open_dataset(make.root)
    assert splits(data) == (expected if "pit" not in place else dict.fromkeys(names))
    assert not data.skipped


def test_lists_beside_the_folder_of_the_set(make: Any) -> None:
    make.root = make.root / "set"
    names = write_masks(make)
    make.root = make.root.parent
    make.text("Train.txt", *(f"set/{name}" for name in names[:TRAINED]))
    make.text("Test.txt", *(f"set/{name}" for name in names[TRAINED:]))
    assert list(splits(open_dataset(make.root)).values()).count("test") == COUNT - TRAINED


def test_splits_of_folders_win(make: Any) -> None:
    make.class_folder("good", "pit", above="train/")
    make.class_folder("good", "pit", above="val/", count=2)
    make.text("test.txt", "train/good/good_0.jpeg")
    assert set(splits(open_dataset(make.root)).values()) == {"train", "val"}


def test_a_few_images_in_no_list_are_left_out(make: Any) -> None:
    names = write_masks(make)
    make.text("train.txt", *names[:7])
    make.text("val.txt", *names[8:])
    data = open_dataset(make.root)
    assert names[7] not in splits(data)
    assert len(data) == COUNT - 1
    assert [(one.name, one.reason) for one in data.skipped] == [
        (names[7], "is in none of train.txt, val.txt")
    ]
    assert "1 image is in none of train.txt, val.txt: left out" in data.notes


def test_lists_of_a_part_lose_no_image(make: Any) -> None:
    names = write_masks(make)
    make.text("train.txt", *names[:4])
    make.text("val.txt", *names[4:6])
    data = open_dataset(make.root)
    assert list(splits(data).values()) == [*["train"] * 4, *["val"] * 2, *[None] * 6]
    assert "6 images are in none of train.txt, val.txt: without a split" in data.notes


def test_an_image_in_two_lists_is_told(make: Any) -> None:
    names = write_masks(make)
    make.text("train.txt", *names[:9])
    make.text("test.txt", *names[TRAINED:])
    data = open_dataset(make.root)
    assert splits(data)[names[TRAINED]] == "train"
    assert any("1 line names an image of another split again" in note for note in data.notes)


def test_names_without_an_image_are_told(make: Any) -> None:
    names = write_masks(make)
    make.text("train.txt", *names[:TRAINED])
    make.text("val.txt", *names[TRAINED:], "images/p77.jpg")
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("images/p77.jpg", "val.txt:5 names it, but the image does not exist")
    ]
    assert all(splits(data).values())


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([f"p{index}.jpg" for index in range(9, 30)], "18 images that are not in the set"),
        (["crop_1.jpg", "crop_2.jpg"], ""),
        (["epoch 1, loss 0.3", "p1 p2 p3", "it was good", "done"], ""),
        (["good", "scratch"], ""),
    ],
)
def test_lists_of_something_else_are_ignored(make: Any, lines: list[str], why: str) -> None:
    names = write_masks(make)
    make.text("train.txt", *lines)
    data = open_dataset(make.root)
    assert splits(data) == dict.fromkeys(names)
    assert not data.skipped
    assert not why or any(why in note for note in data.notes)


def test_a_list_of_ambiguous_names_is_told(make: Any) -> None:
    for name in ("good", "pit"):
        for index in range(6):
            make.write(f"{name}/{index}.png")
    make.text("train.txt", *map(str, range(4)))
    make.text("val.txt", "4", "5")
    data = open_dataset(make.root)
    assert set(splits(data).values()) == {None}
    assert any("'0' matches good/0.png and pit/0.png" in note for note in data.notes)


@pytest.mark.parametrize("column", ["filename", "Image", "path"])
def test_a_table_with_a_column_of_splits(make: Any, column: str) -> None:
    names = write_classes(make)
    rows = [f"{name},x,{'Train' if at < TRAINED else 'valid'}" for at, name in enumerate(names)]
    make.text("metadata.csv", f"{column},label,Split", *rows)
    data = open_dataset(make.root)
    expected = dict.fromkeys(names[:TRAINED], "train") | dict.fromkeys(names[TRAINED:], "val")
    assert splits(data) == expected
    assert "splits are those of metadata.csv" in data.notes
    make.text("metadata.csv", f"{column},label,split", *rows, f"{names[0]},x,fold_3")
    data = open_dataset(make.root)
    assert set(splits(data).values()) == {None}
    assert any("metadata.csv:14 has the split 'fold_3'" in note for note in data.notes)


def test_names_with_blanks_and_commas(make: Any) -> None:
    names = [f"{name}/part, {index}.png" for index in range(6) for name in ("good", "pit")]
    for name in names:
        make.write(name)
    make.text("train.txt", *names[:TRAINED])
    make.text("val.txt", *(f"{name} 1" for name in names[TRAINED:]))
    data = open_dataset(make.root)
    assert splits(data) == dict.fromkeys(names[:TRAINED], "train") | dict.fromkeys(
        names[TRAINED:], "val"
    )


def test_two_images_beside_lists_of_one_are_not_left_out(make: Any) -> None:
    names = write_masks(make)
    for name in names[3:]:
        (make.root / name).unlink()
        (make.root / name.replace("images", "masks").replace("jpg", "png")).unlink()
    make.text("test.txt", names[0])
    assert len(open_dataset(make.root)) == 3


@pytest.mark.parametrize("line", ['"{}"', "'{}'", '"{}" 1', '"{}","pit"', '  "{}"  '])
def test_quoted_names(make: Any, line: str) -> None:
    names = [f"{name}/part, {index}.png" for index in range(6) for name in ("good", "pit")]
    for name in names:
        make.write(name)
    make.text("train.txt", *map(line.format, names[:TRAINED]))
    make.text("val.txt", *map(line.format, names[TRAINED:]))
    assert splits(open_dataset(make.root)) == dict.fromkeys(names[:TRAINED], "train") | (
        dict.fromkeys(names[TRAINED:], "val")
    )


def test_names_that_start_with_a_quote(make: Any) -> None:
    names = [f"{name}/'{index}.png" for index in range(6) for name in ("good", "pit")]
    for name in names:
        make.write(name)
    make.text("train.txt", *(name.partition("/")[2] for name in names[:2]), *names[2:TRAINED])
    make.text("val.txt", *names[TRAINED:])
    assert any("matches good/'0.png and pit/'0.png" in n for n in open_dataset(make.root).notes)


@pytest.mark.parametrize("place", ["train.txt", "splits/val_list.txt"])
@pytest.mark.parametrize("suffix", ["", ".png"])
def test_a_list_without_an_image_of_the_set_is_told(make: Any, place: str, suffix: str) -> None:
    names = write_masks(make)
    make.text(place, *(f"other{at}{suffix}" for at in range(4)))
    data = open_dataset(make.root)
    assert splits(data) == dict.fromkeys(names)
    base = place.rpartition("/")[2]
    assert f"{base} names no images of the set: not read as splits" in data.notes


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("write", [write_masks, write_classes, write_labelme])
def test_an_empty_list_of_a_split_is_refused(
    make: Any, write: Callable[[Any], list[str]], content: str
) -> None:
    names = write(make)
    layout = open_dataset(make.root).layout
    make.text("test.txt", *names)
    make.text("train.txt").write_text(content)
    with pytest.raises(DataError, match=r"train\.txt: is empty, .*remove it; --layout"):
        open_dataset(make.root)
    data = open_dataset(make.root, layout)
    assert any("train.txt is empty" in note for note in data.notes)
