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

SAVE_ANEW = "Save it as PNG with 8 or 16 bits, grey or RGB, without transparency"


@dataclass(frozen=True, slots=True)
class Form:
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
    depth_bits: int | None = None
    """How many of 16 bits are used, where the file itself says so: 10, 12 or 14."""
    alpha: bool = False
    """It may have transparent pixels: the decoded ones are looked at."""
    turn: int = 1
    """EXIF orientation, 1 to 8."""
    inverted: bool = False
    """0 is white (TIFF). The decoder is not told."""
    unpacked: bool = False
    """Its pixels are not compressed: they are taken as they lie (TIFF; BMP of 16 and 32 bits)."""
    row_bytes: int = 0
    """Of uncompressed pixels; 0 if they are compressed."""
    raw: tuple[tuple[int, int], ...] = ()
    """(first byte, end) of the uncompressed pixels, in the order of the file."""


class FormError(DataError):
    """A file cannot be read as a picture, in words; the caller says which file."""


class RefusedError(FormError):
    """A whole picture that has no one meaning here."""

    as_mask = False
    """As a mask it has one: its decoder gives the values that are stored."""


def cut_off(what: str) -> FormError:
    """The error for a file of which a part is missing."""
    return FormError(f"is cut off ({what})", remedy="Copy it again")


def refused(what: str, remedy: str = SAVE_ANEW, *, as_mask: bool = False) -> RefusedError:
    """The error for a picture that has no one meaning here; see `RefusedError`."""
    error = RefusedError(what, remedy=remedy)
    error.as_mask = as_mask
    return error


def damaged(name: str) -> FormError:
    """The error for a header that makes no sense."""
    return FormError(f"is not a picture, or is damaged: its {name} header makes no sense")


def exif_turn(data: bytes) -> int | None:
    """The orientation (1 to 8) in EXIF data, which is a TIFF without pixels; None if it tells none.

    Writers store it as a whole number of any size, as other programs read it.
    """
    data = data.removeprefix(EXIF_START)  # some PNG writers leave it before
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for number in range(min(count, 512)):
            place = at + 2 + 12 * number
            tag, kind, items = struct.unpack_from(order + "HHI", data, place)
            if (tag, items) == (0x112, 1) and kind in _WHOLE:
                (turn,) = struct.unpack_from(order + _WHOLE[kind], data, place + 8)
                return turn if 1 <= turn <= 8 else None
    except (KeyError, struct.error):
        pass
    return None


EXIF_START = b"Exif\0\0"
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Types of whole numbers in EXIF and TIFF, as `struct` names them."""
_XMP_TURN = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([2-8])\s*[\"'<]")


def check_elsewhere(data: bytes, what: str) -> None:
    """Refuse an orientation that stands in XMP alone: some programs turn by it, others do not.

    Args:
        data: The XMP.
        what: Where it stands, for the error.

    Raises:
        RefusedError: It says 2 to 8.
    """
    found = _XMP_TURN.search(data)
    if found is not None:
        raise turned_elsewhere(int(found[1]), what)


def turned_elsewhere(turn: int, what: str) -> RefusedError:
    """The error for an orientation that only some programs heed."""
    return refused(
        f"has an orientation of {turn} in its {what} and none in EXIF: programs differ in whether "
        "they turn it",
        "Save it turned, or with its orientation in EXIF",
        as_mask=True,
    )


_SAY_SO = (
    "Copy it again; if such black is real, say `flat_end: true` in reading.yaml beside the "
    "pictures, or as the folder camera's option"
)
_BLOCK_BYTES = 1 << 20
ZERO_ROWS = 2
"""So many rows of zeros at a file's end are taken for a copy that has not arrived."""
ZERO_HOLE_BYTES = 4096
"""So many zeros within compressed pixels are taken for a block that has not arrived."""


def _zeros_at_end(data: bytes, start: int, end: int) -> int:
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
    blocks = len(data) // ZERO_HOLE_BYTES
    words = np.frombuffer(data, np.uint64, blocks * ZERO_HOLE_BYTES // 8)
    empty = words.reshape(blocks, ZERO_HOLE_BYTES // 8).max(axis=1) == 0
    changes = np.flatnonzero(np.diff(empty)) + 1
    for first, end in pairwise(changes.tolist()):
        start, stop = first * ZERO_HOLE_BYTES, end * ZERO_HOLE_BYTES
        if empty[first] and data[start - 1] and data[stop]:
            raise FormError(
                f"has {stop - start} zeros from byte {start} on: blocks that have not arrived",
                remedy=_SAY_SO,
            )


def check_zeros(data: bytes, form: Form) -> None:
    """Refuse uncompressed pixels that end in rows of zeros, though there are others, or have holes.

    A copy that makes room first and fills it afterwards (SMB, many FTP servers) leaves zeros
    where it has not been yet, and the format has no means to tell them from black.

    Raises:
        FormError: It has such zeros.
    """
    if not form.raw or not form.row_bytes:
        return
    _check_holes(data)
    zeros = 0
    for start, end in sorted(form.raw, reverse=True):
        found = _zeros_at_end(data, start, end)
        zeros += found
        if found < end - start:
            break
    else:
        raise FormError(
            "holds nothing but zeros: black, or a copy that has not arrived", remedy=_SAY_SO
        )
    if zeros >= ZERO_ROWS * form.row_bytes:
        raise FormError(
            f"ends in {zeros // form.row_bytes} rows of zeros: black, or a copy that has not "
            "arrived",
            remedy=_SAY_SO,
        )
