"""Supervisely's projects."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset

META = {"classes": [{"title": "pit", "shape": "bitmap"}, {"title": "scar", "shape": "polygon"}]}


def project(make: Any, *objects: dict[str, Any], **more: Any) -> None:
    make.text("meta.json", json.dumps(META))
    for index, each in enumerate(objects):
        make.write(f"ds/img/p{index}.png")
        content = {
            "description": "",
            "tags": [{"name": "Train"}] if index % 2 else [],
            "size": {"height": 40, "width": 64},
            "objects": [each] if each else [],
            **more,
        }
        make.text(f"ds/ann/p{index}.png.json", json.dumps(content))


def bitmap(mask: np.ndarray, left: int, top: int) -> dict[str, Any]:
    alpha = np.dstack([np.zeros_like(mask)] * 3 + [mask])
    data = zlib.compress(cv2.imencode(".png", alpha)[1].tobytes())
    return {
        "classTitle": "pit",
        "geometryType": "bitmap",
        "bitmap": {"data": base64.b64encode(data).decode(), "origin": [left, top]},
    }


def shape(kind: str, exterior: Any, interior: Any = (), title: str = "pit") -> dict[str, Any]:
    points = {"exterior": exterior, "interior": list(interior)}
    return {"classTitle": title, "geometryType": kind, "points": points}


def test_bitmaps_and_polygons_give_the_mask(make: Any) -> None:
    ring = [[4, 8], [4, 19], [11, 19], [11, 8]]
    corner = (np.random.default_rng(0).random((9, 7)) < 0.5).astype(np.uint8) * 255
    project(make, shape("polygon", ring), bitmap(corner, 5, 30), {})
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("supervisely", ("pit", "scar"))
    assert (data.samples[0].read_mask(40, 64) == make.mask(1)).all()
    assert (data.samples[1].read_mask(40, 64)[30:39, 5:12] == corner // 255).all()
    assert [sample.split for sample in data.samples] == [None, "train", None]
    assert not data.samples[2].is_defective


def test_holes_boxes_lines_and_points(make: Any) -> None:
    ring = [[4, 8], [4, 28], [24, 28], [24, 8]]
    hole = [[10, 14], [10, 22], [18, 22], [18, 14]]
    project(
        make,
        shape("polygon", ring, [hole]),
        shape("rectangle", [[4, 8], [7, 9]]),
        shape("line", [[10, 20], [50, 20]]),
        shape("point", [[30, 20]]),
    )
    drawn = [s.read_mask(40, 64).sum() for s in open_dataset(make.root, draws_boxes=True).samples]
    assert drawn[0] == 21 * 21 - 7 * 7
    assert drawn[1] == 8
    assert drawn[2] == 400
    assert abs(drawn[3] - np.pi * 25) < 6


@pytest.mark.parametrize(
    ("each", "message"),
    [
        (shape("polygon", [[1, 1], [2, 2]]), "polygon of 2 points, which is not supported"),
        (shape("cuboid", [[1, 1]]), "is a cuboid"),
        (shape("polygon", [[1, 1], [2, 2], [3, 1]], title="rust"), "class 'rust', which meta.json"),
        (shape("polygon", [[1, 1], [2], [3, 1]]), "not \\[x, y\\]"),
        (shape("polygon", [[1, 1], [2, 2], [99, 1]]), "outside of its image"),
        (
            {**bitmap(np.eye(3, dtype=np.uint8), 1, 1), "bitmap": {"data": "!", "origin": [1, 1]}},
            "base64",
        ),
        (
            {**bitmap(np.eye(3, dtype=np.uint8), 1, 1), "bitmap": {"data": "", "origin": [1]}},
            "origin",
        ),
    ],
)
def test_faults_are_named_with_the_object(make: Any, each: Any, message: str) -> None:
    project(make, each)
    with pytest.raises(DataError, match=rf"p0\.png\.json, object 1.*{message}"):
        open_dataset(make.root)


def test_another_size_is_refused(make: Any) -> None:
    project(make, {}, size={"height": 400, "width": 640})
    with pytest.raises(DataError, match="states an image of 400 x 640 px"):
        open_dataset(make.root)


TAGS = [
    {"name": "crack", "value_type": "none", "applicable_type": "imagesOnly"},
    {"name": "ok", "value_type": "none"},
    {"name": "state", "value_type": "oneof_string", "values": ["good", "bent"]},
    {"name": "operator", "value_type": "any_string"},
    {"name": "deep", "value_type": "none", "applicable_type": "objectsOnly"},
]


def tagged(make: Any, *tags: dict[str, Any]) -> None:
    project(make, *({} for _ in tags))
    make.text("meta.json", json.dumps({**META, "tags": TAGS}))
    for index, tag in enumerate(tags):
        path = make.root / f"ds/ann/p{index}.png.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "tags": [tag]}))


def test_tags_are_classes_of_the_whole_image(make: Any) -> None:
    tagged(
        make,
        {"name": "crack", "value": None},
        {"name": "ok"},
        {"name": "state", "value": "bent"},
        {"name": "state", "value": "good"},
        {"name": "operator", "value": "defect"},
        {"name": "test"},
    )
    data = open_dataset(make.root)
    assert [each.is_defective for each in data.samples] == [True, False, True, False]
    assert {one.reason for one in data.skipped} == {
        "has no tag, while good images have the tag 'ok'"
    }


def test_a_tag_of_a_split_is_no_class(make: Any) -> None:
    tagged(make, {"name": "crack"}, {"name": "test"}, {"name": "operator", "value": "defect"})
    data = open_dataset(make.root)
    assert [each.is_defective for each in data.samples] == [True, False, False]
    assert data.samples[1].split == "test"


@pytest.mark.parametrize("name", ["dent", "deep"])
def test_a_tag_that_meta_does_not_list_for_images_is_refused(make: Any, name: str) -> None:
    tagged(make, {"name": "ok"}, {"name": name})
    with pytest.raises(DataError, match=f"has the tag '{name}', which meta.json does not list"):
        open_dataset(make.root)


def test_a_file_without_objects_is_no_label(make: Any) -> None:
    project(make, *({} for _ in range(4)))
    path = make.root / "ds/ann/p1.png.json"
    content = json.loads(path.read_text())
    del content["objects"]
    path.write_text(json.dumps(content))
    data = open_dataset(make.root)
    assert [sample.name for sample in data.samples] == ["p0.png", "p2.png", "p3.png"]
    assert [(one.name, one.is_intentional) for one in data.skipped] == [("ds/img/p1.png", False)]
    assert "has no list of objects" in data.skipped[0].reason


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("ds/img/P0.PNG", "ds/ann/p0.png.json"),
        ("DS/IMG/P0.PNG", "DS/ANN/P0.PNG.JSON"),
        ("ds/img/Gu\u0308te.png", "ds/ann/G\u00fcte.png.json"),
    ],
)
def test_names_match_without_case_and_unicode_form(make: Any, image: str, label: str) -> None:
    project(make, shape("rectangle", [[1, 1], [5, 5]]))
    content = (make.root / "ds/ann/p0.png.json").read_text()
    (make.root / "ds/ann/p0.png.json").unlink()
    (make.root / "ds/img/p0.png").unlink()
    make.write(image)
    make.text(label, content)
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [True]
    assert not data.skipped
