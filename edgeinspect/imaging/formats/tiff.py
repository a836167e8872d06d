"""TIFF: one page of whole numbers, every strip or tile of it within the file."""

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
"""Strips may share bytes; together they are no more than so many files."""
_RANGES_MAX = 4096
"""So many rows of tiles are looked at for zeros, from the end of the file."""
_READ_COMPRESSIONS = {_UNCOMPRESSED, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKBITS}
_UNSUPPORTED_PHOTOMETRIC = {
    4: "a mask",
    5: "of the four colours of print (CMYK)",
    8: "of L*a*b* colours",
    9: "of L*a*b* colours",
    10: "of L*a*b* colours",
    32803: "a raw colour mosaic",
    32844: "of logarithmic values",
    32845: "of logarithmic values",
}
_FAX = frozenset((2, 3, 4))
_FIXED_FILL_ORDER = frozenset((_JPEG, _DEFLATE, _DEFLATE_OLD))
_PAGES_MAX = 64
_TAGS_MAX = 4096
_PACKED_BITS = (1, 8, 10, 12, 14, 16)
"""Bits of a sample that are read where the pixels are not compressed."""
_JPEG_END = b"\xff\xd9"
_ZERO_RUN = 8
"""Zeros in a row that no coder writes."""


@dataclass(slots=True)
class TiffPage:
    """One directory's whole numbers, and where they stand."""

    values: dict[int, tuple[int, ...]]
    value_offsets: dict[int, int]
    """First byte of the value, for those that stand in the directory itself."""
    byte_order: str

    def first(self, tag: int, default: int) -> int:
        """A tag's first value."""
        return self.values.get(tag, (default,))[0]


def read_info(data: bytes) -> ImageInfo:
    """See `picture_form.form_of`. All that is known of a TIFF stands in its directory."""
    pages = _iter_pages(data)
    page = next(pages)
    if page.first(_SUBFILE, 0) & 1 or page.first(_OLD_SUBFILE, 1) == 2:
        raise unsupported(
            "holds a reduced picture first, as raw files do: the whole one is elsewhere"
        )
    for other in pages:
        if not other.first(_SUBFILE, 0) & 1:  # a thumbnail is no second picture
            raise unsupported("has more than one page", "Save each page as a file of its own")
    width_px, height_px = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    if width_px < 1 or height_px < 1:
        raise invalid_header("TIFF")
    bits, alpha = _read_sample_format(page)
    shown, way = page.first(_PHOTOMETRIC, _BLACK_IS_ZERO), page.first(_COMPRESSION, _UNCOMPRESSED)
    row_bytes, raw = _locate_pixels(data, page, bits)
    if bits == 1:  # two black rows of a drawing are no fault
        raw = ()
    turn = page.first(_ORIENTATION, 1)
    grey = shown in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or (shown == _PALETTE_INDEX and _is_grey(page))
    return ImageInfo(
        "tiff",
        height_px,
        width_px,
        1 if grey else 3,
        16 if bits > 8 else 8,
        bits if 8 < bits < 16 else None,
        alpha,
        turn if 1 <= turn <= 8 else 1,
        is_inverted=shown == _WHITE_IS_ZERO,
        is_uncompressed=way == _UNCOMPRESSED,
        row_bytes=row_bytes,
        pixel_ranges=raw,
    )


