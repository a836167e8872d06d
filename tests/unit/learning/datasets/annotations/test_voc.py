"""Pascal VOC's XML files of boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset

NEU_DET = Path(__file__).resolve().parents[5].parent / "shared/data/neu_det_24"


def xml(name: str, *boxes: tuple[str, float, float, float, float], size: str = "") -> str:
    size = size or "<size><width>64</width><height>40</height><depth>1</depth></size>"
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for label, left, top, right, bottom in boxes
    )
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def test_folders_of_voc(make: Any) -> None:
    for index in range(4):
        make.write(f"JPEGImages/p{index}.jpg")
        boxes = [("pit", 1, 1, 64, 40), ("ok", 2, 2, 3, 3)] if index % 2 else []
        make.text(f"Annotations/p{index}.xml", xml(f"p{index}.jpg", *boxes))
    make.text("ImageSets/Main/train.txt", "p0", "p1")
    make.text("ImageSets/Main/val.txt", "p2 -1")
    make.text("ImageSets/Main/test.txt", "p3.jpg")
    make.text("ImageSets/Main/trainval.txt", "p0", "p1", "p2")
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("voc", ("pit",), False)
    assert [sample.split for sample in data.samples] == ["train", "train", "val", "test"]
    assert [sample.is_defective for sample in data.samples] == [False, True, False, True]
    filled = open_dataset(make.root, draws_boxes=True)
    assert filled.samples[1].read_mask(40, 64).all()
    make.text("ImageSets/Main/val.txt", "p0")
    with pytest.raises(DataError, match=r"val\.txt:1: p0 is in train too"):
        open_dataset(make.root)


def test_a_set_inside_another_folder_keeps_its_splits(make: Any) -> None:
    for index in range(2):
        make.write(f"VOC2007/JPEGImages/p{index}.jpg")
        make.text(f"VOC2007/Annotations/p{index}.xml", xml(f"p{index}.jpg", ("pit", 1, 1, 9, 9)))
    make.text("VOC2007/ImageSets/Main/train.txt", "p0")
    make.text("VOC2007/ImageSets/Main/test.txt", "p1")
    data = open_dataset(make.root)
    assert [sample.split for sample in data.samples] == ["train", "test"]


def test_files_beside_the_images(make: Any) -> None:
    """As LabelImg and Roboflow write them."""
    for split in ("train", "valid"):
        make.write(f"{split}/{split}.jpg")
        text = xml("elsewhere.png", ("pit", 1, 1, 9, 9))
        make.text(
            f"{split}/{split}.xml", text.replace("<annotation>", '<annotation verified="yes">')
        )
    make.text("labels.txt", "scar", "pit")
    data = open_dataset(make.root)
    assert [sample.split for sample in data.samples] == ["train", "val"]
    assert (data.classes, data.samples[0].class_ids) == (("scar", "pit"), (2,))


def test_images_in_the_folder_beside(make: Any) -> None:
    make.write("images/p0.jpg")
    make.text("voc/p0.xml", xml("p0.jpg", ("pit", 1, 1, 9, 9)))
    assert len(open_dataset(make.root / "voc")) == len(open_dataset(make.root)) == 1


def test_masks_beside_boxes_are_read_as_masks(make: Any) -> None:
    for index in range(2):
        make.write(f"JPEGImages/p{index}.jpg")
        make.write(f"SegmentationClass/p{index}.png", make.mask(1))
        make.text(f"Annotations/p{index}.xml", xml(f"p{index}.jpg", ("pit", 1, 1, 9, 9)))
    make.text("ImageSets/Segmentation/train.txt", "p0")
    make.text("ImageSets/Segmentation/val.txt", "p1")
    data = open_dataset(make.root)
    assert (data.layout, data.has_masks) == ("mask_folder", True)
    assert [sample.split for sample in data.samples] == ["train", "val"]
    assert open_dataset(make.root, "voc").layout == "voc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            xml("p0.jpg", size="<size><width>200</width><height>200</height></size>"),
            r"states an image of 200 x 200 px, but it has 40 x 64 px; 1 image of 1 .*resized",
        ),
        (xml("p0.jpg", ("pit", 9, 1, 1, 9)), r"object 1 \(pit\): has a box from 9, 1 to 1, 9"),
        (xml("p0.jpg", ("pit", 1, 1, 90, 9)), "is outside of its image"),
        (xml("p0.jpg", ("pit", 1, 1, float("nan"), 9)), "xmax is 'nan', not a number"),
        (xml("p0.jpg", ("", 1, 1, 9, 9)), "has no name or no bndbox"),
        (xml("p0.jpg", size="<size><width>-1</width><height>2</height></size>"), "negative size"),
        ("<annotation><object></annotation>", "is not XML"),
    ],
)
def test_faults_are_named_with_the_object(make: Any, text: str, message: str) -> None:
    make.write("p0.jpg")
    make.text("p0.xml", text)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root)
    assert "p0.xml" in str(caught.value)


@pytest.mark.skipif(not NEU_DET.is_dir(), reason="the data set is not there")
def test_boxes_of_resized_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"200 x 200 px, but it has 416 x 416 px; 24 images of 24"):
        open_dataset(NEU_DET / "voc")
    data = open_dataset(NEU_DET)
    assert (data.layout, len(data), len(data.classes)) == ("coco", 24, 6)
    assert sum(len(sample.boxes) for sample in data.samples) == 56


def test_polygons_beside_boxes_give_masks(make: Any) -> None:
    """As Roboflow writes them, counted from 1."""
    text = xml("p0.jpg", ("pit", 5, 9, 12, 20))
    corners = ((5, 9), (5, 20), (12, 20), (12, 9))
    values = "".join(
        f"<x{number}>{x}</x{number}><y{number}>{y}</y{number}>"
        for number, (x, y) in enumerate(corners, 1)
    )
    make.write("p0.jpg")
    make.text("p0.xml", text.replace("</object>", f"<polygon>{values}</polygon></object>"))
    data = open_dataset(make.root)
    assert (data.layout, data.has_masks) == ("voc", True)
    mask = np.zeros((40, 64), np.uint8)
    mask[8:20, 4:12] = 1
    assert (data.samples[0].read_mask(40, 64) == mask).all()
    for broken, message in (
        ("<x1>5</x1><y1>9</y1>", "2 numbers"),
        ("<x1>a</x1><y1>1</y1>" * 3, "x1"),
    ):
        make.text("p0.xml", text.replace("</object>", f"<polygon>{broken}</polygon></object>"))
        with pytest.raises(DataError, match=message):
            open_dataset(make.root)
