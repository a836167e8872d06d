"""Masks that annotation files hold as text: run lengths in three forms, and embedded PNGs."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging import DATASET_PIXELS_MAX, check_size
from edgeinspect.learning.datasets.annotations.shapes import RunLength

_CODE_BASE = 48
_MAX_DIGITS = 12
"""A compressed count has at most this many characters of 5 bits."""
_EMBEDDED_BYTES_MAX = 1 << 28
_BRUSH_CHANNELS = 4
_BRUSH_THRESHOLD = 128


def runs_from_counts(
    counts: Sequence[int],
    height_px: int,
    width_px: int,
    where: str,
    *,
    is_column_major: bool = True,
    left_px: int = 0,
    top_px: int = 0,
) -> RunLength:
    """Return run lengths whose sum is the number of pixels.

    Raises:
        DataError: A negative count, another sum, or a mask larger than any image.
    """
    if height_px < 1 or width_px < 1 or height_px * width_px > DATASET_PIXELS_MAX:
        raise DataError(f"has a mask of {height_px} x {width_px} px", where=where)
    if any(count < 0 for count in counts):
        raise DataError("has a run length below 0", where=where)
    total = sum(counts)
    if total != height_px * width_px:
        raise DataError(
            f"has run lengths of {total} pixels together; its mask of {height_px} x {width_px} px "
            f"has {height_px * width_px}",
            where=where,
            remedy="Export the annotations again",
        )
    values = np.asarray(counts, np.int64)
    return RunLength(values, height_px, width_px, is_column_major, left_px, top_px)


def runs_from_mask(
    mask: NDArray[np.bool_], where: str, left_px: int = 0, top_px: int = 0
) -> RunLength:
    """Return the runs along the rows of a (h, w) mask at a position of an image.

    Raises:
        DataError: The position is in no image.
    """
    if max(abs(left_px), abs(top_px)) > DATASET_PIXELS_MAX:
        raise DataError("has a mask that is outside of its image", where=where)
    height, width = mask.shape
    return RunLength(mask_counts(mask.ravel()), height, width, False, left_px, top_px)


def mask_counts(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of alternately unset and set runs, the first unset (maybe 0)."""
    edges = np.flatnonzero(np.diff(flat, prepend=False)).astype(np.int64)
    return np.diff(edges, prepend=0, append=len(flat))


def decode_compressed_counts(text: str, where: str) -> list[int]:
    """Decode COCO's compressed string: 5 bits per character, differences to the count before last.

    Raises:
        DataError: A character outside of the code, or a string that ends within a count.

    Source: `rleFrString` in `maskApi.c` of pycocotools
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - _CODE_BASE
    if not len(codes):
        return []
    ends = np.flatnonzero((codes & 32) == 0)
    if codes.min() < 0 or codes.max() > 63 or len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise DataError("has a compressed mask that is damaged", where=where)
    starts = np.concatenate(((0,), ends[:-1] + 1))
    digits = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if digits.max() >= _MAX_DIGITS:
        raise DataError("has a compressed mask with too large numbers", where=where)
    values = np.add.reduceat((codes & 31) << (5 * digits), starts)
    negative = (codes[ends] & 16) != 0
    values[negative] -= 1 << (5 * (digits[ends][negative] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    out: list[int] = values.tolist()
    return out


def encode_compressed_counts(counts: Sequence[int]) -> str:
    """Encode counts as `decode_compressed_counts` reads them.

    Source: `rleToString` in `maskApi.c` of pycocotools
    """
    out = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        is_more = True
        while is_more:
            code = value & 31
            value >>= 5
            is_more = value != -1 if code & 16 else value != 0
            out.append(chr((code | 32 if is_more else code) + _CODE_BASE))
    return "".join(out)


def decode_brush(codes: Sequence[int], height_px: int, width_px: int, where: str) -> RunLength:
    """Decode a mask of Label Studio's brush: packed runs of RGBA values, of which alpha counts.

    Raises:
        DataError: The code is cut off, or is of an image of another size.

    Source: `decode_rle` in `label_studio_converter/brush.py`
    """
    if any(not 0 <= code <= 255 for code in codes):
        raise DataError("has a brush mask with numbers that are not bytes", where=where)
    reader = _BitReader(bytes(codes), where)
    total = reader.read(32)
    pixels = height_px * width_px
    if total != pixels * _BRUSH_CHANNELS or pixels > DATASET_PIXELS_MAX:
        raise DataError(
            f"has a brush mask of {total // _BRUSH_CHANNELS} pixels; its image of {height_px} x "
            f"{width_px} px has {pixels}",
            where=where,
        )
    word = reader.read(5) + 1
    sizes = [reader.read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.int64)
    at = 0
    while at < total:
        is_run = reader.read(1)
        end = at + 1 + reader.read(sizes[reader.read(2)])
        if end > total:
            raise DataError("has a brush mask that exceeds its image", where=where)
        values[at:end] = reader.read(word) if is_run else reader.read_many(end - at, word)
        at = end
    alpha = values.reshape(height_px, width_px, _BRUSH_CHANNELS)[:, :, 3]
    return runs_from_mask(np.asarray(alpha >= _BRUSH_THRESHOLD), where)


class _BitReader:
    """Reads unsigned numbers of any number of bits, the highest bit first."""

    def __init__(self, data: bytes, where: str) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._text = (self._bits + ord("0")).astype(np.uint8).tobytes()
        self._at = 0
        self._where = where

    def read(self, bits: int) -> int:
        return int(self._text[self._advance(bits) : self._at], 2)

    def read_many(self, count: int, bits: int) -> NDArray[np.int64]:
        start = self._advance(count * bits)
        weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
        rows = self._bits[start : self._at].reshape(count, bits).astype(np.int64)
        return np.asarray(rows @ weights, np.int64)

    def _advance(self, bits: int) -> int:
        start = self._at
        self._at += bits
        if self._at > len(self._text):
            raise DataError("has a brush mask that is cut off", where=self._where)
        return start


def decode_base64(text: str, where: str) -> bytes:
    """Decode base64, with or without line breaks.

    Raises:
        DataError: It is not base64, or far too long.
    """
    if len(text) > _EMBEDDED_BYTES_MAX:
        raise DataError("has embedded data that is too large", where=where)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("has embedded data that is not base64", where=where) from error


def inflate(data: bytes, where: str) -> bytes:
    """Decompress zlib data of bounded size.

    Raises:
        DataError: It is damaged, cut off, or too large.
    """
    engine = zlib.decompressobj()
    try:
        out = engine.decompress(data, _EMBEDDED_BYTES_MAX)
    except zlib.error as error:
        raise DataError("has embedded data that cannot be decompressed", where=where) from error
    if not engine.eof:
        raise DataError("has embedded data that is cut off or too large", where=where)
    return out


def decode_mask_png(data: bytes, where: str) -> NDArray[np.bool_]:
    """Decode an embedded mask: set where it is not black or, if it has alpha, not transparent.

    Returns:
        bool (h, w).

    Raises:
        DataError: It is not an image, or too large.
    """
    try:
        check_size(data, DATASET_PIXELS_MAX)
    except DataError as error:
        raise DataError(f"has an embedded mask that {error.what}", where=where) from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError("has an embedded mask that cannot be decoded", where=where)
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    return np.asarray(pixels[:, :, 3] != 0 if pixels.shape[2] == 4 else pixels.any(axis=2))
