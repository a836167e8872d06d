"""Checks whether the bit depth of a folder's images is declared, and whether it is plausible."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.detection import read_stored_bit_depth
from edgeinspect.imaging.image_file import read_native
from edgeinspect.imaging.read_settings import BIT_DEPTHS, DECLARATION_FILE, smallest_bit_depth
from edgeinspect.system import escape_name

_FILES_SAMPLED_MAX = 256
_FILES_DECODED_MAX = 16
_NAMED = 3
_WARNING_FILES_MIN = 3
"""Fewest images that can contradict a declared depth."""
_UNUSED_BITS_MIN = 4


def check_depth_declared(paths: Sequence[Path], where: str) -> None:
    """Refuse images of 16 bits, whose depth must be declared.

    Of a large folder an even sample is checked; every image is checked again when it is read.

    Args:
        paths: All images of the folder.
        where: The folder, for errors.

    Raises:
        DataError: Some have 16 bits; the message suggests the depth to declare.
    """
    sample = _sample_evenly(paths, _FILES_SAMPLED_MAX)
    stored = [
        (path, depth) for path in sample if (depth := read_stored_bit_depth(path)) is not None
    ]
    deep = [path for path, depth in stored if depth.bits == 16]
    shallow = [path for path, depth in stored if depth.bits == 8]
    if not deep:
        return
    if shallow:
        raise DataError(
            f"{len(deep)} of {len(stored)} images have 16 bits ({_join_names(deep)}), the others 8 "
            f"({_join_names(shallow)})",
            where=where,
            remedy="A camera has one depth: remove the images of the other, or set `bits`, so that "
            "only the others get no verdict",
        )
    decoded = _sample_evenly(deep, _FILES_DECODED_MAX)
    top = max(map(_brightest_pixel, decoded))
    bits = smallest_bit_depth(top)
    reason = f"the brightest pixel of {len(decoded)} of them is {top}"
    guess = f"{reason}, so {bits}, or 16 if they are that dark" if bits < 16 else f"{reason}, so 16"
    raise DataError(
        f"holds images of 16 bits ({_join_names(deep)}), and the depth of the camera is not "
        "declared",
        where=where,
        remedy=f"Set the option `bits`, or `bits` in {DECLARATION_FILE} there: {guess}",
    )


def declared_depth_warning(paths: Sequence[Path], bits: int) -> str:
    """Return why a declared depth may be wrong; empty if it is plausible.

    Images of 12 bits that are read as 16 are nearly black, and a model finds no defect in them.
    A depth that is too small needs no warning: a pixel above it is an error.

    Args:
        paths: Images of one camera or data set, of which an even sample is checked.
        bits: The declared depth.
    """
    if bits <= BIT_DEPTHS[0]:
        return ""
    sample = _sample_evenly(paths, _FILES_SAMPLED_MAX)
    deep = [
        path
        for path in sample
        if (depth := read_stored_bit_depth(path)) is not None and depth.bits == 16
    ]
    masks = [
        mask for path in _sample_evenly(deep, _FILES_DECODED_MAX) if (mask := _used_bits_mask(path))
    ]
    if len(masks) < _WARNING_FILES_MIN:
        return ""
    used = functools.reduce(operator.or_, masks)
    if used >> (bits - _UNUSED_BITS_MIN) or not used & 0b11:  # the upper bits of 16 are used
        return ""
    return (
        f"{bits} bits are declared, and none of {len(masks)} images uses more than "
        f"{smallest_bit_depth(used)}: if that is the true depth, they are read nearly black"
    )


def _used_bits_mask(path: Path) -> int:
    """Return the bitwise or of all pixels; 0 if the image cannot be read."""
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
    """Return at most `count` of the paths, evenly spaced."""
    if len(paths) <= count:
        return list(paths)
    return [paths[number * len(paths) // count] for number in range(count)]


def _join_names(paths: Sequence[Path]) -> str:
    names = ", ".join(escape_name(path.name) for path in paths[:_NAMED])
    return f"{names}, …" if len(paths) > _NAMED else names
