"""The folder camera reads images as training does, and checks them against the declared depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.cameras.folder import FolderCamera, Options
from edgeinspect.domain.clock import NS_PER_S, SystemClock
from edgeinspect.errors import DataError
from edgeinspect.imaging.image_file import read_image
from edgeinspect.imaging.read_settings import ReadDeclaration
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.ports import CameraFinished

GREY = np.random.default_rng(4).integers(10, 256, (24, 40), np.uint8)
DEEP = GREY.astype(np.uint16) * 16 + 3


def write(folder: Path, **images: np.ndarray) -> None:
    for name, pixels in images.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), pixels)


def read_all(folder: Path, **options: Any) -> dict[str, Any]:
    """Return the pixels of each image, or its problem."""
    camera = FolderCamera(Options(path=str(folder), pace="max", **options), SystemClock())
    camera.open()
    found: dict[str, Any] = {}
    while True:
        try:
            grab = camera.grab(10 * NS_PER_S)
        except CameraFinished:
            camera.close()
            return found
        assert grab is not None
        assert grab.label is not None
        found[grab.label] = grab.problem if grab.pixels is None else grab.pixels
        camera.release(grab)


def test_line_and_training_read_the_same_pixels(tmp_path: Path) -> None:
    write(tmp_path, a=DEEP, b=DEEP // 4)
    reading = find_bit_depth(sorted(tmp_path.iterdir()), ReadDeclaration(), "set").read_settings(
        "mono"
    )
    found = read_all(tmp_path, bits=12)
    for name, pixels in found.items():
        assert np.array_equal(pixels, read_image(tmp_path / name, reading))
    assert np.array_equal(found["a.png"][:, :, 0], GREY)


def test_16_bits_require_a_declared_depth(tmp_path: Path) -> None:
    write(tmp_path, a=DEEP, b=DEEP // 4)
    with pytest.raises(DataError, match=rf"`bits`.*is {DEEP.max()}, so 12, or 16") as caught:
        read_all(tmp_path)
    assert caught.value.where == str(tmp_path)
    (tmp_path / "reading.yaml").write_text("bits: 12\n")
    assert np.array_equal(read_all(tmp_path)["a.png"][:, :, 0], GREY)
    with pytest.raises(DataError, match="10, those of its folder 12"):
        read_all(tmp_path, bits=10)


def test_mixed_depths_are_listed(tmp_path: Path) -> None:
    write(tmp_path, a=GREY, b=DEEP, c=GREY)
    with pytest.raises(DataError, match=r"1 of 3 images have 16 bits \(b.png\).*8 \(a.png, c"):
        read_all(tmp_path)
    found = read_all(tmp_path, bits=12)
    assert found["a.png"] == found["c.png"]
    assert found["a.png"].startswith("has 8 bits per pixel, its camera has 12")
    assert np.array_equal(found["b.png"][:, :, 0], GREY)


def test_a_later_image_of_16_bits_has_no_pixels(tmp_path: Path) -> None:
    write(tmp_path, a=GREY, b=GREY)
    camera = FolderCamera(Options(path=str(tmp_path), pace="max"), SystemClock())
    camera.open()
    write(tmp_path, b=DEEP)
    first, second = camera.grab(10 * NS_PER_S), camera.grab(10 * NS_PER_S)
    assert first is not None
    assert first.pixels is not None
    assert second is not None
    assert second.pixels is None
    assert "16 bits per pixel" in second.problem
    camera.close()


def test_a_truncated_image_has_no_pixels(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".tif", ".pgm"):
        data = cv2.imencode(suffix, GREY)[1].tobytes()
        half = data[: len(data) * 55 // 100]
        (tmp_path / f"cut{suffix}").write_bytes(half)
        (tmp_path / f"zeros{suffix}").write_bytes(half + bytes(len(data) - len(half)))
        (tmp_path / f"complete{suffix}").write_bytes(data)
    found = read_all(tmp_path)
    assert len(found) == 15
    for name, pixels in found.items():
        assert isinstance(pixels, str) == (not name.startswith("complete")), name


def test_black_ends_may_be_declared(tmp_path: Path) -> None:
    ends = GREY.copy()
    ends[-6:] = 0
    ends[:6] = 0
    assert cv2.imwrite(str(tmp_path / "a.bmp"), ends)
    assert "rows of zeros" in read_all(tmp_path)["a.bmp"]
    assert np.array_equal(read_all(tmp_path, flat_end=True)["a.bmp"][:, :, 0], ends)


@pytest.mark.parametrize(("bits", "message"), [(16, "uses more than 12"), (12, "")])
def test_a_depth_that_no_image_uses_raises_the_alarm(
    tmp_path: Path, bits: int, message: str
) -> None:
    """12 bits read as 16 are nearly black: defects would be missed."""
    write(tmp_path, a=DEEP, b=DEEP // 2, c=DEEP // 3)
    camera = FolderCamera(Options(path=str(tmp_path), bits=bits), SystemClock())  # type: ignore[arg-type]
    camera.open()
    camera.close()
    assert message in camera.alarm
    assert bool(camera.alarm) == bool(message)
