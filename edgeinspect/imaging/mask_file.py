"""Reading a mask file as the values that are stored in it, not as colours to look at."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats import bmp, tiff
from edgeinspect.imaging.formats.detection import read_info
from edgeinspect.imaging.formats.image_info import ImageFileError, ImageInfo, UnsupportedImageError
from edgeinspect.imaging.image_file import apply_orientation, decode_tiff, read_verified_bytes

COLOR_FLAG = 1 << 24
"""Set in a value that is a colour (COLOR | r << 16 | g << 8 | b), not a grey or an index."""
WHITE = 255

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
"""Colour types of a PNG."""
_INDICES = bytes(index for index in range(256) for _channel in range(3))
"""A palette whose colours are their own places."""
_THRESHOLD = 128
_JPEG_TOLERANCE = 24
"""So far from black or white a JPEG takes what was black or white."""
_EDGE_PIXELS_RATIO_MAX = 0.5
"""More pixels than this between black and white, of those that are not black, are no edges."""


def read_mask_values(path: Path, *, colors: bool = False) -> NDArray[np.int32]:
    """int32 (h, w): indices of a palette, grey values, or colours marked with `COLOR`.

    A mask is turned as its own file says. A colour mask whose channels are all equal is a grey
    one. What alpha makes transparent is background; a mask that stands in alpha alone is white.
    A JPEG mask is cut at 128, as its values are no longer exact.

    Args:
        path: The file.
        colors: Of a palette its colours, not its indices.

    Raises:
        DataError: Unreadable, broken, half transparent, or a JPEG of more than black and white.
    """
    data = read_verified_bytes(path)
    raw = data.tobytes()
    head = _png_depth_and_color_type(raw)
    indexed = head is not None and head[1] == _PALETTE and not colors
    if indexed:
        data = np.frombuffer(_with_index_palette(raw), np.uint8)
    form = _read_info(raw)
    picture: NDArray[Any] | None
    if form is not None and form.format == "bmp" and form.is_uncompressed:
        picture = _decode_bmp(
            raw, form, path
        )  # decoders differ in which masks of colours they heed
    elif form is not None and form.format == "tiff":
        picture = _decode_tiff(raw, form, path)
    else:  # as stored, a palette of OS/2 may come out grey
        colour_bmp = form is not None and form.format == "bmp" and form.channels == 3
        picture = _decode_with_opencv(
            data, cv2.IMREAD_COLOR if colour_bmp else cv2.IMREAD_UNCHANGED
        )
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise DataError("is not a mask picture", where=str(path))
    found = cast("NDArray[np.uint8] | NDArray[np.uint16]", picture)
    if found.ndim == 2 or found.shape[2] == 1:
        values = found.reshape(found.shape[:2]).astype(np.int32)
        if head is not None and head[0] in (2, 4) and head[1] == _GREY:
            values //= 255 // ((1 << head[0]) - 1)  # the decoder spreads 2 and 4 bits over 8
    elif indexed:
        values = found[:, :, 0].astype(np.int32)
    else:
        values = _pack_colors(found, path)
    if found.dtype == np.uint16 and int(values.max(initial=0)) == 0xFFFF:
        values = np.where(values == 0xFFFF, WHITE, values).astype(np.int32)
    if form is not None:
        values = np.ascontiguousarray(apply_orientation(values, form.orientation))
    lossy = raw[:2] == b"\xff\xd8" or (
        form is not None and form.format == "tiff" and tiff.is_lossy(raw)
    )
    return _binarize_jpeg(values, path) if lossy else values


def _read_info(raw: bytes) -> ImageInfo | None:
    """What the file says; None where it has a meaning as a mask alone."""
    try:
        return read_info(raw)
    except UnsupportedImageError:
        return None


def _decode_bmp(raw: bytes, info: ImageInfo, path: Path) -> NDArray[np.uint8]:
    picture = bmp.decode(raw, info)
    if info.has_alpha and not picture[:, :, 3].any() and picture.any():
        raise DataError(
            "is transparent throughout, and has colours: programs differ in what they show",
            where=str(path),
            remedy="Save it as PNG, without transparency",
        )
    return picture


def _decode_tiff(raw: bytes, info: ImageInfo, path: Path) -> NDArray[Any]:
    """As a picture's: decoders differ in tiles, packed bits and orientation."""
    try:
        return decode_tiff(raw, info, keep_alpha=True)
    except ImageFileError as error:
        raise DataError(error.what, where=str(path), remedy=error.remedy) from error


def _decode_with_opencv(data: NDArray[np.uint8], mode: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(data, mode)
    except cv2.error:
        return None


def _binarize_jpeg(values: NDArray[np.int32], path: Path) -> NDArray[np.int32]:
    """A binary mask, if it can have been one: a JPEG blurs ids and colours into each other."""
    some = values[values >= _JPEG_TOLERANCE]
    between = int(np.count_nonzero(some <= WHITE - _JPEG_TOLERANCE))
    lost = bool(values.any()) and not some.size
    if (
        int(values.max(initial=0)) >= COLOR_FLAG
        or lost
        or between > _EDGE_PIXELS_RATIO_MAX * some.size
    ):
        raise DataError(
            "is a JPEG of more than black and white: its values are lost",
            where=str(path),
            remedy="Save masks as PNG; from a JPEG they cannot be told any more",
        )
    return np.where(values >= _THRESHOLD, WHITE, 0).astype(np.int32)


def _pack_colors(image: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> NDArray[np.int32]:
    bgr = image[:, :, :3].astype(np.int32)
    blue, green, red = bgr[:, :, 0], bgr[:, :, 1], bgr[:, :, 2]
    grey = (blue == green) & (green == red)
    if image.dtype == np.uint16 and not grey.all():
        raise DataError("has colours of 16 bits", where=str(path), remedy="Save it with 8 bits")
    packed = np.asarray(red << 16 | green << 8 | blue, np.int32)
    values = np.where(grey, blue, packed | COLOR_FLAG).astype(np.int32)
    if image.shape[2] == 4:
        return _apply_alpha(values, image[:, :, 3], path)
    return values


def _apply_alpha(
    values: NDArray[np.int32], alpha: NDArray[np.uint8] | NDArray[np.uint16], path: Path
) -> NDArray[np.int32]:
    opaque = int(np.iinfo(alpha.dtype).max)
    shown = alpha == opaque
    if shown.all():
        return values
    if bool(((alpha > 0) & ~shown).any()):
        raise DataError(
            "is half transparent: which pixels count cannot be told",
            where=str(path),
            remedy="Save it without alpha, background 0",
        )
    if shown.any() and not values[shown].any():
        return np.where(shown, WHITE, 0).astype(np.int32)
    return np.where(shown, values, 0).astype(np.int32)


def _png_depth_and_color_type(data: bytes) -> tuple[int, int] | None:
    """Bits and colour type of a PNG."""
    return (data[24], data[25]) if data[:8] == _PNG and len(data) > 26 else None


def _with_index_palette(data: bytes) -> bytes:
    """A palette PNG whose colours are its indices, so that a decoder gives these."""
    out, at = [_PNG], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + length]
        if kind == b"PLTE":
            body = kind + _INDICES[: length // 3 * 3]
            chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        if kind not in (b"tRNS", b"iCCP", b"gAMA", b"sRGB", b"cHRM"):
            out.append(chunk)
        at += 12 + length
    return b"".join(out)
