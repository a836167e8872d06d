"""Reading image and mask files: 16 bits, colour, alpha, damaged files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeinspect.errors import DataError
from edgeinspect.imaging import (
    ReadSettings,
    read_image,
    read_native,
    read_verified_bytes,
    to_channels,
)
from edgeinspect.imaging.mask_file import COLOR_FLAG, read_mask_values
from edgeinspect.imaging.read_settings import to_8_bits


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return bytes(data.tobytes())


IMAGE = np.random.default_rng(5).integers(0, 256, (30, 50, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_pixels_are_those_that_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    for pixels in (IMAGE, IMAGE[:, :, 0]):
        path.write_bytes(encode(suffix, pixels))
        assert np.array_equal(read_native(path), np.atleast_3d(pixels))


def test_16_bits_are_kept_and_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    deep = IMAGE.astype(np.uint16) * 257
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", np.dstack([deep, np.full_like(deep[:, :, :1], 65_535)])))
    assert np.array_equal(read_native(path), deep)
    path.write_bytes(encode(".png", np.dstack([deep, deep[:, :, :1]])))
    with pytest.raises(DataError, match="has transparent pixels"):
        read_native(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("keep", [0, 1, 100, -200, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, IMAGE)[:keep])
    with pytest.raises(DataError) as caught:
        read_native(path)
    assert caught.value.where == str(path)


def test_padding_after_the_end_is_accepted(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".bmp"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encode(suffix, IMAGE) + bytes(100))
        assert read_native(path).shape == IMAGE.shape


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="not an image"):
        read_native(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_verified_bytes(tmp_path / "b.png")
    floating = Path(__file__).parents[2] / "images" / "pillow-float.tif"
    with pytest.raises(DataError, match=r"floating-point pixels.*8 or 16 bits"):
        read_native(floating)


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from([8, 10, 12, 14, 16]), arrays(np.uint16, (3, 4, 1)))
def test_deep_pixels_are_shifted_and_saturate(bits: int, pixels: np.ndarray) -> None:
    shifted = to_8_bits(pixels, bits)
    assert shifted.dtype == np.uint8
    assert np.array_equal(shifted, np.minimum(pixels.astype(int) // 2 ** (bits - 8), 255))


def test_conversion_of_channels() -> None:
    grey = IMAGE[:, :, :1]
    assert np.array_equal(to_channels(grey, 3), np.dstack([grey] * 3))
    assert to_channels(IMAGE, 1).shape == (30, 50, 1)
    assert to_channels(IMAGE, 3) is IMAGE


@pytest.mark.parametrize("bits", [12, 16])
def test_line_and_training_read_the_same_pixels(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.png"
    deep = IMAGE[:, :, :1].astype(np.uint16) * (2**bits // 256) + 7
    for pixels in (deep, IMAGE):
        path.write_bytes(encode(".png", pixels))
        depth = bits if pixels is deep else 8
        trained = to_8_bits(read_native(path), depth)
        color = "mono" if pixels.shape[2] == 1 else "bgr"
        assert np.array_equal(read_image(path, ReadSettings(color, depth)), trained)
    assert np.array_equal(read_image(path, ReadSettings("rgb", 8)), IMAGE[:, :, ::-1])


# -- masks --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_mask_values_are_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, IMAGE[:, :, 0]))
    assert np.array_equal(read_mask_values(path), IMAGE[:, :, 0])
    path.write_bytes(encode(suffix, np.dstack([IMAGE[:, :, 0]] * 3)))
    assert np.array_equal(read_mask_values(path), IMAGE[:, :, 0])


def test_colours_are_packed_and_white_stays_grey(tmp_path: Path) -> None:
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[0, 0] = (3, 2, 1)
    mask[1, 1] = 255
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", mask))
    values = read_mask_values(path)
    assert values[0, 0] == COLOR_FLAG | 0x010203
    assert values[1, 1] == 255
    assert np.count_nonzero(values) == 2


def test_a_jpeg_mask_is_thresholded(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:25, 5:30] = 255
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(".jpg", mask))
    assert np.array_equal(read_mask_values(path), mask)


def test_a_mask_of_16_bits_keeps_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", np.full((4, 4), 300, np.uint16)))
    assert (read_mask_values(path) == 300).all()
