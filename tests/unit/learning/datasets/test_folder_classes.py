"""Folders beside and below classes that are no classes, or that are kinds of defects."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.open import open_dataset


def counts(make: Any, layout: str | None = None) -> dict[str, int]:
    data = open_dataset(make.root, layout)
    for sample in data.samples:
        assert sample.is_defective == (sample.class_name in data.classes)
    return dict(Counter(str(sample.class_name) for sample in data.samples))


# -- folders that are not labelled ------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "unlabeled",
        "Un-labelled images",
        "not_labeled",
        "to label",
        "ToDo",
        "unsorted",
        "unsure",
        "Unclear",
        "uncertain",
        "doubtful",
        "to-review",
        "ignore",
        "ok_unsure",
        "NG todo",
    ],
)
@pytest.mark.parametrize("layout", [None, "class_folder"])
def test_folders_named_as_not_labelled_are_no_class(
    make: Any, name: str, layout: str | None
) -> None:
    make.class_folder("good", "scratch", name, above="train/")
    data = open_dataset(make.root, layout)
    assert (data.classes, len(data)) == (("scratch",), 12)
    assert len(data.skipped) == 6
    assert all("named as not labelled" in one.reason for one in data.skipped)


def test_a_set_of_one_class_and_images_without_a_label_says_both(make: Any) -> None:
    make.class_folder("good", "todo")
    with pytest.raises(DataError, match=r"one class only \(good\).*todo.*not labelled"):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["unknown", "other", "misc", "rest", "no_label", "unclean_edge"])
def test_names_that_may_be_a_class_stay_one(make: Any, name: str) -> None:
    make.class_folder("good", "scratch", name)
    assert counts(make) == {"good": 6, "scratch": 6, name: 6}


# -- folders that say where images are from ---------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "2024-01-03",
        "20240103",
        "03.01.2024_cam1",
        "cam2",
        "Camera left",
        "batch_A",
        "day1",
        "line 3",
        "KW12",
        "S0001",
        "backup",
        "old",
        "duplicates",
    ],
)
def test_days_cameras_and_old_images_beside_classes_are_refused(make: Any, name: str) -> None:
    make.class_folder("ok", "ng", name)
    with pytest.raises(DataError, match=f"has a folder '{name}'") as caught:
        open_dataset(make.root)
    assert "move it away" in caught.value.remedy
    assert "--layout class_folder reads it as a class" in caught.value.remedy
    assert counts(make, "class_folder") == {"ok": 6, "ng": 6, name: 6}


def test_a_set_of_cameras_has_no_classes(make: Any) -> None:
    make.class_folder("cam1", "cam2")
    with pytest.raises(DataError, match="has a folder 'cam1'"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    "names",
    [
        ("good", "1", "2"),
        ("good", "E101", "E102"),
        ("good", "old"),
        ("ok", "shift left", "line"),
        ("ok", "crack1", "crack2"),
        ("ok", "missing part", "roll mark"),
        ("ok", "a3", "b5"),
    ],
)
def test_numbers_and_codes_of_defects_are_classes(make: Any, names: tuple[str, ...]) -> None:
    make.class_folder(*names)
    assert set(counts(make)) == set(names)


@pytest.mark.parametrize("days", [("day1", "day2", "day3"), ("2024-01-03", "cam2", "KW12")])
@pytest.mark.parametrize("masks", ["", "masks/{day}/NG/{day}{at}.png", "masks/{day}{at}.png"])
def test_days_above_classes_are_groups(make: Any, days: tuple[str, ...], masks: str) -> None:
    for day in days:
        for at in range(4):
            make.write(f"{day}/OK/{day}{at}.png")
            make.write(f"{day}/NG/{day}{at}.png")
            if masks:
                make.write(masks.format(day=day, at=at), make.mask(1, value=255))
    assert counts(make) == {"OK": 12, "NG": 12}
    data = open_dataset(make.root)
    if masks:
        assert all(sample.read_mask(40, 64).any() == sample.is_defective for sample in data.samples)
    else:
        assert len({sample.group for sample in data.samples}) == 6
        assert set(counts(make, "class_folder")) == set(days)


def test_days_above_folders_of_which_none_is_good_are_refused(make: Any) -> None:
    make.class_folder("dent", "pit", above="day1/")
    make.class_folder("dent", "pit", above="day2/")
    with pytest.raises(DataError, match="has a folder 'day1'"):
        open_dataset(make.root)


# -- kinds below a folder that says only defective --------------------------------------------


@pytest.mark.parametrize("defective", ["NG", "bad", "defect", "Defective parts", "n.i.O.", "nok"])
@pytest.mark.parametrize("above", ["", "train/"])
def test_folders_below_one_of_defects_are_their_kinds(
    make: Any, defective: str, above: str
) -> None:
    for name in ("OK", f"{defective}/scratch", f"{defective}/dent"):
        for index in range(4):
            make.write(f"{above}{name}/p{index}.png")
    assert counts(make) == {"OK": 4, f"{defective}/scratch": 4, f"{defective}/dent": 4}


@pytest.mark.parametrize("place", ["NG/{day}/{kind}", "NG/{kind}/{day}", "NG/cam1/{kind}/{day}"])
def test_kinds_above_and_below_days_are_grouped_by_day(make: Any, place: str) -> None:
    make.write("NG/q.png")
    for index in range(12):
        make.write(f"OK/p{index}.png")
        for kind in ("dent", "pit"):
            make.write(f"{place.format(day=f'2024-01-0{index % 4}', kind=kind)}/p{index}.png")
    assert counts(make) == {"OK": 12, "NG": 1, "NG/dent": 12, "NG/pit": 12}
    bad = [one for one in open_dataset(make.root).samples if one.is_defective]
    assert len({one.group for one in bad}) == 9


def test_defects_without_a_kind_beside_kinds(make: Any) -> None:
    make.write("OK/a.png")
    for place in ("NG/b", "NG/c", "NG/dent/d", "NG/dent/e", "NG/2024-01-03/f"):
        make.write(f"{place}.png")
    assert counts(make) == {"OK": 1, "NG": 3, "NG/dent": 2}


@pytest.mark.parametrize(
    ("names", "is_noted"),
    [
        (("2024-01-03", "2024-01-04"), False),
        (("cam1", "cam2"), False),
        (("1", "2", "3"), False),
        (("S0001", "S0002"), False),
        (("left", "right"), True),
        (("coilend1", "coilend2"), True),
        (("dent", "old"), True),
    ],
)
def test_folders_of_defects_that_may_be_no_kinds_stay_groups(
    make: Any, names: tuple[str, ...], is_noted: bool
) -> None:
    for place in ("OK", *(f"NG/{name}" for name in names)):
        for index in range(3):
            make.write(f"{place}/p{index}.png")
    data = open_dataset(make.root)
    assert data.classes == ("NG",)
    assert any("read as one class, NG" in note for note in data.notes) == is_noted


def test_lines_and_shifts_are_kinds_of_defects(make: Any) -> None:
    for place in ("OK", "NG/line", "NG/part missing", "NG/shift"):
        for index in range(3):
            make.write(f"{place}/p{index}.png")
    assert set(counts(make)) == {"OK", "NG/line", "NG/part missing", "NG/shift"}


def test_folders_that_good_parts_have_too_are_no_kinds(make: Any) -> None:
    for place in ("OK/housing", "OK/cover", "NG/housing", "NG/cover", "NG/cap"):
        for index in range(3):
            make.write(f"{place}/p{index}.png")
    assert open_dataset(make.root, "class_folder").classes == ("NG",)


# -- tables beside class folders --------------------------------------------------------------


def table(make: Any, kinds: dict[str, str], header: str = "image,label") -> None:
    for folder in ("good", "bad"):
        for index in range(4):
            make.write(f"{folder}/{folder}{index}.png")
    rows = [f"{name}{index}.png,{kinds[name]}" for name in ("good", "bad") for index in range(4)]
    make.text("labels.csv", header, *rows)


@pytest.mark.parametrize(
    ("kinds", "header"),
    [
        ({"good": "bad", "bad": "good"}, "image,label"),
        ({"good": "NG", "bad": "OK"}, "filename,result"),
        ({"good": "1", "bad": "0"}, "filename,is_defective"),
    ],
)
def test_a_table_that_contradicts_the_folders_is_refused(
    make: Any, kinds: dict[str, str], header: str
) -> None:
    table(make, kinds, header)
    with pytest.raises(DataError, match=r"8 images have another label in labels\.csv") as caught:
        open_dataset(make.root)
    assert "--layout class_folder reads the folders" in caught.value.remedy
    data = open_dataset(make.root, "class_folder")
    assert any("another label in labels.csv" in note for note in data.notes)


@pytest.mark.parametrize("value", ["pit", "unknown", "unlabeled", "?"])
def test_a_kind_of_defect_in_the_folder_of_good_images_is_refused(make: Any, value: str) -> None:
    make.class_folder("good", "bad", count=2)
    rows = ["good_0.jpeg,good", f"good_1.jpeg,{value}", "bad_0.jpeg,pit", "bad_1.jpeg,pit"]
    make.text("labels.csv", "image,label", *rows)
    if value == "pit":
        with pytest.raises(DataError, match=r"1 image has another label.*good_1\.jpeg: 'pit'"):
            open_dataset(make.root)
    else:
        assert any("labels.csv has rows of 4" in note for note in open_dataset(make.root).notes)


def test_one_row_that_contradicts_its_folder_is_refused(make: Any) -> None:
    for name in ("good", "dent", "pit"):
        make.class_folder(name, count=2)
    rows = [f"{name}/{name}_{index}.jpeg,{name}" for name in ("good", "dent") for index in (0, 1)]
    make.text("labels.csv", "path,class", *rows, "pit/pit_0.jpeg,pit", "pit/pit_1.jpeg,dent")
    with pytest.raises(DataError, match=r"1 image has another label.*pit_1\.jpeg: 'dent'"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("kinds", "header"),
    [
        ({"good": "good", "bad": "bad"}, "image,label"),
        ({"good": "OK", "bad": "scratch"}, "image,label"),
        ({"good": "0", "bad": "1"}, "image,defect"),
        ({"good": "bad", "bad": "good"}, "image,predicted_label"),
        ({"good": "ok", "bad": "ok"}, "image,status"),
    ],
)
def test_a_table_that_agrees_or_is_finer_is_told(
    make: Any, kinds: dict[str, str], header: str
) -> None:
    table(make, kinds, header)
    data = open_dataset(make.root)
    assert any("labels.csv has rows of 8 images" in note for note in data.notes)


def test_a_table_of_something_else_is_not_told(make: Any) -> None:
    for folder in ("good", "bad"):
        for index in range(4):
            make.write(f"{folder}/{4 * (folder == 'bad') + index}.png")
    make.text(
        "log.csv", "id,status", *(f"{index},{'ok' if index > 3 else 'ng'}" for index in range(8))
    )
    assert open_dataset(make.root).notes == ("good classes: good",)
