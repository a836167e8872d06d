"""The pixels of a TIFF: their layout, the check of every strip and tile, and decoding."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging.formats import jpeg
from edgeinspect.imaging.formats.image_info import ImageInfo, invalid_header, truncated, unsupported
from edgeinspect.imaging.formats.tiff_directory import (
    BLACK_IS_ZERO,
    UNCOMPRESSED,
    TiffPage,
    TiffTag,
    iter_pages,
)

_LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS = 5, 7, 8, 32946, 32773
_READ_COMPRESSIONS = {UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS}
_FIXED_FILL_ORDER = frozenset((_JPEG, _DEFLATE, _DEFLATE_OLD))
_FAX = frozenset((2, 3, 4))
_WHITE_IS_ZERO, _RGB, _PALETTE_INDEX, _YCBCR = 0, 2, 3, 6
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


def read_info(data: bytes) -> ImageInfo:
    """Parse the directory; see `detection.read_info`."""
    pages = iter_pages(data)
    page = next(pages)
    if page.first(TiffTag.SUBFILE, 0) & 1 or page.first(TiffTag.OLD_SUBFILE, 1) == 2:
        raise unsupported("holds a reduced image first, as raw files do")
    for other in pages:
        if not other.first(TiffTag.SUBFILE, 0) & 1:  # thumbnails are allowed
            raise unsupported("has more than one page", "Save each page as a separate file")
    if page.first(TiffTag.WIDTH, 0) < 1 or page.first(TiffTag.HEIGHT, 0) < 1:
        raise invalid_header("TIFF")
    has_alpha = _check_samples(page)
    grid, bits, photometric = _read_grid(page), page.bits, page.photometric
    pixel_ranges = _check_tiles(data, page, grid)
    orientation = page.first(TiffTag.ORIENTATION, 1)
    is_grey = photometric in (_WHITE_IS_ZERO, BLACK_IS_ZERO) or (
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
        is_uncompressed=page.compression == UNCOMPRESSED,
        row_bytes=_row_bytes(min(grid.tile_width_px, grid.width_px), bits * grid.channels),
        pixel_ranges=pixel_ranges if bits > 1 else (),  # black rows are common in bitmaps
    )


def normalize(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a copy that all decoders read alike, and its palette of 256 (blue, green, red).

    In the copy the orientation is 1, 0 is black, and palette indices are grey values; decoders
    and their versions differ in how they apply these tags. Without a palette it is empty.
    """
    page = next(iter_pages(data))
    out = bytearray(data)
    changes = {TiffTag.ORIENTATION: 1}
    if page.photometric in (_WHITE_IS_ZERO, _PALETTE_INDEX):
        changes[TiffTag.PHOTOMETRIC] = BLACK_IS_ZERO
    for tag, value in changes.items():
        if tag in page.value_offsets:
            struct.pack_into(page.byte_order + "H", out, page.value_offsets[tag], value)
    return bytes(out), _read_palette(page) if page.photometric == _PALETTE_INDEX else ()


def is_lossy(data: bytes) -> bool:
    """Return True if the pixels are compressed as JPEG."""
    return next(iter_pages(data)).compression == _JPEG


def decode(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (h, w, samples) from uncompressed pixels, in the file's order of colours.

    Decoders differ in how they read tiles, planes and packed bits.
    """
    page = next(iter_pages(data))
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
    table = page.values.get(TiffTag.COLOR_MAP, ())
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


def _check_samples(page: TiffPage) -> bool:
    """Refuse samples that are not supported; return whether there is an alpha channel."""
    bits, count = page.bits, page.samples
    photometric, compression = page.photometric, page.compression
    if photometric in _UNSUPPORTED_PHOTOMETRIC or photometric > _YCBCR:
        kind = _UNSUPPORTED_PHOTOMETRIC.get(photometric, "with unknown colours")
        raise unsupported(f"is a TIFF {kind}")
    formats = set(page.values.get(TiffTag.SAMPLE_FORMAT, (1,))) - {1, 4}
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
    if count - colors not in (0, 1) or len(page.values.get(TiffTag.EXTRA_SAMPLES, ())) > 1:
        raise unsupported(f"is a TIFF with {count} samples per pixel")
    is_compressed = compression != UNCOMPRESSED
    depths = (8, 16) if is_compressed or photometric == _PALETTE_INDEX else _PACKED_BITS
    if len(set(page.values.get(TiffTag.BITS_PER_SAMPLE, (1,)))) > 1 or bits not in depths:
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
    width_px, height_px = page.first(TiffTag.WIDTH, 0), page.first(TiffTag.HEIGHT, 0)
    is_tiled = TiffTag.TILE_OFFSETS in page.values
    if is_tiled:
        across, down = page.first(TiffTag.TILE_WIDTH, 0), page.first(TiffTag.TILE_HEIGHT, 0)
        offsets = page.values[TiffTag.TILE_OFFSETS]
        byte_counts = page.values.get(TiffTag.TILE_BYTE_COUNTS, ())
    else:
        across = width_px
        down = min(page.first(TiffTag.ROWS_PER_STRIP, height_px), height_px)
        offsets = page.values.get(TiffTag.STRIP_OFFSETS, ())
        byte_counts = page.values.get(TiffTag.STRIP_BYTE_COUNTS, ())
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
    tables = bytes(page.values.get(TiffTag.JPEG_TABLES, ()))
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
        if compression != UNCOMPRESSED:
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
