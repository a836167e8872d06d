"""The information in the headers of an image file, and the checks that formats share.

OpenCV decodes silently: it fills a truncated JPEG with grey, takes the first of several pages,
and treats palettes, inverted TIFFs and transparency differently from version to version. The
file's own headers are therefore parsed before decoding, and a file that can be read in more
than one way is refused.

Each format has a module that parses its headers; `detection` selects it by the signature.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeinspect.errors import DataError

SAVE_AS_PNG = "Save it as PNG with 8 or 16 bits, grey or RGB, without transparency"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """How the pixels of one file are stored."""

    format: str
    """`png`, `jpeg`, `bmp`, `tiff` or `pnm`."""
    height_px: int
    width_px: int
    """As stored, before the orientation is applied."""
    channels: int
    """1 or 3, as decoded; without alpha."""
    bits: int = 8
    """Bits of a sample as decoded: 8 or 16."""
    significant_bits: int | None = None
    """How many of 16 bits are used (10, 12 or 14); None if the file does not state it."""
    has_alpha: bool = False
    """True if pixels may be transparent; checked after decoding."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    is_inverted: bool = False
    """True if 0 is white (TIFF); inverted after decoding."""
    is_uncompressed: bool = False
    """True if the pixels are decoded by this package (uncompressed TIFF; BMP of 16 or 32 bits)."""
    row_bytes: int = 0
    """Bytes of a row of uncompressed pixels; 0 if they are compressed."""
    pixel_ranges: tuple[tuple[int, int], ...] = ()
    """(first byte, end) of the uncompressed pixels, in file order."""


class ImageFileError(DataError):
    """A file cannot be read as an image. The caller adds the file's name."""


class UnsupportedImageError(ImageFileError):
    """A complete image that is not supported, or that programs read in different ways."""

    is_valid_mask = False
    """True if it is readable as a mask: OpenCV returns the stored values."""


@contextmanager
def named_errors(where: str) -> Iterator[None]:
    """Add the name of the file to errors that have none."""
    try:
        yield
    except DataError as error:
        if error.where:
            raise
        raise DataError(error.what, where=where, remedy=error.remedy) from error


def truncated(what: str) -> ImageFileError:
    """Return the error for a file of which a part is missing."""
    return ImageFileError(f"is cut off ({what})", remedy="Copy it again")


def unsupported(
    what: str, remedy: str = SAVE_AS_PNG, *, is_valid_mask: bool = False
) -> UnsupportedImageError:
    """Return the error for an image that is not supported; see `UnsupportedImageError`."""
    error = UnsupportedImageError(what, remedy=remedy)
    error.is_valid_mask = is_valid_mask
    return error


def invalid_header(name: str) -> ImageFileError:
    """Return the error for a header with contradictory values."""
    return ImageFileError(f"is not an image, or is damaged: its {name} header is invalid")


def exif_orientation(data: bytes) -> int | None:
    """Return the orientation (1 to 8) in EXIF data; None if it states none.

    EXIF is a TIFF without pixels. Writers use integers of any size for this tag.
    """
    data = data.removeprefix(EXIF_SIGNATURE)  # written by some PNG encoders
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for number in range(min(count, 512)):
            entry = at + 2 + 12 * number
            tag, kind, items = struct.unpack_from(order + "HHI", data, entry)
            if (tag, items) == (0x112, 1) and kind in _INTEGER_CODES:
                (value,) = struct.unpack_from(order + _INTEGER_CODES[kind], data, entry + 8)
                return value if 1 <= value <= 8 else None
    except (KeyError, struct.error):
        pass
    return None


EXIF_SIGNATURE = b"Exif\0\0"
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Integer types of EXIF and TIFF to `struct` codes."""
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([2-8])\s*[\"'<]")


def check_xmp_orientation(data: bytes, what: str) -> None:
    """Refuse an orientation that only XMP states, which not all programs apply.

    Args:
        data: The XMP packet.
        what: The place of the packet, for the error.

    Raises:
        UnsupportedImageError: The orientation is 2 to 8.
    """
    found = _XMP_ORIENTATION.search(data)
    if found is not None:
        raise ambiguous_orientation(int(found[1]), what)


def ambiguous_orientation(orientation: int, what: str) -> UnsupportedImageError:
    """Return the error for an orientation that only some programs apply."""
    return unsupported(
        f"has an orientation of {orientation} in its {what} and none in EXIF: programs differ in "
        "whether they apply it",
        "Save it rotated, or with its orientation in EXIF",
        is_valid_mask=True,
    )


DECLARE_FLAT_END = (
    "Copy it again; if its pixels really are so, set `flat_end: true` in reading.yaml beside "
    "the images, or as the folder camera's option"
)
_BLOCK_BYTES = 1 << 20
ZERO_ROWS_MAX = 2
"""This many rows of zeros at the end of a file count as an incomplete copy."""
ZERO_BLOCK_BYTES = 4096
"""This many zeros within compressed pixels count as a missing block."""


def _count_trailing_zeros(data: bytes, start: int, end: int) -> int:
    """Return the number of zero bytes before `end`, down to `start`."""
    for stop in range(end, start, -_BLOCK_BYTES):
        block = data[max(start, stop - _BLOCK_BYTES) : stop]
        used = len(block.rstrip(b"\0"))
        if used:
            return end - stop + len(block) - used
    return end - start


def _check_zero_blocks(data: bytes) -> None:
    """Refuse zeros that begin and end at block boundaries of a file, between nonzero bytes.

    Raises:
        ImageFileError: There are some. Black pixels on such boundaries are one in millions.
    """
    blocks = len(data) // ZERO_BLOCK_BYTES
    values = np.frombuffer(data, np.uint64, blocks * ZERO_BLOCK_BYTES // 8)
    empty = values.reshape(blocks, ZERO_BLOCK_BYTES // 8).max(axis=1) == 0
    changes = np.flatnonzero(np.diff(empty)) + 1
    for first, end in pairwise(changes.tolist()):
        start, stop = first * ZERO_BLOCK_BYTES, end * ZERO_BLOCK_BYTES
        if empty[first] and data[start - 1] and data[stop]:
            raise ImageFileError(
                f"has {stop - start} zeros from byte {start} on: missing blocks",
                remedy=DECLARE_FLAT_END,
            )


def check_missing_blocks(data: bytes, info: ImageInfo) -> None:
    """Refuse uncompressed pixels that end in rows of zeros or have blocks of zeros.

    A copy that allocates the file first (SMB, many FTP servers) leaves zeros where nothing has
    been written yet, and uncompressed formats have no checksum.

    Raises:
        ImageFileError: Blocks of the file seem to be missing.
    """
    if not info.pixel_ranges or not info.row_bytes:
        return
    _check_zero_blocks(data)
    zeros = 0
    for start, end in sorted(info.pixel_ranges, reverse=True):
        count = _count_trailing_zeros(data, start, end)
        zeros += count
        if count < end - start:
            break
    else:
        raise ImageFileError(
            "holds nothing but zeros: black, or an incomplete copy", remedy=DECLARE_FLAT_END
        )
    if zeros >= ZERO_ROWS_MAX * info.row_bytes:
        raise ImageFileError(
            f"ends in {zeros // info.row_bytes} rows of zeros: black, or an incomplete copy",
            remedy=DECLARE_FLAT_END,
        )
