"""Packing is without loss, whatever the pixels, and unpacking believes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests import needs

needs.library("zstandard")

from edgeinspect.errors import DataError
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, PixelPacker, unpack_pixels

PACKER = PixelPacker()
IMAGES = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 4))
)


@settings(deadline=None)
@given(IMAGES)
def test_packed_pixels_are_unpacked(pixels: np.ndarray) -> None:
    dims = pixels.shape
    assert len(dims) == 3
    back = unpack_pixels(LEFT_ZSTD, PACKER.pack(pixels), dims)
    assert back.dtype == np.uint8
    assert np.array_equal(back, pixels)
    assert back.flags.writeable


def test_a_view_that_is_not_contiguous_is_packed() -> None:
    pixels = np.arange(2 * 8 * 12, dtype=np.uint8).reshape(8, 12, 2)[::2, ::-3, :1]
    assert np.array_equal(unpack_pixels(LEFT_ZSTD, PACKER.pack(pixels), (4, 4, 1)), pixels)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        unpack_pixels(LEFT_ZSTD, data, (4, 4, 1))


def test_no_more_memory_than_announced_is_allocated() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    with pytest.raises(DataError, match="268435456 bytes instead of 4x4x1"):
        unpack_pixels(LEFT_ZSTD, bomb, (4, 4, 1))
    with pytest.raises(DataError, match="more than"):
        unpack_pixels(LEFT_ZSTD, bomb, (65_536, 65_536, 1))
    with pytest.raises(DataError, match="packed as 'jpeg'"):
        unpack_pixels("jpeg", bomb, (4, 4, 1))


def test_a_changed_byte_is_detected() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (16, 32, 1), np.uint8)
    packed = bytearray(PACKER.pack(pixels))
    packed[len(packed) // 2] ^= 1
    with pytest.raises(DataError):
        unpack_pixels(LEFT_ZSTD, bytes(packed), (16, 32, 1))
