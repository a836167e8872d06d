"""A good image with a label of another format than the one that was read is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.open import open_dataset
from tests.unit.learning.datasets.conftest import HEIGHT_PX, WIDTH_PX

BOX = (8, 8, 24, 20)


def labelme(make: Any, place: str, name: str = "pit") -> None:
    left, top, right, bottom = BOX
    document = {
        "shapes": [{"label": name, "points": [[left, top], [right, top], [right, bottom]]}],
        "imagePath": f"{place.rpartition('/')[2]}.png",
        "imageHeight": HEIGHT_PX,
        "imageWidth": WIDTH_PX,
    }
    make.text(f"{place}.json", json.dumps(document))


def yolo(make: Any, place: str, name: str = "pit") -> None:
    make.text(f"{place}.txt", f"{1 if name == 'ok' else 0} 0.5 0.5 0.25 0.25")


def voc(make: Any, place: str, name: str = "pit") -> None:
    left, top, right, bottom = BOX
    make.text(
        f"{place}.xml",
        f"<annotation><filename>{place.rpartition('/')[2]}.png</filename><size>"
        f"<width>{WIDTH_PX}</width><height>{HEIGHT_PX}</height></size><object><name>{name}</name>"
        f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object></annotation>",
    )


Write = Callable[..., None]


def images(make: Any, folder: str = "", count: int = 24) -> None:
    for index in range(count):
        make.write(f"{folder}p{index}.png")


@pytest.mark.parametrize(
    ("first", "second", "layout", "place", "what"),
    [
        (labelme, yolo, "labelme", "", "YOLO's format"),
        (labelme, voc, "labelme", "", "Pascal VOC's XML"),
        (labelme, voc, "labelme", "Annotations/", "Pascal VOC's XML"),
        (labelme, yolo, "labelme", "labels/", "YOLO's format"),
        (voc, yolo, "voc", "", "YOLO's format"),
        (voc, yolo, "voc", "labels/", "YOLO's format"),
    ],
)
def test_images_labelled_in_a_second_format_are_not_good(
    make: Any, first: Write, second: Write, layout: str, place: str, what: str
) -> None:
    images(make)
    for index in range(12):
        first(make, f"p{index}")
    for index in range(12, 18):
        second(make, f"{place}p{index}")
    for name in (None, layout):
        with pytest.raises(DataError, match=f"6 good images have a label in {what}") as caught:
            open_dataset(make.root, name)
        assert f"layout {layout} does not read" in caught.value.what
        assert f"p12.png: {place}p12." in caught.value.what
        assert "Convert" in caught.value.remedy
        assert "--layout" not in caught.value.remedy


def test_a_set_exported_twice_is_read(make: Any) -> None:
    images(make)
    for index in range(12):
        labelme(make, f"p{index}", "pit" if index % 2 else "ok")
        voc(make, f"p{index}", "pit" if index % 2 else "ok")
    for index in range(12, 24):
        make.text(f"p{index}.txt", "")  # of a good image
    data = open_dataset(make.root)
    assert (data.layout, sum(one.is_defective for one in data.samples)) == ("labelme", 6)


def test_labels_of_good_classes_are_no_defects(make: Any) -> None:
    images(make)
    make.text("obj.names", "pit", "ok")
    for index in range(12):
        labelme(make, f"p{index}")
    for index in range(12, 15):
        voc(make, f"p{index}", "ok")
        yolo(make, f"p{index}", "ok")
    assert sum(one.is_defective for one in open_dataset(make.root).samples) == 12


def test_other_text_files_beside_images_are_no_labels(make: Any) -> None:
    for name in ("good", "crack"):
        images(make, f"{name}/", 6)
        for index in range(6):
            make.text(f"{name}/p{index}.txt", "exposure 12", "0 4096 12.5 18 7")
    assert open_dataset(make.root).layout == "class_folder"


@pytest.mark.parametrize("write", [yolo, voc, labelme])
@pytest.mark.parametrize("place", ["good/", "labels/good/"])
def test_a_label_in_a_folder_of_good_images_is_refused(make: Any, write: Write, place: str) -> None:
    for name in ("good", "crack"):
        images(make, f"{name}/", 6)
    write(make, f"{place}p1")
    with pytest.raises(DataError):
        open_dataset(make.root)
    data = open_dataset(make.root, "class_folder")
    assert len(data) == 12
    assert any("1 good image has a label in" in note for note in data.notes), "a person's word"


def test_a_label_of_a_defect_with_the_name_of_a_good_image_is_its_own(make: Any) -> None:
    for name in ("good", "crack"):
        images(make, f"{name}/", 6)
    for index in range(6):
        yolo(make, f"crack/p{index}")
    assert open_dataset(make.root, "class_folder").notes == ("good classes: good",)


def test_yolo_boxes_of_an_image_without_a_mask_are_refused(make: Any) -> None:
    make.mask_folder()
    make.write("images/p9.png")
    yolo(make, "boxes/p9")
    with pytest.raises(DataError, match="1 good image has a label in YOLO's format") as caught:
        open_dataset(make.root)
    assert "--layout mask_folder ignores them" in caught.value.remedy


@pytest.mark.parametrize("write", [yolo, voc, labelme])
@pytest.mark.parametrize(
    ("pictures", "labels"),
    [
        ("{}/", "{}/"),
        ("images/{}/", "labels/{}/"),
        ("{}/images/", "{}/labels/"),
        ("data/images/{}/", "data/labels/{}/"),
        ("{}/img/", "{}/ann/"),
    ],
)
@pytest.mark.parametrize("folders", [("day1", "day2"), ("day1", "day2", "good")])
@pytest.mark.parametrize("is_whole", [False, True])
def test_days_are_not_classes(
    make: Any, write: Write, pictures: str, labels: str, folders: tuple[str, ...], is_whole: bool
) -> None:
    """Where images have label files, folders are read as classes only if the user says so."""
    if write is yolo:
        make.text("classes.txt", "pit", "ok")
    for folder in folders:
        for index in range(3):
            make.write(f"{pictures.format(folder)}{folder}_{index}.png")
            if folder == "day1" or (is_whole and folder == "day2"):
                write(make, f"{labels.format(folder)}{folder}_{index}")
    try:
        data = open_dataset(make.root)
    except DataError as error:
        assert "--layout" in str(error) or "Label them" in str(error)
    else:
        assert data.classes == ("pit",) or (data.layout, data.classes) == ("yolo", ("pit", "ok"))
        assert sum(sample.is_defective for sample in data.samples) == 6
        assert is_whole
    as_classes = open_dataset(make.root, "class_folder")
    assert as_classes.classes == ("day1", "day2")
    assert any("which layout class_folder does not read" in note for note in as_classes.notes)


def test_labels_that_name_the_folder_of_their_image_are_no_contradiction(make: Any) -> None:
    for name in ("a3", "b5", "ok"):
        images(make, f"{name}/images/{name}", count=3)
        for index in range(3):
            if name != "ok":
                voc(make, f"{name}/labels/{name}p{index}", name)
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("class_folder", ("a3", "b5"))


@pytest.mark.parametrize("write", [yolo, voc])
def test_labels_that_say_more_than_folders_are_not_lost(make: Any, write: Write) -> None:
    layout = labels_of_defects(make, write, "{}/")
    with pytest.raises(DataError, match="3 images have a label in") as caught:
        open_dataset(make.root)
    assert f"--layout {layout} reads the labels" in caught.value.remedy
    assert open_dataset(make.root, layout).classes == ("pit",)
    assert open_dataset(make.root, "class_folder").classes == ("ng",)


@pytest.mark.parametrize(
    ("write", "place"), [(labelme, "{}/"), (labelme, "labels/{}/"), (yolo, "labels/{}/")]
)
def test_folders_of_good_images_need_no_labels(make: Any, write: Write, place: str) -> None:
    """Every other image has one, so the folders and the labels say the same."""
    layout = labels_of_defects(make, write, place)
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == (layout, ("pit",))
    assert {one.path.parent.name for one in data.samples if one.is_defective} == {"ng"}
    assert {one.path.parent.name for one in data.samples if not one.is_defective} == {"ok"}
    make.write("ng/unlabelled_by_mistake.png")
    with pytest.raises(DataError, match=r"by_mistake.*would count as good") as caught:
        open_dataset(make.root)
    assert caught.value.remedy.startswith(f"--layout {layout} reads the labels")


def labels_of_defects(make: Any, write: Write, place: str) -> str:
    if write is yolo:
        make.text("classes.txt", "pit")
    for name in ("ok", "ng"):
        images(make, f"{name}/{name}", count=3)
    for index in range(3):
        write(make, f"{place.format('ng')}ngp{index}")
    return write.__name__


@pytest.mark.parametrize("write", [yolo, voc])
def test_labels_that_contradict_a_folder_of_defects_are_refused(make: Any, write: Write) -> None:
    make.text("classes.txt", "pit", "ok")
    for name in ("good", "scratch"):
        images(make, f"{name}/{name}", count=3)
    write(make, "scratch/scratchp1")
    with pytest.raises(DataError, match=r"1 image has a label in.*scratchp1"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("scratch", "scratch"),
        ("scratch", "Scratches"),
        ("NIO_Kratzer", "kratzer"),
        ("ng", "defect"),
        ("crack", "defect"),
        ("NG/scratch", "scratch"),
    ],
)
def test_labels_that_agree_with_a_folder_of_defects_are_told(
    make: Any, folder: str, name: str
) -> None:
    for each in ("good", folder):
        images(make, f"{each}/{each[-2:]}", count=3)
        for index in range(3):
            if each != "good":
                voc(make, f"{each}/{each[-2:]}p{index}", name)
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("class_folder", (folder,))
    assert any("3 images have a label in Pascal VOC's XML that agrees" in n for n in data.notes)
