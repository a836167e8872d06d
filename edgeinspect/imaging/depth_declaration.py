"""Pictures of which nobody has said how deep they are, or something else than they show."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.stored_bit_depth import read_stored_bit_depth
from edgeinspect.imaging.image_file import read_native
from edgeinspect.imaging.read_settings import BIT_DEPTHS, DECLARATION_FILE, smallest_bit_depth
from edgeinspect.system import escape_name

_FILES_SAMPLED_MAX = 256
_FILES_DECODED_MAX = 16
_NAMED = 3
_WARNING_FILES_MIN = 3
"""So many pictures at least must speak against a declared depth."""
_UNUSED_BITS_MIN = 4


def check_depth_declared(paths: Sequence[Path], where: str) -> None:
    """Refuse pictures that need a declared depth: of 16 bits, or of 8 and of 16.

    Of a large folder, pictures spread evenly over it are looked at; any other is held to what
    was found when it is read.

    Args:
        paths: The pictures that are there.
        where: Their folder, for errors.

    Raises:
        DataError: Some have 16 bits. It says how many they seem to use.
    """
    some = _sample_evenly(paths, _FILES_SAMPLED_MAX)
    stored = [(path, one) for path in some if (one := read_stored_bit_depth(path)) is not None]
    deep = [path for path, one in stored if one.bits == 16]
    shallow = [path for path, one in stored if one.bits == 8]
    if not deep:
        return
    if shallow:
        raise DataError(
            f"{len(deep)} of {len(stored)} pictures have 16 bits ({_join_names(deep)}), the "
            "others 8 "
            f"({_join_names(shallow)})",
            where=where,
            remedy="A camera has one depth: take out those of the other, or say the right `bits`, "
            "so that only the others get no verdict",
        )
    looked = _sample_evenly(deep, _FILES_DECODED_MAX)
    top = max(map(_brightest_pixel, looked))
    bits = smallest_bit_depth(top)
    reason = f"the brightest pixel of {len(looked)} of them is {top}"
    guess = f"{reason}, so {bits}, or 16 if they are that dark" if bits < 16 else f"{reason}, so 16"
    raise DataError(
        f"holds pictures of 16 bits ({_join_names(deep)}), and it is not declared how many of them "
        "the camera uses",
        where=where,
        remedy=f"Say it with the option `bits`, or in {DECLARATION_FILE} there: {guess}",
    )


def declared_depth_warning(paths: Sequence[Path], bits: int) -> str:
    """Why a declared depth may be wrong, in words; empty if nothing speaks against it.

    Pictures of 12 bits that are read as 16 are nearly black, and a model finds nothing in them.
    Too small a depth needs no doubt: a pixel above it is an error.

    Args:
        paths: Pictures of one camera or set; a few are looked at, spread evenly.
        bits: What is declared.
    """
    if bits <= BIT_DEPTHS[0]:
        return ""
    some = _sample_evenly(paths, _FILES_SAMPLED_MAX)
    deep = [
        path for path in some if (one := read_stored_bit_depth(path)) is not None and one.bits == 16
    ]
    used = [
        all_bits
        for path in _sample_evenly(deep, _FILES_DECODED_MAX)
        if (all_bits := _used_bits_mask(path))
    ]
    if len(used) < _WARNING_FILES_MIN:
        return ""
    every = functools.reduce(operator.or_, used)
    if (
        every >> (bits - _UNUSED_BITS_MIN) or not every & 0b11
    ):  # the lowest are free: in the upper part
        return ""
    return (
        f"{bits} bits are declared, and none of {len(used)} pictures uses more than "
        f"{smallest_bit_depth(every)}: they are read nearly black, if it is not true"
    )


def _used_bits_mask(path: Path) -> int:
    """All values of a picture, or-ed; 0 if it cannot be read."""
    try:
        return int(np.bitwise_or.reduce(read_native(path, flat_end=True), axis=None))
    except DataError:
        return 0


def _brightest_pixel(path: Path) -> int:
    try:
        return int(read_native(path, flat_end=True).max(initial=0))
    except DataError:
        return 0


def _sample_evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly over their order."""
    if len(paths) <= count:
        return list(paths)
    return [paths[number * len(paths) // count] for number in range(count)]


def _join_names(paths: Sequence[Path]) -> str:
    names = ", ".join(escape_name(path.name) for path in paths[:_NAMED])
    return f"{names}, …" if len(paths) > _NAMED else names
