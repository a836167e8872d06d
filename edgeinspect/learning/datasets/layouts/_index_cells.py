"""The cells of an `index.csv`: numbers, and splits."""

from __future__ import annotations

import math

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES


def parse_integer(text: str, where: str) -> int:
    """Return an integer, also one that a spreadsheet wrote as `2.0`.

    Raises:
        DataError: Anything else.
    """
    number = parse_number(text, where)
    if number != int(number):
        raise DataError(
            f"{text[:20]!r} is not a whole number",
            where=where,
            remedy="Classes and labels are whole numbers, not probabilities",
        )
    return int(number)


def parse_number(text: str, where: str) -> float:
    """Return a non-negative number; 0 for an empty cell.

    Raises:
        DataError: Anything else.
    """
    try:
        number = float(text or 0) if "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{text[:20]!r} is not a number", where=where)
    if number < 0:
        raise DataError(f"{text[:20]} is below 0", where=where)
    return number


def parse_split(text: str, where: str) -> str | None:
    """Return the split that a cell names; None for an empty cell.

    Raises:
        DataError: It names no split.
    """
    if not text:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise DataError(
            f"{text[:20]!r} is not a split", where=where, remedy="Write train, val or test"
        )
    return SPLIT_NAMES[text.lower()]
