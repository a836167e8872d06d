"""A label that a layout passes over never makes a good image without a word."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import convert_dataset, open_dataset
from tests.unit.learning.datasets.annotations.test_run_lengths import brush
from tests.unit.learning.datasets.conftest import HEIGHT_PX, WIDTH_PX
from tests.unit.learning.datasets.test_unread_labels import Write, labelme, voc, yolo


def loco(make: Any) -> None:
    make.mvtec()
    for index in range(4):
        make.write(f"test/logical/{index:03}.png")
        for part in range(2):
            block = make.mask(1 + part, value=255)
            make.write(f"ground_truth/logical/{index:03}/{part:03}.png", np.roll(block, index))


@pytest.mark.parametrize("is_emptied", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_no_mask_of_another_image_is_used(make: Any, index: int, is_emptied: bool) -> None:
    loco(make)
    folder = make.root / f"ground_truth/logical/{index:03}"
    shutil.rmtree(folder)
    if is_emptied:
        folder.mkdir()
    with pytest.raises(DataError, match="has no mask"):
        open_dataset(make.root)


def test_masks_whose_images_are_among_the_good_ones(make: Any) -> None:
    make.mvtec()
    (make.root / "test/crack").rename(make.root / "test/good2")
    with pytest.raises(DataError, match=r"3 of 6 masks have no image: ground_truth/crack/000_mask"):
        open_dataset(make.root)
    (make.root / "test/good2").rename(make.root / "test/crack")
    (make.root / "test/crack/002.png").rename(make.root / "test/good/003.png")
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("ground_truth/crack/002_mask.png", "is a mask without an image")
    ]


@pytest.mark.parametrize("write", [labelme, yolo, voc])
@pytest.mark.parametrize("place", ["images/", "labels/", "Annotations/"])
def test_annotations_of_some_images_do_not_hide_the_masks(
    make: Any, write: Write, place: str
) -> None:
    make.mask_folder(count=12)
    for index in (0, 1):
        write(make, f"{place}p{index}")
    try:
        data = open_dataset(make.root)
    except DataError as error:
        assert "mask" in str(error)
    else:  # they are not recognised as annotations: the masks are read
        assert data.layout == "mask_folder"
        assert sum(sample.is_defective for sample in data.samples) == 6


def test_a_list_of_all_images_does_not_hide_the_masks(make: Any) -> None:
    make.mask_folder(count=12)
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 8, 8, 12], "area": 96}
    document = {
        "images": [
            {"id": i, "file_name": f"p{i}.jpg", "height": HEIGHT_PX, "width": WIDTH_PX}
            for i in range(12)
        ],
        "annotations": [box],
        "categories": [{"id": 1, "name": "pit"}],
    }
    make.text("annotations.json", json.dumps(document))
    with pytest.raises(DataError, match="5 good images have a mask, which layout coco does not"):
        open_dataset(make.root)
    data = open_dataset(make.root, "coco")
    assert any("5 good images have a mask" in note for note in data.notes)


@pytest.mark.parametrize("name", ["p0_crack", "p0_2", "p0 (2)"])
def test_a_second_mask_with_a_defect_is_refused(make: Any, name: str) -> None:
    make.mask_folder(count=12)
    make.write(f"masks/{name}.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"has a defect that p0\.png has not"):
        open_dataset(make.root)


def test_a_second_mask_that_adds_nothing_is_listed(make: Any) -> None:
    make.mask_folder(count=12)
    make.write("masks/p1_color.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("masks/p1_color.png", "is a second mask: p1.png is read")
    ]


def test_the_table_of_dagm_names_the_masks(make: Any) -> None:
    for index in range(12):
        make.write(f"Train/{index:04}.PNG")
        if index < 4:
            make.write(f"Train/Label/{index:04}_label.PNG", make.mask(1, value=255))
    rows = [
        f"{index}\t{int(index < 4)}\t{index:04}.PNG\t{int(index < 4)}\t"
        + (f"{index:04}_label.PNG" if index < 4 else "0")
        for index in range(12)
    ]
    make.text("Train/Label/Labels.txt", "1", *rows)
    assert not open_dataset(make.root).skipped
    (make.root / "Train/Label/0001_label.PNG").unlink()
    data = open_dataset(make.root)
    assert len(data) == 11
    assert "names its mask 0001_label.PNG, which does not exist" in data.skipped[0].reason
    for index in (0, 2):
        (make.root / f"Train/Label/{index:04}_label.PNG").unlink()
    with pytest.raises(DataError, match="3 of 12 images are not labelled"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    "name", ["masks/p1.png.part", "masks/p1.png.bak", "masks/.p1.png.Xy12", "masks/p1.png~"]
)
def test_a_mask_that_was_copied_in_part(make: Any, name: str) -> None:
    make.mask_folder(count=12)
    for index in range(0, 12, 2):
        (make.root / f"masks/p{index}.png").unlink()
    (make.root / "masks/p1.png").rename(make.root / name)
    with pytest.raises(DataError, match="may be the label of p1"):
        open_dataset(make.root)
    make.write("masks/p1.png", make.mask(1, value=255))
    assert len(open_dataset(make.root)) == 12  # a backup beside the file


@pytest.mark.parametrize("write", [labelme, voc, yolo])
def test_a_label_that_was_copied_in_part(make: Any, write: Write) -> None:
    for index in range(8):
        make.write(f"p{index}.png")
        write(make, f"p{index}")
    label = next(path for path in make.root.glob("p3.*") if path.suffix != ".png")
    label.rename(label.with_name(f"{label.name}.part"))
    with pytest.raises(DataError, match="may be the label of p3"):
        open_dataset(make.root)


@pytest.mark.parametrize("target", ["edgeinspect", "coco"])
def test_a_conversion_tells_what_the_set_has_left_out(
    make: Any, tmp_path: Path, target: str
) -> None:
    for index in range(12):
        make.write(f"p{index}.png")
        voc(make, f"p{index}")
    (make.root / "p3.xml").write_text("")
    data = open_dataset(make.root)
    done = convert_dataset(data, tmp_path / "out", target)
    assert (done.images, [one.name for one in done.skipped]) == (11, ["p3.png"])


def test_names_alone_declare_a_yolo_set(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.png")
        make.text(f"labels/p{index}.txt", f"{index % 2} 0.5 0.5 0.25 0.25")
    make.text("data.yaml", "names: [pit, scratch]")
    assert open_dataset(make.root).classes == ("pit", "scratch")


@pytest.mark.parametrize("line", ["0 0.9 0.9 1.0 1.0", "0 0.02 0.5 0.1 0.1", "0 0.5 0.99 0.1 0.1"])
def test_a_yolo_box_outside_of_its_image(make: Any, line: str) -> None:
    make.write("images/p0.png")
    make.text("labels/p0.txt", line)
    with pytest.raises(DataError, match="outside of its image"):
        open_dataset(make.root)


def flags(make: Any, name: str, **value: bool) -> None:
    make.write(f"{name}.png")
    document = {"shapes": [], "flags": value, "imagePath": f"{name}.png"}
    make.text(
        f"{name}.json", json.dumps({**document, "imageHeight": HEIGHT_PX, "imageWidth": WIDTH_PX})
    )


def test_images_without_a_tag_where_good_ones_have_one(make: Any) -> None:
    for index in range(12):
        flags(make, f"p{index}", good=index < 6, dent=6 <= index < 11)
    data = open_dataset(make.root)
    assert len(data) == 11
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("p11.png", "has no tag, while good images have the tag 'good'")
    ]
    for index in (3, 4):
        flags(make, f"p{index}", good=False, dent=False)
    with pytest.raises(DataError, match="3 of 12 images are not labelled"):
        open_dataset(make.root)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_augmented_copies_of_roboflow_stay_together_in_every_layout(make: Any, suffix: str) -> None:
    for index in range(12):
        for place, pixels in (("images", None), ("masks", make.mask(1, value=255 * (index % 2)))):
            name = f"a{index // 3}_jpg.rf.{index:032x}"
            make.write(f"{place}/{name}{'.png' if place == 'masks' else suffix}", pixels)
    data = open_dataset(make.root)
    assert data.layout == "mask_folder"
    assert {sample.group for sample in data.samples} == {f"a{index}_jpg" for index in range(4)}


def test_a_labelme_mask_of_another_size_than_its_box(make: Any) -> None:
    make.write("p0.png")
    png = cv2.imencode(".png", np.full((10, 10), 255, np.uint8))[1].tobytes()
    shape = {
        "label": "pit",
        "shape_type": "mask",
        "points": [[2, 2], [30, 20]],
        "mask": base64.b64encode(png).decode(),
    }
    document = {"shapes": [shape], "imagePath": "p0.png"}
    make.text("p0.json", json.dumps({**document, "imageHeight": HEIGHT_PX, "imageWidth": WIDTH_PX}))
    with pytest.raises(DataError, match=r"has a mask of 10 x 10 px .* in a box of 29 x 19 px"):
        open_dataset(make.root)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("write", [labelme, voc])
def test_labels_in_the_encodings_of_windows(make: Any, write: Write, encoding: str) -> None:
    for index in range(4):
        make.write(f"p{index}.png")
        write(make, f"p{index}")
        (label,) = (path for path in make.root.glob(f"p{index}.*") if path.suffix != ".png")
        label.write_text(label.read_text(), encoding=encoding)
    data = open_dataset(make.root)
    assert data.layout == write.__name__
    assert all(sample.is_defective for sample in data.samples)


def test_supervisely_has_a_file_for_every_image(make: Any) -> None:
    make.text("meta.json", json.dumps({"classes": [{"title": "pit", "shape": "rectangle"}]}))
    for index in range(9):
        make.write(f"ds/img/p{index}.png")
        if index > 3:
            content = {"size": {"height": HEIGHT_PX, "width": WIDTH_PX}, "objects": []}
            make.text(f"ds/ann/p{index}.png.json", json.dumps({**content, "tags": []}))
    with pytest.raises(DataError, match="4 of 9 images are not labelled"):
        open_dataset(make.root)


def test_a_brush_is_read_though_masks_of_good_images_are_empty(make: Any) -> None:
    """Exports often have both: only a mask with a defect contradicts."""
    tasks = []
    for index in range(4):
        mask = make.mask(1) if index % 2 else make.mask()
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", mask * 255)
        value = {"format": "rle", "rle": brush(mask > 0), "brushlabels": ["pit"]}
        result = {"type": "brushlabels", "from_name": "a", "to_name": "b", "value": value}
        result |= {"original_width": WIDTH_PX, "original_height": HEIGHT_PX}
        tasks.append(
            {
                "data": {"image": f"p{index}.png"},
                "annotations": [{"result": [result] if index % 2 else []}],
            }
        )
    make.text("project.json", json.dumps(tasks))
    assert open_dataset(make.root).layout == "label_studio"
