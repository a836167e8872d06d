"""Pictures of which nobody has said how deep they are, or something else than they show."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.stored_bit_depth import stored_depth
from edgeinspect.imaging.image_file import decode_picture
from edgeinspect.imaging.read_settings import BITS, DECLARATION, bits_for
from edgeinspect.system.regular_file import printable

_LOOKED_INTO = 256
_DECODED = 16
_NAMED = 3
_DOUBTED_FROM = 3
"""So many pictures at least must speak against a declared depth."""
_UNUSED_BITS = 4


def check_undeclared(paths: Sequence[Path], where: str) -> None:
    """Refuse pictures that need a declared depth: of 16 bits, or of 8 and of 16.

    Of a large folder, pictures spread evenly over it are looked at; any other is held to what
    was found when it is read.

    Args:
        paths: The pictures that are there.
        where: Their folder, for errors.

    Raises:
        DataError: Some have 16 bits. It says how many they seem to use.
    """
    some = _spread(paths, _LOOKED_INTO)
    stored = [(path, one) for path in some if (one := stored_depth(path)) is not None]
    deep = [path for path, one in stored if one.bits == 16]
    shallow = [path for path, one in stored if one.bits == 8]
    if not deep:
        return
    if shallow:
        raise DataError(
            f"{len(deep)} of {len(stored)} pictures have 16 bits ({_names(deep)}), the others 8 "
            f"({_names(shallow)})",
            where=where,
            remedy="A camera has one depth: take out those of the other, or say the right `bits`, "
            "so that only the others get no verdict",
        )
    looked = _spread(deep, _DECODED)
    top = max(map(_top, looked))
    bits = bits_for(top)
    reason = f"the brightest pixel of {len(looked)} of them is {top}"
    guess = f"{reason}, so {bits}, or 16 if they are that dark" if bits < 16 else f"{reason}, so 16"
    raise DataError(
        f"holds pictures of 16 bits ({_names(deep)}), and it is not declared how many of them "
        "the camera uses",
        where=where,
        remedy=f"Say it with the option `bits`, or in {DECLARATION} there: {guess}",
    )


def doubt_of(paths: Sequence[Path], bits: int) -> str:
    """Why a declared depth may be wrong, in words; empty if nothing speaks against it.

    Pictures of 12 bits that are read as 16 are nearly black, and a model finds nothing in them.
    Too small a depth needs no doubt: a pixel above it is an error.

    Args:
        paths: Pictures of one camera or set; a few are looked at, spread evenly.
        bits: What is declared.
    """
    if bits <= BITS[0]:
        return ""
    some = _spread(paths, _LOOKED_INTO)
    deep = [path for path in some if (one := stored_depth(path)) is not None and one.bits == 16]
    used = [all_bits for path in _spread(deep, _DECODED) if (all_bits := _used(path))]
    if len(used) < _DOUBTED_FROM:
        return ""
    every = functools.reduce(operator.or_, used)
    if every >> (bits - _UNUSED_BITS) or not every & 0b11:  # the lowest are free: in the upper part
        return ""
    return (
        f"{bits} bits are declared, and none of {len(used)} pictures uses more than "
        f"{bits_for(every)}: they are read nearly black, if it is not true"
    )


def _used(path: Path) -> int:
    """All values of a picture, or-ed; 0 if it cannot be read."""
    try:
        return int(np.bitwise_or.reduce(decode_picture(path, flat_end=True), axis=None))
    except DataError:
        return 0


def _top(path: Path) -> int:
    try:
        return int(decode_picture(path, flat_end=True).max(initial=0))
    except DataError:
        return 0


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly over their order."""
    if len(paths) <= count:
        return list(paths)
    return [paths[number * len(paths) // count] for number in range(count)]


def _names(paths: Sequence[Path]) -> str:
    names = ", ".join(printable(path.name) for path in paths[:_NAMED])
    return f"{names}, …" if len(paths) > _NAMED else names
