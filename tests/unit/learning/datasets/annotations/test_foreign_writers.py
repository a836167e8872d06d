"""Sets that Datumaro, pycocotools and labelme write: the masks are those that were drawn.

These programs are no part of the project's environments: the tests are skipped without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.learning.datasets import Dataset, open_dataset
from edgeinspect.learning.datasets.annotations.rasterise import draw_shape
from edgeinspect.learning.datasets.annotations.run_lengths import (
    decode_compressed_counts,
    encode_compressed_counts,
    mask_counts,
)
from edgeinspect.learning.datasets.annotations.shapes import LINE_WIDTH_PX, Stroke, ellipse
from tests import needs

pytestmark = pytest.mark.writers

SIZE = (120, 160)
NAMES = ["pit", "scar"]


def random_masks(seed: int = 5) -> dict[str, np.ndarray]:
    """Class maps without holes, which polygons of these programs cannot express."""
    rng = np.random.default_rng(seed)
    out = {}
    for index in range(6):
        noise = cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), 6)
        mask = np.zeros(SIZE, np.uint8)
        for class_id, area in ((1, noise > noise.std()), (2, noise < -noise.std())):
            outlines = cv2.findContours(
                area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )[0]
            large = [outline for outline in outlines if len(outline) > 8]
            cv2.drawContours(mask, large, -1, class_id, cv2.FILLED)
        out[f"p{index}"] = mask
    out["p5"][:] = 0
    return out


def write(root: Path, kind: str, form: str, masks: dict[str, np.ndarray]) -> Path:
    """Write masks as a format of Datumaro, from masks, contours or boxes."""
    datumaro = needs.writer("datumaro")
    images = root / "source"
    images.mkdir()
    items = []
    for index, (name, mask) in enumerate(masks.items()):
        path = images / f"{name}.png"
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 255, SIZE, np.uint8))
        annotations: list[Any] = []
        for class_id in (1, 2):
            area = (mask == class_id).astype(np.uint8)
            if kind == "mask" and area.any():
                annotations.append(datumaro.Mask(area.astype(bool), label=class_id - 1))
            for outline in cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
                if kind == "polygon":
                    points = outline.reshape(-1).astype(float).tolist()
                    annotations.append(datumaro.Polygon(points, label=class_id - 1))
                elif kind == "box":
                    annotations.append(
                        datumaro.Bbox(*cv2.boundingRect(outline), label=class_id - 1)
                    )
        for number, annotation in enumerate(annotations, 1):
            annotation.id = annotation.group = 100 * index + number
        media = datumaro.Image.from_file(str(path))
        subset = ("train", "val", "test")[index % 3]
        items.append(
            datumaro.DatasetItem(name, subset=subset, media=media, annotations=annotations)
        )
    out = root / "out"
    datumaro.Dataset.from_iterable(items, categories=NAMES).export(str(out), form, save_media=True)
    return out


def check(data: Dataset, masks: dict[str, np.ndarray], *, boxes: bool = False) -> None:
    assert data.classes == tuple(NAMES)
    assert data.has_masks != boxes
    assert {sample.path.stem for sample in data.samples} == set(masks)
    for sample in data.samples:
        mask = masks[sample.path.stem]
        assert sample.split == ("train", "val", "test")[int(sample.path.stem[1:]) % 3]
        assert set(sample.class_ids) == set(np.unique(mask).tolist()) - {0}
        if not boxes:
            assert (sample.read_mask(*SIZE) == mask).all(), sample.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form", "layout"),
    [
        ("mask", "coco_instances", "coco"),
        ("polygon", "coco_instances", "coco"),
        ("polygon", "cvat", "cvat"),
        ("polygon", "label_me", "labelme_xml"),
        ("mask", "cvat", "cvat"),
        ("mask", "voc_segmentation", "mask_folder"),
        ("box", "coco_instances", "coco"),
        ("box", "cvat", "cvat"),
        ("box", "voc_detection", "voc"),
        ("box", "yolo", "yolo"),
        ("box", "yolo_ultralytics", "yolo"),
    ],
)
def test_datumaro(tmp_path: Path, kind: str, form: str, layout: str) -> None:
    masks = random_masks()
    data = open_dataset(write(tmp_path, kind, form, masks))
    assert data.layout == layout
    check(data, masks, boxes=kind == "box")


def test_run_lengths_of_pycocotools() -> None:
    coding = needs.writer("pycocotools.mask")
    for mask in random_masks().values():
        area = np.asfortranarray(mask == 1)
        text = coding.encode(area.astype(np.uint8, order="F"))["counts"].decode()
        counts = mask_counts(area.ravel(order="F")).tolist()
        assert encode_compressed_counts(counts) == text
        assert decode_compressed_counts(text, "") == counts


def test_shapes_of_labelme() -> None:
    utilities = needs.writer("labelme.utils")
    points = [(20.5, 30.2), (120.1, 90.8)]
    radius = float(np.hypot(9, 5))
    for kind, shape, given in (
        ("line", Stroke(np.array(points), LINE_WIDTH_PX), points),
        ("circle", ellipse(60, 60, radius, radius), [(60, 60), (69, 65)]),
    ):
        theirs = utilities.shape_to_mask(SIZE, given, shape_type=kind)
        ours = draw_shape(shape, *SIZE, as_positions=False)
        grown = cv2.dilate(theirs.astype(np.uint8), np.ones((3, 3), np.uint8))
        shrunk = cv2.erode(theirs.astype(np.uint8), np.ones((3, 3), np.uint8))
        beyond = (ours & (grown == 0)) | (~ours & (shrunk > 0))  # more than a pixel off
        assert beyond.sum() <= 0.01 * theirs.sum(), kind
