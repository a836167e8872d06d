"""Pictures of which nobody has said how deep they are, before the first of them is judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging.picture_file import decode_picture
from edgeinspect.imaging.reading import DECLARATION, bits_for
from edgeinspect.imaging.stored_depth import stored_depth
from edgeinspect.regular_file import printable

_LOOKED_INTO = 256
_DECODED = 16
_NAMED = 3


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
