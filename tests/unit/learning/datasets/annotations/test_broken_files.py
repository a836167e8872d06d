"""A label file that cannot be read never makes its image a good one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset
from tests.unit.learning.datasets.annotations import test_coco as coco
from tests.unit.learning.datasets.annotations import test_cvat as cvat
from tests.unit.learning.datasets.annotations import test_label_studio as label_studio
from tests.unit.learning.datasets.annotations import test_supervisely as supervisely
from tests.unit.learning.datasets.annotations import test_voc as voc

COUNT = 20
RING = [[4, 8], [4, 19], [11, 19], [11, 8]]


def make_empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_short(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def make_zeros(file: Path) -> None:
    """As a file is after a power cut on some file systems."""
    file.write_bytes(bytes(file.stat().st_size))


def replace_by_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def leave_in_git_lfs(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


def replace_by_web_page(file: Path) -> None:
    file.write_text("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")


BREAK = (
    make_empty,
    cut_short,
    make_zeros,
    replace_by_link,
    replace_by_pipe,
    replace_by_folder,
    leave_in_git_lfs,
    replace_by_web_page,
)


# -- a label file per image ---------------------------------------------------------------


def voc_set(make: Any) -> str:
    for index in range(COUNT):
        make.write(f"JPEGImages/p{index}.jpg")
        boxes = [("pit", 1, 1, 9, 9)] if index % 2 else []
        make.text(f"Annotations/p{index}.xml", voc.xml(f"p{index}.jpg", *boxes))
    return "Annotations/p{}.xml"


def labelme_set(make: Any) -> str:
    for index in range(COUNT):
        make.write(f"p{index}.jpg")
        shape = {"label": "pit", "points": RING, "shape_type": "polygon", "flags": {}}
        content = {
            "shapes": [shape] if index % 2 else [],
            "imagePath": f"p{index}.jpg",
            "imageData": None,
            "imageHeight": 40,
            "imageWidth": 64,
        }
        make.text(f"p{index}.json", json.dumps(content))
    return "p{}.json"


def labelme_xml_set(make: Any) -> str:
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in RING)
    for index in range(COUNT):
        make.write(f"p{index}.jpg")
        one = f"<object><name>pit</name><polygon>{points}</polygon></object>" if index % 2 else ""
        make.text(
            f"p{index}.xml",
            f"<annotation><filename>p{index}.jpg</filename><folder></folder>{one}"
            "<imagesize><nrows>40</nrows><ncols>64</ncols></imagesize></annotation>",
        )
    return "p{}.xml"


def supervisely_set(make: Any) -> str:
    supervisely.project(
        make, *({} if index % 2 == 0 else supervisely.shape("polygon", RING) for index in range(20))
    )
    return "ds/ann/p{}.png.json"


def yolo_set(make: Any) -> str:
    make.text("data.yaml", "names: [pit]", "train: images/train")
    for index in range(COUNT):
        make.write(f"images/train/p{index}.jpg")
        make.text(f"labels/train/p{index}.txt", "0 0.5 0.5 0.1 0.1" if index % 2 else "")
    return "labels/train/p{}.txt"


@pytest.mark.parametrize("break_file", BREAK)
@pytest.mark.parametrize(
    "write", [voc_set, labelme_set, labelme_xml_set, supervisely_set, yolo_set]
)
def test_a_broken_label_is_not_a_good_image(
    make: Any, write: Callable[[Any], str], break_file: Callable[[Path], None]
) -> None:
    label = write(make)
    before = open_dataset(make.root)
    assert len(before) == COUNT
    assert not before.skipped
    break_file(make.root / label.format(1))
    if write is yolo_set and break_file is make_empty:
        assert not open_dataset(make.root).samples[1].is_defective  # that is how YOLO says good
        return
    try:
        data = open_dataset(make.root)
    except DataError as error:
        assert Path(label.format(1)).name in str(error)
    else:
        assert not [sample for sample in data.samples if sample.path.stem == "p1"]
        (skipped,) = data.skipped
        assert Path(label.format(1)).name in skipped.reason
        assert not skipped.is_intentional
        assert Path(skipped.name).stem == "p1"
        assert not any("have no" in note for note in data.notes)


@pytest.mark.parametrize("break_file", [make_empty, cut_short, replace_by_link, replace_by_pipe])
@pytest.mark.parametrize("write", [voc_set, labelme_set, labelme_xml_set, supervisely_set])
def test_more_than_a_few_broken_labels_are_refused(
    make: Any, write: Callable[[Any], str], break_file: Callable[[Path], None]
) -> None:
    label = write(make)
    for index in range(1, 13):
        break_file(make.root / label.format(index))
    with pytest.raises(
        DataError,
        match=r"12 of 20 images have a label that cannot be read, such .*p1\.|is not",
    ):
        open_dataset(make.root)


@pytest.mark.parametrize("break_file", [make_empty, cut_short, replace_by_link, replace_by_pipe])
@pytest.mark.parametrize("write", [voc_set, labelme_set, labelme_xml_set])
def test_a_set_with_broken_labels_only_is_not_a_folder_of_good_images(
    make: Any, write: Callable[[Any], str], break_file: Callable[[Path], None]
) -> None:
    label = write(make)
    for index in range(COUNT):
        break_file(make.root / label.format(index))
    with pytest.raises(
        DataError, match=r"p0\.(xml|json).*(and 19 more cannot be read|was truncated)"
    ):
        open_dataset(make.root)


def test_a_broken_label_without_an_image_is_named(make: Any) -> None:
    voc_set(make)
    make_empty(make.root / "Annotations/old.xml")
    (skipped,) = open_dataset(make.root).skipped
    assert (skipped.name, skipped.reason) == ("Annotations/old.xml", "is empty")


def test_an_image_of_the_same_name_elsewhere_keeps_its_label(make: Any) -> None:
    labelme_set(make)
    for name in ("p1.jpg", "p1.json"):
        (make.root / "b").mkdir(exist_ok=True)
        shutil.copy(make.root / name, make.root / "b" / name)
    make_empty(make.root / "b/p1.json")
    data = open_dataset(make.root)
    assert [one.name for one in data.skipped] == ["b/p1.jpg"]
    assert len(data) == COUNT


# -- a file that declares the set ---------------------------------------------------------


def two_coco_files(make: Any) -> str:
    for split, index in (("train", 0), ("val", 1)):
        content = coco.document({"bbox": [1, 1, 4, 4]})
        content["images"][0]["file_name"] = f"p{index}.png"
        make.write(f"images/p{index}.png")
        make.text(f"annotations/instances_{split}.json", json.dumps(content))
    return "annotations/instances_val.json"


def one_coco_file(make: Any) -> str:
    make.write("p0.png")
    make.text("_annotations.coco.json", json.dumps(coco.document({"bbox": [1, 1, 4, 4]})))
    return "_annotations.coco.json"


def coco_in_class_folders(make: Any) -> str:
    make.class_folder()
    content = coco.document(*[{"bbox": [1, 1, 4, 4]}] * 6, *[None] * 6)
    for index, image in enumerate(content["images"]):
        name = "ok_front" if index >= 6 else "def_front"
        image["file_name"] = f"{name}/{name}_{index % 6}.jpeg"
    make.text("annotations/labels.json", json.dumps(content))
    return "annotations/labels.json"


def cvat_set(make: Any) -> str:
    cvat.write(make, cvat.image(0, '<box label="pit" xtl="1" ytl="1" xbr="9" ybr="9"/>'))
    return "annotations.xml"


def label_studio_set(make: Any) -> str:
    label_studio.write(make, label_studio.task("p0.png", label_studio.choice("pit")))
    return "project-1.json"


def yolo_yaml(make: Any) -> str:
    yolo_set(make)
    return "data.yaml"


def yolo_names(make: Any) -> str:
    yolo_set(make)
    (make.root / "data.yaml").unlink()
    make.text("obj.names", "pit")
    return "obj.names"


def yolo_list(make: Any) -> str:
    yolo_names(make)
    make.text("train.txt", *(f"images/train/p{index}.jpg" for index in range(COUNT)))
    return "train.txt"


def supervisely_meta(make: Any) -> str:
    supervisely_set(make)
    return "meta.json"


def index_of_a_set(make: Any) -> str:
    make.indexed()
    return "index.csv"


def severstal_table(make: Any) -> str:
    make.severstal()
    return "train.csv"


def voc_splits(make: Any) -> str:
    voc_set(make)
    make.text("ImageSets/Main/train.txt", "p0")
    return "ImageSets/Main/train.txt"


def mask_classes(make: Any) -> str:
    make.mask_folder(value=1)
    make.text("classes.txt", "pit")
    return "classes.txt"


DECLARED = (
    two_coco_files,
    one_coco_file,
    coco_in_class_folders,
    cvat_set,
    label_studio_set,
    yolo_yaml,
    yolo_names,
    yolo_list,
    supervisely_meta,
    index_of_a_set,
    severstal_table,
    voc_splits,
    mask_classes,
)
NOT_SEEN = {
    *((write, cut_short) for write in (yolo_names, yolo_list, voc_splits, mask_classes)),
    *((write, cut_short) for write in (index_of_a_set, severstal_table)),
    *((write, make_empty) for write in (yolo_list, voc_splits)),
}
"""A shorter list is a list, and a table's cut is seen by its last row; a split may be empty."""


