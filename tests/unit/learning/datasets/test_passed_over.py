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
        assert "have a mask, which layout" in error.what or "a label in YOLO" in error.what
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


def test_a_second_mask_that_cannot_be_read_is_refused(make: Any) -> None:
    make.mask_folder(count=12)
    (make.root / "masks/p0_2.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"p0_2\.png"):
        open_dataset(make.root)


def test_a_mask_without_a_class_where_others_have_one(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
    make.write("masks/old/p0.png", make.mask(1, value=255))
    make.write("masks/p1.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"p1\.png: does not tell its class, .* \(old\)"):
        open_dataset(make.root)


def test_a_conversion_names_the_mask_that_cannot_be_read(make: Any, tmp_path: Path) -> None:
    make.mask_folder(count=12)
    (make.root / "masks/p1.png").write_bytes(b"")
    done = convert_dataset(open_dataset(make.root), tmp_path / "out", "edgeinspect")
    (one,) = done.skipped
    assert one.name == "p1.jpg"
    assert one.reason.startswith("p1.png ")


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


def coco(make: Any, place: str, *names: str) -> None:
    document = {
        "images": [
            {"id": i, "file_name": name, "height": HEIGHT_PX, "width": WIDTH_PX}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 8, 8, 12], "area": 96}
        ],
        "categories": [{"id": 1, "name": "pit"}],
    }
    make.text(place, json.dumps(document))


def cvat(make: Any, place: str, *names: str) -> None:
    box = '<box label="pit" occluded="0" xtl="4" ytl="8" xbr="12" ybr="20" z_order="0"/>'
    images = "".join(
        f'<image id="{i}" name="{name}" width="{WIDTH_PX}" height="{HEIGHT_PX}">'
        f"{'' if i else box}</image>"
        for i, name in enumerate(names)
    )
    make.text(place, f"<annotations><version>1.1</version>{images}</annotations>")


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (coco, "{}/annotations.json"),
        (coco, "{}/annotations/instances_default.json"),
        (cvat, "{}/annotations.xml"),
    ],
)
@pytest.mark.parametrize("folders", [("day1", "day2"), ("good", "bad")])
def test_sets_with_their_own_labels_are_no_classes(
    make: Any, write: Any, place: str, folders: tuple[str, str]
) -> None:
    for folder in folders:
        names = [f"{folder}_{index}.png" for index in range(4)]
        for name in names:
            make.write(f"{folder}/{name}")
        write(make, place.format(folder), *names)
    with pytest.raises(DataError, match=f"has labels of layout {write.__name__}, which layout"):
        open_dataset(make.root)
    data = open_dataset(make.root, "class_folder")
    assert any("has labels of layout" in note for note in data.notes)


@pytest.mark.parametrize(
    "place", ["new/masks/p8.png", "round2/ground_truth/p8.png", "train_masks/p8.png"]
)
def test_masks_in_another_folder(make: Any, place: str) -> None:
    for index in range(12):
        make.write(f"images/p{index}.jpg")
        if index < 4:
            make.write(f"masks/p{index}.png", make.mask(1, value=255))
    make.write(place, make.mask(1, value=255))
    with pytest.raises(DataError, match="1 good image has a mask"):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["masks/day2/5.png", "masks/day2/5.png.part"])
def test_equal_names_in_the_folders_of_days(make: Any, name: str) -> None:
    names = [f"day{day}/{index}.jpg" for day in (1, 2) for index in range(6)]
    for each in names:
        make.write(each)
    coco(make, "annotations.json", *names)
    make.write("masks/day2/5.png", make.mask(1, value=255)).rename(make.root / name)
    with pytest.raises(DataError, match=r"day2/5\.jpg"):
        open_dataset(make.root)


@pytest.mark.parametrize("place", ["labels_new/p5.txt", "images/p5.txt"])
def test_two_label_files_of_one_image(make: Any, place: str) -> None:
    for index in range(12):
        make.write(f"images/p{index}.png")
        make.text(f"labels/p{index}.txt", "0 0.5 0.5 0.25 0.25" if index < 3 else "")
    yolo(make, place.removesuffix(".txt"))
    with pytest.raises(DataError, match=r"1 good image has a label in YOLO's format"):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["p5_pit", "p5_0", "p5/000", "mask_p5"])
def test_masks_of_an_image_by_class_or_object(make: Any, name: str) -> None:
    names = [f"p{index}.jpg" for index in range(12)]
    for each in names:
        make.write(f"images/{each}")
    coco(make, "annotations.json", *names)
    make.write(f"masks/{name}.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"1 good image has a mask.*p5\.jpg"):
        open_dataset(make.root)


@pytest.mark.parametrize("words", [("labelIds", "color"), ("gtFine_labelIds", "gtFine_color")])
def test_views_of_one_labelling_are_no_classes(make: Any, words: tuple[str, str]) -> None:
    for index in range(6):
        make.write(f"images/p{index}.png")
        for value, word in enumerate(words, 1):
            make.write(f"masks/p{index}_{word}.png", make.mask(1, 2, value=value))
    with pytest.raises(DataError, match="have several masks, named"):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["p5_2_mask", "p5_2_GT"])
