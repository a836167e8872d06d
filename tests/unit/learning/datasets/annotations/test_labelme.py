"""labelme's JSON files, and the XML files of the LabelMe tool on the web."""

from __future__ import annotations

import base64
import json
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset

MASK_POINTS = [[4, 8], [11, 19]]


def shape(kind: str, points: Any, label: str = "pit", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def document(name: str, *shapes: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": name,
            "imageData": None,
            "imageHeight": 40,
            "imageWidth": 64,
            **more,
        }
    )


def png(mask: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()


def test_polygons_and_masks_give_the_mask(make: Any) -> None:
    mask = make.mask(1) > 0
    ring = [[4, 8], [4, 19], [11, 19], [11, 8]]
    inner = np.full((12, 8), 255, np.uint8)
    for name, each in (
        ("a", shape("polygon", ring)),
        ("b", shape("mask", MASK_POINTS, mask=png(inner))),
    ):
        make.write(f"{name}.png")
        make.text(f"{name}.json", document(f"{name}.png", each))
    make.write("c.png")
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("labelme", ("pit",), True)
    for sample in data.samples[:2]:
        assert (sample.read_mask(40, 64) == mask).all()
    assert not data.samples[2].is_defective
    assert any("1 of 3 images have no JSON file: taken as good (c.png)" in n for n in data.notes)


@pytest.mark.parametrize(
    ("each", "pixels"),
    [
        (shape("circle", [[30, 20], [30, 26]]), np.pi * 36),
        (shape("line", [[10, 20], [50, 20]]), 400),
        (shape("linestrip", [[10, 20], [30, 20], [50, 20]]), 400),
        (shape("point", [[30, 20]]), np.pi * 25),
        (shape("points", [[20, 20], [40, 20]]), 2 * np.pi * 25),
    ],
)
def test_lines_and_circles(make: Any, each: dict[str, Any], pixels: float) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", each))
    make.write("b.png")
    data = open_dataset(make.root)
    assert abs(data.samples[0].read_mask(40, 64).sum() - pixels) < 0.05 * pixels + 4
    noted = any("lines are drawn 10 px wide" in note for note in data.notes)
    assert noted == (each["shape_type"] != "circle")


def test_rectangles_are_boxes(make: Any) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", shape("rectangle", [[30, 30], [10, 5]])))
    data = open_dataset(make.root)
    assert not data.has_masks
    assert data.samples[0].boxes[0].left_px == 10
    assert open_dataset(make.root, draws_boxes=True).samples[0].read_mask(40, 64).sum() == 500


def test_names_of_windows_and_other_folders(make: Any) -> None:
    make.write("images/a.png")
    make.text("json/a.json", document("..\\images\\a.png", shape("rectangle", [[1, 1], [5, 5]])))
    make.write("images/b.jpg")
    make.text("json/b.json", document("c:\\x\\b.png", shape("rectangle", [[1, 1], [5, 5]])))
    assert [s.is_defective for s in open_dataset(make.root).samples] == [True, True]


def test_embedded_images_are_used_if_there_is_no_file(make: Any) -> None:
    pixels = make.pixels()
    make.text(
        "a.json", document("a.jpg", shape("rectangle", [[1, 1], [5, 5]]), imageData=png(pixels))
    )
    make.write("b.png")
    make.text("b.json", document("b.png", imageData="nonsense, and not read"))
    data = open_dataset(make.root)
    assert (cv2.imread(str(data.samples[0].path), cv2.IMREAD_UNCHANGED) == pixels).all()
    assert any("1 of 2 images are those embedded" in note for note in data.notes)
    make.text("a.json", document("a.jpg", imageData=base64.b64encode(b"no image").decode()))
    with pytest.raises(DataError, match=r"a\.json: has an embedded image that"):
        open_dataset(make.root)


def test_flags_are_classes_if_there_is_no_shape(make: Any) -> None:
    for name, flags in (("a", {"ok": True, "crack": False}), ("b", {"ok": False, "crack": True})):
        make.write(f"{name}.png")
        make.text(f"{name}.json", document(f"{name}.png", flags=flags))
    data = open_dataset(make.root)
    assert (data.classes, data.has_masks) == (("crack",), False)
    assert [(s.is_defective, s.class_name) for s in data.samples] == [
        (False, "ok"),
        (True, "crack"),
    ]


def test_ignored_and_background_labels(make: Any) -> None:
    ring = [[4, 8], [4, 19], [11, 19], [11, 8]]
    make.write("a.png")
    make.text(
        "a.json",
        document(
            "a.png",
            shape("polygon", ring),
            shape("polygon", [[4, 8], [4, 9], [11, 9], [11, 8]], "_background_"),
            shape("polygon", [[4, 18], [4, 19], [11, 19], [11, 18]], "__ignore__"),
        ),
    )
    data = open_dataset(make.root)
    mask = data.samples[0].read_mask(40, 64)
    assert data.classes == ("pit",)
    assert [mask[8, 5], mask[12, 5], mask[19, 5]] == [0, 1, 255]


def test_unlabelled_images_among_empty_files(make: Any) -> None:
    for index in range(8):
        make.write(f"p{index}.png")
        if index:
            make.text(f"p{index}.json", document(f"p{index}.png"))
    assert [one.name for one in open_dataset(make.root).skipped] == ["p0.png"]


@pytest.mark.parametrize(
    ("each", "message"),
    [
        (shape("polygon", [[1, 1], [2, 2]]), r"shape 1 \(pit\): is a polygon of 2 points"),
        (shape("polygon", [[1, 1], [2, 2], [900, 3]]), "outside of its image"),
        (shape("polygon", [[1, 1], [2, 2, 3], [3, 3]]), r"point that is not \[x, y\]"),
        (shape("cube", [[1, 1]]), "shape_type 'cube', which is not known"),
        (shape("mask", MASK_POINTS, mask="!"), "not base64"),
        (shape("mask", MASK_POINTS), "embedded mask"),
        (shape("polygon", [[1, "a"]]), "is not labelme's JSON"),
        ({"points": []}, "missing required field `label`"),
    ],
)
def test_faults_are_named_with_the_shape(make: Any, each: Any, message: str) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", each))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root)
    assert "a.json" in str(caught.value)


def test_another_size_is_refused(make: Any) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", imageHeight=64, imageWidth=40))
    with pytest.raises(DataError, match=r"64 x 40 px.*rotated"):
        open_dataset(make.root)


XML = """<annotation><filename>{0}.png</filename><folder>train</folder>
<imagesize><nrows>40</nrows><ncols>64</ncols></imagesize>
<object><name>pit</name><deleted>0</deleted>{1}</object>
<object><name>gone</name><deleted>1</deleted></object></annotation>"""


def points(*pairs: tuple[float, float]) -> str:
    inner = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in pairs)
    return f"<polygon>{inner}</polygon>"