@pytest.mark.parametrize(
    ("write", "break_file"),
    [pair for pair in itertools.product(DECLARED, BREAK) if pair not in NOT_SEEN],
)
def test_a_set_is_not_read_without_its_broken_file(
    make: Any, write: Callable[[Any], str], break_file: Callable[[Path], None]
) -> None:
    name = write(make)
    open_dataset(make.root)
    break_file(make.root / name)
    with pytest.raises(DataError) as raised:
        open_dataset(make.root)
    assert Path(name).name in str(raised.value)
    assert "The layouts need" not in str(raised.value)


def test_a_file_that_is_given_itself_is_named(make: Any) -> None:
    make_empty(make.text("labels.json", "{}"))
    with pytest.raises(DataError, match=r"labels\.json is empty"):
        open_dataset(make.root / "labels.json")


def test_folders_are_read_without_a_broken_file_if_the_user_says_so(make: Any) -> None:
    make_empty(make.root / coco_in_class_folders(make))
    with pytest.raises(DataError, match=r"labels\.json is empty.*--layout class_folder"):
        open_dataset(make.root)
    data = open_dataset(make.root, "class_folder")
    assert "annotations/labels.json is empty: it is not read" in data.notes


def test_classes_without_a_list_of_names_are_noted(make: Any) -> None:
    yolo_set(make)
    (make.root / "data.yaml").write_text("train: images/train\nnc: 1\n")
    data = open_dataset(make.root)
    assert data.classes == ("class_0",)
    assert data.samples[0].split == "train"
    assert any("no file names the classes" in note for note in data.notes)
