"""What a person says of frames that a line has judged: a CSV file.

    frame,label,mask
    strip.top.1763715600000.12,good,
    strip.top.1763715600000.19,scratch,masks/19.png
    strip.top.1763715600000.44,drop,

`good` and `drop` (leave the frame out) are words, in capitals or not; anything else is a class,
but for other names of good pictures (`ok`), which are refused. `mask` is a picture
beside the CSV file, white where the defect is. Rows with an empty label, and other columns,
are passed over: so the `labels.csv` of an export can be filled in and given back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.tables import read_rows

GOOD, DROP = "good", "drop"


@dataclass(frozen=True, slots=True)
class Correction:
    """One frame's."""

    label: str
    """`GOOD`, `DROP` or a class."""
    mask: Path | None = None


def read_corrections(path: Path) -> Mapping[str, Correction]:
    """Corrections by the frame's name.

    Raises:
        DataError: Unreadable, without the columns, or two rows contradict each other.
    """
    found: dict[str, Correction] = {}
    rows = read_rows(path, allow_short_rows=True)
    if rows and not {"frame", "label"} <= set(rows[0]):
        raise DataError(
            "has no columns frame and label",
            where=str(path),
            remedy="Begin it with: frame,label,mask",
        )
    for line, row in enumerate(rows, 2):
        if not row["label"]:
            continue
        where = f"{path.name}:{line}"
        name = _frame_name(row["frame"])
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask is not None and not os.path.isfile(mask):  # a name may be too long
            raise DataError(f"there is no mask {row['mask']}", where=where)
        said = Correction(_parse_label(row["label"], where), mask)
        if mask is not None and said.label in (GOOD, DROP):
            raise DataError(f"a frame that is {said.label} has no mask", where=where)
        if found.setdefault(name, said) != said:
            raise DataError(f"says something else of {name} than a row before", where=where)
    return found


def _parse_label(text: str, where: str) -> str:
    """The label of a row: the two words in any case.

    Raises:
        DataError: It is another name of good pictures, and would be a defect.
    """
    low = text.casefold()
    if low in (GOOD, DROP):
        return low
    if is_good_class(text):
        raise DataError(
            f"'{text[:40]}' is a name of good pictures, and no class of defects",
            where=where,
            remedy=f"Write {GOOD}",
        )
    return text


def _frame_name(text: str) -> str:
    """A frame's name, whether or not the picture's suffix was written with it."""
    stem, dot, suffix = text.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else text
