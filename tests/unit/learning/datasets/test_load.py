"""Images become arrays of one size; broken ones are skipped by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets import load as module
from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.load import common_size, infer_channels, load_arrays
from edgeinspect.learning.datasets.open import open_dataset


def load_all(data: Dataset, **more: Any) -> ImageArrays:
    size = {"height_px": 40, "width_px": 64, "channels": 1, **more}
    return load_arrays(data, data.samples, **size)


def test_pixels_masks_and_labels_are_those_of_the_files(make: Any) -> None:
    data = open_dataset(make.mask_folder())
    done: list[int] = []
    images = load_all(data, progress=done.append)
    assert images.images.shape == (4, 40, 64, 1)
    assert images.masks.shape == (4, 40, 64)
    assert images.images.dtype == images.masks.dtype == np.uint8
    assert list(images.names) == ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"]
    assert images.defective.tolist() == [False, True, False, True]
    assert images.classes == ("defect",)
    assert images.skipped == ()
    assert done == [1, 2, 3, 4]
    for index, sample in enumerate(data.samples):
        file = cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(images.images[index, :, :, 0], file)
    assert np.array_equal(images.masks[1], make.mask(1))


def test_another_size_is_letterboxed_with_its_mask(make: Any) -> None:
    make.mask_folder()
    images = load_all(open_dataset(make.root), height_px=80, width_px=200, channels=3)
    assert images.images.shape == (4, 80, 200, 3)
    columns = np.flatnonzero(images.masks[1].any(axis=0))
    assert (columns[0], columns[-1]) == (36 + 2 * 4, 36 + 2 * 12 - 1)  # 36 px of border
    assert not images.images[:, :, :36].any()
    assert not images.images[:, :, 164:].any()


def test_broken_images_are_skipped_by_name(make: Any) -> None:
    root = make.mask_folder(count=20)
    (root / "images/p3.jpg").write_bytes((root / "images/p3.jpg").read_bytes()[:-200])
    (root / "images/p5.jpg").write_bytes(b"")
    make.write("masks/p7.png", np.full((64, 40), 255, np.uint8))
    images = load_all(open_dataset(root))
    assert len(images) == len(images.names) == len(images.defective) == 17
    message = {skipped.name: skipped.reason for skipped in images.skipped}
    assert set(message) == {"p3.jpg", "p5.jpg", "p7.jpg"}
    assert "cut off" in message["p3.jpg"]
    assert "empty" in message["p5.jpg"]
    assert "mask is 64 x 40 px, its image 40 x 64 px (rotated" in message["p7.jpg"]
    assert images.names[3:6] == ["p4.jpg", "p6.jpg", "p8.jpg"]
    direct = cv2.imread(str(root / "images/p8.jpg"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(images.images[5, :, :, 0], direct)


def test_too_many_broken_images_are_an_error(make: Any) -> None:
    root = make.class_folder(count=5)
    data = open_dataset(root)
    for index in range(3):
        (root / f"ok_front/ok_front_{index}.jpeg").unlink()
    with pytest.raises(DataError, match=r"3 of 10 images cannot be used.*\n.*cannot be read"):
        load_all(data)


def test_a_small_set_may_have_a_few_broken_images_but_not_only_such(make: Any) -> None:
    root = make.class_folder(count=2)
    data = open_dataset(root)
    (root / "ok_front/ok_front_0.jpeg").unlink()
    (root / "ok_front/ok_front_1.jpeg").unlink()
    images = load_all(data)
    assert len(images.images) == len(images.skipped) == 2
    broken = [sample for sample in data.samples if sample.name.startswith("ok_front_")]
    with pytest.raises(DataError, match="2 of 2 images cannot be used"):
        load_arrays(data, broken, height_px=8, width_px=8, channels=1)


def test_nothing_to_load_is_an_error(make: Any) -> None:
    data = open_dataset(make.mask_folder())
    with pytest.raises(DataError, match="no image to load"):
        load_arrays(data, [], height_px=8, width_px=8, channels=1)
    with pytest.raises(UsageError, match="2 channels"):
        load_all(data, channels=2)


def test_a_mask_in_an_unknown_class_is_skipped(make: Any) -> None:
    root = make.indexed()
    make.write("masks/t1.png", make.mask(1) * 9)
    (skipped,) = load_all(open_dataset(root)).skipped
    assert skipped.name == "t1.jpg"
    assert "value 9, which is not a class" in skipped.reason


# -- memory -------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_MEMORY_BYTES", 1000)


@pytest.mark.usefixtures("small_memory")
def test_big_arrays_are_mapped(make: Any) -> None:
    data = open_dataset(make.mask_folder())
    images = load_all(data)
    assert isinstance(images.images, np.memmap)
    assert isinstance(images.masks, np.memmap)
    assert images.masks[1].any()
    assert images.select([1]).masks.any()


@pytest.mark.usefixtures("small_memory")
def test_the_cache_is_reused_and_never_stale(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(make.mask_folder(count=10))
    (make.root / "images/p0.jpg").write_bytes(b"broken")
    cache = tmp_path / "cache"
    first = load_all(data, cache=cache)
    assert len(list(cache.iterdir())) == 3
    decoded: list[str] = []
    real = module.read_image
    monkeypatch.setattr(module, "read_image", lambda p, how: decoded.append(p.name) or real(p, how))
    again = load_all(data, cache=cache)
    assert not decoded
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.masks, again.masks)
    assert (first.names, first.skipped) == (again.names, again.skipped)
    assert first.defective.tolist() == again.defective.tolist()
    make.write("masks/p2.png", make.mask(1, value=255))
    os.utime(make.root / "masks/p2.png", ns=(1, 1))
    assert load_all(open_dataset(make.root), cache=cache).masks[1].any()
    assert decoded


@pytest.mark.usefixtures("small_memory")
def test_a_changed_mask_of_one_class_invalidates_the_cache(make: Any, tmp_path: Path) -> None:
    """Also for layouts with a file per class."""
    for index in range(4):
        make.write(f"train/good/{index}.png")
        make.write(f"test/pit/{index}.png")
        path = make.write(f"ground_truth/pit/{index}_mask.png", make.mask(1, value=255))
    cache = tmp_path / "cache"
    first = load_all(open_dataset(make.root), cache=cache)
    make.write(f"ground_truth/pit/{path.name}", np.roll(make.mask(1, value=255), 20, 1))
    os.utime(path, ns=(1, 1))
    again = load_all(open_dataset(make.root), cache=cache)
    assert (first.masks != again.masks).any()


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize(
    "text", ["{}", "[]", "{", '{"kept": [99], "defective": [true], "skipped": []}', "[" * 100_000]
)
def test_a_damaged_cache_is_reported(make: Any, tmp_path: Path, text: str) -> None:
    data = open_dataset(make.mask_folder())
    cache = tmp_path / "cache"
    load_all(data, cache=cache)
    next(cache.glob("*.json")).write_text(text)
    with pytest.raises(DataError, match="is damaged") as caught:
        load_all(data, cache=cache)
    assert caught.value.remedy


@pytest.mark.usefixtures("small_memory")
def test_a_full_disk_is_one_error(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    data = open_dataset(make.mask_folder())
    for more in ({}, {"cache": tmp_path / "cache"}):
        with pytest.raises(DataError, match=r"no space.*No space left"):
            load_all(data, **more)
    assert not list((tmp_path / "cache").iterdir())


# -- depth, colour, size ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "bits"), [(255, 8), (256, 10), (1023, 10), (4000, 12), (10_000, 14), (65_535, 16)]
)
def test_deep_images_are_shifted_to_8_bits(make: Any, top: int, bits: int) -> None:
    deep = np.linspace(0, top, 40 * 64).reshape(40, 64).astype(np.uint16)
    for kind in ("ok", "bad"):
        make.write(f"{kind}/{kind}.png", deep)
    data = open_dataset(make.root)
    assert data.bit_depth == bits
    images = load_all(data)
    assert np.array_equal(images.images[0, :, :, 0], deep >> (bits - 8))


def test_colour_is_detected_and_grey_rgb_is_grey(make: Any) -> None:
    for index in range(3):
        grey = make.pixels()
        make.write(f"ok/a{index}.png", np.dstack([grey] * 3))
        make.write(f"bad/b{index}.png", grey)
    assert infer_channels(open_dataset(make.root)) == 1
    rust = np.full((40, 64, 3), 120, np.uint8)
    rust[3:5, 4:8] = (40, 60, 160)  # eight pixels of 2560
    make.write("bad/c.png", rust)
    data = open_dataset(make.root)
    assert infer_channels(data) == 3
    loaded = load_all(data, channels=3)
    image = loaded.images[list(loaded.names).index("c.png")]
    assert np.array_equal(image, cv2.imread(str(make.root / "bad/c.png")))


def test_the_common_size_is_the_most_common_or_the_median(make: Any) -> None:
    make.class_folder(count=3)
    make.write("ok_front/big.png", make.pixels(500, 1240))
    assert common_size(open_dataset(make.root)) == (40, 64)
    other = type(make)(make.root.parent / "other")
    for index, (height, width) in enumerate(
        [(100, 200), (130, 260), (163, 321), (90, 180), (110, 210), (140, 280)]
    ):
        other.write(f"{'ok' if index % 2 else 'bad'}/p{index}.png", make.pixels(height, width))
    assert common_size(open_dataset(other.root)) == (128, 240)


def test_huge_images_give_a_frame_within_bounds(make: Any) -> None:
    for kind in ("ok", "bad"):
        make.write(f"{kind}/{kind}.png", make.pixels(1000, 4096))
    assert common_size(open_dataset(make.root)) == (496, 2048)


def exif_turned(jpeg: bytes) -> bytes:
    """The JPEG with an EXIF orientation of 6, a quarter turn."""
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def test_the_exif_orientation_is_applied(make: Any) -> None:
    make.class_folder(count=2)
    path = make.root / "ok_front/ok_front_0.jpeg"
    path.write_bytes(exif_turned(path.read_bytes()))
    data = open_dataset(make.root)
    (turned,) = [sample for sample in data.samples if sample.path == path]
    images = load_arrays(data, [turned], height_px=64, width_px=40, channels=1)
    plain = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    assert np.array_equal(images.images[0, :, :, 0], np.rot90(plain, -1))
