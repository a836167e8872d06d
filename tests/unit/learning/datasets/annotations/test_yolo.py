"""YOLO sets of Ultralytics, Roboflow, CVAT (Darknet) and Label Studio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset

BOX = "1 0.5 0.5 0.25 0.125"


def tree(make: Any, *splits: str, images: str = "images/{}", labels: str = "labels/{}") -> None:
    """Two images per split: one of class 1, one good with an empty file."""
    for split in splits or ("train", "val"):
        for index, text in enumerate((BOX, "")):
            make.write(f"{images.format(split)}/{split}{index}.png")
            make.text(f"{labels.format(split)}/{split}{index}.txt", text)


def check(data: Any, *splits: str | None) -> None:
    assert (data.layout, data.classes, data.has_masks) == ("yolo", ("pit", "scar"), False)
    assert [sample.split for sample in data.samples] == [s for s in splits for _ in range(2)]
    assert [sample.class_ids for sample in data.samples] == [(2,), ()] * len(splits)


@pytest.mark.parametrize(
    "lines",
    [
        ("train: images/train", "val: images/val", "names: {0: pit, 1: scar}"),
        ("path: .", "train: images/train", "val: [images/val]", "names:", "  0: pit", "  1: scar"),
        ("path: ../datasets/set", "train: images/train", "val: images/val", "names: [pit, scar]"),
        ("train: ../images/train", "val: ../images/val", "nc: 2", "names: ['pit', 'scar']"),
        (r"train: C:\x\images\train", "val: /y/images/val", "names:", "- pit", "- scar"),
        ("train: train.txt", "val: val.txt", "names: [pit, scar]"),
        ("train: images/train", "val: images/val", "test: images/val", "names: [pit, scar]"),
    ],
)
def test_data_yaml(make: Any, lines: tuple[str, ...]) -> None:
    tree(make)
    if "train.txt" in lines[0]:
        make.text("train.txt", "./images/train/train0.png", "images/train/train1.png")
        make.text("val.txt", "/home/me/set/images/val/val0.png", "images/val/val1.png")
    make.text("data.yaml", *lines)
    data = open_dataset(make.root)
    check(data, "train", "val")
    assert open_dataset(make.root / "data.yaml").samples == data.samples
    assert any("2 label files are empty: these images are good" in note for note in data.notes)


def test_roboflow(make: Any) -> None:
    tree(make, "train", "valid", images="{}/images", labels="{}/labels")
    make.text(
        "data.yaml", "train: ../train/images", "val: ../valid/images", "names: ['pit', 'scar']"
    )
    check(open_dataset(make.root), "train", "val")


def test_darknet_of_cvat(make: Any) -> None:
    tree(make, "Train", "Validation", images="obj_{}_data", labels="obj_{}_data")
    make.text("obj.data", "classes = 2", "train = data/Train.txt", "names = data/obj.names")
    make.text("obj.names", "pit", "scar")
    make.text("Train.txt", *(f"data/obj_Train_data/Train{i}.png" for i in range(2)))
    make.text("Validation.txt", *(f"data/obj_Validation_data/Validation{i}.png" for i in range(2)))
    check(open_dataset(make.root), "train", "val")


def test_a_single_list_is_no_split(make: Any) -> None:
    tree(make, "train", images="obj_{}_data", labels="obj_{}_data")
    make.text("obj.names", "pit", "scar")
    make.text("train.txt", *(f"data/obj_train_data/train{i}.png" for i in range(2)))
    check(open_dataset(make.root), None)


def test_label_studio(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    make.text("classes.txt", "pit", "scar")
    make.text("notes.json", "{}")
    check(open_dataset(make.root), None)


def test_labels_without_names(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    assert open_dataset(make.root).classes == ("class_0", "class_1")


def test_polygons_give_the_mask(make: Any) -> None:
    mask = make.mask(1, 0, 1) > 0
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    lines = [
        "0 " + " ".join(f"{value:.6f}" for value in (contour[:, 0] / (64, 40)).ravel())
        for contour in found
    ]
    make.write("images/p0.png")
    make.text("labels/p0.txt", *lines)
    make.write("images/p1.png")
    make.text("data.yaml", "train: images", "names: [pit]")
    data = open_dataset(make.root)
    assert data.has_masks
    assert (data.samples[0].read_mask(40, 64) == mask).all()
    assert any("1 of 2 images have no label file" in note for note in data.notes)


def test_polygons_of_four_corners_are_rotated_boxes(make: Any) -> None:
    make.write("images/p0.png")
    make.text("labels/p0.txt", "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5")
    make.text("data.yaml", "train: images", "names: [pit]")
    data = open_dataset(make.root)
    assert not data.has_masks
    assert any("taken as rotated boxes" in note for note in data.notes)
    filled = open_dataset(make.root, draws_boxes=True).samples[0].read_mask(40, 64)
    assert abs(filled.sum() - 0.5 * 0.8 * 40 * 0.8 * 64) < 30


def test_a_good_class_is_no_defect(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    make.text("data.yaml", "train: images", "names: [pit, ok_part]")
    data = open_dataset(make.root)
    assert data.classes == ("pit",)
    assert not any(sample.is_defective for sample in data.samples)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5 0.5 0.5 0.1 0.1", r"train0\.txt:1: has class 5.*classes 0, 1"),
        ("-1 0.5 0.5 0.1 0.1", "has class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "not a whole number"),
        ("x 0.5 0.5 0.1 0.1", "class is 'x', not a number"),
        ("1 nan 0.5 0.1 0.1", "coordinate is 'nan', not a number"),
        ("1 320 200 50 50", "not between 0 and 1.*relative"),
        ("1 0.5 0.5 -0.1 0.1", "not between 0 and 1"),
        ("1 0.5 0.5 -0.005 0.1", "box of negative size"),
        ("1 0.5 0.5 0 0.1", r"train0\.txt:1: has a box without an area: 0 x 4 px at 32, 18"),
        ("1 0.5 0.5 0.1 0.000000", "has a box without an area.*a click"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4", "has a box without an area"),
        ("1 0.5 0.5 0.1", "3 numbers behind the class"),
        ("1 0.5 0.5 0.1 0.1 0.93", "5 numbers behind the class.*confidence"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "7 numbers behind the class"),
    ],
)
def test_faults_are_named_with_the_line(make: Any, line: str, message: str) -> None:
    tree(make)
    make.text("data.yaml", "train: images/train", "val: images/val", "names: [pit, scar]")
    make.text("labels/train/train0.txt", line)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("train: images/train", "names: 5"), "neither a list nor a mapping"),
        (("train: images/train", "names: {a: b}"), "neither a list nor a mapping"),
        (("train: images/train", "names: [pit, pit]"), "class 1 is 'pit', twice"),
        (("train: images/nowhere", "names: [pit, scar]"), "'images/nowhere', which is not in"),
        (("train: ../../..", "names: [pit, scar]"), "which is not in the data set"),
        (("train: {a: 1}", "names: [pit, scar]"), "train is not a path"),
        (("names: [pit", "train: x"), r"data\.yaml: YAML is malformed.*line \d"),
        (("names: " + "[" * 5000, "train: x"), "nested too deeply|YAML is malformed"),
        (("train: list.txt", "names: [pit, scar]"), "3 of the 3 images that it names"),
    ],
)
def test_faults_of_data_yaml(make: Any, lines: tuple[str, ...], message: str) -> None:
    tree(make)
    make.text("list.txt", "a.png", "b.png", "c.png")
    make.text("data.yaml", *lines)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_labels_without_images_are_refused(make: Any) -> None:
    tree(make)
    for index in range(3):
        make.text(f"labels/train/gone{index}.txt", BOX)
    with pytest.raises(DataError, match="3 of 7 label files have no image: labels/train/gone0"):
        open_dataset(make.root)


def test_images_without_any_label_are_refused(make: Any) -> None:
    make.write("images/a.png")
    make.text("data.yaml", "train: images", "names: [pit]")
    with pytest.raises(DataError, match="no image has a label file"):
        open_dataset(make.root)


def test_key_points_are_ignored(make: Any) -> None:
    tree(make)
    make.text(
        "data.yaml",
        "train: images/train",
        "val: images/val",
        "kpt_shape: [1, 3]",
        "names: [pit, scar]",
    )
    make.text("labels/train/train0.txt", BOX + " 0.5 0.5 2")
    check(open_dataset(make.root), "train", "val")


def test_an_unreadable_image_keeps_its_label(make: Any) -> None:
    tree(make)
    make.text("data.yaml", "train: images/train", "val: images/val", "names: [pit, scar]")
    (make.root / "images/train/train0.png").write_bytes(b"broken")
    check(open_dataset(make.root), "train", "val")


def test_a_set_inside_another_folder_keeps_its_names(make: Any) -> None:
    tree(make, "train", "valid", images="export/{}/images", labels="export/{}/labels")
    make.text(
        "export/data.yaml", "train: ../train/images", "val: ../valid/images", "names: [pit, scar]"
    )
    check(open_dataset(make.root), "train", "val")


def test_a_class_of_any_length_is_refused(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    make.text("labels/a0.txt", "18446744073709551616 0.5 0.5 0.25 0.25")
    with pytest.raises(DataError, match="which YOLO does not have"):
        open_dataset(make.root)


def test_empty_label_files_say_that_images_without_one_are_unlabelled(make: Any) -> None:
    for index in range(8):
        make.write(f"images/p{index}.png")
        if index != 6:
            make.text(f"labels/p{index}.txt", "" if index else BOX)
    data = open_dataset(make.root)
    assert [sample.name for sample in data.samples if sample.is_defective] == ["p0.png"]
    assert [(one.name, one.is_intentional) for one in data.skipped] == [("images/p6.png", False)]
    assert "has no label file, while good images have an empty one" in data.skipped[0].reason
    for index in range(8, 28):
        make.write(f"images/p{index}.png")
        make.text(f"labels/p{index}.txt", "")
    for index in range(1, 6):
        (make.root / f"labels/p{index}.txt").unlink()
    with pytest.raises(DataError, match="6 of 28 images have no label file"):
        open_dataset(make.root)


@pytest.mark.parametrize("kind", ["missing", "empty", "fifo", "file"])
def test_a_split_without_labels_is_not_good(make: Any, kind: str) -> None:
    tree(make, "train", images="{}/images", labels="{}/labels")
    for index in range(2, 12):
        make.write(f"train/images/train{index}.png")
    for index in range(2):
        make.write(f"valid/images/v{index}.png")
    place = make.root / "valid" / "labels"
    if kind == "empty":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "file":
        place.write_text("")
    data = open_dataset(make.root)
    assert [sample.split for sample in data.samples] == ["train"] * 12
    assert [one.name for one in data.skipped] == [
        f"valid/images/v{index}.png" for index in range(2)
    ]
    assert all("valid/labels" in one.reason for one in data.skipped)
    for index in range(2, 9):
        make.write(f"valid/images/v{index}.png")
    with pytest.raises(DataError, match=r"9 of 21 images are not labelled.*valid/labels"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/P000.JPG", "labels/p000.txt"),
        ("images/p000.jpg", "labels/p000.jpg.txt"),
        ("IMAGES/P000.PNG", "LABELS/P000.TXT"),
        ("images/train/p000.jpg", "labels/Train/P000.txt"),
        ("images/Gu\u0308te.png", "labels/G\u00fcte.txt"),
        ("obj_train_data/P000.JPG", "obj_train_data/p000.txt"),
    ],
)
@pytest.mark.parametrize("others", [0, 2])
def test_names_match_without_case_and_unicode_form(
    make: Any, image: str, label: str, others: int
) -> None:
    make.write(image)
    make.text(label, BOX)
    for index in range(others):
        make.write(str(Path(image).with_name(f"other{index}.png")))
    data = open_dataset(make.root)
    assert data.layout == "yolo"
    assert [sample.is_defective for sample in data.samples].count(True) == 1
    assert not data.skipped


def test_exact_names_come_first(make: Any) -> None:
    for name in ("p0", "P0"):
        make.write(f"images/{name}.png")
    make.text("labels/p0.txt", BOX)
    data = open_dataset(make.root)
    assert [sample.name for sample in data.samples if sample.is_defective] == ["p0.png"]


def test_names_that_match_twice_are_refused(make: Any) -> None:
    make.write("images/p0.png")
    make.text("labels/P0.txt", BOX)
    make.text("labels/P0.TXT", BOX)
    with pytest.raises(DataError, match=r"p0.png has the label files labels/P0.TXT and labels/P0"):
        open_dataset(make.root)
    (make.root / "labels/P0.TXT").unlink()
    make.write("images/pP0.png").rename(make.root / "images/P0.jpg")
    (make.root / "labels/P0.txt").rename(make.root / "labels/P0.Txt")
    with pytest.raises(DataError, match=r"is the label file of .* and of .*, by their names"):
        open_dataset(make.root)


def test_a_label_without_an_image_is_named_in_darknet_too(make: Any) -> None:
    tree(make, "train", images="obj_{}_data", labels="obj_{}_data")
    make.text("obj.names", "pit", "scar")
    make.text("obj_train_data/gone.txt", BOX)
    data = open_dataset(make.root)
    assert [one.reason for one in data.skipped] == ["is a label file without an image"]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("obj.names", "", "names no class, but labels have class 1"),
        ("classes.txt", "", "names no class"),
        ("obj.names", POINTER, "is a Git LFS pointer, not the file"),
        ("classes.txt", POINTER, "is a Git LFS pointer, not the file"),
        ("data.yaml", POINTER, "is a Git LFS pointer, not the file"),
        ("data.yaml", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
        ("data.yaml", "train: images\nval: images", "names no classes"),
        ("data.yaml", "path: .\ntrain: images\nnames: []", "names no class"),
        ("data.yaml", "train: images\nnc: 3\nnames: [pit, scar]", "has 2 names, but `nc` is 3"),
        ("labels/a0.txt", POINTER, "is a Git LFS pointer, not the file"),
    ],
)
def test_broken_names_are_refused(make: Any, name: str, text: str, message: str) -> None:
    tree(make, "a", images="images", labels="labels")
    if name.startswith("labels/"):
        for index in range(3):
            make.write(f"images/b{index}.png")
            make.text(f"labels/b{index}.txt", POINTER)
        make.text("labels/a1.txt", BOX)
    make.text(name, text)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root)
    assert Path(name).name in str(caught.value)


def test_lists_of_names_that_differ_are_refused(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    make.text("data.yaml", "train: images", "names: [pit, scar]")
    make.text("classes.txt", "pit", "scar")
    make.text("predefined_classes.txt", "dog", "cat")
    check(open_dataset(make.root), "train")
    make.text("classes.txt", "scar", "pit")
    with pytest.raises(DataError, match=r"names other classes than data.yaml: scar, pit instead"):
        open_dataset(make.root)


def test_a_declaration_in_utf_16_is_read(make: Any) -> None:
    tree(make, "a", images="images", labels="labels")
    text = "train: images\nnames: [pit, scar]\n"
    (make.root / "data.yaml").write_bytes(text.encode("utf-16"))
    check(open_dataset(make.root), "train")


def test_an_empty_list_of_names_may_be_beside_good_images(make: Any) -> None:
    make.write("images/p0.png")
    make.text("labels/p0.txt", "")
    for name in ("obj.names", "classes.txt"):
        make.text(name, "")
    assert not open_dataset(make.root).samples[0].is_defective


def test_an_empty_folder_of_labels_says_nothing_if_labels_are_beside(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.png")
    make.text("images/p0.txt", BOX)
    (make.root / "labels").mkdir()
    make.text("CLASSES.TXT", "pit", "scar")
    data = open_dataset(make.root)
    assert data.classes == ("pit", "scar")
    assert [sample.is_defective for sample in data.samples] == [True, False, False, False]
    assert not data.skipped


def test_labels_with_the_number_of_label_studio_belong_to_the_original_images(make: Any) -> None:
    for index, number in enumerate(("19d7df64-", "0ff0a3d7__", "")):
        make.write(f"images/p{index}.png")
        make.text(f"labels/{number}p{index}.txt", BOX)
    make.text("classes.txt", "pit", "scar")
    data = open_dataset(make.root)
    assert [sample.class_ids for sample in data.samples] == [(2,)] * 3
    assert not data.skipped
    make.text("labels/ad194cbe-p0.txt", BOX)
    with pytest.raises(DataError, match=r"p0\.png has the label files .*19d7df64-p0\.txt"):
        open_dataset(make.root)


@pytest.mark.parametrize("place", ["labels", "labels/train"])
def test_names_beside_the_labels(make: Any, place: str) -> None:
    """As LabelImg writes them."""
    tree(make)
    make.text(f"{place}/classes.txt", "pit", "scar")
    check(open_dataset(make.root), "train", "val")
    make.text("labels/val/classes.txt", "scar", "pit")
    with pytest.raises(DataError, match="names other classes than"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels")]
)
def test_a_missing_folder_of_labels_makes_no_good_image(
    make: Any, images: str, labels: str
) -> None:
    make.text("classes.txt", "pit", "scar")
    for day in ("day1", "day2", "good"):
        for index in range(3):
            make.write(f"{images.format(day)}/{day}{index}.png")
            if day == "day1":
                make.text(f"{labels.format(day)}/{day}{index}.txt", BOX)
    with pytest.raises(DataError, match=f"{labels.format('day2')}/, does not exist"):
        open_dataset(make.root, "yolo")
    make.text(f"{labels.format('day2')}/day20.txt", BOX)
    data = open_dataset(make.root, "yolo")
    assert sum(sample.is_defective for sample in data.samples) == 4
    assert len(data.samples) == 9


def test_subfolders_of_labels_are_recognised(make: Any) -> None:
    tree(make, "day1", "day2")
    make.text("classes.txt", "pit", "scar")
    check(open_dataset(make.root), None, None)
