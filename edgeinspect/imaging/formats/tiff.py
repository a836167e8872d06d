"""TIFF headers, the check of every strip and tile, and decoding of uncompressed pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging.formats import jpeg
from edgeinspect.imaging.formats.image_info import ImageInfo, invalid_header, truncated, unsupported

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_TYPE_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
)
(
    _STRIP_OFFSETS,
    _ORIENTATION,
    _SAMPLES_PER_PIXEL,
    _ROWS_PER_STRIP,
    _STRIP_BYTE_COUNTS,
    _PLANAR_CONFIG,
) = 273, 274, 277, 278, 279, 284
_COLOR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 320, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _FILL_ORDER, _JPEG_TABLES = 338, 339, 266, 347
_UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE_INDEX, _YCBCR = 0, 1, 2, 3, 6
_READ_TAGS = frozenset(
    (
        _SUBFILE,
        _OLD_SUBFILE,
        _WIDTH,
        _HEIGHT,
        _BITS_PER_SAMPLE,
        _COMPRESSION,
        _PHOTOMETRIC,
        _STRIP_OFFSETS,
        _ORIENTATION,
        _SAMPLES_PER_PIXEL,
        _ROWS_PER_STRIP,
        _STRIP_BYTE_COUNTS,
        _PLANAR_CONFIG,
        _COLOR_MAP,
        _TILE_WIDTH,
        _TILE_HEIGHT,
        _TILE_OFFSETS,
        _TILE_BYTE_COUNTS,
        _EXTRA_SAMPLES,
        _SAMPLE_FORMAT,
        _FILL_ORDER,
        _JPEG_TABLES,
    )
)
_ITEMS_MAX = 1 << 20
_OVERLAPS_MAX = 4
"""Strips may share bytes; all together they are at most this many times the file."""
_RANGES_MAX = 4096
"""This many rows of tiles are checked for zeros, from the end of the file."""
_READ_COMPRESSIONS = {_UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS}
_UNSUPPORTED_PHOTOMETRIC = {
    4: "mask",
    5: "with CMYK colours",
    8: "with L*a*b* colours",
    9: "with L*a*b* colours",
    10: "with L*a*b* colours",
    32803: "with a raw colour mosaic",
    32844: "with logarithmic values",
    32845: "with logarithmic values",
}
_FAX = frozenset((2, 3, 4))
_FIXED_FILL_ORDER = frozenset((_JPEG, _DEFLATE, _DEFLATE_OLD))
_PAGES_MAX = 64
_TAGS_MAX = 4096
_PACKED_BITS = (1, 8, 10, 12, 14, 16)
"""Bits of a sample that are supported without compression."""
_JPEG_END = b"\xff\xd9"
_ZERO_RUN = 8
"""Successive zeros that no encoder writes."""


@dataclass(slots=True)
class TiffPage:
    """The integers of one directory, and the offsets of those stored in the directory itself."""

    values: dict[int, tuple[int, ...]]
    value_offsets: dict[int, int]
    """Tag to the first byte of its value."""
    byte_order: str

    def first(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return self.values.get(tag, (default,))[0]


def read_info(data: bytes) -> ImageInfo:
    """Parse the directory; see `detection.read_info`."""
    pages = _iter_pages(data)
    page = next(pages)
    if page.first(_SUBFILE, 0) & 1 or page.first(_OLD_SUBFILE, 1) == 2:
        raise unsupported("holds a reduced image first, as raw files do")
    for other in pages:
        if not other.first(_SUBFILE, 0) & 1:  # thumbnails are allowed
            raise unsupported("has more than one page", "Save each page as a separate file")
    width_px, height_px = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    if width_px < 1 or height_px < 1:
        raise invalid_header("TIFF")
    bits, has_alpha = _read_sample_format(page)
    photometric = page.first(_PHOTOMETRIC, _BLACK_IS_ZERO)
    row_bytes, pixel_ranges = _locate_pixels(data, page, bits)
    orientation = page.first(_ORIENTATION, 1)
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or (
        photometric == _PALETTE_INDEX and _is_grey(page)
    )
    return ImageInfo(
        "tiff",
        height_px,
        width_px,
        1 if is_grey else 3,
        16 if bits > 8 else 8,
        bits if 8 < bits < 16 else None,
        has_alpha,
        orientation if 1 <= orientation <= 8 else 1,
        is_inverted=photometric == _WHITE_IS_ZERO,
        is_uncompressed=page.first(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED,
        row_bytes=row_bytes,
        pixel_ranges=pixel_ranges if bits > 1 else (),  # black rows are common in bitmaps
    )


def normalize(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a copy that all decoders read alike, and its palette of 256 (blue, green, red).

    In the copy the orientation is 1, 0 is black, and palette indices are grey values; decoders
    and their versions differ in how they apply these tags. Without a palette it is empty.
    """
    page = next(_iter_pages(data))
    out = bytearray(data)
    changes = {_ORIENTATION: 1}
    if page.first(_PHOTOMETRIC, _BLACK_IS_ZERO) in (_WHITE_IS_ZERO, _PALETTE_INDEX):
        changes[_PHOTOMETRIC] = _BLACK_IS_ZERO
    for tag, value in changes.items():
        if tag in page.value_offsets:
            struct.pack_into(page.byte_order + "H", out, page.value_offsets[tag], value)
    if page.first(_PHOTOMETRIC, _BLACK_IS_ZERO) != _PALETTE_INDEX:
        return bytes(out), ()
    return bytes(out), _read_palette(page)


