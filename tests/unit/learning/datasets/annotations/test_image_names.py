"""Which file a label file means by the name of an image, alike for every format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import Dataset, open_dataset

Write = Callable[[Any, str, Iterable[str]], None]
FEW = "names it, but the image does not exist"


def coco(make: Any, file: str, names: Iterable[str]) -> None:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 8, 20, 10]}
        for i in range(len(images))
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "pit"}]}
    make.text(f"{file}.json", json.dumps(content))


def cvat(make: Any, file: str, names: Iterable[str]) -> None:
    box = '<box label="pit" xtl="4" ytl="8" xbr="24" ybr="18"/>'
    images = [
        f'<image id="{i}" name="{name}" width="64" height="40">{box}</image>'
        for i, name in enumerate(names)
    ]
    labels = "<meta><task><labels><label><name>pit</name></label></labels></task></meta>"
    make.text(f"{file}.xml", f"<annotations>{labels}{''.join(images)}</annotations>")


def label_studio(make: Any, file: str, names: Iterable[str]) -> None:
    value = {"x": 6.25, "y": 20, "width": 31.25, "height": 25, "rectanglelabels": ["pit"]}
    region = {
        "type": "rectanglelabels",
        "original_width": 64,
        "original_height": 40,
        "value": value,
    }
    tasks = [
        {
            "id": i,
            "annotations": [{"id": i, "result": [region]}],
            "data": {"image": f"/data/local-files/?d={name}"},
        }
        for i, name in enumerate(names)
    ]
    make.text(f"{file}.json", json.dumps(tasks))


def labelme(make: Any, file: str, names: Iterable[str]) -> None:
    shape = {"label": "pit", "shape_type": "rectangle", "points": [[4, 8], [24, 18]]}
    for name in names:
        content = {"shapes": [shape], "imagePath": f"../{name}", "imageHeight": 40}
        stem = str(PurePosixPath(name).with_suffix("")).replace("/", "_")
        make.text(f"json/{file}_{stem}.json", json.dumps({**content, "imageWidth": 64}))


LISTS = [coco, cvat, label_studio]
FORMATS = [*LISTS, labelme]


def missing(data: Dataset) -> set[str]:
    return {one.name.removeprefix("../") for one in data.skipped if FEW in one.reason}


def paths(data: Dataset) -> set[str]:
    """Return the images with a label: in labelme's layout, one without a file is good."""
    defective = (sample.path for sample in data.samples if sample.is_defective)
    return {path.relative_to(data.root).as_posix() for path in defective}


def write_images(make: Any, folder: str, numbers: Iterable[int]) -> set[str]:
    names = {f"{folder}/{number}.png" for number in numbers}
    for name in names:
        make.write(name)
    return names


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("above", ["", "images/"])
def test_a_missing_image_is_none_of_another_folder(make: Any, write: Write, above: str) -> None:
    kept = write_images(make, f"{above}cam1", [0, 1, 2, 3, 5, 6, 8, 9])
    write_images(make, f"{above}cam2", [4])
    write_images(make, f"{above}cam3", [4])
    write_images(make, f"{above}new/cam1", [7])
    write(make, "a", [f"cam1/{i}.png" for i in range(10)])
    data = open_dataset(make.root, write.__name__)
    lost = {"cam1/4.png"}
    if above and write is labelme:  # no name is that of a file exactly
        kept.add(f"{above}new/cam1/7.png")
    else:
        lost.add("cam1/7.png")
    assert (paths(data), missing(data)) == (kept, lost)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("prefix", ["", "day7/line/"])
def test_a_folder_that_was_not_copied_is_named(make: Any, write: Write, prefix: str) -> None:
    write_images(make, "cam1", range(8))
    names = [f"{prefix}cam{cam}/{i}.png" for cam in (1, 2) for i in range(4 * cam - 4, 4 * cam)]
    write(make, "a", names)
    with pytest.raises(
        DataError, match=r"4 of the 8 images that it names are not in .*cam2/4\.png"
    ):
        open_dataset(make.root, write.__name__)


@pytest.mark.parametrize(
    ("write", "prefix"),
    [
        (write, prefix)
        for write in FORMATS
        for prefix in ("", "/home/me/set/", "D:/set/")
        if not (write is labelme and prefix)  # its names are relative
    ],
)
@pytest.mark.parametrize("above", ["", "images/"])
def test_a_prefix_may_be_replaced(make: Any, write: Write, prefix: str, above: str) -> None:
    there = write_images(make, f"{above}cam1", range(4)) | write_images(
        make, f"{above}cam2", range(4)
    )
    write(make, "a", [f"{prefix}cam{cam}/{i}.png" for cam in (1, 2) for i in range(4)])
    data = open_dataset(make.root, write.__name__)
    assert (paths(data), missing(data)) == (there, set())


@pytest.mark.parametrize("write", FORMATS)
def test_folders_may_all_differ(make: Any, write: Write) -> None:
    there = write_images(make, "images", range(8))
    write(make, "a", [f"cam{1 + i // 4}/{i}.png" for i in range(8)])
    data = open_dataset(make.root, write.__name__)
    assert (paths(data), missing(data)) == (there, set())


