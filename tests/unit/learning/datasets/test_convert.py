"""`data convert`: images byte by byte, masks pixel by pixel, and all that is known of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.__main__ import main
from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets import VOID, Dataset, convert_dataset, open_dataset

FORMATS = ("edgeinspect", "coco")
SIZE = (40, 64)


def known(data: Dataset) -> dict[str, Any]:
    """What must survive, by the content of the image."""
    return {
        sample.path.read_bytes().hex(): (
            sample.is_defective,
            sample.class_ids,
            sample.split,
            sample.group if sample.group != sample.name else "",
            sample.read_mask(*SIZE).tobytes() if data.has_masks else b"",
        )
        for sample in data.samples
    }


def convert(data: Dataset, out: Path, target: str) -> Dataset:
    done = convert_dataset(data, out, target)
    assert done.images == len(data)
    again = open_dataset(out)
    assert again.layout == ("coco" if target == "coco" else "indexed")
    return again


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("layout", ["mask_folder", "severstal", "indexed", "mvtec"])
def test_sets_with_masks(make: Any, tmp_path: Path, layout: str, target: str) -> None:
    getattr(make, layout)()
    data = open_dataset(make.root)
    again = convert(data, tmp_path / "out", target)
    assert again.classes == data.classes
    assert known(again) == known(data)
    third = convert(again, tmp_path / "third", FORMATS[target == "edgeinspect"])
    assert known(third) == known(data)


@pytest.mark.parametrize("target", FORMATS)
def test_unlabelled_areas_holes_and_touching_classes(
    make: Any, tmp_path: Path, target: str
) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        mask = rng.integers(0, 4, SIZE).astype(np.uint8)
        mask[mask == 3] = VOID
        make.write(f"images/p{index}.png")
        make.write(f"masks/p{index}.png", mask)
    make.text("labels.txt", "__ignore__", "_background_", "pit", "scar")
    data = open_dataset(make.root)
    assert any((sample.read_mask(*SIZE) == VOID).any() for sample in data.samples)
    assert known(convert(data, tmp_path / "out", target)) == known(data)


@pytest.mark.parametrize("target", FORMATS)
def test_a_mask_that_is_only_unlabelled(make: Any, tmp_path: Path, target: str) -> None:
    """A box among areas, and a class of a whole image among them."""
    ring = [4, 8, 4, 19, 11, 19, 11, 8]
    content = {
        "images": [{"id": i, "file_name": f"p{i}.png", "group": f"g{i // 2}"} for i in range(4)],
        "categories": [{"id": 1, "name": "pit"}, {"id": 2, "name": "scar"}],
        "annotations": [
            {"image_id": 0, "category_id": 1, "segmentation": [ring]},
            {"image_id": 1, "category_id": 2, "bbox": [4, 8, 10, 10]},
            {"image_id": 2, "category_id": 1, "bbox": [0, 0, 64, 40]},
        ],
    }
    for index in range(4):
        make.write(f"p{index}.png")
    make.text("coco.json", json.dumps(content))
    data = open_dataset(make.root)
    assert known(convert(data, tmp_path / "out", target)) == known(data)


def test_boxes_are_kept_by_coco_only(make: Any, tmp_path: Path) -> None:
    for index in range(3):
        make.write(f"images/p{index}.png")
        make.text(f"labels/p{index}.txt", *["0 0.5 0.5 0.25 0.5", "1 0.25 0.25 0.125 0.1"][:index])
    make.text("data.yaml", "train: images", "names: [pit, scar]")
    data = open_dataset(make.root)
    again = convert(data, tmp_path / "coco", "coco")
    assert [sample.boxes for sample in again.samples] == [sample.boxes for sample in data.samples]
    done = convert_dataset(data, tmp_path / "own", "edgeinspect")
    assert any("3 boxes are not kept" in note for note in done.notes)
    own = open_dataset(tmp_path / "own")
    assert [sample.class_ids for sample in own.samples] == [(), (1,), (1, 2)]
    assert [sample.split for sample in own.samples] == ["train"] * 3
    assert not own.has_masks


def test_classes_of_whole_images(make: Any, tmp_path: Path) -> None:
    make.class_folder("ok", "crack", "dent")
    data = open_dataset(make.root)
    again = convert(data, tmp_path / "out", "edgeinspect")
    assert again.classes == ("crack", "dent")
    assert known(again) == known(data)
    with pytest.raises(DataError, match=r"12 images are defective as a whole.*--to edgeinspect"):
        convert_dataset(data, tmp_path / "coco", "coco")
    assert not (tmp_path / "coco").exists()


def test_equal_names_are_made_different(make: Any, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for index in range(3):
            make.write(f"{split}/images/{index}.png")
            make.write(f"{split}/masks/{index}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    done = convert_dataset(data, tmp_path / "out", "edgeinspect")
    assert any("6 images were renamed" in note for note in done.notes)
    assert known(open_dataset(tmp_path / "out")) == known(data)


@pytest.mark.parametrize("target", FORMATS)
def test_names_that_are_no_text_are_escaped_and_nothing_is_lost(
    make: Any, tmp_path: Path, target: str
) -> None:
    """Two bytes of Latin-1, a line end, a backslash, and names that become one by escaping."""
    for index, name in enumerate((b"bol\xe9", b"bol\xe8", b"bol_xE9", b"a\nb", b"a\\b", b"plain")):
        for folder, image in (("images", make.pixels()), ("masks", make.mask(index % 3))):
            make.write(f"{folder}/next.png", image)
            os.rename(
                make.root / folder / "next.png",
                os.path.join(os.fsencode(make.root / folder), name + b".png"),
            )
    data = open_dataset(make.root)
    assert len(data) == 6
    again = convert(data, tmp_path / "out", target)
    assert known(again) == known(data)
    names = {sample.path.name for sample in again.samples}
    assert {"bol_xE8.png", "a_x0Ab.png", "plain.png"} < names
    assert all(name.isprintable() and "\\" not in name for name in names)


@pytest.mark.parametrize("target", FORMATS)
def test_sixteen_bits_keep_their_depth(make: Any, tmp_path: Path, target: str) -> None:
    for index in range(4):
        make.write(f"images/p{index}.png", make.pixels().astype(np.uint16) * 16)
        make.write(f"masks/p{index}.png", make.mask(1, value=255))
    make.text("reading.yaml", "bits: 12")
    data = open_dataset(make.root)
    assert convert(data, tmp_path / "out", target).bit_depth == data.bit_depth == 12


def test_images_are_the_same_files(make: Any, tmp_path: Path) -> None:
    make.mask_folder()
    convert_dataset(open_dataset(make.root), tmp_path / "out", "coco")
    one, other = make.root / "images/p0.jpg", tmp_path / "out/images/p0.jpg"
    assert one.stat().st_ino == other.stat().st_ino or one.read_bytes() == other.read_bytes()


def test_unreadable_images_are_left_out(make: Any, tmp_path: Path) -> None:
    make.mask_folder(count=6)
    (make.root / "images/p1.jpg").write_bytes(b"broken")
    data = open_dataset(make.root)
    done = convert_dataset(data, tmp_path / "out", "edgeinspect")
    assert [one.name for one in done.skipped] == ["p1.jpg"]
    assert len(open_dataset(tmp_path / "out")) == 5


def test_wrong_use(make: Any, tmp_path: Path) -> None:
    make.mask_folder()
    data = open_dataset(make.root)
    with pytest.raises(UsageError, match=r"no format 'yolo'.*edgeinspect, coco"):
        convert_dataset(data, tmp_path / "out", "yolo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputError, match="is not empty"):
        convert_dataset(data, tmp_path / "full", "coco")


def test_the_command(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.write("a.png")
    shape = {"label": "pit", "shape_type": "rectangle", "points": [[4, 4], [20, 20]]}
    make.text("a.json", json.dumps({"shapes": [shape], "imagePath": "a.png"}))
    make.write("b.png")
    arguments = ["data", "convert", str(make.root), "--out", str(tmp_path / "own")]
    assert main([*arguments, "--to", "edgeinspect", "--boxes", "masks"]) == 0
    out = capsys.readouterr().out
    assert "1 annotation is a box and filled as a mask" in out
    assert "2 images in" in out
    assert cv2.imread(str(tmp_path / "own/masks/a.png"), cv2.IMREAD_UNCHANGED).sum() == 256
    assert main([*arguments, "--to", "edgeinspect"]) == 73
    assert main([*arguments, "--to", "yolo"]) == 64
