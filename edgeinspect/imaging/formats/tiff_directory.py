"""The directories of a TIFF: their tags, and what can be read from them without the pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from edgeinspect.imaging.formats.image_info import invalid_header, truncated

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UNCOMPRESSED = 1
BLACK_IS_ZERO = 1


class TiffTag(IntEnum):
    """The tags that are read; other tags are skipped."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIG = 284
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347


_READ_TAGS = frozenset(TiffTag)
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
_LAYOUTS = {False: ("I", "H", 12, 8), True: ("Q", "Q", 20, 12)}
"""Of TIFF and BigTIFF: codes of a pointer and a count, bytes of an entry, offset of its value."""
_PAGES_MAX = 64
_TAGS_MAX = 4096
_DIRECTORY_BYTES = 1 << 16
"""Longest directory that `read_bit_depth` reads."""
_ITEMS_MAX = 1 << 20


@dataclass(slots=True)
class TiffPage:
    """The integers of one directory, and the offsets of those stored in the directory itself."""

    values: dict[int, tuple[int, ...]]
    value_offsets: dict[int, int]
    """Tag to the first byte of its value."""
    byte_order: str

    def first(self, tag: TiffTag, default: int) -> int:
        """Return the first value of a tag."""
        return self.values.get(tag, (default,))[0]

    @property
    def compression(self) -> int:
        return self.first(TiffTag.COMPRESSION, UNCOMPRESSED)

    @property
    def photometric(self) -> int:
        return self.first(TiffTag.PHOTOMETRIC, BLACK_IS_ZERO)

    @property
    def bits(self) -> int:
        """Return the bits of a sample."""
        return max(self.values.get(TiffTag.BITS_PER_SAMPLE, (1,)))

    @property
    def samples(self) -> int:
        """Return the samples of a pixel."""
        return self.first(TiffTag.SAMPLES_PER_PIXEL, 1)

    @property
    def is_planar(self) -> bool:
        """Return True if the samples of a pixel are in separate planes."""
        return self.first(TiffTag.PLANAR_CONFIG, 1) == 2

    @property
    def is_bit_reversed(self) -> bool:
        return self.first(TiffTag.FILL_ORDER, 1) == 2


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width), at least of one tile; of repeated tags the largest value."""
    largest: dict[int, int] = {}
    for tag, value in _iter_integers(data):
        largest[tag] = max(largest.get(tag, 0), value)
    height_px, width_px = largest.get(TiffTag.HEIGHT, 0), largest.get(TiffTag.WIDTH, 0)
    if height_px < 1 or width_px < 1 or largest.get(TiffTag.SAMPLES_PER_PIXEL, 1) > 16:
        raise invalid_header("TIFF")
    tile_height_px = largest.get(TiffTag.TILE_HEIGHT, 0)
    return max(height_px, tile_height_px), max(width_px, largest.get(TiffTag.TILE_WIDTH, 0))


def _iter_integers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (tag, value) of the entries with one integer in the first directory."""
    order, is_big = _read_header(data)
    pointer, count_code, entry_bytes, value_at = _LAYOUTS[is_big]
    (at,) = struct.unpack_from(order + pointer, data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + count_code, data, at)
    at += struct.calcsize(count_code)
    if count > _TAGS_MAX:
        raise invalid_header("TIFF")
    for _ in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        code = _INTEGER_CODES.get(kind)
        if code is not None and struct.calcsize(code) <= entry_bytes - value_at:
            yield tag, struct.unpack_from(order + code, data, at + value_at)[0]
        at += entry_bytes


def read_bit_depth(file: BinaryIO) -> tuple[int, int | None]:
    """Return (8 or 16, significant bits of 16 if stated) from the first directory of a file."""
    file.seek(0)
    head = file.read(16)
    order, is_big = _read_header(head)
    pointer, count_code, entry_bytes, value_at = _LAYOUTS[is_big]
    (at,) = struct.unpack_from(order + pointer, head, 8 if is_big else 4)
    file.seek(at)
    directory = file.read(_DIRECTORY_BYTES)
    (count,) = struct.unpack_from(order + count_code, directory)
    at = struct.calcsize(count_code)
    for _ in range(min(count, _TAGS_MAX)):
        tag, kind, items = struct.unpack_from(order + "HH" + pointer, directory, at)
        if (tag, kind) == (TiffTag.BITS_PER_SAMPLE, 3):
            value = directory[at + value_at : at + entry_bytes]
            if items * 2 > len(value):
                (offset,) = struct.unpack_from(order + pointer, value)
                file.seek(offset)
                value = file.read(2)
            (bits,) = struct.unpack_from(order + "H", value)
            return 16 if bits > 8 else 8, bits if 8 < bits < 16 else None
        at += entry_bytes
    return 8, None


def _read_header(data: bytes) -> tuple[str, bool]:
    """Return (byte order as a `struct` code, whether it is a BigTIFF)."""
    return ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")


def iter_pages(data: bytes) -> Iterator[TiffPage]:
    """Yield the pages of a file, each with its tags."""
    order, is_big = _read_header(data)
    (at,) = struct.unpack_from(order + _LAYOUTS[is_big][0], data, 8 if is_big else 4)
    offsets: set[int] = set()
    while at or not offsets:
        if at in offsets or len(offsets) >= _PAGES_MAX:
            raise invalid_header("TIFF")
        offsets.add(at)
        page, at = _read_page(data, at, order, is_big=is_big)
        yield page


def _read_page(data: bytes, offset: int, byte_order: str, *, is_big: bool) -> tuple[TiffPage, int]:
    """Return the page at an offset, and the offset of the next one; 0 after the last."""
    pointer, count_code, entry_bytes, value_at = _LAYOUTS[is_big]
    head, room = struct.calcsize(count_code), entry_bytes - value_at
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
            at = offset + value_at
            if size > room:
                (at,) = struct.unpack_from(byte_order + pointer, data, at)
            else:
                page.value_offsets[tag] = at
            if at + size > len(data):
                raise truncated("a TIFF without its directory")
            values = struct.unpack_from(f"{byte_order}{items}{code}", data, at)
            page.values.setdefault(tag, values)
        offset += entry_bytes
    (next_offset,) = struct.unpack_from(byte_order + pointer, data, offset)
    return page, next_offset