@pytest.mark.parametrize("write", LISTS)
@pytest.mark.parametrize("files", [("train", "val"), ("a_training", "Valid"), ("Train", "x-dev")])
@pytest.mark.parametrize(
    "folders",
    [("train", "val"), ("images/Training", "images/valid"), ("train/images", "dev/images")],
)
def test_the_split_of_a_file_selects_the_folder(
    make: Any, write: Write, files: tuple[str, str], folders: tuple[str, str]
) -> None:
    for name, folder, count in zip(files, folders, (6, 4), strict=True):
        write_images(make, folder, range(count))
        make.write(f"{folder}/{count}.png", make.pixels(48, 64))
        write(
            make,
            f"annotations/{name}" if write is coco else name,
            map("{}.png".format, range(count)),
        )
    data = open_dataset(make.root, write.__name__)
    assert len(data) == 10
    assert {(sample.name.rpartition("/")[0], sample.split) for sample in data.samples} == {
        (folders[0], "train"),
        (folders[1], "val"),
    }
    assert {one.name for one in data.skipped} == {f"{folders[0]}/6.png", f"{folders[1]}/4.png"}


@pytest.mark.parametrize("write", LISTS)
@pytest.mark.parametrize("is_listed", [False, True])
def test_a_missing_image_is_none_of_another_split(make: Any, write: Write, is_listed: bool) -> None:
    kept = write_images(make, "train", range(6)) | write_images(make, "val", [0, 1, 2, 4, 5])
    for split in ("train", "val"):
        names = [f"{i}.png" for i in range(6) if split == "val" or is_listed or i != 3]
        write(make, f"annotations/{split}" if write is coco else split, names)
    data = open_dataset(make.root, write.__name__)
    assert paths(data) == kept - (set() if is_listed else {"train/3.png"})
    assert missing(data) == {"3.png"}


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_missing_image_is_none_that_another_file_lists(make: Any, is_listed: bool) -> None:
    kept = write_images(make, "a", range(6)) | write_images(make, "b", [0, 1, 2, 4, 5])
    for name in ("a", "b"):
        coco(make, f"annotations/instances_{name}", [f"{i}.png" for i in range(6)])
    data = open_dataset(make.root)
    assert (paths(data), missing(data)) == (kept, {"3.png"})


def test_a_folder_of_a_split_that_was_not_copied_is_named(make: Any) -> None:
    write_images(make, "train", range(6))
    for split in ("train", "val"):
        coco(make, f"annotations/{split}", [f"{i}.png" for i in range(6)])
    with pytest.raises(DataError, match=r"val\.json: 6 of the 6 images that it names are not in"):
        open_dataset(make.root)


@pytest.mark.parametrize("write", LISTS)
@pytest.mark.parametrize("every", ["all", "zz"])
def test_what_two_files_say_alike_counts_once(make: Any, write: Write, every: str) -> None:
    place = "annotations/" if write is coco else ""
    names = {split: [f"{split}{i}.png" for i in range(4)] for split in ("train", "val")}
    for split in names:
        for name in names[split]:
            make.write(f"images/{name}")
        write(make, f"{place}{split}", names[split])
    write(make, f"{place}{every}", [*names["train"], *names["val"]])
    data = open_dataset(make.root)
    assert len(data) == 8
    if write is not label_studio:  # whose splits are those of folders
        assert {(one.name[:-5], one.split) for one in data.samples} == {
            ("train", "train"),
            ("val", "val"),
        }
    assert all(len(one.boxes) == 1 for one in data.samples)


def change(text: str) -> list[str]:
    """Return a COCO file with one change each of what it says of its first image."""
    content = json.loads(text)
    boxes = content["annotations"]
    moved = [{**boxes[0], "bbox": [4, 8, 20, 11]}, *boxes[1:]]
    polygon = [{**boxes[0], "segmentation": [[4, 8, 24, 8, 24, 18]]}, *boxes[1:]]
    names = [{"id": 1, "name": "scar"}]
    images = [{**content["images"][0], "width": 64, "height": 40}, *content["images"][1:]]
    changed = [
        {"annotations": boxes[1:]},
        {"annotations": [*boxes, boxes[0]]},
        {"annotations": moved},
        {"annotations": polygon},
        {"categories": names},
        {"images": images},
        {"images": [*content["images"], {**content["images"][0], "id": 77}]},
    ]
    return [json.dumps({**content, **each}) for each in changed]


@pytest.mark.parametrize("number", range(7))
def test_what_two_files_say_differently_is_refused(make: Any, number: int) -> None:
    names = [
        path.removeprefix("images/") for path in sorted(write_images(make, "images", range(4)))
    ]
    coco(make, "annotations/train", names)
    coco(make, "annotations/all", names)
    assert len(open_dataset(make.root)) == 4
    file = make.root / "annotations/all.json"
    file.write_text(change(file.read_text("utf-8"))[number], encoding="utf-8")
    with pytest.raises(DataError, match=r"annotates images/0\.png again"):
        open_dataset(make.root)


def test_an_image_of_two_splits_is_refused(make: Any) -> None:
    write_images(make, "images", range(4))
    coco(make, "annotations/train", [f"{i}.png" for i in range(4)])
    coco(make, "annotations/val", ["3.png"])
    with pytest.raises(DataError, match=r"annotates images/3\.png again"):
        open_dataset(make.root)
