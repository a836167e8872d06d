"""The size of an image by its header alone, checked before a decoder allocates memory for it.

A file of a few megabytes may expand to gigabytes. OpenCV allocates first, and its own limit
(2^30 pixels) is far above what a line can handle.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edgeinspect.errors import DataError

DATASET_PIXELS_MAX = 200_000_000
"""Largest image of a data set."""
LINE_PIXELS_MAX = 64_000_000
"""Largest image on a line, where decoding takes time from other frames."""
FILE_BYTES_MAX = 1 << 29
"""Largest image file that is read: 200 Mpx of 16 bits fit."""
_TIFF_TAGS_MAX = 4096


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Size and format by an image's header."""

    height_px: int
    width_px: int
    format: str
    """`png`, `jpeg`, `bmp`, `tiff` or `pnm`."""

    @property
    def pixels(self) -> int:
        """Return height times width."""
        return self.height_px * self.width_px


def read_image_size(data: bytes) -> ImageSize:
    """Return the size of the (first) image in a file, as its decoder will allocate it.

    For a tiled TIFF this is at least one tile, as decoders allocate whole tiles. The EXIF
    orientation, which may swap height and width, is not applied.

    Raises:
        DataError: The format is not supported, or the header is cut off or damaged.
    """
    for start, name, read in _SIZE_READERS:
        if data.startswith(start):
            try:
                height_px, width_px = read(data)
            except (struct.error, IndexError) as error:
                raise DataError(
                    f"is cut off within its {name.upper()} header",
                    remedy="Copy it again",
                ) from error
            except ValueError as error:
                raise DataError(
                    f"is damaged: its {name.upper()} header is invalid ({error})",
                    remedy="Copy it again",
                ) from error
            if height_px < 1 or width_px < 1:
                what = f"is damaged: its {name.upper()} header states {width_px}x{height_px}"
                raise DataError(what, remedy="Copy it again")
            return ImageSize(height_px, width_px, name)
    raise DataError(
        "is not an image of a supported format",
        remedy="Convert it to PNG, JPEG, BMP or TIFF",
    )


def check_size(data: bytes, pixels_max: int) -> ImageSize:
    """Return the size of an image that may be decoded.

    Raises:
        DataError: As `read_image_size`, or it has more than `pixels_max` pixels.
    """
    size = read_image_size(data)
    if size.pixels > pixels_max:
        raise DataError(
            f"is an image of {size.width_px}x{size.height_px} px, more than the "
            f"limit of {pixels_max} px",
            remedy="Check the file, or cut it into smaller images",
        )
    return size


def _read_png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    width_px, height_px = struct.unpack_from(">II", data, 16)
    return height_px, width_px


_NOT_FRAME_MARKERS = frozenset((0xC4, 0xC8, 0xCC))
"""DHT, JPG and DAC, whose codes lie between those of the frames."""
_STANDALONE_MARKERS = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
"""Markers without a length: an escaped 0xFF, TEM, RSTn, SOI."""
_JPEG_MARKER = re.compile(rb"\xff([^\xff])", re.DOTALL)
_JPEG_SEGMENTS_MAX = 10_000


def _read_jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_JPEG_SEGMENTS_MAX):
        found = _JPEG_MARKER.search(data, at)  # decoders skip bytes between segments
        if found is None:
            raise ValueError("no frame")
        code, at = found[1][0], found.end()
        if code in _STANDALONE_MARKERS:
            continue
        if code in (0xD9, 0xDA):
            raise ValueError("no frame before the pixels")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            raise ValueError("a segment of no length")
        if 0xC0 <= code <= 0xCF and code not in _NOT_FRAME_MARKERS:
            height_px, width_px = struct.unpack_from(">HH", data, at + 3)
            return height_px, width_px
        at += length
    raise ValueError("too many segments")


def _read_bmp_size(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width_px, height_px = struct.unpack_from("<HH", data, 18)
    else:
        width_px, height_px = struct.unpack_from("<ii", data, 18)
    return abs(height_px), width_px


_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES = 256, 257, 277
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323


def _read_tiff_size(data: bytes) -> tuple[int, int]:
    largest: dict[int, int] = {}
    for tag, value in _tiff_values(data):
        largest[tag] = max(largest.get(tag, 0), value)
    if _TIFF_WIDTH not in largest or _TIFF_HEIGHT not in largest:
        raise ValueError("no size")
    if largest.get(_TIFF_SAMPLES, 1) > 16:
        raise ValueError("too many samples")
    height_px, width_px = largest[_TIFF_HEIGHT], largest[_TIFF_WIDTH]
    if not height_px or not width_px:
        return 0, 0
    return (
        max(height_px, largest.get(_TIFF_TILE_HEIGHT, 0)),
        max(width_px, largest.get(_TIFF_TILE_WIDTH, 0)),
    )


def _tiff_values(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (tag, value) of the entries with one integer in the first directory."""
    order = "<" if data[0] == 0x49 else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    big = magic == 43
    if big:
        (at,) = struct.unpack_from(order + "Q", data, 8)
        (count,) = struct.unpack_from(order + "Q", data, at)
        at, entry_bytes, value_at = at + 8, 20, 12
    else:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        at, entry_bytes, value_at = at + 2, 12, 8
    if count > _TIFF_TAGS_MAX:
        raise ValueError("too many tags")
    for _ in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        code = _TIFF_TYPES.get(kind)
        if code is not None and struct.calcsize(code) <= entry_bytes - value_at:
            yield tag, struct.unpack_from(order + code, data, at + value_at)[0]
        at += entry_bytes


_PNM_HEADER_BYTES = 4096
_WHITESPACE = b" \t\n\v\f\r"


def _read_pnm_size(data: bytes) -> tuple[int, int]:
    text = data[2:_PNM_HEADER_BYTES]
    numbers: list[int] = []
    at = 0
    while len(numbers) < 2:
        if text[at] in _WHITESPACE:
            at += 1
        elif text[at] == 0x23:  # a comment, to the end of its line
            at = text.index(b"\n", at)
        else:
            end = at
            while text[end] not in _WHITESPACE and text[end] != 0x23:
                end += 1
            digits = text[at:end]
            if not digits.isdigit() or len(digits) > 10:
                raise ValueError("not a number")
            numbers.append(int(digits))
            at = end
    return numbers[1], numbers[0]


_SIZE_READERS = (
    (b"\x89PNG\r\n\x1a\n", "png", _read_png_size),
    (b"\xff\xd8\xff", "jpeg", _read_jpeg_size),
    (b"BM", "bmp", _read_bmp_size),
    (b"II*\0", "tiff", _read_tiff_size),
    (b"MM\0*", "tiff", _read_tiff_size),
    (b"II+\0", "tiff", _read_tiff_size),
    (b"MM\0+", "tiff", _read_tiff_size),
    *((b"P%d" % each, "pnm", _read_pnm_size) for each in range(1, 7)),
)
