"""Reading one picture file into the line's pixel layout."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain.frame import Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging.picture_header import (
    FILE_BYTES_MAX,
    SET_PIXELS_MAX,
    check_size,
    known_format,
)
from edgeinspect.regular_file import printable, read_regular

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))
"""File names that count as pictures, in lower case."""

_END_OF_IMAGE, _START_OF_SCAN = b"\xff\xd9", b"\xff\xda"


def read_picture(
    source: Path | bytes, color: str, bits: int = 16, *, pixels_max: int = SET_PIXELS_MAX
) -> Pixels | None:
    """uint8 (h, w, c) pixels of a file, or None if it is not a picture.

    Args:
        source: The file, or its content.
        color: `mono`, `bgr` or `rgb`, the order to read into.
        bits: Of a deep picture: how many its camera has. They are shifted down to 8, as in
            training.
        pixels_max: A larger picture is not decoded.

    Raises:
        FileReadError: The file cannot be read, or is no regular file (an `OSError` too).
        DataError: The picture is larger than `pixels_max`.
    """
    mode = cv2.IMREAD_GRAYSCALE if color == "mono" else cv2.IMREAD_COLOR
    mode |= cv2.IMREAD_ANYDEPTH
    data = source if isinstance(source, bytes) else read_regular(source, FILE_BYTES_MAX)
    if not known_format(data):
        return None
    check_size(data, pixels_max, where="" if isinstance(source, bytes) else printable(source))
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        picture = None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        return None
    if color == "rgb":
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    pixels = to_8_bits(cast("NDArray[np.uint8] | NDArray[np.uint16]", picture), bits)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def read_whole(path: Path) -> NDArray[np.uint8]:
    """The bytes of a picture file.

    Raises:
        DataError: Unreadable, no regular file, empty, too large to decode, or cut off: OpenCV
            fills the rest of a cut JPEG with grey and says nothing.
    """
    data = read_regular(path, FILE_BYTES_MAX)
    if not data:
        raise DataError("is empty", where=str(path))
    check_size(data, SET_PIXELS_MAX, where=str(path))
    if (problem := _cut_off(data)) is not None:
        raise DataError(problem, where=str(path))
    return np.frombuffer(data, np.uint8)


def _cut_off(data: bytes) -> str | None:
    if data[:2] == b"\xff\xd8":
        # In coded pixels 0xff is followed by 0 or a restart marker, so these are markers.
        if data.rfind(_END_OF_IMAGE) < data.rfind(_START_OF_SCAN):
            return "is cut off (a JPEG without its end)"
    elif data[:4] == b"\x89PNG" and b"IEND" not in data[-64:] and b"IEND" not in data:
        return "is cut off (a PNG without its end)"
    elif data[:2] == b"BM" and len(data) < int.from_bytes(data[2:6], "little"):
        return "is cut off (a BMP shorter than it says)"
    return None


def decode_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(h, w, c) pixels at the file's own depth, 1 channel, or 3 as blue, green, red.

    Turned as its EXIF data says. Alpha is dropped.

    Raises:
        DataError: Unreadable, cut off, not a picture, or of floating-point pixels.
    """
    data = read_whole(path)
    mode = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    try:
        picture = cv2.imdecode(data, mode)
    except cv2.error as error:
        raise DataError(f"cannot be decoded: {error.err}", where=str(path)) from error
    if picture is None:
        raise DataError("is not a picture, or is damaged", where=str(path))
    if picture.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"has {picture.dtype} pixels", where=str(path), remedy="Save it with 8 or 16 bits"
        )
    pixels = cast("NDArray[np.uint8] | NDArray[np.uint16]", picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def to_channels(picture: NDArray[np.uint8], channels: int) -> Pixels:
    """The picture with 1 or 3 channels: grey by the usual weights, or grey three times."""
    if picture.shape[2] == channels:
        return picture
    if channels == 1:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]
    return np.repeat(picture, channels, axis=2)


def to_8_bits(picture: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """A picture of `bits` shifted down to 8; one of 8 bits as it is.

    Values above `bits` saturate.
    """
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    shifted: NDArray[np.uint8] = np.minimum(picture >> (bits - 8), 255).astype(np.uint8)
    return shifted
