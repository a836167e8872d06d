"""Label Studio's JSON and JSON-MIN."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset
from tests.unit.learning.datasets.annotations.test_run_lengths import brush

H, W = 40, 64


def region(kind: str, label: str | None = "pit", **value: Any) -> dict[str, Any]:
    labels = {f"{kind}labels": [label]} if label else {}
    return {
        "id": "r1",
        "from_name": "label",
        "to_name": "image",
        "type": f"{kind}labels" if label else kind,
        "original_width": W,
        "original_height": H,
        "image_rotation": 0,
        "value": {**value, **labels},
    }


def choice(name: str) -> dict[str, Any]:
    return {"from_name": "c", "to_name": "image", "type": "choices", "value": {"choices": [name]}}


def task(name: str, *results: Any, **more: Any) -> dict[str, Any]:
    annotation = {"id": 1, "result": list(results), "was_cancelled": False}
    return {"id": 7, "annotations": [annotation], "data": {"image": name}, **more}


def write(make: Any, *tasks: Any, count: int | None = None) -> None:
    for index in range(len(tasks) if count is None else count):
        make.write(f"images/p{index}.png")
    make.text("project-1.json", json.dumps(tasks))


def block(x: int, y: int, width: int, height: int) -> dict[str, float]:
    return {
        "x": 100 * x / W,
        "y": 100 * y / H,
        "width": 100 * width / W,
        "height": 100 * height / H,
    }


RING = [[100 * x / W, 100 * y / H] for x, y in ((4, 8), (4, 19), (11, 19), (11, 8))]


def test_polygons_and_brushes_give_the_mask(make: Any) -> None:
    mask = make.mask(1) > 0
    write(
        make,
        task("/data/upload/1/1a2b3c4d-p0.png", region("polygon", points=RING, closed=True)),
        task("/data/local-files/?d=set%2Fp1.png", region("brush", format="rle", rle=brush(mask))),
        task("http://host/x/p2.png?token=1"),
        task("s3://bucket/p3.png", region("polygon", None, points=RING), region("", None)),
    )
    tasks = json.loads((make.root / "project-1.json").read_text())
    tasks[3]["annotations"][0]["result"][1].update(type="labels", value={"labels": ["pit"]})
    make.text("project-1.json", json.dumps(tasks))
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("label_studio", ("pit",), True)
    for index in (0, 1, 3):
        assert (data.samples[index].read_mask(H, W) == mask).all()
    assert not data.samples[2].is_defective


def test_boxes_rotate_about_their_upper_left_corner(make: Any) -> None:
    write(
        make,
        task("p0.png", region("rectangle", **block(10, 5, 20, 10), rotation=0)),
        task("p1.png", region("rectangle", **block(30, 5, 20, 10), rotation=90)),
        task("p2.png", region("ellipse", x=50, y=50, radiusX=100 * 12 / W, radiusY=100 * 6 / H)),
    )
    samples = open_dataset(make.root, draws_boxes=True).samples
    assert samples[0].read_mask(H, W)[5:15, 10:30].sum() == samples[0].read_mask(H, W).sum() == 200
    assert samples[1].read_mask(H, W)[5:25, 20:30].sum() == samples[1].read_mask(H, W).sum() == 200
    assert abs(samples[2].read_mask(H, W).sum() - np.pi * 72) < 10


def test_choices_are_classes_of_images(make: Any) -> None:
    write(make, task("p0.png", choice("Good")), task("p1.png", choice("crack")))
    data = open_dataset(make.root)
    assert (data.classes, data.has_masks) == (("crack",), False)
    assert [sample.is_defective for sample in data.samples] == [False, True]


def test_the_annotation_that_counts(make: Any) -> None:
    def annotation(label: str, **more: Any) -> dict[str, Any]:
        return {"result": [region("rectangle", label, **block(1, 1, 5, 5))], **more}

    several = [annotation("a"), annotation("b"), annotation("c", was_cancelled=True)]
    truth = [annotation("a", ground_truth=True), annotation("b")]
    write(
        make,
        {"id": 1, "data": {"image": "p0.png"}, "annotations": several},
        {"id": 2, "data": {"image": "p1.png"}, "annotations": truth},
        {"id": 3, "data": {"image": "p2.png"}, "annotations": []},
        {"id": 4, "data": {"image": "p3.png"}, "annotations": several[2:]},
    )
    data = open_dataset(make.root)
    assert [sample.class_name for sample in data.samples] == ["b", "a"]
    assert len(data.skipped) == 2
    assert any("2 images have several annotations" in note for note in data.notes)


def test_json_min(make: Any) -> None:
    mask = make.mask(1) > 0
    size = {"original_width": W, "original_height": H}
    write(
        make,
        {"image": "p0.png", "id": 1, "annotator": 1, "annotation_id": 1, "tag": [
            {"format": "rle", "rle": brush(mask), "brushlabels": ["pit"], **size}]},
        {"image": "p1.png", "id": 2, "annotator": 1, "annotation_id": 2, "choice": "ok"},
        {"image": "p2.png", "id": 3, "annotator": 1, "annotation_id": 3, "label": [
            {**block(1, 1, 5, 5), "rotation": 0, "rectanglelabels": ["scar"], **size}]},
    )  # fmt: skip
    data = open_dataset(make.root)
    assert data.classes == ("pit", "scar")
    assert (data.samples[0].read_mask(H, W) == mask).all()
    assert [sample.is_defective for sample in data.samples] == [True, False, True]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (region("rectangle", x=1, y=1, width=-5, height=5), "width is -5, below 0"),
        (region("rectangle", x="a", y=1, width=5, height=5), "x is a, not a number"),
        (region("rectangle", y=1, width=5, height=5), "x is None, not a number"),
        (region("rectangle", x=90, y=1, width=50, height=5), "is outside of its image"),
        (region("polygon", points=[[1, 1], [2, 2]]), "polygon without three points"),
        (region("polygon", points=[[1, 1], [2], [3, 3]]), r"points are not \[x, y\]"),
        (region("polygon", points=[[1, 1], [2, {}], [3, 3]]), r"points are not \[x, y\]"),
        (region("brush", rle=[1, 2, 3]), "brush mask that is cut off"),
        (region("brush", rle="abc"), "without run lengths"),
        (region("rectangle", None, x=1, y=1, width=5, height=5), "has 0 labels"),
        (region("vector", x=1), "type vectorlabels, which is not supported"),
        ({**region("rectangle", **block(1, 1, 2, 2)), "image_rotation": 90}, "turned by 90"),
        ({**region("rectangle", **block(1, 1, 2, 2)), "original_width": 0}, "no original_width"),
        ({**region("rectangle", **block(1, 1, 2, 2)), "original_width": 640}, "40 x 640 px"),
        ("text", "result that is not a list of mappings"),
    ],
)
def test_faults_are_named_with_the_task(make: Any, result: Any, message: str) -> None:
    write(make, task("p0.png", result))
    with pytest.raises(DataError, match=rf"project-1\.json, task 7.*{message}"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"id": 1, "annotations": [], "data": {"text": "x"}}], "task 1: names 0 images"),
        ([{"id": 1, "annotations": {}, "data": {"image": "p0.png"}}] * 2, "not a list"),
        ([{"id": 1, "annotations": [], "data": 5}], "data that is not a mapping"),
        ([task("p0.png"), task("p0.png")], r"annotates images/p0\.png again"),
    ],
)
def test_faults_of_tasks(make: Any, tasks: Any, message: str) -> None:
    if "not a list" in message:
        tasks[0] = {**tasks[0], "annotations": {"a": 1}}
    write(make, *tasks, count=1)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_numbers_of_any_length_are_refused(make: Any) -> None:
    result = region("rectangle", **block(1, 1, 2, 2))
    write(make, task("p0.png", result))
    text = (make.root / "project-1.json").read_text()
    make.text("project-1.json", text.replace('"x": 1.5625', '"x": ' + "9" * 400))
    with pytest.raises(DataError, match="x is 9999"):
        open_dataset(make.root)
    make.text("project-1.json", json.dumps([task("p0.png", region("polygon", points=RING))]))
    text = (make.root / "project-1.json").read_text()
    make.text("project-1.json", text.replace("6.25", "9" * 400))
    with pytest.raises(DataError, match=r"points are not \[x, y\]"):
        open_dataset(make.root)


def pit(label: str = "pit") -> dict[str, Any]:
    return region("rectangle", label, **block(1, 1, 5, 5))


@pytest.mark.parametrize("kind", ["textarea", "rating", "number", "pairwise"])
def test_results_that_are_not_read_are_no_label(make: Any, kind: str) -> None:
    other = {"id": "r2", "type": kind, "value": {kind: "crack"}}
    write(
        make,
        task("p0.png", pit(), other),
        task("p1.png"),
        task("p2.png", choice("ok"), other),
        task("p3.png", other),
    )
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [True, False, False]
    (skipped,) = data.skipped
    assert (skipped.name, skipped.is_intentional) == ("images/p3.png", False)
    assert f"has only results that are not read ({kind})" in skipped.reason
    write(make, *(task(f"p{index}.png", other) for index in range(4)))
    with pytest.raises(DataError, match="4 of 4 images are not labelled"):
        open_dataset(make.root)


def minimal(name: str, **more: Any) -> dict[str, Any]:
    return {"image": name, "id": 1, "annotator": 1, "annotation_id": 1, **more}


@pytest.mark.parametrize(
    "more",
    [
        {"quality": "crack"},
        {"defects": ["crack", "pit"]},
        {"boxes": [{"x": 1, "y": 2, "width": 3, "height": 4}]},
        {"rating": 2},
    ],
)
def test_unknown_keys_of_json_min_that_look_like_labels(make: Any, more: dict[str, Any]) -> None:
    write(
        make,
        minimal("p0.png", choice="crack"),
        minimal("p1.png", choice="ok", **more),
        minimal("p2.png", camera="north 3", line=4),
        minimal("p3.png", **more),
    )
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [True, False]
    reasons = {one.name: one.reason for one in data.skipped}
    assert set(reasons) == {"images/p2.png", "images/p3.png"}
    assert reasons["images/p2.png"] == "has no tag, while good images have the tag 'ok'"
    assert next(iter(more)) in reasons["images/p3.png"]


def test_a_taxonomy_of_json_min_is_refused(make: Any) -> None:
    write(make, minimal("p0.png", choice="ok"), minimal("p1.png", tax=[["defect", "crack"]]))
    with pytest.raises(DataError, match=r"has 'tax': .*, a taxonomy, which is not supported"):
        open_dataset(make.root)


def test_annotators_who_contradict_each_other(make: Any) -> None:
    def annotation(*results: Any, **more: Any) -> dict[str, Any]:
        return {"result": list(results), **more}

    note = {"id": "r2", "type": "textarea", "value": {"text": ["fine"]}}
    tasks = [
        [annotation(pit()), annotation()],
        [annotation(pit(), ground_truth=True), annotation()],
        [annotation(pit()), annotation(pit("scar"))],
        [annotation(pit()), annotation(note)],
        [annotation(pit(), was_cancelled=True), annotation()],
        [annotation(choice("ok")), annotation()],
        [annotation(choice("ok")), annotation(choice("crack"))],
    ]
    write(
        make,
        *(
            {"id": number, "data": {"image": f"p{number}.png"}, "annotations": annotations}
            for number, annotations in enumerate(tasks)
        ),
    )
    data = open_dataset(make.root)
    assert {sample.name: sample.is_defective for sample in data.samples} == {
        "p1.png": True,
        "p2.png": True,
        "p3.png": True,
        "p4.png": False,
        "p5.png": False,
    }
    assert [one.name for one in data.skipped] == ["images/p0.png", "images/p6.png"]
    assert all("no ground truth" in one.reason for one in data.skipped)


def test_the_box_of_a_polygon_is_not_another_object(make: Any) -> None:
    """Label Studio's import of COCO writes both."""
    write(
        make,
        task("p0.png", region("rectangle", **block(4, 8, 7, 11)), region("polygon", points=RING)),
        task("p1.png", region("rectangle", **block(4, 8, 9, 11)), region("polygon", points=RING)),
    )
    one, two = open_dataset(make.root).samples
    assert set(np.unique(one.read_mask(H, W))) == {0, 1}
    assert set(np.unique(two.read_mask(H, W))) == {0, 1, 255}
