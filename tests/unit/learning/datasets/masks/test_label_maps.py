"""Classes have the names and ids of the set's label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.errors import DataError
from edgeinspect.imaging.mask_file import COLOR_FLAG
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.masks.label_maps import (
    LabelMap,
    parse_class_list,
    parse_labelmap,
    read_label_map,
)
from edgeinspect.learning.datasets.open import open_dataset

COLORS = {
    "background": (0, 0, 0),
    "scratch": (61, 61, 245),
    "pit": (250, 50, 83),
    "patch": (51, 221, 255),
}
LABELMAP = [
    "# label:color_rgb:parts:actions",
    *(f"{name}:{r},{g},{b}::" for name, (r, g, b) in COLORS.items()),
]


def cvat(make: Any, *drawn: tuple[str, ...]) -> Path:
    """A CVAT export in which each image has some classes."""
    for index, names in enumerate(drawn):
        make.write(f"JPEGImages/p{index}.jpg")
        rgb = np.zeros((40, 64, 3), np.uint8)
        for place, name in enumerate(names):
            rgb[8:20, 4 + 12 * place : 12 + 12 * place] = COLORS[name]
        make.write(f"SegmentationClass/p{index}.png", rgb[:, :, ::-1])
        make.write(f"SegmentationObject/p{index}.png", rgb[:, :, ::-1] // 2)
    make.text("labelmap.txt", *LABELMAP)
    return Path(make.root)


def ids_of(data: Dataset) -> list[tuple[int, ...]]:
    return [sample.class_ids for sample in data.samples]


def test_two_exports_of_one_cvat_project_agree(make: Any, tmp_path: Path) -> None:
    other = type(make)(tmp_path / "other")
    first = open_dataset(cvat(make, ("scratch", "pit", "patch"), (), ("patch",)))
    second = open_dataset(cvat(other, ("pit",), ("pit", "scratch")))
    assert first.classes == second.classes == ("scratch", "pit", "patch")
    assert ids_of(first) == [(1, 2, 3), (), (3,)]
    assert ids_of(second) == [(2,), (1, 2)]
    mask = second.samples[1].read_mask(40, 64)
    assert (mask[10, 6], mask[10, 18], mask[0, 0]) == (2, 1, 0)


def test_a_colour_that_the_labelmap_does_not_name_is_an_error(make: Any) -> None:
    root = cvat(make, ("pit",), ("patch",))
    make.text("labelmap.txt", *LABELMAP[:-1])
    with pytest.raises(DataError, match=r"does not name: #33ddff \(in .*p1\.png\)"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (["__ignore__", "_background_"], ("pit", "scar", "scale")),
        (["_background_"], ("pit", "scar", "scale")),
        (["background"], ("pit", "scar", "scale")),
        ([], ("pit", "scar", "scale")),
    ],
)
@pytest.mark.parametrize("file", ["labels.txt", "classes.txt", "class_names.txt"])
def test_a_class_list_starts_as_labelme_starts_it(
    make: Any, file: str, first: list[str], names: tuple[str, ...]
) -> None:
    for index, classes in enumerate([(), (1,), (1, 2), (2,)]):
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", make.mask(*classes))
    make.text(file, *first, *names)
    data = open_dataset(make.root)
    assert data.classes == names
    assert ids_of(data) == [(), (1,), (1, 2), (2,)]


def test_roboflows_table_names_values(make: Any) -> None:
    for split in ("train", "valid"):
        for index in range(4):
            make.write(f"{split}/p{split}{index}.jpg")
            make.write(f"{split}/p{split}{index}_mask.png", make.mask(*[3] * (index % 2)))
        make.text(
            f"{split}/_classes.csv", "Pixel Value, Class", "0, background", "1, pit", "3, scratch"
        )
    data = open_dataset(make.root)
    assert data.classes == ("pit", "class_2", "scratch")
    assert ids_of(data) == [(), (3,)] * 4
    make.text("valid/_classes.csv", "Pixel Value, Class", "0, background", "1, scratch", "3, pit")
    with pytest.raises(DataError, match="names other classes than"):
        open_dataset(make.root)


def test_contradicting_class_lists_are_refused(make: Any) -> None:
    make.mask_folder(1)
    make.text("labels.txt", "__ignore__", "_background_", "pit")
    make.text("classes.txt", "pit")
    assert open_dataset(make.root).classes == ("pit",)
    make.text("classes.txt", "scar")
    with pytest.raises(DataError, match="names other classes"):
        open_dataset(make.root)


def test_a_value_without_a_name_is_an_error(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", make.mask(*range(1, index + 2)))
    make.text("classes.txt", "pit", "scar")
    with pytest.raises(DataError, match=r"1 mask holds values that classes\.txt does not name: 3"):
        open_dataset(make.root)


def test_white_masks_with_several_names_are_an_error(make: Any) -> None:
    make.mask_folder(255)
    make.text("classes.txt", "pit", "scar")
    with pytest.raises(DataError, match="Which class is white"):
        open_dataset(make.root)
    make.text("classes.txt", "pit")
    assert open_dataset(make.root).classes == ("pit",)
    make.text("classes.txt", "__ignore__", "_background_", "pit")
    with pytest.raises(DataError, match="calls unlabelled"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pit", "not a label with a colour"),
        ("pit:1,2", "not a label with a colour"),
        ("pit:1,2,300::", "component 300 is above 255"),
        (f"pit:{'9' * 5000},2,3::", "not a label with a colour"),
        ("pit:1,2,3::\nscar:1,2,3::", "has the colour of 'pit'"),
        ("pit:1,2,3::\npit:1,2,4::", "names 'pit' twice"),
        ("pit:0,0,0::", "is black like the background"),
        ("\n".join(f"n{i}:1,2,{i}::" for i in range(80)), "more than 64"),
    ],
)
def test_a_malformed_labelmap_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_labelmap(text, "labelmap.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pit\n_background_\nscar", "is after a class"),
        ("pit\npit", "names 'pit' twice"),
        ("\n".join(f"n{i}" for i in range(1_000_000)), "more than 64"),
        ("x" * 300, "longer than 200 characters"),
    ],
)
def test_a_malformed_class_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_class_list(text, "labels.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xd8\xff", "not UTF-8"), (b"pit\0\0", "NUL"), (b"x" * (1 << 21), "is larger")],
)
def test_a_hostile_list_is_one_error(make: Any, content: bytes, message: str) -> None:
    make.mask_folder(1)
    (make.root / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_a_pipe_instead_of_a_class_list_does_not_block(make: Any) -> None:
    import os

    make.mask_folder(1)
    os.mkfifo(make.root / "labels.txt")
    with pytest.raises(DataError, match="is a named pipe, not a regular file"):
        open_dataset(make.root)


def test_without_a_list_there_are_no_names(make: Any) -> None:
    assert read_label_map(make.mask_folder().parent) is None


WORD = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20
)
CHANNEL = st.integers(0, 255)
NAME = st.from_regex(r"[A-Za-z][A-Za-z :._-]{0,12}[A-Za-z]", fullmatch=True)


@given(st.dictionaries(NAME, st.tuples(CHANNEL, CHANNEL, CHANNEL), min_size=1, max_size=20))
def test_cvat_labelmaps_are_read_back(labels: dict[str, tuple[int, int, int]]) -> None:
    colors = {name: rgb for name, rgb in labels.items() if any(rgb)}
    reserved = {"background", "bg", "ignore", "ignored", "unlabeled", "unlabelled"}
    if len(set(colors.values())) < len(colors) or reserved & {name.casefold() for name in colors}:
        return
    text = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in colors.items())
    label_map = parse_labelmap(text, "labelmap.txt")
    assert label_map.names == tuple(colors)
    for name, (r, g, b) in colors.items():
        value = r if r == g == b else COLOR_FLAG | r << 16 | g << 8 | b
        assert label_map.names[label_map.ids[value] - 1] == name


@given(st.lists(WORD, max_size=70))
def test_any_text_is_class_names_or_an_error(lines: list[str]) -> None:
    text = "\n".join(lines)
    for parse in (parse_labelmap, parse_class_list):
        try:
            label_map: LabelMap = parse(text, "file")
        except DataError:
            continue
        assert len(set(label_map.names)) == len(label_map.names) <= 64
        assert set(label_map.ids.values()) <= set(range(len(label_map.names) + 1))


def write_two_classes(make: Any, folder: str = "masks") -> None:
    for at in range(6):
        make.write(f"images/p{at}.png")
        make.write(f"{folder}/p{at}.png", make.mask(*((1, 2) if at else (1,))))


@pytest.mark.parametrize(
    "word", ["Hintergrund", "fond", "Fondo", "tło", "achtergrond", "背景", "pozadi\u0301", "0"]
)
@pytest.mark.parametrize("index", [False, True])
def test_a_first_name_for_the_background_is_value_0(make: Any, word: str, index: bool) -> None:
    write_two_classes(make)
    make.text("classes.txt", word, "Riss", "Delle")
    if index:
        make.text("index.csv", "image,group", *(f"p{at}.png,{at}" for at in range(6)))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("indexed" if index else "mask_folder", ("Riss", "Delle"))
    found = [set(np.unique(sample.read_mask(40, 64)).tolist()) for sample in data.samples]
    assert found == [{0, 1}, *[{0, 1, 2}] * 5]
    assert f"{word!r}, the first name in classes.txt, is the background" in data.notes


@pytest.mark.parametrize("word", ["void", "black", "Untergrund"])
@pytest.mark.parametrize("index", [False, True])
def test_a_first_name_that_may_be_the_background_is_refused(
    make: Any, word: str, index: bool
) -> None:
    write_two_classes(make)
    make.text("classes.txt", word, "Riss", "Delle")
    if index:
        make.text("index.csv", "image,group", *(f"p{at}.png,{at}" for at in range(6)))
    with pytest.raises(DataError, match=f"has 3 names, .* up to 2: is '{word}' the background"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        (("crack", "dent", "void"), ("crack", "dent", "void")),
        (("1 Lunker?", "2 Riss", "3 Delle"), ("Lunker?", "Riss", "Delle")),
        (("background", "Untergrund", "Riss", "Delle"), ("Untergrund", "Riss", "Delle")),
        (("a", "b", "c", "d"), ("a", "b", "c", "d")),
        (("Untergrund", "Riss"), ("Untergrund", "Riss")),
    ],
)
def test_a_first_name_that_is_a_class(
    make: Any, lines: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    write_two_classes(make)
    make.text("classes.txt", *lines)
    assert open_dataset(make.root).classes == classes
