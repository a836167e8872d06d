"""The depth of a whole set: found once over all of its pictures, or declared; never by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging import (
    BIT_DEPTHS,
    COLOR_AS_STORED,
    DECLARATION_FILE,
    ReadDeclaration,
    ReadSettings,
    StoredBitDepth,
    declared_depth_warning,
    read_native,
    read_stored_bit_depth,
    smallest_bit_depth,
)
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.system import escape_name

_MAX_NAMES = 3
_ONE_DEPTH_REMEDY = "A camera has one depth: take out those of the other"
_CLIPPED_PX = 16
"""So many pixels at the highest value of a smaller depth: they are clipped there."""
_SHALLOWER_BITS = 4
"""A picture that uses so many bits less than the set's depth is of another camera, or black."""
_UPPER_BITS = 14
_FULL_RATIO = 7 / 8
"""A set that fills 10 or 12 bits to so much is not one of 16 that is so dark."""
_OUTLIER_DIVISOR = 50
_MIN_OTHERS = 3
"""A depth that one picture of at least four shows, or one of fifty, is not the set's."""


@dataclass(frozen=True, slots=True)
class BitDepth:
    """How the pictures of a set are to be read."""

    bits: int
    """8, 10, 12, 14 or 16."""
    flat_end: bool = False
    """See `imaging.reading.ReadDeclaration`."""
    note: str = ""
    """What had to be found, in words; empty if there was nothing to find."""
    warning: str = ""
    """Why what is declared may be wrong; empty if nothing speaks against it."""

    def read_settings(self, color: str = COLOR_AS_STORED) -> ReadSettings:
        """The reading of each of its pictures."""
        return ReadSettings(color, self.bits, self.flat_end)


@dataclass(frozen=True, slots=True)
class _PixelLevels:
    """Of one deep picture; `top` is 0 if it cannot be read."""

    max_value: int = 0
    used_bits: int = 0
    """All of its values, or-ed."""
    at_max_px: int = 0
    """Pixels of the value `top`."""
    is_scaled_8_bit: bool = True
    """Each value is one of 8 bits, times 257: its upper byte is its lower one."""


def find_bit_depth(paths: Sequence[Path], declaration: ReadDeclaration, where: str) -> BitDepth:
    """The depth of a set's pictures: as declared, else found over all of them.

    Cameras store 10 or 12 bits in files of 16, so the file's own depth tells too little: it is
    the smallest of 8, 10, 12, 14 and 16 bits that holds the highest value of the set. Files
    that cannot be read are passed over: reading them will say why.

    Args:
        paths: All pictures of the set.
        said: What its `reading.yaml` says.
        where: The set, for errors.

    Raises:
        DataError: Its pictures are of several depths (they are named), of another than the
            declared one, or of one that cannot be told.
    """
    stored = list(map_in_threads(read_stored_bit_depth, paths))
    deep = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 16]
    shallow = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 8]
    if deep and shallow:
        raise _mixed_depths(("16 bits", deep), ("8 bits", shallow), where, _ONE_DEPTH_REMEDY)
    if not deep:
        if declaration.bits not in (None, 8) and shallow:
            raise DataError(
                f"says {declaration.bits} bits, and its pictures have 8: {_list_names(shallow)}",
                where=where,
                remedy=f"Mend {DECLARATION_FILE}",
            )
        return BitDepth(8, declaration.flat_end)
    told = _depth_in_headers(paths, stored, where)
    if declaration.bits is not None:
        if told not in (None, declaration.bits):
            raise DataError(
                f"says {declaration.bits} bits, and its pictures say {told}",
                where=where,
                remedy=f"Mend {DECLARATION_FILE}",
            )
        doubt = declared_depth_warning(paths, declaration.bits)
        note = f"{declaration.bits} bits, as declared" + (f"; but {doubt}" if doubt else "")
        return BitDepth(declaration.bits, declaration.flat_end, note, doubt)
    if told is not None:
        return BitDepth(told, declaration.flat_end, f"{told} bits, as each file says")
    return _depth_in_pixels(deep, declaration, where)


def _depth_in_headers(
    paths: Sequence[Path], stored: Sequence[StoredBitDepth | None], where: str
) -> int | None:
    by_depth: dict[int | None, list[Path]] = {}
    for path, one in zip(paths, stored, strict=True):
        if one is not None:
            by_depth.setdefault(one.significant_bits, []).append(path)
    if len(by_depth) > 1:
        (first, some), (second, others) = list(by_depth.items())[:2]
        words = [f"{bits} bits" if bits else "16 bits" for bits in (first, second)]
        raise _mixed_depths((words[0], some), (words[1], others), where, _ONE_DEPTH_REMEDY)
    return next(iter(by_depth))


