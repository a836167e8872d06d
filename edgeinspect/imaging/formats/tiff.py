"""TIFF headers, the check of every strip and tile, and decoding of uncompressed pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging.formats import jpeg
from edgeinspect.imaging.formats.image_info import ImageInfo, invalid_header, truncated, unsupported

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class _Tag(IntEnum):
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


_READ_TAGS = frozenset(_Tag)
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
_LAYOUTS = {False: ("I", "H", 12, 8), True: ("Q", "Q", 20, 12)}
"""Of TIFF and BigTIFF: codes of a pointer and a count, bytes of an entry, offset of its value."""
_UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_READ_COMPRESSIONS = {_UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS}
_FIXED_FILL_ORDER = frozenset((_JPEG, _DEFLATE, _DEFLATE_OLD))
_FAX = frozenset((2, 3, 4))
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE_INDEX, _YCBCR = 0, 1, 2, 3, 6
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
_PACKED_BITS = (1, 8, 10, 12, 14, 16)
"""Bits of a sample that are supported without compression."""
_PAGES_MAX = 64
_TAGS_MAX = 4096
_DIRECTORY_BYTES = 1 << 16
"""Longest directory that `read_bit_depth` reads."""
_ITEMS_MAX = 1 << 20
_OVERLAPS_MAX = 4
"""Strips may share bytes; all together they are at most this many times the file."""
_RANGES_MAX = 4096
"""This many rows of tiles are checked for zeros, from the end of the file."""
_JPEG_END = b"\xff\xd9"
_ZERO_RUN = 8
"""Successive zeros that no encoder writes."""
_REVERSED_BITS = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1]
)


@dataclass(slots=True)
class TiffPage:
    """The integers of one directory, and the offsets of those stored in the directory itself."""

    values: dict[int, tuple[int, ...]]
    value_offsets: dict[int, int]
    """Tag to the first byte of its value."""
    byte_order: str

    def first(self, tag: _Tag, default: int) -> int:
        """Return the first value of a tag."""
        return self.values.get(tag, (default,))[0]

    @property
    def compression(self) -> int:
        return self.first(_Tag.COMPRESSION, _UNCOMPRESSED)

    @property
    def photometric(self) -> int:
        return self.first(_Tag.PHOTOMETRIC, _BLACK_IS_ZERO)

    @property
    def bits(self) -> int:
        """Return the bits of a sample."""
        return max(self.values.get(_Tag.BITS_PER_SAMPLE, (1,)))

    @property
    def samples(self) -> int:
        """Return the samples of a pixel."""
        return self.first(_Tag.SAMPLES_PER_PIXEL, 1)

    @property
    def is_planar(self) -> bool:
        """Return True if the samples of a pixel are in separate planes."""
        return self.first(_Tag.PLANAR_CONFIG, 1) == 2

    @property
    def is_bit_reversed(self) -> bool:
        return self.first(_Tag.FILL_ORDER, 1) == 2


class _Tile(NamedTuple):
    plane: int
    top_px: int
    left_px: int
    rows: int
    """Rows within the image."""
    offset: int
    stored_bytes: int
    size_bytes: int
    """Bytes of its pixels without compression."""


@dataclass(frozen=True, slots=True)
class _TileGrid:
    """The tiles of a page. A strip is a tile of the image's width."""

    height_px: int
    width_px: int
    tile_height_px: int
    tile_width_px: int
    planes: int
    channels: int
    """Interleaved samples of a pixel in one plane."""
    row_bytes: int
    """Bytes of one row of a tile."""
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]
    is_tiled: bool

    @property
    def columns(self) -> int:
        return -(-self.width_px // self.tile_width_px)

    @property
    def rows(self) -> int:
        return -(-self.height_px // self.tile_height_px)

    def tiles(self) -> Iterator[_Tile]:
        """Yield every tile, in the order of the file's directory."""
        columns, per_plane = self.columns, self.columns * self.rows
        for number in range(per_plane * self.planes):
            plane, index = divmod(number, per_plane)
            top_px = index // columns * self.tile_height_px
            rows = min(self.tile_height_px, self.height_px - top_px)
            size_bytes = self.row_bytes * (self.tile_height_px if self.is_tiled else rows)
            yield _Tile(
                plane,
                top_px,
                index % columns * self.tile_width_px,
                rows,
                self.offsets[number],
                self.byte_counts[number] if self.byte_counts else size_bytes,
                size_bytes,
            )


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width), at least of one tile; of repeated tags the largest value."""
    largest: dict[int, int] = {}
    for tag, value in _iter_integers(data):
        largest[tag] = max(largest.get(tag, 0), value)
    height_px, width_px = largest.get(_Tag.HEIGHT, 0), largest.get(_Tag.WIDTH, 0)
    if height_px < 1 or width_px < 1 or largest.get(_Tag.SAMPLES_PER_PIXEL, 1) > 16:
        raise invalid_header("TIFF")
    tile_height_px = largest.get(_Tag.TILE_HEIGHT, 0)
    return max(height_px, tile_height_px), max(width_px, largest.get(_Tag.TILE_WIDTH, 0))


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


def read_info(data: bytes) -> ImageInfo:
    """Parse the directory; see `detection.read_info`."""
    pages = _iter_pages(data)
    page = next(pages)
    if page.first(_Tag.SUBFILE, 0) & 1 or page.first(_Tag.OLD_SUBFILE, 1) == 2:
        raise unsupported("holds a reduced image first, as raw files do")
    for other in pages:
        if not other.first(_Tag.SUBFILE, 0) & 1:  # thumbnails are allowed
            raise unsupported("has more than one page", "Save each page as a separate file")
    if page.first(_Tag.WIDTH, 0) < 1 or page.first(_Tag.HEIGHT, 0) < 1:
        raise invalid_header("TIFF")
    has_alpha = _check_samples(page)
    grid, bits, photometric = _read_grid(page), page.bits, page.photometric
    pixel_ranges = _check_tiles(data, page, grid)
    orientation = page.first(_Tag.ORIENTATION, 1)
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or (
        photometric == _PALETTE_INDEX and _is_grey(page)
    )
    return ImageInfo(
        "tiff",
        grid.height_px,
        grid.width_px,
        1 if is_grey else 3,
        16 if bits > 8 else 8,
        bits if 8 < bits < 16 else None,
        has_alpha,
        orientation if 1 <= orientation <= 8 else 1,
        is_inverted=photometric == _WHITE_IS_ZERO,
        is_uncompressed=page.compression == _UNCOMPRESSED,
        row_bytes=_row_bytes(min(grid.tile_width_px, grid.width_px), bits * grid.channels),
        pixel_ranges=pixel_ranges if bits > 1 else (),  # black rows are common in bitmaps
    )


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
        if (tag, kind) == (_Tag.BITS_PER_SAMPLE, 3):
            value = directory[at + value_at : at + entry_bytes]
            if items * 2 > len(value):
                (offset,) = struct.unpack_from(order + pointer, value)
                file.seek(offset)
                value = file.read(2)
            (bits,) = struct.unpack_from(order + "H", value)
            return 16 if bits > 8 else 8, bits if 8 < bits < 16 else None
        at += entry_bytes
    return 8, None


def normalize(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a copy that all decoders read alike, and its palette of 256 (blue, green, red).

    In the copy the orientation is 1, 0 is black, and palette indices are grey values; decoders
    and their versions differ in how they apply these tags. Without a palette it is empty.
    """
    page = next(_iter_pages(data))
    out = bytearray(data)
    changes = {_Tag.ORIENTATION: 1}
    if page.photometric in (_WHITE_IS_ZERO, _PALETTE_INDEX):
        changes[_Tag.PHOTOMETRIC] = _BLACK_IS_ZERO
    for tag, value in changes.items():
        if tag in page.value_offsets:
            struct.pack_into(page.byte_order + "H", out, page.value_offsets[tag], value)
    return bytes(out), _read_palette(page) if page.photometric == _PALETTE_INDEX else ()


def is_lossy(data: bytes) -> bool:
    """Return True if the pixels are compressed as JPEG."""
    return next(_iter_pages(data)).compression == _JPEG


def decode(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (h, w, samples) from uncompressed pixels, in the file's order of colours.

    Decoders differ in how they read tiles, planes and packed bits.
    """
    page = next(_iter_pages(data))
    grid, bits = _read_grid(page), page.bits
    dtype = np.uint16 if bits > 8 else np.uint8
    out = np.zeros((grid.height_px, grid.width_px, page.samples), dtype)
    per_row = grid.tile_width_px * grid.channels
    for tile in grid.tiles():
        stored = np.frombuffer(data, np.uint8, tile.rows * grid.row_bytes, tile.offset)
        if page.is_bit_reversed:
            stored = _REVERSED_BITS[stored]
        rows = stored.reshape(tile.rows, grid.row_bytes)
        samples = _unpack_samples(rows, bits, per_row, page.byte_order)
        block = samples.reshape(tile.rows, grid.tile_width_px, grid.channels)
        target = out[tile.top_px : tile.top_px + tile.rows, tile.left_px :]
        target = target[:, : grid.tile_width_px, tile.plane : tile.plane + grid.channels]
        target[:] = block[:, : grid.width_px - tile.left_px]
    return out


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
    for index, row in enumerate(rows):  # unpacking all rows at once takes eight times the memory
        out[index] = np.unpackbits(row)[: count * bits].reshape(count, bits) @ weights
    return out


def _read_palette(page: TiffPage) -> tuple[bytes, ...]:
    table = page.values.get(_Tag.COLOR_MAP, ())
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


def _read_header(data: bytes) -> tuple[str, bool]:
    """Return (byte order as a `struct` code, whether it is a BigTIFF)."""
    return ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")


def _iter_pages(data: bytes) -> Iterator[TiffPage]:
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


def _check_samples(page: TiffPage) -> bool:
    """Refuse samples that are not supported; return whether there is an alpha channel."""
    bits, count = page.bits, page.samples
    photometric, compression = page.photometric, page.compression
    if photometric in _UNSUPPORTED_PHOTOMETRIC or photometric > _YCBCR:
        kind = _UNSUPPORTED_PHOTOMETRIC.get(photometric, "with unknown colours")
        raise unsupported(f"is a TIFF {kind}")
    formats = set(page.values.get(_Tag.SAMPLE_FORMAT, (1,))) - {1, 4}
    if formats:
        kind = {2: "signed", 3: "floating-point"}.get(min(formats), "complex")
        raise unsupported(f"has {kind} pixels")
    if compression not in _READ_COMPRESSIONS:
        raise unsupported(
            f"is a TIFF with an unsupported compression ({compression})",
            "Save it as PNG, or as TIFF with LZW or Deflate",
            is_valid_mask=compression in _FAX,
        )
    if photometric == _YCBCR and compression != _JPEG:
        raise unsupported("is a TIFF with YCbCr colours")
    colors = 3 if photometric in (_RGB, _YCBCR) else 1
    if count - colors not in (0, 1) or len(page.values.get(_Tag.EXTRA_SAMPLES, ())) > 1:
        raise unsupported(f"is a TIFF with {count} samples per pixel")
    is_compressed = compression != _UNCOMPRESSED
    depths = (8, 16) if is_compressed or photometric == _PALETTE_INDEX else _PACKED_BITS
    if len(set(page.values.get(_Tag.BITS_PER_SAMPLE, (1,)))) > 1 or bits not in depths:
        what = f"has {bits} bits per pixel, stored in an unsupported way"
        raise unsupported(what, is_valid_mask=bits < 8)
    if bits == 16 and photometric == _PALETTE_INDEX:
        raise unsupported("is a TIFF with a palette of 16 bits")
    if bits == 16 and compression == _JPEG:
        raise unsupported("is a TIFF of JPEG with 16 bits")
    if bits == 16 and is_compressed and count > 1 and page.is_planar:  # decoders fail
        raise unsupported("is a compressed TIFF of 16 bits with separate planes")
    if compression in _FIXED_FILL_ORDER and page.is_bit_reversed:
        raise unsupported("is a compressed TIFF with reversed bit order")
    return count > colors


def _row_bytes(width_px: int, bits_per_px: int) -> int:
    return (width_px * bits_per_px + 7) // 8


def _read_grid(page: TiffPage) -> _TileGrid:
    width_px, height_px = page.first(_Tag.WIDTH, 0), page.first(_Tag.HEIGHT, 0)
    is_tiled = _Tag.TILE_OFFSETS in page.values
    if is_tiled:
        across, down = page.first(_Tag.TILE_WIDTH, 0), page.first(_Tag.TILE_HEIGHT, 0)
        offsets = page.values[_Tag.TILE_OFFSETS]
        byte_counts = page.values.get(_Tag.TILE_BYTE_COUNTS, ())
    else:
        across = width_px
        down = min(page.first(_Tag.ROWS_PER_STRIP, height_px), height_px)
        offsets = page.values.get(_Tag.STRIP_OFFSETS, ())
        byte_counts = page.values.get(_Tag.STRIP_BYTE_COUNTS, ())
    if across < 1 or down < 1 or (is_tiled and (across % 16 or down % 16)):
        raise invalid_header("TIFF")
    planes, channels = (page.samples, 1) if page.is_planar else (1, page.samples)
    size = (height_px, width_px, down, across, planes, channels)
    row_bytes = _row_bytes(across, page.bits * channels)
    grid = _TileGrid(*size, row_bytes, offsets, byte_counts, is_tiled)
    if len(offsets) < grid.columns * grid.rows * planes or 0 < len(byte_counts) < len(offsets):
        raise invalid_header("TIFF")
    return grid


def _check_tiles(data: bytes, page: TiffPage, grid: _TileGrid) -> tuple[tuple[int, int], ...]:
    """Refuse a file with a missing strip or tile; return the ranges of uncompressed pixels."""
    compression = page.compression
    tables = bytes(page.values.get(_Tag.JPEG_TABLES, ()))
    if compression == _JPEG and tables and not tables.endswith(_JPEG_END):
        raise truncated("a TIFF without the tables of its JPEG")
    total, tiles = 0, []
    for tile in grid.tiles():
        end = tile.offset + tile.stored_bytes
        if not tile.offset or not tile.stored_bytes or end > len(data):
            raise truncated("a TIFF without all of its pixels")
        total += tile.stored_bytes
        if total > _OVERLAPS_MAX * len(data):
            raise invalid_header("TIFF")
        if compression != _UNCOMPRESSED:
            full_bytes = grid.row_bytes * grid.tile_height_px
            _check_compressed(data[tile.offset : end], compression, tile.size_bytes, full_bytes)
        elif tile.stored_bytes < tile.size_bytes:
            raise truncated("a TIFF without all of its pixels")
        else:
            tiles.append(tile)
    return _last_pixel_ranges(tiles, grid, page.bits)


def _last_pixel_ranges(
    tiles: list[_Tile], grid: _TileGrid, bits: int
) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the last strips or tiles of the file, without the tiles' padding."""
    out: list[tuple[int, int]] = []
    step = grid.row_bytes
    for tile in sorted(tiles, key=lambda tile: tile.offset, reverse=True):
        if len(out) >= _RANGES_MAX:
            break
        columns = min(grid.tile_width_px, grid.width_px - tile.left_px)
        visible = _row_bytes(columns, bits * grid.channels)
        if visible == step:
            out.append((tile.offset, tile.offset + tile.rows * step))
        else:
            starts = (tile.offset + row * step for row in range(tile.rows))
            out += [(start, start + visible) for start in starts]
    return tuple(out)


def _check_compressed(part: bytes, compression: int, size_bytes: int, full_bytes: int) -> None:
    """Refuse a compressed strip or tile of which a part is missing.

    Args:
        part: Its bytes.
        compression: Value of the TIFF tag.
        size_bytes: Bytes of its pixels.
        full_bytes: Bytes of a full strip, to which some programs pad the last one.
    """
    if compression in (_DEFLATE, _DEFLATE_OLD):
        inflate = zlib.decompressobj()
        try:
            inflated_bytes = len(inflate.decompress(part, full_bytes + 1))
        except zlib.error as error:
            raise truncated(f"a TIFF whose pixels cannot be decompressed: {error}") from error
        if inflated_bytes < size_bytes or not inflate.eof:  # the checksum is at the end
            raise truncated("a TIFF without all of its pixels")
    elif compression == _JPEG:
        jpeg.verify(part)
    else:
        # LZW ends in a nonzero code.
        is_cut = compression == _LZW and part.endswith(b"\0\0")
        if is_cut or bytes(_ZERO_RUN) in part:
            raise truncated("a TIFF with zeros in place of its pixels")
