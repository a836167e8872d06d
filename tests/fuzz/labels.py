"""Targets: label files of other programs, each opened as a data set with one image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeinspect.learning.datasets.open import open_dataset
from tests.fuzz.target import Target

_SIZE = (8, 12)
_IMAGE = cv2.imencode(".png", np.zeros(_SIZE, np.uint8))[1].tobytes()
_RING = [[1, 1], [6, 1], [6, 5], [1, 5]]


def _opens(name: str, image: str = "a.png") -> Callable[[bytes, Path], object]:
    """Return a target that writes the input as a label file beside an image, and reads the set."""

    def decode(data: bytes, folder: Path) -> object:
        for path, content in ((folder / name, data), (folder / image, _IMAGE)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            return [sample.read_mask(*_SIZE) for sample in open_dataset(folder).samples]
        finally:
            (folder / name).unlink()
            (folder / image).unlink()

    return decode


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _coco(**more: Any) -> bytes:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 4], **more}
    return _json(
        {
            "images": [{"id": 1, "file_name": "a.png", "width": 12, "height": 8}],
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "pit"}],
        }
    )


def _labelme(kind: str, points: Any) -> bytes:
    shape = {"label": "pit", "shape_type": kind, "points": points}
    return _json({"shapes": [shape], "imagePath": "a.png", "imageHeight": 8, "imageWidth": 12})


def _cvat(element: str) -> bytes:
    return (
        "<annotations><meta><task><labels><label><name>pit</name></label></labels></task></meta>"
        f'<image id="0" name="a.png" width="12" height="8">{element}</image></annotations>'
    ).encode()


def _label_studio(kind: str, **value: Any) -> bytes:
    result = {
        "id": "r",
        "type": f"{kind}labels",
        "original_width": 12,
        "original_height": 8,
        "value": {**value, f"{kind}labels": ["pit"]},
    }
    return _json([{"id": 1, "annotations": [{"result": [result]}], "data": {"image": "a.png"}}])


_VOC = (
    b"<annotation><filename>a.png</filename><size><width>12</width><height>8</height></size>"
    b"<object><name>pit</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>5</ymax>"
    b"</bndbox></object></annotation>"
)
_LABELME_XML = (
    b"<annotation><filename>a.png</filename><imagesize><nrows>8</nrows><ncols>12</ncols>"
    b"</imagesize><object><name>pit</name><polygon><pt><x>1</x><y>1</y></pt><pt><x>6</x><y>1</y>"
    b"</pt><pt><x>6</x><y>5</y></pt></polygon></object></annotation>"
)

TARGETS = [
    Target(
        "labels: COCO",
        _opens("a.json"),
        [
            _coco(),
            _coco(segmentation=[[1, 1, 6, 1, 6, 5]]),
            _coco(segmentation={"size": [8, 12], "counts": [9, 5, 82]}),
            _coco(segmentation={"size": [8, 12], "counts": "95b2"}),
        ],
    ),
    Target(
        "labels: labelme",
        _opens("a.json"),
        [_labelme("polygon", _RING), _labelme("circle", _RING[:2]), _labelme("line", _RING[:2])],
    ),
    Target(
        "labels: CVAT",
        _opens("annotations.xml"),
        [
            _cvat('<polygon label="pit" points="1,1;6,1;6,5"/>'),
            _cvat('<box label="pit" xtl="1" ytl="1" xbr="6" ybr="5" rotation="9"/>'),
            _cvat('<mask label="pit" rle="1, 2, 3" left="1" top="1" width="3" height="2"/>'),
        ],
    ),
    Target(
        "labels: Label Studio",
        _opens("a.json"),
        [
            _label_studio("rectangle", x=10, y=10, width=50, height=50, rotation=5),
            _label_studio("polygon", points=[[10, 10], [50, 10], [50, 60]]),
            _label_studio("ellipse", x=50, y=50, radiusX=20, radiusY=20),
        ],
    ),
    Target("labels: Pascal VOC", _opens("a.xml"), [_VOC]),
    Target("labels: LabelMe", _opens("a.xml"), [_LABELME_XML]),
    Target(
        "labels: YOLO",
        _opens("labels/a.txt", "images/a.png"),
        [b"0 0.5 0.5 0.25 0.25\n", b"1 0.1 0.1 0.6 0.1 0.6 0.5 0.1 0.5 0.2 0.2\n"],
    ),
]
