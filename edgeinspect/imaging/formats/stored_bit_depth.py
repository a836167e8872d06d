"""The bit depth of an image file by a few of its bytes, for folders with thousands of files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeinspect.imaging.formats import png, pnm, tiff
from edgeinspect.imaging.formats.image_info import ImageFileError
from edgeinspect.system import open_regular

_HEAD_BYTES = 4096
_DIRECTORY_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class StoredBitDepth:
    """The bit depth of one file."""

    bits: int
    """8 or 16, as decoded."""
    significant_bits: int | None = None
    """How many of 16 bits are used; None if the file does not state it."""


def read_stored_bit_depth(path: Path) -> StoredBitDepth | None:
    """Return the depth of a file; None if it cannot be read or is not an image."""
    try:
        with open_regular(path) as file:
            return _read_depth(file)
    except (OSError, ImageFileError, struct.error, IndexError):
        return None


def _read_depth(file: BinaryIO) -> StoredBitDepth | None:
    head = file.read(_HEAD_BYTES)
    if head[:8] == png.SIGNATURE:
        return StoredBitDepth(16 if head[24] == 16 else 8)
    if head[:3] == b"\xff\xd8\xff" or head[:2] == b"BM":
        return StoredBitDepth(8)
    if head[:4] in tiff.SIGNATURES:
        return _read_tiff_depth(file, head)
    if head[:2] in (b"P4", b"P5", b"P6"):
        return StoredBitDepth(*pnm.read_bit_depth(head))
    return None


def _read_tiff_depth(file: BinaryIO, head: bytes) -> StoredBitDepth | None:
    order = "<" if head[:1] == b"I" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    pointer, count_code, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + pointer, head, 8 if big else 4)
    file.seek(at)
    directory = file.read(_DIRECTORY_BYTES)
    (count,) = struct.unpack_from(order + count_code, directory)
    first = struct.calcsize(count_code)
    for number in range(min(count, 4096)):
        place = first + entry_bytes * number
        tag, kind, items = struct.unpack_from(order + "HH" + pointer, directory, place)
        if (tag, kind) != (258, 3):
            continue
        value = place + entry_bytes - (8 if big else 4)
        if items * 2 > (8 if big else 4):
            (at,) = struct.unpack_from(order + pointer, directory, value)
            file.seek(at)
            directory, value = file.read(2), 0
        (bits,) = struct.unpack_from(order + "H", directory, value)
        return StoredBitDepth(16 if bits > 8 else 8, bits if 8 < bits < 16 else None)
    return StoredBitDepth(8)
