"""Masks as text: COCO's, CVAT's and Label Studio's run lengths, and embedded PNGs."""

from __future__ import annotations

import base64
import zlib
from itertools import pairwise

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.rasterise import draw_shape
from edgeinspect.learning.datasets.annotations.run_lengths import (
    decode_base64,
    decode_brush,
    decode_compressed_counts,
    decode_mask_png,
    encode_compressed_counts,
    inflate,
    mask_counts,
    runs_from_counts,
)

KNOWN = [
    ([6, 1, 40, 4, 5, 4, 5, 4, 21], "61X13mN000`0"),
    ([0, 90], "0j2"),
    ([90], "j2"),
    ([0, 1, 1000000, 3], "01Pb`n02"),
]
"""Strings that pycocotools 2.0.11 writes (`mask.encode`), checked with it."""


def brush(mask: np.ndarray, *, cut: int = 0) -> list[int]:
    """Encode as Label Studio does: words of 8 bits, runs of up to 2^16 values."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, end in pairwise(edges):
        while start < end:
            length = min(end - start, 1 << 16)
            bits += f"1{3:02b}{length - 1:016b}{values[start]:08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits) - 8 * cut, 8)]


@pytest.mark.parametrize(("counts", "text"), KNOWN)
def test_compressed_counts(counts: list[int], text: str) -> None:
    assert encode_compressed_counts(counts) == text
    assert decode_compressed_counts(text, "") == counts


@pytest.mark.parametrize("seed", range(10))
def test_compressed_counts_of_random_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) < rng.random()
    counts = mask_counts(mask.ravel(order="F")).tolist()
    text = encode_compressed_counts(counts)
    runs = runs_from_counts(decode_compressed_counts(text, ""), 37, 53, "")
    assert (draw_shape(runs, 37, 53, as_positions=True) == mask).all()


@pytest.mark.parametrize("text", ["\x10", "zzz\x7f", "o", "o" * 40 + "0", "é0"])
def test_damaged_compressed_counts_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"at: has a compressed mask"):
        decode_compressed_counts(text, "at")


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ([3, -1, 4], (2, 3), "below 0"),
        ([3, 4], (2, 3), "7 pixels together; its mask of 2 x 3 px has 6"),
        ([0], (0, 3), "a mask of 0 x 3 px"),
        ([1 << 60], (1 << 30, 1 << 30), "a mask of"),
    ],
)
def test_counts_must_fit(counts: list[int], size: tuple[int, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        runs_from_counts(counts, *size, "at")


@pytest.mark.parametrize("seed", range(5))
def test_brush_masks(seed: int) -> None:
    mask = np.random.default_rng(seed).random((23, 31)) < 0.3
    runs = decode_brush(brush(mask), 23, 31, "")
    assert (draw_shape(runs, 23, 31, as_positions=True) == mask).all()


def test_brush_literals() -> None:
    """A run of single values: flag 0, as the program writes them for noise."""
    values = np.zeros((2, 4), np.int64)
    values[1, 3] = 255
    bits = f"{8:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"0{0:02b}{7:03b}" + "".join(f"{value:08b}" for value in values.ravel())
    bits += "0" * (-len(bits) % 8)
    codes = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    area = draw_shape(decode_brush(codes, 1, 2, ""), 1, 2, as_positions=True)
    assert area.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "cut off"),
        ([0, 0, 0, 8], "cut off"),
        ([0, 0, 0, 4], "1 pixels; its image of 1 x 2 px has 2"),
        ([300], "not bytes"),
        ([-1], "not bytes"),
    ],
)
def test_damaged_brush_masks_are_refused(codes: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"at: has a brush mask.*{message}"):
        decode_brush(codes, 1, 2, "at")
    with pytest.raises(DataError, match="cut off"):
        decode_brush(brush(np.eye(9, dtype=np.bool_), cut=3), 9, 9, "at")


def test_embedded_png() -> None:
    mask = np.eye(9, 5, dtype=np.uint8)
    for pixels in (mask, mask * 255, np.dstack([mask * 9] * 3), np.dstack([mask * 0] * 3 + [mask])):
        data = cv2.imencode(".png", pixels)[1].tobytes()
        assert (decode_mask_png(data, "") == (mask > 0)).all()
    assert decode_base64("aGk=\n", "") == b"hi"
    assert inflate(zlib.compress(b"hi"), "") == b"hi"


@pytest.mark.parametrize(
    "call",
    [
        lambda: decode_mask_png(b"nonsense", "at"),
        lambda: decode_base64("a!b", "at"),
        lambda: inflate(b"nonsense", "at"),
        lambda: inflate(zlib.compress(bytes(1000))[:-8], "at"),
        lambda: inflate(zlib.compress(bytes(300 << 20), 9), "at"),
        lambda: decode_mask_png(_bomb(), "at"),
    ],
)
def test_damaged_embedded_data_is_refused(call) -> None:
    with pytest.raises(DataError, match=r"at: has (an )?embedded"):
        call()


def _bomb() -> bytes:
    """A PNG whose header claims 10^10 pixels."""
    data = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(data)


def test_base64_of_text() -> None:
    assert decode_base64(base64.b64encode(b"x" * 100).decode(), "") == b"x" * 100