def test_a_numbered_mask_of_a_missing_image(make: Any, name: str) -> None:
    make.mask_folder(count=12)
    make.write(f"masks/{name}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        (f"masks/{name}.png", "is a mask without an image")
    ]


@pytest.mark.parametrize("folders", [("train", "val"), ("train", "test"), ("day1", "day2")])
def test_the_masks_of_a_split_or_a_day_are_missing(make: Any, folders: tuple[str, str]) -> None:
    for folder in folders:
        for index in range(6):
            make.write(f"images/{folder}/{folder}{index}.jpg")
            if folder == folders[0]:
                mask = make.mask(1, value=255)
                make.write(f"masks/{folder}/{folder}{index}.png", mask)
    with pytest.raises(DataError, match=f"no image of .*{folders[1]}.* has a mask"):
        open_dataset(make.root)


@pytest.mark.parametrize("layout", ["mask_folder", "yolo"])
def test_whole_folders_of_good_parts_are_named(make: Any, layout: str) -> None:
    """Of 12 coils two have a defect, and labels were written for these alone."""
    for coil in range(12):
        for index in range(2):
            name = f"coil_{coil:02}/c{coil}_{index}"
            make.write(f"images/{name}.jpg")
            if coil < 2 and layout == "yolo":
                yolo(make, f"labels/{name}")
            elif coil < 2:
                make.write(f"masks/{name}.png", make.mask(1, value=255))
    if layout == "yolo":
        make.text("obj.names", "pit")
    with pytest.raises(DataError, match="--good-class NAME"):
        open_dataset(make.root)
    data = open_dataset(make.root, good_classes=[f"coil_{coil:02}" for coil in range(2, 12)])
    assert data.layout == layout
    assert (len(data), sum(sample.is_defective for sample in data.samples)) == (24, 4)
    assert any("taken as good" in note for note in data.notes)