def is_lossy(data: bytes) -> bool:
    """Return True if the pixels are compressed as JPEG."""
    return next(_iter_pages(data)).first(_COMPRESSION, _UNCOMPRESSED) == _JPEG


def decode(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (h, w, samples) from uncompressed pixels, in the file's order of colours.

    Decoders differ in how they read tiles, planes and packed bits.
    """
    page = next(_iter_pages(data))
    width_px, height_px = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    bits, samples = max(page.values.get(_BITS_PER_SAMPLE, (1,))), page.first(_SAMPLES_PER_PIXEL, 1)
    tiled = _TILE_OFFSETS in page.values
    across = page.first(_TILE_WIDTH, 0) if tiled else width_px
    down = (
        page.first(_TILE_HEIGHT, 0)
        if tiled
        else min(page.first(_ROWS_PER_STRIP, height_px), height_px)
    )
    is_planar = page.first(_PLANAR_CONFIG, 1) == 2
    interleaved = 1 if is_planar else samples
    columns, rows = -(-width_px // across), -(-height_px // down)
    step = (across * interleaved * bits + 7) // 8
    out = np.zeros((height_px, width_px, samples), np.uint16 if bits > 8 else np.uint8)
    starts = page.values[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
    for number in range(columns * rows * (samples if is_planar else 1)):
        plane, place = divmod(number, columns * rows)
        top, left = place // columns * down, place % columns * across
        used = min(down, height_px - top)
        stored = np.frombuffer(data, np.uint8, used * step, starts[number])
        if page.first(_FILL_ORDER, 1) == 2:
            stored = _REVERSED_BITS[stored]
        values = _unpack_samples(
            stored.reshape(used, step), bits, across * interleaved, page.byte_order
        )
        block = values.reshape(used, across, interleaved)[:, : width_px - left]
        channels = slice(plane, plane + 1) if is_planar else slice(None)
        out[top : top + used, left : left + across, channels] = block
    return out


_REVERSED_BITS = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1]
)


def _unpack_samples(
    rows: NDArray[np.uint8], bits: int, count: int, byte_order: str
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (rows, count) samples from rows of packed bytes."""
    if bits == 8:
        return rows
    if bits == 16:
        return np.ascontiguousarray(rows).view(byte_order + "u2")
    if bits == 1:
        return np.unpackbits(rows, axis=1)[:, :count] * np.uint8(255)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    out = np.empty((len(rows), count), np.uint16)
    for place, row in enumerate(rows):  # unpacking all rows at once takes eight times the memory
        out[place] = np.unpackbits(row)[: count * bits].reshape(count, bits) @ weights
    return out


def _read_palette(page: TiffPage) -> tuple[bytes, ...]:
    table = page.values.get(_COLOR_MAP, ())
    if len(table) != 3 * 256:
        raise invalid_header("TIFF")
    shift = 0 if max(table) < 256 else 8
    red, green, blue = table[:256], table[256:512], table[512:]
    return tuple(
        bytes((b >> shift, g >> shift, r >> shift))
        for r, g, b in zip(red, green, blue, strict=True)
    )


def _is_grey(page: TiffPage) -> bool:
    return all(blue == green == red for blue, green, red in _read_palette(page))


def _iter_pages(data: bytes) -> Iterator[TiffPage]:
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    seen: set[int] = set()
    while at or not seen:
        if at in seen or len(seen) >= _PAGES_MAX:
            raise invalid_header("TIFF")
        seen.add(at)
        page, at = _read_page(data, at, order, big=big)
        yield page


def _read_page(data: bytes, offset: int, byte_order: str, *, big: bool) -> tuple[TiffPage, int]:
    count_code, entry_bytes, head, room = ("Q", 20, 8, 8) if big else ("H", 12, 2, 4)
    pointer = "Q" if big else "I"
    if offset < 8 or offset + head > len(data):
        raise truncated("a TIFF without its directory")
    (count,) = struct.unpack_from(byte_order + count_code, data, offset)
    if not 1 <= count <= _TAGS_MAX:
        raise truncated("a TIFF without its directory") if not count else invalid_header("TIFF")
    page, offset = TiffPage({}, {}, byte_order), offset + head
    for _ in range(count):
        tag, kind, items = struct.unpack_from(byte_order + "HH" + pointer, data, offset)
        if not tag or not kind:
            raise truncated("a TIFF without its directory")
        code = _TYPE_CODES.get(kind) if tag in _READ_TAGS else None
        if code is not None and items > _ITEMS_MAX:
            raise invalid_header("TIFF")
        if code is not None and items:
            size = items * struct.calcsize(code)
            place = offset + entry_bytes - room
            if size > room:
                (place,) = struct.unpack_from(byte_order + pointer, data, place)
            else:
                page.value_offsets[tag] = place
            if place + size > len(data):
                raise truncated("a TIFF without its directory")
            page.values.setdefault(
                tag, struct.unpack_from(f"{byte_order}{items}{code}", data, place)
            )
        offset += entry_bytes
    (after,) = struct.unpack_from(byte_order + pointer, data, offset)
    return page, after


def _read_sample_format(page: TiffPage) -> tuple[int, bool]:
    """Return (bits of a sample, whether there is alpha); refuse what is not supported."""
    count, photometric = page.first(_SAMPLES_PER_PIXEL, 1), page.first(_PHOTOMETRIC, _BLACK_IS_ZERO)
    compression = page.first(_COMPRESSION, _UNCOMPRESSED)
    if photometric in _UNSUPPORTED_PHOTOMETRIC or photometric > _YCBCR:
        raise unsupported(
            f"is a TIFF {_UNSUPPORTED_PHOTOMETRIC.get(photometric, 'with unknown colours')}"
        )
    kinds = set(page.values.get(_SAMPLE_FORMAT, (1,)))
    if kinds - {1, 4}:
        kind = {2: "signed", 3: "floating-point"}.get(min(kinds - {1, 4}), "complex")
        raise unsupported(f"has {kind} pixels")
    if compression not in _READ_COMPRESSIONS:
        raise unsupported(
            f"is a TIFF with an unsupported compression ({compression})",
            "Save it as PNG, or as TIFF with LZW or Deflate",
            is_valid_mask=compression in _FAX,
        )
    if photometric == _YCBCR and compression != _JPEG:
        raise unsupported("is a TIFF with YCbCr colours")
    extra = len(page.values.get(_EXTRA_SAMPLES, ()))
    colors = 3 if photometric in (_RGB, _YCBCR) else 1
    if count - colors not in (0, 1) or extra > 1:
        raise unsupported(f"is a TIFF with {count} samples per pixel")
    depths = set(page.values.get(_BITS_PER_SAMPLE, (1,)))
    bits = max(depths)
    packed_allowed = compression == _UNCOMPRESSED and photometric != _PALETTE_INDEX
    if len(depths) > 1 or bits not in (_PACKED_BITS if packed_allowed else (8, 16)):
        what = f"has {bits} bits per pixel, stored in an unsupported way"
        raise unsupported(what, is_valid_mask=bits < 8)
    if bits == 16 and photometric == _PALETTE_INDEX:
        raise unsupported("is a TIFF with a palette of 16 bits")
    if bits == 16 and compression == _JPEG:
        raise unsupported("is a TIFF of JPEG with 16 bits")
    is_compressed = compression != _UNCOMPRESSED
    if (
        bits == 16 and is_compressed and count > 1 and page.first(_PLANAR_CONFIG, 1) == 2
    ):  # decoders fail
        raise unsupported("is a compressed TIFF of 16 bits with separate planes")
    if compression in _FIXED_FILL_ORDER and page.first(_FILL_ORDER, 1) == 2:
        raise unsupported("is a compressed TIFF with reversed bit order")
    return bits, count > colors


def _locate_pixels(
    data: bytes, page: TiffPage, bits: int
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Check every strip or tile; return (bytes of a row, ranges of uncompressed pixels)."""
    width_px, height_px = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    tiled = _TILE_OFFSETS in page.values
    if tiled:
        across, down = page.first(_TILE_WIDTH, 0), page.first(_TILE_HEIGHT, 0)
    else:
        across, down = width_px, min(page.first(_ROWS_PER_STRIP, height_px), height_px)
    if across < 1 or down < 1 or (tiled and (across % 16 or down % 16)):
        raise invalid_header("TIFF")
    is_planar = page.first(_PLANAR_CONFIG, 1) == 2
    planes = page.first(_SAMPLES_PER_PIXEL, 1) if is_planar else 1
    px_bits = bits * (1 if is_planar else page.first(_SAMPLES_PER_PIXEL, 1))
    columns, rows = -(-width_px // across), -(-height_px // down)
    starts = page.values.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    counts = page.values.get(_TILE_BYTE_COUNTS if tiled else _STRIP_BYTE_COUNTS, ())
    if len(starts) < columns * rows * planes or (counts and len(counts) < len(starts)):
        raise invalid_header("TIFF")
    compression, raw, total = page.first(_COMPRESSION, _UNCOMPRESSED), [], 0
    tables = bytes(page.values.get(_JPEG_TABLES, ()))
    if compression == _JPEG and tables and not tables.endswith(_JPEG_END):
        raise truncated("a TIFF without the tables of its JPEG")
    for number in range(columns * rows * planes):
        row, column = divmod(number % (columns * rows), columns)
        used = min(down, height_px - row * down)
        step = (across * px_bits + 7) // 8
        size = step * (down if tiled else used)
        start = starts[number]
        stored = counts[number] if counts else size
        if not start or not stored or start + stored > len(data):
            raise truncated("a TIFF without all of its pixels")
        total += stored
        if total > _OVERLAPS_MAX * len(data):
            raise invalid_header("TIFF")
        if compression != _UNCOMPRESSED:
            _check_compressed(data[start : start + stored], compression, size, step * down)
            continue
        if stored < size:
            raise truncated("a TIFF without all of its pixels")
        visible = (min(across, width_px - column * across) * px_bits + 7) // 8
        raw.append((start, used, step, visible))
    return (min(across, width_px) * px_bits + 7) // 8, _last_pixel_ranges(raw)


def _last_pixel_ranges(stored: list[tuple[int, int, int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the last strips or tiles of the file, without the tiles' padding.

    Args:
        stored: (first byte, rows, bytes of a row, bytes of a row without padding) of each.
    """
    out: list[tuple[int, int]] = []
    for start, rows, step, visible in sorted(stored, reverse=True):
        if len(out) >= _RANGES_MAX:
            break
        if visible == step:
            out.append((start, start + rows * step))
        else:
            out += [(start + at * step, start + at * step + visible) for at in range(rows)]
    return tuple(out)


def _check_compressed(part: bytes, compression: int, size: int, most: int) -> None:
    """Refuse a compressed strip or tile of which a part is missing.

    Args:
        part: Its bytes.
        compression: Value of the TIFF tag.
        size: Bytes of its pixels.
        most: Bytes of a full strip, to which some programs pad the last one.
    """
    if compression in (_DEFLATE, _DEFLATE_OLD):
        inflate = zlib.decompressobj()
        try:
            unpacked = len(inflate.decompress(part, most + 1))
        except zlib.error as error:
            raise truncated(f"a TIFF whose pixels cannot be decompressed: {error}") from error
        if unpacked < size or not inflate.eof:  # the checksum is at the end
            raise truncated("a TIFF without all of its pixels")
    elif compression == _JPEG:
        jpeg.verify(part)
    elif bytes(_ZERO_RUN) in part or (
        compression == _LZW and part.endswith(b"\0\0")
    ):  # LZW ends in a nonzero code
        raise truncated("a TIFF with zeros in place of its pixels")
