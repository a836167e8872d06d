"""The depth of a whole set: found once over all of its pictures, or declared; never by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.stored_bit_depth import StoredDepth, stored_depth
from edgeinspect.imaging.image_file import decode_picture
from edgeinspect.imaging.read_settings import BITS, DECLARATION, STORED, Declared, Reading, bits_for
from edgeinspect.imaging.undeclared_depth import doubt_of
from edgeinspect.learning.datasets.parallel import in_threads
from edgeinspect.system.regular_file import printable

_NAMED = 3
_ONE_DEPTH = "A camera has one depth: take out those of the other"
_CLIPPED_PX = 16
"""So many pixels at the highest value of a smaller depth: they are clipped there."""
_SHALLOWER_BITS = 4
"""A picture that uses so many bits less than the set's depth is of another camera, or black."""
_UPPER_BITS = 14
_FULL_RATIO = 7 / 8
"""A set that fills 10 or 12 bits to so much is not one of 16 that is so dark."""
_ODD_SHARE = 50
_REST_MIN = 3
"""A depth that one picture of at least four shows, or one of fifty, is not the set's."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How the pictures of a set are to be read."""

    bits: int
    """8, 10, 12, 14 or 16."""
    flat_end: bool = False
    """See `imaging.reading.Declared`."""
    note: str = ""
    """What had to be found, in words; empty if there was nothing to find."""
    doubt: str = ""
    """Why what is declared may be wrong; empty if nothing speaks against it."""

    def reading(self, color: str = STORED) -> Reading:
        """The reading of each of its pictures."""
        return Reading(color, self.bits, self.flat_end)


@dataclass(frozen=True, slots=True)
class _Levels:
    """Of one deep picture; `top` is 0 if it cannot be read."""

    top: int = 0
    used: int = 0
    """All of its values, or-ed."""
    at_top: int = 0
    """Pixels of the value `top`."""
    spread: bool = True
    """Each value is one of 8 bits, times 257: its upper byte is its lower one."""


def find_depth(paths: Sequence[Path], said: Declared, where: str) -> Depth:
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
    stored = list(in_threads(stored_depth, paths))
    deep = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 16]
    shallow = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 8]
    if deep and shallow:
        raise _mixture(("16 bits", deep), ("8 bits", shallow), where, _ONE_DEPTH)
    if not deep:
        if said.bits not in (None, 8) and shallow:
            raise DataError(
                f"says {said.bits} bits, and its pictures have 8: {_names(shallow)}",
                where=where,
                remedy=f"Mend {DECLARATION}",
            )
        return Depth(8, said.flat_end)
    told = _told_by_files(paths, stored, where)
    if said.bits is not None:
        if told not in (None, said.bits):
            raise DataError(
                f"says {said.bits} bits, and its pictures say {told}",
                where=where,
                remedy=f"Mend {DECLARATION}",
            )
        doubt = doubt_of(paths, said.bits)
        note = f"{said.bits} bits, as declared" + (f"; but {doubt}" if doubt else "")
        return Depth(said.bits, said.flat_end, note, doubt)
    if told is not None:
        return Depth(told, said.flat_end, f"{told} bits, as each file says")
    return _found(deep, said, where)


def _told_by_files(
    paths: Sequence[Path], stored: Sequence[StoredDepth | None], where: str
) -> int | None:
    by_depth: dict[int | None, list[Path]] = {}
    for path, one in zip(paths, stored, strict=True):
        if one is not None:
            by_depth.setdefault(one.depth_bits, []).append(path)
    if len(by_depth) > 1:
        (first, some), (second, others) = list(by_depth.items())[:2]
        words = [f"{bits} bits" if bits else "16 bits" for bits in (first, second)]
        raise _mixture((words[0], some), (words[1], others), where, _ONE_DEPTH)
    return next(iter(by_depth))


