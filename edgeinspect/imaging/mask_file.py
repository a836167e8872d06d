"""Reads a mask file as the values that are stored in it, not as displayed colours."""

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
from edgeinspect.imaging.formats.image_info import ImageInfo, UnsupportedImageError, named_errors
from edgeinspect.imaging.image_file import apply_orientation, decode_tiff, read_verified_bytes

COLOR_FLAG = 1 << 24
"""Set in a value that is a colour (COLOR_FLAG | r << 16 | g << 8 | b), not a grey or an index."""
WHITE = 255

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
"""Colour types of a PNG."""
_INDICES = bytes(index for index in range(256) for _channel in range(3))
"""A palette whose colours are equal to their indices."""
_THRESHOLD = 128
_JPEG_TOLERANCE = 24
"""Largest change of a black or white pixel by JPEG compression."""
_EDGE_PIXELS_RATIO_MAX = 0.5
"""Largest share of non-black pixels between black and white that counts as edges."""


def read_mask_values(path: Path, *, colors: bool = False) -> NDArray[np.int32]:
    """Return int32 (h, w): palette indices, grey values, or colours marked with `COLOR_FLAG`.

    The orientation of the file is applied. A colour mask with equal channels is grey.
    Transparent pixels are background; where only alpha holds the mask, opaque pixels are white.
    A JPEG mask is thresholded at 128, as its values are not exact.

    Args:
        path: The file.
        colors: Return the colours of a palette instead of its indices.

    Raises:
        DataError: It is unreadable, damaged, partly transparent, or a JPEG with more than black
            and white.
    """
    with named_errors(str(path)):
        return _decode_mask(read_verified_bytes(path), colors=colors)


def _decode_mask(data: NDArray[np.uint8], *, colors: bool) -> NDArray[np.int32]:
    raw = data.tobytes()
    png_type = _png_type(raw)
    indexed = png_type is not None and png_type[1] == _PALETTE and not colors
    if indexed:
        data = np.frombuffer(_with_index_palette(raw), np.uint8)
    info = _read_info(raw)
    image: NDArray[Any] | None
    if info is not None and info.format == "bmp" and info.is_uncompressed:
        image = _decode_bmp(raw, info)
    elif info is not None and info.format == "tiff":
        image = decode_tiff(raw, info, keep_alpha=True)
    else:  # IMREAD_UNCHANGED may return a palette of OS/2 as grey
        colour_bmp = info is not None and info.format == "bmp" and info.channels == 3
        image = _decode_with_opencv(data, cv2.IMREAD_COLOR if colour_bmp else cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise DataError("is not a mask")
    native = cast("NDArray[np.uint8] | NDArray[np.uint16]", image)
    if native.ndim == 2 or native.shape[2] == 1:
        values = native.reshape(native.shape[:2]).astype(np.int32)
        if png_type is not None and png_type[0] in (2, 4) and png_type[1] == _GREY:
            values //= 255 // ((1 << png_type[0]) - 1)  # scaled to 8 bits by the decoder
    elif indexed:
        values = native[:, :, 0].astype(np.int32)
    else:
        values = _pack_colors(native)
    if native.dtype == np.uint16 and int(values.max(initial=0)) == 0xFFFF:
        values = np.where(values == 0xFFFF, WHITE, values).astype(np.int32)
    if info is not None:
        values = np.ascontiguousarray(apply_orientation(values, info.orientation))
    lossy = raw[:2] == b"\xff\xd8" or (
        info is not None and info.format == "tiff" and tiff.is_lossy(raw)
    )
    return _binarize_jpeg(values) if lossy else values


def _read_info(raw: bytes) -> ImageInfo | None:
    """Return the headers; None for a file that is readable only as a mask."""
    try:
        return read_info(raw)
    except UnsupportedImageError:
        return None


def _decode_bmp(raw: bytes, info: ImageInfo) -> NDArray[np.uint8]:
    image = bmp.decode(raw, info)
    if info.has_alpha and not image[:, :, 3].any() and image.any():
        raise DataError(
            "is fully transparent, and has colours: programs differ in what they show",
            remedy="Save it as PNG, without transparency",
        )
    return image


def _decode_with_opencv(data: NDArray[np.uint8], mode: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(data, mode)
    except cv2.error:
        return None


def _binarize_jpeg(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Threshold a mask from a JPEG, which blurs ids and colours; refuse one that was not binary."""
    nonblack = values[values >= _JPEG_TOLERANCE]
    between = int(np.count_nonzero(nonblack <= WHITE - _JPEG_TOLERANCE))
    is_dark = bool(values.any()) and not nonblack.size
    has_colors = int(values.max(initial=0)) >= COLOR_FLAG
    if has_colors or is_dark or between > _EDGE_PIXELS_RATIO_MAX * nonblack.size:
        raise DataError(
            "is a JPEG of more than black and white: its values are lost",
            remedy="Save masks as PNG; a JPEG does not keep their values",
        )
    return np.where(values >= _THRESHOLD, WHITE, 0).astype(np.int32)


def _pack_colors(image: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int32]:
    bgr = image[:, :, :3].astype(np.int32)
    blue, green, red = bgr[:, :, 0], bgr[:, :, 1], bgr[:, :, 2]
    grey = (blue == green) & (green == red)
    if image.dtype == np.uint16 and not grey.all():
        raise DataError("has colours of 16 bits", remedy="Save it with 8 bits")
    packed = np.asarray(red << 16 | green << 8 | blue, np.int32)
    values = np.where(grey, blue, packed | COLOR_FLAG).astype(np.int32)
    if image.shape[2] == 4:
        return _apply_alpha(values, image[:, :, 3])
    return values


def _apply_alpha(
    values: NDArray[np.int32], alpha: NDArray[np.uint8] | NDArray[np.uint16]
) -> NDArray[np.int32]:
    opaque = int(np.iinfo(alpha.dtype).max)
    visible = alpha == opaque
    if visible.all():
        return values
    if bool(((alpha > 0) & ~visible).any()):
        raise DataError(
            "is partly transparent: which pixels count is not defined",
            remedy="Save it without alpha, background 0",
        )
    if visible.any() and not values[visible].any():
        return np.where(visible, WHITE, 0).astype(np.int32)
    return np.where(visible, values, 0).astype(np.int32)


def _png_type(data: bytes) -> tuple[int, int] | None:
    """Return (bit depth, colour type) of a PNG; None for other files."""
    return (data[24], data[25]) if data[:8] == _PNG and len(data) > 26 else None


def _with_index_palette(data: bytes) -> bytes:
    """Return a palette PNG with its colours replaced by their indices, for the decoder."""
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
