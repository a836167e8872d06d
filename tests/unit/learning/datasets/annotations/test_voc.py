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


# -- which image an XML file is of ------------------------------------------------------------


def in_folder(name: str, folder: str) -> str:
    text = xml(name, ("pit", 1, 1, 9, 9))
    return text.replace("<filename>", f"<folder>{folder}</folder><filename>")


def files(make: Any) -> dict[str, str]:
    """Return the XML file of each image by the box in it: a path from the folder of the set."""
    data = open_dataset(make.root, "voc")
    return {
        str(sample.path.relative_to(make.root)): str(sample.boxes[0].right_px)
        for sample in data.samples
        if sample.boxes
    }


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("JPEGImages/day{}/a.jpg", "Annotations/day{}/a.xml"),
        ("day{}/images/a.jpg", "day{}/labels/xml/a.xml"),
    ],
)
def test_equal_names_are_told_apart_by_their_folders(make: Any, image: str, label: str) -> None:
    for at in (1, 2, 3):
        make.write(image.format(at))
        make.text(label.format(at), xml("a.jpg", ("pit", 1, 1, 10 * at, 9)))
    assert files(make) == {image.format(at): f"{10.0 * at}" for at in (1, 2, 3)}
    (make.root / image.format(2)).unlink()
    make.text(label.format(1), xml("a.jpg"))
    assert files(make) == {image.format(3): "30.0"}


def test_equal_names_are_told_apart_by_the_folder_in_the_file(make: Any) -> None:
    for name in ("train/day1/a", "train/day1/b", "train/day2/b", "train/day2/a"):
        make.write(f"{name}.jpg")
    make.text("Annotations/a.xml", in_folder("a.jpg", "day2"))
    make.text("Annotations/b.xml", in_folder("b.jpg", "day1"))
    assert set(files(make)) == {"train/day2/a.jpg", "train/day1/b.jpg"}


def test_an_image_in_another_folder_than_the_file_says_is_not_its_own(make: Any) -> None:
    for index in range(8):
        make.write(f"day{index % 2 + 1}/p{index}.jpg")
        make.text(f"Annotations/p{index}.xml", in_folder(f"p{index}.jpg", f"day{index % 2 + 1}"))
    make.write("day1/q.jpg")
    make.text("Annotations/q.xml", in_folder("q.jpg", "day2"))
    with pytest.raises(DataError, match=r"such as q\.jpg: Annotations/q\.xml"):
        open_dataset(make.root, "voc")
    make.text("Annotations/q.xml", in_folder("q.jpg", "elsewhere"))
    assert "day1/q.jpg" in files(make)


@pytest.mark.parametrize("folder", ["", "elsewhere"])
def test_two_images_of_one_name_are_refused(make: Any, folder: str) -> None:
    for place in ("JPEGImages", "images"):
        make.write(f"{place}/a.jpg")
    make.text("Annotations/a.xml", in_folder("a.jpg", folder))
    with pytest.raises(DataError, match=r"two images, JPEGImages/a\.jpg and images/a\.jpg") as seen:
        open_dataset(make.root)
    assert "Annotations/a.xml" in str(seen.value)


def test_a_name_in_the_file_of_another_image_is_refused(make: Any) -> None:
    for name in ("a", "b"):
        make.write(f"images/{name}.jpg")
    make.text("Annotations/a.xml", xml("b.jpg", ("pit", 1, 1, 9, 9)))
    with pytest.raises(DataError, match=r"two images, images/a\.jpg and images/b\.jpg"):
        open_dataset(make.root)
    make.text("Annotations/b.xml", xml("c.jpg"))
    assert set(files(make)) == {"images/a.jpg"}
