"""What a picture file says of its pixels, and whether it is whole: before it is decoded.

OpenCV decodes what it can get and says little: of a cut JPEG it makes grey, of a page or a
frame it takes the first, and what it does with a palette, an inverted TIFF or transparency
depends on its version. So the file itself is read here, and what has no one meaning is refused.

One module per format (`form_png` and so on) finds the form, `formats` knows them all, and this
one has what they share.
"""

from __future__ import annotations

import re
import struct
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
    """As stored, before it is turned."""
    channels: int
    """1 or 3, as shown; transparency does not count."""
    bits: int = 8
    """8 or 16: of a sample, as decoded."""
    significant_bits: int | None = None
    """How many of 16 bits are used, where the file itself says so: 10, 12 or 14."""
    has_alpha: bool = False
    """It may have transparent pixels: the decoded ones are looked at."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    is_inverted: bool = False
    """0 is white (TIFF). The decoder is not told."""
    is_uncompressed: bool = False
    """Its pixels are not compressed: they are taken as they lie (TIFF; BMP of 16 and 32 bits)."""
    row_bytes: int = 0
    """Of uncompressed pixels; 0 if they are compressed."""
    pixel_ranges: tuple[tuple[int, int], ...] = ()
    """(first byte, end) of the uncompressed pixels, in the order of the file."""


class ImageFileError(DataError):
    """A file cannot be read as a picture, in words; the caller says which file."""


class UnsupportedImageError(ImageFileError):
    """A whole picture that has no one meaning here."""

    is_valid_mask = False
    """As a mask it has one: its decoder gives the values that are stored."""


def truncated(what: str) -> ImageFileError:
    """The error for a file of which a part is missing."""
    return ImageFileError(f"is cut off ({what})", remedy="Copy it again")


def unsupported(
    what: str, remedy: str = SAVE_AS_PNG, *, is_valid_mask: bool = False
) -> UnsupportedImageError:
    """The error for a picture that has no one meaning here; see `UnsupportedImageError`."""
    error = UnsupportedImageError(what, remedy=remedy)
    error.is_valid_mask = is_valid_mask
    return error


def invalid_header(name: str) -> ImageFileError:
    """The error for a header that makes no sense."""
    return ImageFileError(f"is not a picture, or is damaged: its {name} header makes no sense")


def exif_orientation(data: bytes) -> int | None:
    """The orientation (1 to 8) in EXIF data, which is a TIFF without pixels; None if it tells none.

    Writers store it as a whole number of any size, as other programs read it.
    """
    data = data.removeprefix(EXIF_SIGNATURE)  # some PNG writers leave it before
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for number in range(min(count, 512)):
            place = at + 2 + 12 * number
            tag, kind, items = struct.unpack_from(order + "HHI", data, place)
            if (tag, items) == (0x112, 1) and kind in _INTEGER_CODES:
                (turn,) = struct.unpack_from(order + _INTEGER_CODES[kind], data, place + 8)
                return turn if 1 <= turn <= 8 else None
    except (KeyError, struct.error):
        pass
    return None


EXIF_SIGNATURE = b"Exif\0\0"
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Types of whole numbers in EXIF and TIFF, as `struct` names them."""
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([2-8])\s*[\"'<]")


def check_xmp_orientation(data: bytes, what: str) -> None:
    """Refuse an orientation that stands in XMP alone: some programs turn by it, others do not.

    Args:
        data: The XMP.
        what: Where it stands, for the error.

    Raises:
        RefusedError: It says 2 to 8.
    """
    found = _XMP_ORIENTATION.search(data)
    if found is not None:
        raise ambiguous_orientation(int(found[1]), what)


def ambiguous_orientation(orientation: int, what: str) -> UnsupportedImageError:
    """The error for an orientation that only some programs heed."""
    return unsupported(
        f"has an orientation of {orientation} in its {what} and none in EXIF: programs differ "
        "in whether "
        "they turn it",
        "Save it turned, or with its orientation in EXIF",
        is_valid_mask=True,
    )


_DECLARE_FLAT_END = (
    "Copy it again; if such black is real, say `flat_end: true` in reading.yaml beside the "
    "pictures, or as the folder camera's option"
)
_BLOCK_BYTES = 1 << 20
ZERO_ROWS_MAX = 2
"""So many rows of zeros at a file's end are taken for a copy that has not arrived."""
ZERO_BLOCK_BYTES = 4096
"""So many zeros within compressed pixels are taken for a block that has not arrived."""


def _count_trailing_zeros(data: bytes, start: int, end: int) -> int:
    """How many of the bytes before `end` are 0, down to `start`."""
    for stop in range(end, start, -_BLOCK_BYTES):
        part = data[max(start, stop - _BLOCK_BYTES) : stop]
        kept = len(part.rstrip(b"\0"))
        if kept:
            return end - stop + len(part) - kept
    return end - start


def _check_holes(data: bytes) -> None:
    """Refuse zeros that begin and end where blocks of a file do, between bytes that are none.

    Raises:
        FormError: There are some. Black that happens to lie so is one in millions.
    """
    blocks = len(data) // ZERO_BLOCK_BYTES
    words = np.frombuffer(data, np.uint64, blocks * ZERO_BLOCK_BYTES // 8)
    empty = words.reshape(blocks, ZERO_BLOCK_BYTES // 8).max(axis=1) == 0
    changes = np.flatnonzero(np.diff(empty)) + 1
    for first, end in pairwise(changes.tolist()):
        start, stop = first * ZERO_BLOCK_BYTES, end * ZERO_BLOCK_BYTES
        if empty[first] and data[start - 1] and data[stop]:
            raise ImageFileError(
                f"has {stop - start} zeros from byte {start} on: blocks that have not arrived",
                remedy=_DECLARE_FLAT_END,
            )


def check_missing_blocks(data: bytes, info: ImageInfo) -> None:
    """Refuse uncompressed pixels that end in rows of zeros, though there are others, or have holes.

    A copy that makes room first and fills it afterwards (SMB, many FTP servers) leaves zeros
    where it has not been yet, and the format has no means to tell them from black.

    Raises:
        FormError: It has such zeros.
    """
    if not info.pixel_ranges or not info.row_bytes:
        return
    _check_holes(data)
    zeros = 0
    for start, end in sorted(info.pixel_ranges, reverse=True):
        found = _count_trailing_zeros(data, start, end)
        zeros += found
        if found < end - start:
            break
    else:
        raise ImageFileError(
            "holds nothing but zeros: black, or a copy that has not arrived",
            remedy=_DECLARE_FLAT_END,
        )
    if zeros >= ZERO_ROWS_MAX * info.row_bytes:
        raise ImageFileError(
            f"ends in {zeros // info.row_bytes} rows of zeros: black, or a copy that has not "
            "arrived",
            remedy=_DECLARE_FLAT_END,
        )