def normalize(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The file as decoders agree on it, and its palette: 256 of blue, green, red, or nothing.

    Not turned, 0 is black, and palette indices as grey values: decoders, and versions of them,
    differ in which of these they heed.
    """
    page = next(_iter_pages(data))
    out = bytearray(data)
    wanted = {_ORIENTATION: 1}
    if page.first(_PHOTOMETRIC, _BLACK_IS_ZERO) in (_WHITE_IS_ZERO, _PALETTE_INDEX):
        wanted[_PHOTOMETRIC] = _BLACK_IS_ZERO
    for tag, value in wanted.items():
        if tag in page.value_offsets:
            struct.pack_into(page.byte_order + "H", out, page.value_offsets[tag], value)
    if page.first(_PHOTOMETRIC, _BLACK_IS_ZERO) != _PALETTE_INDEX:
        return bytes(out), ()
    return bytes(out), _read_palette(page)


def is_lossy(data: bytes) -> bool:
    """Whether the pixels are a JPEG's, that blurs values into each other."""
    return next(_iter_pages(data)).first(_COMPRESSION, _UNCOMPRESSED) == _JPEG


def decode(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(h, w, samples) of uncompressed pixels, in the file's own order of colours.

    Decoders differ in what they make of tiles, planes and packed bits; of `form_of`'s files
    whose `raw` is not empty, and of those with one bit.
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
    apart = page.first(_PLANAR_CONFIG, 1) == 2
    inside = 1 if apart else samples
    columns, rows = -(-width_px // across), -(-height_px // down)
    step = (across * inside * bits + 7) // 8
    out = np.zeros((height_px, width_px, samples), np.uint16 if bits > 8 else np.uint8)
    starts = page.values[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
    for number in range(columns * rows * (samples if apart else 1)):
        plane, place = divmod(number, columns * rows)
        top, left = place // columns * down, place % columns * across
        used = min(down, height_px - top)
        stored = np.frombuffer(data, np.uint8, used * step, starts[number])
        if page.first(_FILL_ORDER, 1) == 2:
            stored = _REVERSED_BITS[stored]
        values = _unpack_samples(stored.reshape(used, step), bits, across * inside, page.byte_order)
        part = values.reshape(used, across, inside)[:, : width_px - left]
        which = slice(plane, plane + 1) if apart else slice(None)
        out[top : top + used, left : left + across, which] = part
    return out


_REVERSED_BITS = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1]
)


def _unpack_samples(
    rows: NDArray[np.uint8], bits: int, count: int, byte_order: str
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(rows, count) samples of rows of bytes."""
    if bits == 8:
        return rows
    if bits == 16:
        return np.ascontiguousarray(rows).view(byte_order + "u2")
    if bits == 1:
        return np.unpackbits(rows, axis=1)[:, :count] * np.uint8(255)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    out = np.empty((len(rows), count), np.uint16)
    for place, row in enumerate(rows):  # of all rows at once, the bits would take eight times
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
    """(bits of a sample, whether there is transparency)."""
    count, shown = page.first(_SAMPLES_PER_PIXEL, 1), page.first(_PHOTOMETRIC, _BLACK_IS_ZERO)
    if shown in _UNSUPPORTED_PHOTOMETRIC or shown > _YCBCR:
        raise unsupported(f"is a TIFF {_UNSUPPORTED_PHOTOMETRIC.get(shown, 'of unknown colours')}")
    kinds = set(page.values.get(_SAMPLE_FORMAT, (1,)))
    if kinds - {1, 4}:
        words = {2: "signed", 3: "floating-point"}.get(min(kinds - {1, 4}), "complex")
        raise unsupported(f"has {words} pixels")
    if page.first(_COMPRESSION, _UNCOMPRESSED) not in _READ_COMPRESSIONS:
        raise unsupported(
            f"is a TIFF packed in a way that is not read ({page.first(_COMPRESSION, 0)})",
            "Save it as PNG, or as TIFF with LZW or Deflate",
            is_valid_mask=page.first(_COMPRESSION, _UNCOMPRESSED) in _FAX,
        )
    if shown == _YCBCR and page.first(_COMPRESSION, _UNCOMPRESSED) != _JPEG:
        raise unsupported("is a TIFF of YCbCr colours")
    extra = len(page.values.get(_EXTRA_SAMPLES, ()))
    wanted = 3 if shown in (_RGB, _YCBCR) else 1
    if count - wanted not in (0, 1) or extra > 1:
        raise unsupported(f"is a TIFF of {count} layers")
    depths = set(page.values.get(_BITS_PER_SAMPLE, (1,)))
    bits = max(depths)
    read = (
        _PACKED_BITS
        if page.first(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and shown != _PALETTE_INDEX
        else (8, 16)
    )
    if len(depths) > 1 or bits not in read:
        what = f"has {bits} bits a pixel, stored in a way that is not read"
        raise unsupported(what, is_valid_mask=bits < 8)
    if bits == 16 and (shown == _PALETTE_INDEX or page.first(_COMPRESSION, _UNCOMPRESSED) == _JPEG):
        raise unsupported(
            "is a TIFF with a palette of 16 bits"
            if shown == _PALETTE_INDEX
            else "is a TIFF of JPEG with 16 bits"
        )
    packed = page.first(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED
    if (
        bits == 16 and packed and count > 1 and page.first(_PLANAR_CONFIG, 1) == 2
    ):  # decoders fail at it
        raise unsupported("is a packed TIFF of 16 bits with each colour in a plane of its own")
    if (
        page.first(_COMPRESSION, _UNCOMPRESSED) in _FIXED_FILL_ORDER
        and page.first(_FILL_ORDER, 1) == 2
    ):
        raise unsupported("is a packed TIFF with the bits of its bytes reversed")
    return bits, count > wanted


def _locate_pixels(
    data: bytes, page: TiffPage, bits: int
) -> tuple[int, tuple[tuple[int, int], ...]]:
    """(bytes of a row, where rows lie), every strip or tile being looked at."""
    width_px, height_px = page.first(_WIDTH, 0), page.first(_HEIGHT, 0)
    tiled = _TILE_OFFSETS in page.values
    if tiled:
        across, down = page.first(_TILE_WIDTH, 0), page.first(_TILE_HEIGHT, 0)
    else:
        across, down = width_px, min(page.first(_ROWS_PER_STRIP, height_px), height_px)
    if across < 1 or down < 1 or (tiled and (across % 16 or down % 16)):
        raise invalid_header("TIFF")
    apart = page.first(_PLANAR_CONFIG, 1) == 2
    planes = page.first(_SAMPLES_PER_PIXEL, 1) if apart else 1
    px_bits = bits * (1 if apart else page.first(_SAMPLES_PER_PIXEL, 1))
    columns, rows = -(-width_px // across), -(-height_px // down)
    starts = page.values.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    counts = page.values.get(_TILE_BYTE_COUNTS if tiled else _STRIP_BYTE_COUNTS, ())
    if len(starts) < columns * rows * planes or (counts and len(counts) < len(starts)):
        raise invalid_header("TIFF")
    way, raw, total = page.first(_COMPRESSION, _UNCOMPRESSED), [], 0
    tables = bytes(page.values.get(_JPEG_TABLES, ()))
    if way == _JPEG and tables and not tables.endswith(_JPEG_END):
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
        if way != _UNCOMPRESSED:
            _check_compressed(data[start : start + stored], way, size, step * down)
            continue
        if stored < size:
            raise truncated("a TIFF without all of its pixels")
        seen = (min(across, width_px - column * across) * px_bits + 7) // 8
        raw.append((start, used, step, seen))
    return (min(across, width_px) * px_bits + 7) // 8, _last_pixel_ranges(raw)


def _last_pixel_ranges(stored: list[tuple[int, int, int, int]]) -> tuple[tuple[int, int], ...]:
    """Where pixels lie, of the last strips or tiles of the file, without a tile's filling.

    Args:
        stored: (first byte, rows, bytes of a row, of these with pixels) of each.
    """
    out: list[tuple[int, int]] = []
    for start, rows, step, seen in sorted(stored, reverse=True):
        if len(out) >= _RANGES_MAX:
            break
        if seen == step:
            out.append((start, start + rows * step))
        else:
            out += [(start + at * step, start + at * step + seen) for at in range(rows)]
    return tuple(out)


def _check_compressed(part: bytes, compression: int, size: int, most: int) -> None:
    """Refuse a strip that is not all there.

    Args:
        part: The strip.
        way: How it is packed.
        size: Bytes of its pixels.
        most: Bytes of as many rows as other strips have: some programs fill up the last one.
    """
    if compression in (_DEFLATE, _DEFLATE_OLD):
        inflate = zlib.decompressobj()
        try:
            unpacked = len(inflate.decompress(part, most + 1))
        except zlib.error as error:
            raise truncated(f"a TIFF whose pixels cannot be unpacked: {error}") from error
        if unpacked < size or not inflate.eof:  # its checksum stands at the end
            raise truncated("a TIFF without all of its pixels")
    elif compression == _JPEG:
        jpeg.verify(part)
    elif bytes(_ZERO_RUN) in part or (
        compression == _LZW and part.endswith(b"\0\0")
    ):  # its end has a 1
        raise truncated("a TIFF with zeros in place of its pixels")
