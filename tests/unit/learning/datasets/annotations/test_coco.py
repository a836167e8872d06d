"""COCO files as CVAT, Roboflow, Datumaro and Label Studio write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import VOID, open_dataset
from edgeinspect.learning.datasets.annotations.run_lengths import (
    encode_compressed_counts,
    mask_counts,
)

SIZE = (40, 64)
CATEGORIES = [{"id": 3, "name": "scar"}, {"id": 1, "name": "pit"}]


def contours(mask: np.ndarray) -> list[list[float]]:
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [contour.reshape(-1).tolist() for contour in found]


def document(*segmentations: Any, name: str = "p{}.png", **more: Any) -> dict[str, Any]:
    """One image per segmentation, of category 1; None for an image without annotations."""
    images = [
        {"id": 10 + i, "file_name": name.format(i), "height": SIZE[0], "width": SIZE[1]}
        for i in range(len(segmentations))
    ]
    annotations = [
        {"id": i, "image_id": 10 + i, "category_id": 1, "iscrowd": 0, **segmentation}
        for i, segmentation in enumerate(segmentations)
        if segmentation is not None
    ]
    return {"images": images, "annotations": annotations, "categories": [*CATEGORIES], **more}


@pytest.fixture
def write(make: Any):
    def write(
        content: Any, file: str = "annotations/instances_default.json", folder: str = "images"
    ):
        for image in content["images"]:
            if not (make.root / folder / image["file_name"]).exists():
                make.write(f"{folder}/{image['file_name']}")
        make.text(file, json.dumps(content))
        return make.root

    return write


def test_all_kinds_of_segmentation_give_the_mask(make: Any, write: Any) -> None:
    mask = make.mask(1, 0, 1) > 0
    counts = mask_counts(mask.ravel(order="F")).tolist()
    write(
        document(
            {"segmentation": contours(mask), "bbox": [0, 0, 9, 9]},
            {"segmentation": {"size": [*SIZE], "counts": counts}, "iscrowd": 1},
            {"segmentation": {"size": [*SIZE], "counts": encode_compressed_counts(counts)}},
            None,
        )
    )
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("coco", ("pit", "scar"), True)
    for sample in data.samples[:3]:
        assert (sample.read_mask(*SIZE) == mask).all()
        assert (sample.is_defective, sample.class_ids, sample.class_name) == (True, (1,), "pit")
    assert not data.samples[3].is_defective
    assert not data.samples[3].read_mask(*SIZE).any()


def test_boxes_are_boxes(make: Any, write: Any) -> None:
    write(document({"bbox": [4, 8, 20, 10]}, {"bbox": [1, 1, 2, 2], "segmentation": []}, None))
    data = open_dataset(make.root)
    assert not data.has_masks
    assert data.samples[0].mask is None
    assert [sample.is_defective for sample in data.samples] == [True, True, False]
    assert any("2 annotations are boxes: they serve a gate" in note for note in data.notes)
    (box,) = data.samples[0].boxes
    assert (box.class_id, box.left_px, box.bottom_px) == (1, 4, 18)
    filled = open_dataset(make.root, draws_boxes=True)
    assert filled.has_masks
    assert filled.samples[0].read_mask(*SIZE)[8:18, 4:24].all()
    assert filled.samples[0].read_mask(*SIZE).sum() == 200
    assert any("filled as a mask" in note for note in filled.notes)


def test_boxes_among_areas_are_unlabelled(make: Any, write: Any) -> None:
    write(document({"segmentation": contours(make.mask(1) > 0)}, {"bbox": [4, 8, 20, 10]}))
    data = open_dataset(make.root)
    assert data.has_masks
    assert set(np.unique(data.samples[1].read_mask(*SIZE)).tolist()) == {0, VOID}


def test_splits_of_cvat_and_datumaro(make: Any, write: Any) -> None:
    for split in ("train", "val2017", "test"):
        name = f"{split}_{{}}.png"
        content = document({"bbox": [1, 1, 2, 2]}, None, name=name)
        write(content, f"annotations/instances_{split}.json", f"images/{split}")
        write(content, f"annotations/person_keypoints_{split}.json", f"images/{split}")
    data = open_dataset(make.root)
    splits = {sample.name.partition("_")[0]: sample.split for sample in data.samples}
    assert splits == {"train": "train", "val2017": "val", "test": "test"}
    assert len(data) == 6


def test_roboflow(make: Any, write: Any) -> None:
    categories = [
        {"id": 0, "name": "defects", "supercategory": "none"},
        {"id": 1, "name": "pit", "supercategory": "defects"},
        {"id": 2, "name": "ok", "supercategory": "defects"},
    ]
    for split in ("train", "valid"):
        name = f"a{{}}_png.rf.{'ab12' * 8}{split}.jpg"
        content = document(
            {"bbox": [1, 1, 2, 2]}, {"bbox": [1, 1, 2, 2], "category_id": 2}, name=name
        )
        write({**content, "categories": categories}, f"{split}/_annotations.coco.json", split)
    data = open_dataset(make.root)
    assert data.classes == ("pit",)
    assert {sample.split for sample in data.samples} == {"train", "val"}
    assert [sample.is_defective for sample in data.samples] == [True, True, False, False]
    assert {sample.group for sample in data.samples} == {"a0_png", "a1_png"}
    assert any("category defects only groups" in note for note in data.notes)


def test_one_file_that_lists_all_splits_in_each_folder(make: Any) -> None:
    content = document({"bbox": [1, 1, 2, 2]}, None, {"bbox": [1, 1, 2, 2]}, None)
    for split, kept in (("train", (0, 1, 2)), ("valid", (3,))):
        make.text(f"{split}/_annotations.coco.json", json.dumps(content))
        for index in kept:
            make.write(f"{split}/p{index}.png")
    data = open_dataset(make.root)
    assert [sample.split for sample in data.samples] == ["train"] * 3 + ["val"]


def test_names_of_another_machine_and_label_studio(make: Any) -> None:
    names = [r"C:\data\set\p0.png", "/home/me/p1.png", "1a2b3c4d-p2.png", "images/p3.png"]
    content = document(*[{"bbox": [1, 1, 2, 2]}] * 4)
    for index, image in enumerate(content["images"]):
        image["file_name"] = names[index]
        make.write(f"images/p{index}.png")
    make.text("result.json", json.dumps(content))
    assert sum(sample.is_defective for sample in open_dataset(make.root).samples) == 4
    assert open_dataset(make.root / "result.json").root == make.root


def test_images_that_no_file_names_are_skipped_with_a_note(make: Any, write: Any) -> None:
    write(document({"bbox": [1, 1, 2, 2]}, None))
    make.write("images/new.png")
    data = open_dataset(make.root)
    assert len(data) == 2
    assert [one.name for one in data.skipped] == ["images/new.png"]
    assert any("1 image is not in instances_default.json" in note for note in data.notes)


def test_a_few_missing_images_are_skipped_and_more_refused(make: Any, write: Any) -> None:
    write(document(*[{"bbox": [1, 1, 2, 2]}] * 8))
    for index in range(2):
        (make.root / f"images/p{index}.png").unlink()
    data = open_dataset(make.root)
    assert (len(data), len(data.skipped)) == (6, 2)
    (make.root / "images/p2.png").unlink()
    with pytest.raises(DataError, match="3 of the 8 images that it names are not in"):
        open_dataset(make.root)


def test_long_files_are_recognised(make: Any, write: Any) -> None:
    """Keys that are neither in the first nor in the last 64 KiB."""
    content = document(*[{"bbox": [1, 1, 2, 2]}] * 3)
    padding = [{"id": 1, "name": "x" * 200_000}]
    ordered = {"licenses": padding, **content, "info": padding}
    write(content)
    make.text("annotations/instances_default.json", json.dumps(ordered))
    assert open_dataset(make.root).layout == "coco"


def change(**values: Any):
    def apply(content: dict[str, Any]) -> None:
        content["annotations"][0].update(values)

    return apply


def change_image(**values: Any):
    def apply(content: dict[str, Any]) -> None:
        content["images"][0].update(values)

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change(category_id=9), "annotation id 0: has category_id 9.*categories are 1, 3"),
        (change(image_id=99), "annotation id 0: is of image id 99, which is not listed"),
        (change(bbox=[1, 1, -2, 2]), r"box of -2 x 2 px.*two corners"),
        (change(bbox=[1, 1, 2]), "box of 3 numbers"),
        (change(bbox=[50, 1, 60, 2]), r"id 0: is outside of its image: x 50 to 110.*64 x 40"),
        (change(segmentation=[[1, 2, 3]]), "polygon that is not a list"),
        (change(segmentation=[[-90, 2, 3, 3, 9, 9]]), "is outside of its image"),
        (change(segmentation={"size": [40, 64], "counts": [5]}), "run lengths of 5 pixels"),
        (
            change(segmentation={"size": [64, 40], "counts": [2560]}),
            "mask of 64 x 40 px, its image",
        ),
        (change(segmentation={"size": [40], "counts": [40]}), "without a size"),
        (change(segmentation={"size": [40, 64], "counts": "\u007f"}), "mask that is damaged"),
        (change(segmentation=[[[1, 2], [3, 4]]]), "is not COCO's JSON.*segmentation"),
        (change(bbox="1,2,3,4"), r"Expected `array \| null`.*annotations\[0\]\.bbox"),
        (change_image(width=640), r"states an image of 40 x 640 px.*1 image of 3"),
        (change_image(width=40, height=64), "rotated: does the image have an EXIF"),
        (change_image(width=-1), "image id 10 has a negative size"),
        (change_image(id=11), "two images with id 11"),
        (change_image(file_name="p1.png"), r"annotates images/p1\.png again, after .* id 10"),
        (change_image(file_name="../../x/p0.txt"), "outside|1 of the|names it"),
        (lambda c: c["categories"].append({"id": 1, "name": "x"}), "lists category 1 'x' twice"),
        (
            lambda c: c.update(categories=[{"id": i, "name": f"c{i}"} for i in range(90)]),
            "90 classes",
        ),
        (lambda c: c.update(images=[], annotations=[]), r"instances_default\.json: lists no image"),
        (lambda c: c.update(images=5), "is not COCO's JSON"),
    ],
)
def test_faults_are_named_with_the_entry(make: Any, write: Any, apply: Any, message: str) -> None:
    content = document(*[{"bbox": [1, 1, 2, 2]}] * 3)
    write(content)
    apply(content)
    make.text("annotations/instances_default.json", json.dumps(content))
    if "names it" in message:  # a single image is skipped by name
        data = open_dataset(make.root)
        assert [one.name for one in data.skipped if not one.is_intentional] == ["../../x/p0.txt"]
        return
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root)
    assert "instances_default.json" in str(caught.value) or "classes" in message


def test_nothing_outside_of_the_set_is_read(make: Any, write: Any, tmp_path: Path) -> None:
    write(document(*[{"bbox": [1, 1, 2, 2]}] * 3))
    (tmp_path / "secret.png").write_bytes((make.root / "images/p0.png").read_bytes())
    content = document(*[{"bbox": [1, 1, 2, 2]}] * 3)
    content["images"][0]["file_name"] = "../../secret.png"
    make.text("annotations/instances_default.json", json.dumps(content))
    assert all(sample.path.is_relative_to(make.root) for sample in open_dataset(make.root).samples)


def test_a_file_without_annotations_lists_unlabelled_images(make: Any, write: Any) -> None:
    box = {"bbox": [4, 8, 20, 10]}
    write(document(box, box, None, name="t{}.png"), "annotations/instances_train.json")
    bare = document(None, None, name="v{}.png")
    write({**bare, "annotations": []}, "annotations/instances_val.json")
    assert [sample.is_defective for sample in open_dataset(make.root).samples].count(False) == 3
    del bare["annotations"]
    write(bare, "annotations/instances_val.json")
    data = open_dataset(make.root)
    assert [sample.name for sample in data.samples] == ["t0.png", "t1.png", "t2.png"]
    reason = "instances_val.json lists it, but has no annotations"
    assert [(one.name, one.reason, one.is_intentional) for one in data.skipped] == [
        (f"images/v{index}.png", reason, False) for index in range(2)
    ]
    bare["images"] += [{"id": i, "file_name": f"v{i}.png"} for i in range(2, 6)]
    write(bare, "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"6 of 9 images are not labelled.*has no annotations"):
        open_dataset(make.root)


@pytest.mark.parametrize(
    ("listed", "named", "message"),
    [
        (1, "1", "has the image id 1 as text, but the list of images has it as a number"),
        ("1", 1, "has the image id 1 as a number, but the list of images has it as text"),
        (1, "2", "is of image id 2, which is not listed"),
    ],
)
def test_ids_as_text_and_as_numbers(make: Any, listed: Any, named: Any, message: str) -> None:
    make.write("images/a.png")
    document = {
        "images": [{"id": listed, "file_name": "a.png", "width": 64, "height": 40}],
        "categories": [{"id": 1, "name": "pit"}],
        "annotations": [{"id": 1, "image_id": named, "category_id": 1, "bbox": [1, 1, 9, 9]}],
    }
    make.text("annotations/instances.json", json.dumps(document))
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


@pytest.mark.parametrize(("ring", "pixels"), [([5, 5, 20, 5], 16), ([5, 5], 1)])
def test_polygons_without_an_area_are_told(make: Any, ring: list[int], pixels: int) -> None:
    make.write("images/a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 40}],
        "categories": [{"id": 1, "name": "pit"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [ring]}],
    }
    make.text("annotations/instances.json", json.dumps(document))
    data = open_dataset(make.root)
    assert data.samples[0].read_mask(40, 64).sum() == pixels
    assert any("1 polygon has fewer than 3 points: read as a line" in n for n in data.notes)
