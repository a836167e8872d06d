"""BMP: a header and rows of a length that it says."""

from __future__ import annotations

import struct

from edgeinspect.imaging.picture_form import Form, cut_off, damaged, refused

_RGB, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6
_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def form_of(data: bytes) -> Form:
    """See `picture_form.form_of`. A BMP has no checksum: this is all that can be checked."""
    size_bytes, pixels_at, header_bytes = struct.unpack_from("<I4xII", data, 2)
    if header_bytes not in _HEADERS:
        raise damaged("BMP")
    way, colours = _RGB, 0
    if header_bytes == 12:
        width_px, height_px, planes, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width_px, height_px, planes, bits, way = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
    if planes != 1 or width_px < 1 or not height_px or bits not in (1, 4, 8, 16, 24, 32):
        raise damaged("BMP")
    if len(data) < size_bytes:
        raise cut_off("a BMP shorter than it says")
    fits = {_RGB: True, _RLE8: bits == 8, _RLE4: bits == 4, _FIELDS: bits in (16, 32),
            _ALPHA_FIELDS: bits in (16, 32)}  # fmt: skip
    if way not in fits:
        raise refused("is a BMP with another file in it")
    if not fits[way]:
        raise damaged("BMP")
    if way in (_RLE8, _RLE4):  # OpenCV shows other pixels than the programs that write them
        raise refused("is a BMP that is packed by run lengths")
    rows, row_bytes = abs(height_px), (width_px * bits + 31) // 32 * 4
    end = pixels_at + row_bytes * rows
    if pixels_at < 14 + header_bytes or len(data) < end:
        raise cut_off("a BMP without all of its rows")
    palette = _palette(data, header_bytes, bits, colours)
    # Only a header that names a mask for transparency has any: else the fourth byte is filling.
    alpha = bits == 32 and way != _RGB and header_bytes >= 56 and _mask(data) != 0
    return Form(
        "bmp", rows, width_px, 1 if palette == "grey" else 3, alpha=alpha, row_bytes=row_bytes,
        raw=((pixels_at, end),) if bits >= 8 else (),
    )  # fmt: skip


def _mask(data: bytes) -> int:
    (mask,) = struct.unpack_from("<I", data, 66)
    return int(mask)


def _palette(data: bytes, header_bytes: int, bits: int, colours: int) -> str:
    """`grey`, `colour`, or empty without a palette."""
    if bits > 8:
        return ""
    step = 3 if header_bytes == 12 else 4
    count = min(colours or 1 << bits, 1 << bits)
    table = data[14 + header_bytes : 14 + header_bytes + step * count]
    if len(table) < step * count:
        raise cut_off("a BMP within its palette")
    grey = table[0::step] == table[1::step] == table[2::step]
    return "grey" if grey else "colour"