def _depth_in_pixels(deep: Sequence[Path], declaration: ReadDeclaration, where: str) -> BitDepth:
    levels = list(map_in_threads(lambda path: _read_levels(path, declaration.flat_end), deep))
    top = max(one.max_value for one in levels)
    bits = smallest_bit_depth(top)
    if top and all(one.is_scaled_8_bit for one in levels):
        return BitDepth(16, declaration.flat_end, "16 bits, that are 8 times 257 each")
    other = [path for path, one in zip(deep, levels, strict=True) if _is_shallower(one, bits)]
    if other:
        rest = [path for path in deep if path not in set(other)]
        few = smallest_bit_depth(max(one.max_value for one in levels if _is_shallower(one, bits)))
        remedy = (
            f"{_ONE_DEPTH_REMEDY}, or, if these are only dark, write `bits: {bits}` into "
            f"{DECLARATION_FILE} there"
        )
        raise _mixed_depths((f"{few} bits", other), (f"{bits} bits", rest), where, remedy)
    _check_outliers(deep, levels, bits, where)
    used = int(np.bitwise_or.reduce([one.used_bits for one in levels]))
    low = (used & -used).bit_length() - 1 if used else 0
    full = bits < _UPPER_BITS and top >= _FULL_RATIO * (1 << bits)  # of 8 bits, shifted up
    if bits < BIT_DEPTHS[-1] and low >= 2 and not full:
        raise DataError(
            f"uses every {1 << low}th value up to {top}: {16 - low} bits in the upper part of "
            f"16 and dark, or {bits - low} in the upper part of {bits}",
            where=where,
            remedy=f"Write `bits: 16` or `bits: {bits}` into {DECLARATION_FILE} there",
        )
    note = f"{bits} bits, by the brightest pixel of {len(deep)} pictures ({top})"
    return BitDepth(bits, declaration.flat_end, note)


def _check_outliers(
    paths: Sequence[Path], levels: Sequence[_PixelLevels], bits: int, where: str
) -> None:
    """Refuse a depth that next to none of the pictures show: they may be of another camera.

    Raises:
        DataError: So it is.
    """
    if bits == BIT_DEPTHS[0]:
        return
    below = BIT_DEPTHS[BIT_DEPTHS.index(bits) - 1]
    odd = [path for path, one in zip(paths, levels, strict=True) if one.max_value >= 1 << below]
    rest = [path for path, one in zip(paths, levels, strict=True) if 0 < one.max_value < 1 << below]
    if len(rest) < _MIN_OTHERS or len(odd) > max(1, len(paths) // _OUTLIER_DIVISOR):
        return
    fits = smallest_bit_depth(max(one.max_value for one in levels if one.max_value < 1 << below))
    remedy = (
        f"{_ONE_DEPTH_REMEDY}, or, if the others are only dark, write `bits: {bits}` into "
        f"{DECLARATION_FILE} there"
    )
    raise _mixed_depths((f"{bits} bits", odd), (f"{fits} bits or fewer", rest), where, remedy)


def _is_shallower(one: _PixelLevels, bits: int) -> bool:
    """Whether a picture looks like one of a shallower camera than the set's."""
    if bits == 8 or not one.max_value or one.max_value >= 1 << (bits - 1):
        return False
    clipped = one.max_value in [(1 << each) - 1 for each in BIT_DEPTHS if each < bits]
    return one.max_value < 1 << (bits - _SHALLOWER_BITS) or (
        clipped and one.at_max_px >= _CLIPPED_PX
    )


def _read_levels(path: Path, flat_end: bool) -> _PixelLevels:
    try:
        picture = read_native(path, flat_end=flat_end)
    except DataError:
        return _PixelLevels()
    top = int(picture.max(initial=0))
    return _PixelLevels(
        top,
        int(np.bitwise_or.reduce(picture, axis=None)),
        int((picture == top).sum()),
        bool((picture >> 8 == picture & 255).all()),
    )


def _mixed_depths(
    one: tuple[str, list[Path]], other: tuple[str, list[Path]], where: str, remedy: str
) -> DataError:
    (few, some), (many, others) = sorted((one, other), key=lambda pair: len(pair[1]))
    return DataError(
        f"{len(some)} of {len(some) + len(others)} pictures have {few} ({_list_names(some)}), the "
        f"others {many} ({_list_names(others)})",
        where=where,
        remedy=remedy,
    )


def _list_names(paths: Sequence[Path]) -> str:
    names = ", ".join(escape_name(path.name) for path in paths[:_MAX_NAMES])
    return f"{names}, …" if len(paths) > _MAX_NAMES else names