def test_folders_of_defects_without_masks_stay_defective(make: Any) -> None:
    for kind in ("crack", "pit", "ok"):
        for index in range(4):
            make.write(f"images/{kind}/{kind}{index}.jpg")
            if kind == "crack":
                make.write(f"masks/{kind}/{kind}{index}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert sum(sample.is_defective for sample in data.samples) == 8


def test_good_images_alone_in_train_or_in_a_good_folder_need_no_mask(make: Any) -> None:
    for folder in ("train/ok", "test/ok", "test/pit"):
        for index in range(4):
            name = f"{folder.replace('/', '')}{index}"
            make.write(f"images/{folder}/{name}.jpg")
            if folder == "test/pit":
                make.write(f"masks/{folder}/{name}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert sum(sample.is_defective for sample in data.samples) == 4
    assert len(data) == 12


def test_two_files_with_labels_that_contradict_each_other(make: Any) -> None:
    names = [f"p{index}.jpg" for index in range(6)]
    for each in names:
        make.write(each)
    coco(make, "annotations.json", *names)
    cvat(make, "annotations.xml", *names)
    assert open_dataset(make.root).layout == "coco"
    cvat(make, "annotations.xml", *reversed(names))
    with pytest.raises(DataError, match=r"good by layout coco and defective by layout cvat, .*p5"):
        open_dataset(make.root)


def test_sets_as_people_have_them(make: Any) -> None:
    """None of these is refused."""
    make.text("meta.json", json.dumps({"classes": [{"title": "pit", "shape": "rectangle"}]}))
    content = {"size": {"height": HEIGHT_PX, "width": WIDTH_PX}, "objects": [], "tags": []}
    for index in range(6):
        for folder in ("img", "masks_machine", "masks_human"):
            make.write(f"ds/{folder}/p{index}.png")
        make.text(f"ds/ann/p{index}.png.json", json.dumps(content))
    assert len(open_dataset(make.root)) == 6


def test_roboflow_without_images_in_test(make: Any) -> None:
    for split in ("train", "valid"):
        for index in range(4):
            make.write(f"{split}/images/{split}{index}.jpg")
            make.text(f"{split}/labels/{split}{index}.txt", "0 0.5 0.5 0.25 0.25")
    make.text(
        "data.yaml",
        "train: ../train/images",
        "val: ../valid/images",
        "test: ../test/images",
        "nc: 1",
        "names: ['pit']",
    )
    data = open_dataset(make.root)
    assert len(data) == 8
    assert "data.yaml names ../test/images for test, which does not exist" in data.notes


def test_names_in_every_folder_of_labels(make: Any) -> None:
    for day in ("day1", "day2"):
        make.text(f"labels/{day}/classes.txt", "pit")
        for index in range(3):
            make.write(f"imgs/{day}/{day}{index}.png")
            make.text(f"labels/{day}/{day}{index}.txt", "0 0.5 0.5 0.25 0.25")
    data = open_dataset(make.root, "yolo")
    assert data.classes == ("pit",)
    assert all(sample.is_defective for sample in data.samples)


@pytest.mark.parametrize(
    ("png", "npy"),
    [("SegmentationClassPNG", "SegmentationClass"), ("SegmentationClass", "SegmentationClassNpy")],
)
def test_masks_that_labelme2voc_writes_twice(make: Any, png: str, npy: str) -> None:
    for index in range(12):
        mask = make.mask(1) if index % 2 else make.mask()
        make.write(f"JPEGImages/p{index}.jpg")
        make.write(f"{png}/p{index}.png", mask)
        (make.root / npy).mkdir(exist_ok=True)
        np.save(make.root / npy / f"p{index}.npy", mask)
    data = open_dataset(make.root)
    assert (data.layout, sum(sample.is_defective for sample in data.samples)) == ("mask_folder", 6)
    (make.root / png / "p1.png").unlink()
    assert [Path(one.name).name for one in open_dataset(make.root).skipped] == ["p1.jpg"]


def write_mask_per_class(make: Any, place: str, *lost: int) -> None:
    """Write 12 images with a file for each class, empty for the other class and for good images."""
    for index in range(12):
        make.write(f"images/{index}.png")
        for number, word in enumerate(("scratch", "dent"), 1):
            if word != "dent" or index not in lost:
                drawn = [number] if index % 3 == number else []
                make.write(place.format(word=word, index=index), make.mask(*drawn, value=255))


@pytest.mark.parametrize("place", ["masks/{word}/{index}.png", "masks/{index}_{word}.png"])
def test_an_image_without_the_file_of_one_class_is_not_good(make: Any, place: str) -> None:
    write_mask_per_class(make, place, 5)
    data = open_dataset(make.root)
    assert "5.png" not in {sample.name for sample in data.samples}
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("images/5.png", "has no mask file of dent, while images without dent have an empty one")
    ]
    write_mask_per_class(make, place)
    assert len(open_dataset(make.root)) == 12


@pytest.mark.parametrize("place", ["masks/{word}/{index}.png", "masks/{index}_{word}.png"])
def test_half_of_the_files_of_one_class(make: Any, place: str) -> None:
    write_mask_per_class(make, place, *range(6, 12))
    with pytest.raises(DataError, match=r"6 of 12 images are not labelled, .*no mask file of dent"):
        open_dataset(make.root)


def test_files_only_of_the_classes_in_an_image(make: Any) -> None:
    """Files are written of what is there, and an erased defect leaves a few empty ones."""
    for index in range(12):
        make.write(f"images/{index}.png")
        for number, word in enumerate(("scratch", "dent", "pit")):
            if index % 3 == number or index < 2:
                drawn = make.mask(*([1] if index % 3 == number else []), value=255)
                make.write(f"masks/{word}/{index}.png", drawn)
    data = open_dataset(make.root)
    assert (len(data), data.skipped) == (12, ())


def test_files_of_a_class_of_good_images_lack_no_defect(make: Any) -> None:
    for index in range(12):
        make.write(f"images/{index}.png")
        for number, word in enumerate(("scratch", "dent", "good")):
            if (index % 3 == 2) == (word == "good"):
                drawn = make.mask(*([1] if index % 3 == number != 2 else []), value=255)
                make.write(f"masks/{word}/{index}.png", drawn)
    data = open_dataset(make.root)
    assert (len(data), data.skipped) == (12, ())
    assert sum(sample.is_defective for sample in data.samples) == 8


def write_named_images(make: Any, good: str, bad: str, *lost: int, drawn: str = "") -> None:
    for index in range(16):
        name = f"{bad if index % 2 else good}{index}"
        make.write(f"images/{name}.png")
        if (index % 2 and index not in lost) or (drawn and index == 0):
            make.write(f"masks/{name}.png", make.mask(1, value=255))


@pytest.mark.parametrize(
    ("good", "bad"), [("ok_", "ng_"), ("good", "scratch"), ("part_pass-", "part_fail-")]
)
def test_an_image_named_as_defective_is_not_good(make: Any, good: str, bad: str) -> None:
    write_named_images(make, good, bad, 5)
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        (f"images/{bad}5.png", "has no mask, and its name says that it is defective")
    ]
    assert len(data) == 15
    for index in (1, 3, 7):
        (make.root / f"masks/{bad}{index}.png").unlink()
    with pytest.raises(DataError, match="4 of 16 images are not labelled"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("good", "bad", "drawn"),
    [("crack_", "crack_", ""), ("p", "crack_", ""), ("ok_", "p", ""), ("ok_", "ng_", "ok_0")],
)
def test_names_that_do_not_tell_good_from_defective(
    make: Any, good: str, bad: str, drawn: str
) -> None:
    write_named_images(make, good, bad, 5, drawn=drawn)
    data = open_dataset(make.root)
    assert (len(data), data.skipped) == (16, ())
