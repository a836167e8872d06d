"""Images that the file with the labels does not name: a few are skipped, more are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.open import open_dataset
from tests.unit.learning.datasets.annotations import test_coco as coco
from tests.unit.learning.datasets.annotations import test_cvat as cvat
from tests.unit.learning.datasets.annotations import test_label_studio as label_studio

COUNT = 20
BOX = {"bbox": [1, 1, 4, 4]}


def write_coco(make: Any, count: int) -> Path:
    """Write a file that lists some of the images, and return where these are."""
    make.text("annotations/instances_default.json", json.dumps(coco.document(*[BOX] * count)))
    return Path("images/p{}.png")


def write_cvat(make: Any, count: int) -> Path:
    box = '<box label="pit" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    make.text("annotations.xml", cvat.xml(*(cvat.image(index, box) for index in range(count))))
    return Path("images/p{}.png")


def write_label_studio(make: Any, count: int) -> Path:
    tasks = [
        label_studio.task(f"p{index}.png", label_studio.choice("pit")) for index in range(count)
    ]
    make.text("project-1.json", json.dumps(tasks))
    return Path("p{}.png")


def write_index(make: Any, count: int) -> Path:
    rows = (f"p{index}.png,pit,1" for index in range(count))
    make.text("index.csv", "image,class_name,class_id", *rows)
    return Path("images/p{}.png")


def write_index_of_masks(make: Any, count: int) -> Path:
    """The index has no labels: masks have."""
    for index in range(COUNT):
        make.write(f"masks/p{index}.png", make.mask(1, value=255))
    make.text("index.csv", "image", *(f"p{index}.png" for index in range(count)))
    return Path("images/p{}.png")


def write_yolo(make: Any, count: int) -> Path:
    for index in range(count):
        make.text(f"labels/p{index}.txt", "0 0.5 0.5 0.2 0.2")
    make.text("train.txt", *(f"images/p{index}.png" for index in range(count)))
    make.text("obj.names", "pit")
    return Path("images/p{}.png")


WRITERS = (
    write_coco,
    write_cvat,
    write_label_studio,
    write_index,
    write_index_of_masks,
    write_yolo,
)


def write_set(make: Any, write: Callable[[Any, int], Path], listed: int, count: int = COUNT) -> str:
    place = str(write(make, listed))
    for index in range(count):
        make.write(place.format(index))
    return place


@pytest.mark.parametrize("write", WRITERS)
def test_half_a_set_does_not_vanish(make: Any, write: Callable[[Any, int], Path]) -> None:
    write_set(make, write, COUNT // 2)
    with pytest.raises(DataError, match=r"10 of 20 images are not labelled: .*p10\.png") as caught:
        open_dataset(make.root)
    name = caught.value.remedy.partition("--layout ")[2].split()[0]
    data = open_dataset(make.root, name)
    assert len(data) == 10
    assert any("10 images are not in" in note for note in data.notes)
    assert sum(one.is_intentional for one in data.skipped) == 10


@pytest.mark.parametrize("write", WRITERS)
def test_a_few_unlisted_images_are_skipped(make: Any, write: Callable[[Any, int], Path]) -> None:
    write_set(make, write, COUNT - 3)
    data = open_dataset(make.root)
    assert (len(data), len(data.skipped)) == (17, 3)


def test_a_split_without_its_file_is_refused(make: Any) -> None:
    """As Roboflow exports it: a file beside the images of each split."""
    for split, first in (("train", 0), ("valid", 10)):
        content = coco.document(*[BOX] * 10, name=split + "_{}.png")
        for image in content["images"]:
            make.write(f"{split}/{image['file_name']}")
        make.text(f"{split}/_annotations.coco.json", json.dumps(content))
        assert len(open_dataset(make.root)) == first + 10
    (make.root / "valid" / "_annotations.coco.json").unlink()
    with pytest.raises(DataError, match="10 of 20 images are not labelled: valid/"):
        open_dataset(make.root)
    given = open_dataset(make.root / "train" / "_annotations.coco.json")
    assert len(given) == 10, "the file itself was named"


def test_copies_and_masks_of_listed_images_are_not_missing(make: Any) -> None:
    place = write_set(make, write_coco, COUNT)
    for index in range(COUNT):
        make.write(place.format(index).replace(".png", ".bmp"))
        make.write(place.format(index).replace(".png", "_mask.png"), make.mask(1, value=255))
    assert len(open_dataset(make.root)) == COUNT
