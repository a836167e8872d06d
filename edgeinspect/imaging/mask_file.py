"""Reading a mask file as the values that are stored in it, not as colours to look at."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging.picture_file import read_whole

COLOR = 1 << 24
"""Set in a value that is a colour (COLOR | r << 16 | g << 8 | b), not a grey or an index."""


def read_mask_values(path: Path) -> NDArray[np.int32]:
    """int32 (h, w): indices of a palette, grey values, or colours marked with `COLOR`.

    A colour mask whose channels are all equal is a grey one. Alpha is ignored. A JPEG mask is
    cut at 128, as its values are no longer exact.

    Raises:
        DataError: Unreadable, or broken.
    """
    data = read_whole(path)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        picture = None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise DataError("is not a mask picture", where=str(path))
    if picture.ndim == 2 or picture.shape[2] == 1:
        values = picture.reshape(picture.shape[:2]).astype(np.int32)
    else:
        values = _from_colors(picture[:, :, :3].astype(np.int32), _palette(data.tobytes()))
    if path.suffix.lower() in (".jpg", ".jpeg") and values.max(initial=0) < COLOR:
        values = np.where(values >= 128, 255, 0).astype(np.int32)
    return values


def _from_colors(bgr: NDArray[np.int32], palette: NDArray[np.int32] | None) -> NDArray[np.int32]:
    blue, green, red = bgr[:, :, 0], bgr[:, :, 1], bgr[:, :, 2]
    packed = np.asarray(red << 16 | green << 8 | blue, np.int32)
    if palette is not None:
        order = np.argsort(palette, kind="stable")  # the first of two equal colours wins
        at = np.searchsorted(palette[order], packed)
        return order[np.minimum(at, len(order) - 1)].astype(np.int32)
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return blue
    grey = (blue == green) & (green == red)
    return np.where(grey, blue, packed | COLOR).astype(np.int32)


def _palette(data: bytes) -> NDArray[np.int32] | None:
    """The packed colours of a palette PNG, by index; None for any other file.

    OpenCV gives the colours alone, so the indices are found again from the PLTE chunk.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 26 or data[25] != 3:
        return None
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"PLTE":
            rgb = np.frombuffer(data[at + 8 : at + 8 + length], np.uint8)
            rgb = rgb[: len(rgb) // 3 * 3].reshape(-1, 3).astype(np.int32)
            return np.asarray(rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2], np.int32)
        at += 12 + length
    return None
