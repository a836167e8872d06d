"""BMP headers, and decoding of pixels with 16 and 32 bits.

Decoders differ in which colour masks they apply and in how they scale five bits to eight.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging.formats.image_info import ImageInfo, invalid_header, truncated, unsupported

SIGNATURE = b"BM"
_UNCOMPRESSED, _RLE8, _RLE4, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 1, 2, 3, 6
_OS2_HEADERS = frozenset((12, 64))
_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width)."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    code = "<HH" if header_bytes == 12 else "<ii"
    width_px, height_px = struct.unpack_from(code, data, 18)
    return abs(height_px), width_px


def read_info(data: bytes) -> ImageInfo:
    """Parse the headers; see `detection.read_info`. A BMP has no checksum to verify."""
    size_bytes, pixels_at, header_bytes = struct.unpack_from("<I4xII", data, 2)
    if header_bytes not in _HEADERS:
        raise invalid_header("BMP")
    compression, color_count = _UNCOMPRESSED, 0
    if header_bytes == 12:
        width_px, height_px, planes, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width_px, height_px, planes, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (color_count,) = struct.unpack_from("<I", data, 46)
    if planes != 1 or width_px < 1 or not height_px or bits not in (1, 4, 8, 16, 24, 32):
        raise invalid_header("BMP")
    if bits in (16, 32) and header_bytes in _OS2_HEADERS:
        raise invalid_header("BMP")
    if len(data) < size_bytes:
        raise truncated("a BMP shorter than its header states")
    is_valid = {
        _UNCOMPRESSED: True,
        _RLE8: bits == 8,
        _RLE4: bits == 4,
        _BIT_FIELDS: bits in (16, 32),
        _ALPHA_BIT_FIELDS: bits in (16, 32),
    }
    if compression not in is_valid:
        raise unsupported("is a BMP with another file in it")
    if not is_valid[compression]:
        raise invalid_header("BMP")
    if compression in (_RLE8, _RLE4):  # OpenCV returns other pixels than the writer stored
        raise unsupported("is a BMP with run-length compression")
    rows, row_bytes = abs(height_px), (width_px * bits + 31) // 32 * 4
    end = pixels_at + row_bytes * rows
    if pixels_at < 14 + header_bytes or len(data) < end:
        raise truncated("a BMP without all of its rows")
    palette = _palette_kind(data, header_bytes, bits, color_count)
    masks = _color_masks(data) if bits in (16, 32) else ()
    return ImageInfo(
        "bmp",
        rows,
        width_px,
        1 if palette == "grey" else 3,
        has_alpha=len(masks) == 4,
        is_uncompressed=bits in (16, 32),
        row_bytes=row_bytes,
        pixel_ranges=((pixels_at, end),) if bits >= 8 else (),
    )


def decode(data: bytes, info: ImageInfo) -> NDArray[np.uint8]:
    """Return (h, w, 3 or 4) blue, green, red and alpha from pixels of 16 or 32 bits."""
    ((start, end),) = info.pixel_ranges
    (height_px,) = struct.unpack_from("<i", data, 22)
    (bits,) = struct.unpack_from("<H", data, 28)
    stored = np.frombuffer(data[start:end], "<u2" if bits == 16 else "<u4")
    rows = stored.reshape(info.height_px, -1)[:, : info.width_px]
    masks = _color_masks(data)
    out = np.empty((info.height_px, info.width_px, len(masks)), np.uint8)
    for channel, mask in zip((2, 1, 0, 3), masks, strict=False):
        low = (mask & -mask).bit_length() - 1
        top = mask >> low
        values = (rows & mask) >> low
        out[:, :, channel] = values if top == 255 else (values * 255 + top // 2) // top
    return out if height_px < 0 else out[::-1]


def _color_masks(data: bytes) -> tuple[int, ...]:
    """Return the bit masks of red, green and blue, and of alpha if the header has one.

    Raises:
        ImageFileError: They overlap, or have holes, or more than 8 bits.
    """
    header_bytes, bits, compression = struct.unpack_from("<I10xHI", data, 14)
    if compression == _UNCOMPRESSED:  # the fourth byte is padding
        return (0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF)
    count = 4 if compression == _ALPHA_BIT_FIELDS or header_bytes >= 56 else 3
    masks: tuple[int, ...] = struct.unpack_from(f"<{count}I", data, 54)
    if count == 4 and not masks[3]:
        masks = masks[:3]
    used = 0
    for mask in masks:
        run = mask // (mask & -mask) if mask else 0
        if not mask or run & (run + 1) or mask & used or mask >> bits:
            raise invalid_header("BMP")
        if run > 255:
            raise unsupported("is a BMP of more than 8 bits per colour")
        used |= mask
    return masks


def _palette_kind(data: bytes, header_bytes: int, bits: int, color_count: int) -> str:
    """Return `grey` or `colour`; empty without a palette."""
    if bits > 8:
        return ""
    step = 3 if header_bytes == 12 else 4
    count = min(color_count or 1 << bits, 1 << bits)
    table = data[14 + header_bytes : 14 + header_bytes + step * count]
    if len(table) < step * count:
        raise truncated("a BMP within its palette")
    grey = table[0::step] == table[1::step] == table[2::step]
    return "grey" if grey else "colour"
