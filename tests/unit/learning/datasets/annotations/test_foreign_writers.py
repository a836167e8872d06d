"""Sets that other programs write: the masks are those that were drawn.

Datumaro, Supervision (of Roboflow), Label Studio's converters, pycocotools and labelme.

These programs are no part of the project's environments: the tests are skipped without them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def write_images(folder: Path, names: Sequence[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in names]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 255, SIZE, np.uint8))
    return paths


def read_masks(folder: Path, layout: str) -> dict[str, np.ndarray]:
    data = open_dataset(folder)
    assert (data.layout, data.classes, data.has_masks) == (layout, tuple(NAMES), True)
    return {sample.path.stem: sample.read_mask(*SIZE) for sample in data.samples}


def assert_equal(found: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
    assert set(found) == set(masks)
    for name, mask in masks.items():
        assert (found[name] == mask).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "labelme"])
def test_supervision(tmp_path: Path, form: str) -> None:
    supervision = needs.writer("supervision")
    masks = random_masks()
    paths = write_images(tmp_path / "source", list(masks))
    annotations = {}
    for path, mask in zip(paths, masks.values(), strict=True):
        parts, ids = [], []
        for class_id in (1, 2):
            count, labels = cv2.connectedComponents((mask == class_id).astype(np.uint8))
            parts += [labels == index for index in range(1, count)]
            ids += [class_id - 1] * (count - 1)
        areas = np.array(parts)
        annotations[str(path)] = (
            supervision.Detections(
                xyxy=supervision.mask_to_xyxy(areas).astype(float),
                mask=areas,
                class_id=np.array(ids),
            )
            if parts
            else supervision.Detections.empty()
        )
    data = supervision.DetectionDataset(NAMES, list(map(str, paths)), annotations)
    out = tmp_path / "out"
    images, labels = str(out / "images"), str(out / "labels")
    if form == "coco":
        data.as_coco(str(out), str(out / "_annotations.coco.json"), approximation_percentage=0)
    elif form == "yolo":
        data.as_yolo(images, labels, str(out / "data.yaml"), approximation_percentage=0)
    elif form == "voc":
        data.as_pascal_voc(images, labels, approximation_percentage=0)
    else:
        data.as_labelme(str(out), str(out))
    assert_equal(read_masks(out, form), masks)


def label_studio_tasks(masks: dict[str, np.ndarray], kind: str) -> list[dict[str, Any]]:
    """Return the tasks of an export with regions of Label Studio's brush, or polygons."""
    brush = needs.writer("label_studio_sdk.converter.brush")
    height, width = SIZE
    tasks = []
    for index, (name, mask) in enumerate(masks.items()):
        values: list[dict[str, Any]] = []
        for class_id, class_name in enumerate(NAMES, 1):
            area = (mask == class_id).astype(np.uint8)
            if kind == "brush" and area.any():
                runs = brush.mask2rle(area * 255)
                values.append({"format": "rle", "rle": runs, "brushlabels": [class_name]})
            for outline in cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
                if kind == "polygon":
                    points = (outline.reshape(-1, 2) * 100 / (width, height)).tolist()
                    values.append({"points": points, "polygonlabels": [class_name]})
        results = [
            {
                "type": f"{kind}labels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": value,
            }
            for value in values
        ]
        tasks.append(
            {
                "id": index,
                "data": {"image": f"/data/upload/1/19d7df64-{name}.png"},
                "annotations": [{"id": index, "result": results, "was_cancelled": False}],
            }
        )
    return tasks


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["brush", "polygon"])
def test_regions_of_label_studio(tmp_path: Path, kind: str) -> None:
    masks = random_masks()
    write_images(tmp_path, list(masks))
    (tmp_path / "tasks.json").write_text(json.dumps(label_studio_tasks(masks, kind)))
    assert_equal(read_masks(tmp_path, "label_studio"), masks)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_converter_of_label_studio(tmp_path: Path, form: str) -> None:
    """Its exports without images name them with a number in front."""
    converter = needs.writer("label_studio_sdk.converter").Converter
    masks = random_masks()
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps(label_studio_tasks(masks, "polygon")))
    labels = "".join(f'<Label value="{name}"/>' for name in NAMES)
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<PolygonLabels name="label" toName="image">{labels}</PolygonLabels></View>'
    )
    out = tmp_path / "out"
    write_images(out / "images", list(masks))
    made = converter(config, project_dir=str(tmp_path), download_resources=False)
    convert = getattr(made, f"convert_to_{form}")
    convert(str(tasks), str(out), output_image_dir=str(out / "images"), is_dir=False)
    assert_equal(read_masks(out, form), masks)


@pytest.mark.slow
def test_import_of_coco_into_label_studio(tmp_path: Path) -> None:
    """It writes the box and the polygon of each object as two regions."""
    importer = needs.writer("label_studio_sdk.converter.imports.coco")
    masks = random_masks()
    source = write(tmp_path, "polygon", "coco_instances", masks)
    (annotations,) = source.rglob("*train.json")
    out = tmp_path / "label_studio"
    names = [name for name in masks if int(name[1:]) % 3 == 0]
    write_images(out, names)
    importer.convert_coco_to_ls(str(annotations), str(out / "tasks.json"), out_type="annotations")
    (out / "tasks.label_config.xml").unlink()
    assert_equal(read_masks(out, "label_studio"), {name: masks[name] for name in names})


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
