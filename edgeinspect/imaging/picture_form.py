"""What a picture file says of its pixels, and whether it is whole: before it is decoded.

OpenCV decodes what it can get and says little: of a cut JPEG it makes grey, of a page or a
frame it takes the first, and what it does with a palette, an inverted TIFF or transparency
depends on its version. So the file itself is read here, and what has no one meaning is refused.

One module per format (`form_png` and so on) finds the form, `formats` knows them all, and this
one has what they share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

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
    """How many of 16 bits are used, where the file itself says so: 10, 12, 14 or 16."""
    alpha: bool = False
    """It may have transparent pixels: the decoded ones are looked at."""
    turn: int = 1
    """EXIF orientation, 1 to 8."""
    inverted: bool = False
    """0 is white (TIFF). The decoder is not told."""
    unpacked: bool = False
    """Its pixels are not compressed: they are taken as they lie (TIFF, PNM)."""
    row_bytes: int = 0
    """Of uncompressed pixels; 0 if they are compressed."""
    raw: tuple[tuple[int, int], ...] = ()
    """(first byte, end) of the uncompressed pixels, in the order of the file."""


class FormError(DataError):
    """A file cannot be read as a picture, in words; the caller says which file."""


class RefusedError(FormError):
    """A whole picture that has no one meaning here. (As a mask it may have one.)"""


def cut_off(what: str) -> FormError:
    """The error for a file of which a part is missing."""
    return FormError(f"is cut off ({what})", remedy="Copy it again")


def refused(what: str, remedy: str = SAVE_ANEW) -> RefusedError:
    """The error for a picture that has no one meaning here."""
    return RefusedError(what, remedy=remedy)


def damaged(name: str) -> FormError:
    """The error for a header that makes no sense."""
    return FormError(f"is not a picture, or is damaged: its {name} header makes no sense")


def exif_turn(data: bytes) -> int:
    """The orientation (1 to 8) in EXIF data, which is a TIFF without pixels; 1 if there is none."""
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for number in range(min(count, 512)):
            tag, kind, items = struct.unpack_from(order + "HHI", data, at + 2 + 12 * number)
            if (tag, kind, items) == (0x112, 3, 1):
                (turn,) = struct.unpack_from(order + "H", data, at + 2 + 12 * number + 8)
                return turn if 1 <= turn <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1


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


def check_zero_end(data: bytes, form: Form) -> None:
    """Refuse uncompressed pixels that end in rows of zeros, though there are others.

    A copy that makes room first and fills it afterwards (SMB, many FTP servers) leaves zeros
    where it has not been yet, and the format has no means to tell them from black.

    Raises:
        FormError: It ends so.
    """
    if not form.raw or not form.row_bytes:
        return
    zeros = 0
    for start, end in sorted(form.raw, reverse=True):
        found = _zeros_at_end(data, start, end)
        zeros += found
        if found < end - start:
            break
    else:
        raise FormError("holds nothing but zeros: black, or a copy that has not arrived",
                        remedy=_SAY_SO)  # fmt: skip
    if zeros >= ZERO_ROWS * form.row_bytes:
        raise FormError(
            f"ends in {zeros // form.row_bytes} rows of zeros: black, or a copy that has not "
            "arrived",
            remedy=_SAY_SO,
        )
