"""The folder camera reads as training did: its depth is declared, and every picture held to it."""

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


def write(folder: Path, **pictures: np.ndarray) -> None:
    for name, pixels in pictures.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), pixels)


def shown(folder: Path, **options: Any) -> dict[str, Any]:
    """What each picture became: its pixels, or why there are none."""
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


def test_the_line_sees_what_training_saw(tmp_path: Path) -> None:
    write(tmp_path, a=DEEP, b=DEEP // 4)
    reading = find_bit_depth(sorted(tmp_path.iterdir()), ReadDeclaration(), "set").read_settings(
        "mono"
    )
    found = shown(tmp_path, bits=12)
    for name, pixels in found.items():
        assert np.array_equal(pixels, read_image(tmp_path / name, reading))
    assert np.array_equal(found["a.png"][:, :, 0], GREY)


def test_deep_pictures_are_refused_until_their_depth_is_declared(tmp_path: Path) -> None:
    write(tmp_path, a=DEEP, b=DEEP // 4)
    with pytest.raises(DataError, match=rf"`bits`.*is {DEEP.max()}, so 12, or 16") as caught:
        shown(tmp_path)
    assert caught.value.where == str(tmp_path)
    (tmp_path / "reading.yaml").write_text("bits: 12\n")
    assert np.array_equal(shown(tmp_path)["a.png"][:, :, 0], GREY)
    with pytest.raises(DataError, match="10, those of its folder 12"):
        shown(tmp_path, bits=10)


def test_a_mixture_is_named(tmp_path: Path) -> None:
    write(tmp_path, a=GREY, b=DEEP, c=GREY)
    with pytest.raises(DataError, match=r"1 of 3 pictures have 16 bits \(b.png\).*8 \(a.png, c"):
        shown(tmp_path)
    found = shown(tmp_path, bits=12)
    assert found["a.png"] == found["c.png"]
    assert found["a.png"].startswith("has 8 bits a pixel, its camera has 12")
    assert np.array_equal(found["b.png"][:, :, 0], GREY)


def test_a_deep_picture_that_comes_later_has_no_pixels(tmp_path: Path) -> None:
    write(tmp_path, a=GREY, b=GREY)
    camera = FolderCamera(Options(path=str(tmp_path), pace="max"), SystemClock())
    camera.open()
    write(tmp_path, b=DEEP)
    first, second = camera.grab(10 * NS_PER_S), camera.grab(10 * NS_PER_S)
    assert first is not None
    assert first.pixels is not None
    assert second is not None
    assert second.pixels is None
    assert "16 bits a pixel" in second.problem
    camera.close()


def test_what_is_cut_off_has_no_pixels(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".tif", ".pgm"):
        data = cv2.imencode(suffix, GREY)[1].tobytes()
        half = data[: len(data) * 55 // 100]
        (tmp_path / f"cut{suffix}").write_bytes(half)
        (tmp_path / f"zeros{suffix}").write_bytes(half + bytes(len(data) - len(half)))
        (tmp_path / f"whole{suffix}").write_bytes(data)
    found = shown(tmp_path)
    assert len(found) == 15
    for name, pixels in found.items():
        assert isinstance(pixels, str) == (not name.startswith("whole")), name


def test_black_ends_may_be_declared(tmp_path: Path) -> None:
    ends = GREY.copy()
    ends[-6:] = 0
    ends[:6] = 0
    assert cv2.imwrite(str(tmp_path / "a.bmp"), ends)
    assert "rows of zeros" in shown(tmp_path)["a.bmp"]
    assert np.array_equal(shown(tmp_path, flat_end=True)["a.bmp"][:, :, 0], ends)


@pytest.mark.parametrize(("bits", "words"), [(16, "uses more than 12"), (12, "")])
def test_a_depth_that_no_picture_uses_is_an_alarm(tmp_path: Path, bits: int, words: str) -> None:
    """12 bits read as 16 are nearly black: defects would pass without a word."""
    write(tmp_path, a=DEEP, b=DEEP // 2, c=DEEP // 3)
    camera = FolderCamera(Options(path=str(tmp_path), bits=bits), SystemClock())  # type: ignore[arg-type]
    camera.open()
    camera.close()
    assert words in camera.alarm
    assert bool(camera.alarm) == bool(words)