def test_labelme_xml(make: Any) -> None:
    ring = points((4, 8), (4, 19), (11, 19), (11, 8))
    make.write("Images/train/a.png")
    make.text("Annotations/train/a.xml", XML.format("a", ring))
    make.write("Images/train/b.png")
    make.text("Annotations/train/b.xml", XML.format("b", "<segm><mask>b_mask_0.png</mask></segm>"))
    make.write("Annotations/train/Masks/b_mask_0.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("labelme_xml", ("pit",))
    for sample in data.samples:
        assert (sample.read_mask(40, 64) == make.mask(1)).all()
        assert sample.split == "train"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (points((1, 1)), r"object 1 \(pit\): has 1 points"),
        (points((1, 1), (2, 2), (300, 300)), "outside of its image"),
        (points((1, 1), (2, "nan"), (3, 3)), "'nan', not a number"),
        ("<segm><mask>../../x.png</mask></segm>", "names the mask 'x.png', which does not exist"),
    ],
)
def test_faults_of_labelme_xml(make: Any, inner: str, message: str) -> None:
    make.write("a.png")
    make.text("a.xml", XML.format("a", inner))
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_a_circle_may_be_cut_by_the_border(make: Any) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", shape("circle", [[2, 2], [2, 22]])))
    assert open_dataset(make.root).samples[0].read_mask(40, 64)[:20, :20].sum() > 300


def test_a_shape_without_a_label_is_refused(make: Any) -> None:
    make.write("a.png")
    triangle = [[1, 1], [1, 9], [9, 9]]
    shapes = (shape("polygon", triangle), shape("polygon", triangle, " "))
    make.text("a.json", document("a.png", *shapes))
    with pytest.raises(DataError, match=r"a.json, shape 2 .*: has no label"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        ("<html></html>", "is a web page"),
    ],
)
@pytest.mark.parametrize("name", ["labels.txt", "labelmap.txt"])
def test_a_broken_list_of_names_is_refused(make: Any, name: str, text: str, message: str) -> None:
    make.write("a.png")
    make.text("a.json", document("a.png", shape("polygon", [[1, 1], [1, 9], [9, 9]])))
    make.text(name, text)
    with pytest.raises(DataError, match=rf"{name}: {message}|{name} {message}"):
        open_dataset(make.root)


@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_file_named_after_another_image_than_it_names_is_refused(make: Any, folder: str) -> None:
    triangle = shape("polygon", [[1, 1], [1, 9], [9, 9]])
    place = "json/" if folder else ""
    for name, stale in ("ab", "bc", "ca"):
        make.write(f"{folder}{name}.png")
        path = f"../{folder}{stale}.png" if folder else f"{stale}.png"
        make.text(f"{place}{name}.json", document(path, triangle))
    with pytest.raises(DataError, match=rf"names {folder}b\.png, .* that of {folder}a\.png") as at:
        open_dataset(make.root)
    assert str(at.value.where).endswith(f"{place}a.json")
    assert "Which image was labelled?" in str(at.value.remedy)


def test_a_file_of_a_name_that_no_image_has_is_of_the_image_that_it_names(make: Any) -> None:
    triangle = shape("polygon", [[1, 1], [1, 9], [9, 9]])
    for name in "abc":
        make.write(f"{name}.png")
        make.text(f"{name}_labels.json", document(f"{name}.png", *([triangle] * (name != "a"))))
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [False, True, True]


def test_labelme_xml_named_after_another_image_is_refused(make: Any) -> None:
    for name, stale in ("ab", "ba"):
        make.write(f"Images/train/{name}.png")
        ring = points((4, 8), (4, 19), (11, 19))
        make.text(f"Annotations/train/{name}.xml", XML.format(stale, ring))
    with pytest.raises(DataError, match=r"names Images/train/b\.png, .*Images/train/a\.png"):
        open_dataset(make.root)