def _found(deep: Sequence[Path], said: Declared, where: str) -> Depth:
    levels = list(in_threads(lambda path: _levels(path, said.flat_end), deep))
    top = max(one.top for one in levels)
    bits = bits_for(top)
    if top and all(one.spread for one in levels):
        return Depth(16, said.flat_end, "16 bits, that are 8 times 257 each")
    other = [path for path, one in zip(deep, levels, strict=True) if _is_other(one, bits)]
    if other:
        rest = [path for path in deep if path not in set(other)]
        few = bits_for(max(one.top for one in levels if _is_other(one, bits)))
        remedy = (
            f"{_ONE_DEPTH}, or, if these are only dark, write `bits: {bits}` into "
            f"{DECLARATION} there"
        )
        raise _mixture((f"{few} bits", other), (f"{bits} bits", rest), where, remedy)
    _check_odd(deep, levels, bits, where)
    used = int(np.bitwise_or.reduce([one.used for one in levels]))
    low = (used & -used).bit_length() - 1 if used else 0
    full = bits < _UPPER_BITS and top >= _FULL_RATIO * (1 << bits)  # of 8 bits, shifted up
    if bits < BITS[-1] and low >= 2 and not full:
        raise DataError(
            f"uses every {1 << low}th value up to {top}: {16 - low} bits in the upper part of "
            f"16 and dark, or {bits - low} in the upper part of {bits}",
            where=where,
            remedy=f"Write `bits: 16` or `bits: {bits}` into {DECLARATION} there",
        )
    note = f"{bits} bits, by the brightest pixel of {len(deep)} pictures ({top})"
    return Depth(bits, said.flat_end, note)


def _check_odd(paths: Sequence[Path], levels: Sequence[_Levels], bits: int, where: str) -> None:
    """Refuse a depth that next to none of the pictures show: they may be of another camera.

    Raises:
        DataError: So it is.
    """
    if bits == BITS[0]:
        return
    below = BITS[BITS.index(bits) - 1]
    odd = [path for path, one in zip(paths, levels, strict=True) if one.top >= 1 << below]
    rest = [path for path, one in zip(paths, levels, strict=True) if 0 < one.top < 1 << below]
    if len(rest) < _REST_MIN or len(odd) > max(1, len(paths) // _ODD_SHARE):
        return
    fits = bits_for(max(one.top for one in levels if one.top < 1 << below))
    remedy = (
        f"{_ONE_DEPTH}, or, if the others are only dark, write `bits: {bits}` into "
        f"{DECLARATION} there"
    )
    raise _mixture((f"{bits} bits", odd), (f"{fits} bits or fewer", rest), where, remedy)


def _is_other(one: _Levels, bits: int) -> bool:
    """Whether a picture looks like one of a shallower camera than the set's."""
    if bits == 8 or not one.top or one.top >= 1 << (bits - 1):
        return False
    clipped = one.top in [(1 << each) - 1 for each in BITS if each < bits]
    return one.top < 1 << (bits - _SHALLOWER_BITS) or (clipped and one.at_top >= _CLIPPED_PX)


def _levels(path: Path, flat_end: bool) -> _Levels:
    try:
        picture = decode_picture(path, flat_end=flat_end)
    except DataError:
        return _Levels()
    top = int(picture.max(initial=0))
    return _Levels(
        top,
        int(np.bitwise_or.reduce(picture, axis=None)),
        int((picture == top).sum()),
        bool((picture >> 8 == picture & 255).all()),
    )


def _mixture(
    one: tuple[str, list[Path]], other: tuple[str, list[Path]], where: str, remedy: str
) -> DataError:
    (few, some), (many, others) = sorted((one, other), key=lambda pair: len(pair[1]))
    return DataError(
        f"{len(some)} of {len(some) + len(others)} pictures have {few} ({_names(some)}), the "
        f"others {many} ({_names(others)})",
        where=where,
        remedy=remedy,
    )


def _names(paths: Sequence[Path]) -> str:
    names = ", ".join(printable(path.name) for path in paths[:_NAMED])
    return f"{names}, …" if len(paths) > _NAMED else names
