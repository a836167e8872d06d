"""Manual corrections of a line's verdicts, in a CSV file.

    frame,label,mask
    strip.top.1763715600000.12,good,
    strip.top.1763715600000.19,scratch,masks/19.png
    strip.top.1763715600000.44,drop,

`good` and `drop` (skip the frame) are keywords in any case; everything else is a class, except
other words for good (`ok`), which are refused. `mask` is an image file beside the CSV file, white
where the defect is. Rows with an empty label and further columns are ignored, so the
`labels.csv` of an export can be filled in and passed back.
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
    """The correction of one frame."""

    label: str
    """`GOOD`, `DROP` or a class."""
    mask: Path | None = None


def read_corrections(path: Path) -> Mapping[str, Correction]:
    """Return corrections by frame name.

    Raises:
        DataError: Unreadable, without the columns, or two rows contradict each other.
    """
    found: dict[str, Correction] = {}
    rows = read_rows(path, allow_short_rows=True)
    if rows and not {"frame", "label"} <= set(rows[0]):
        raise DataError(
            "has no columns frame and label",
            where=str(path),
            remedy="Write frame,label,mask as its first line",
        )
    for line, row in enumerate(rows, 2):
        if not row["label"]:
            continue
        where = f"{path.name}:{line}"
        name = _frame_name(row["frame"])
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask is not None and not os.path.isfile(mask):  # False for a name that is too long
            raise DataError(f"mask {row['mask']} does not exist", where=where)
        correction = Correction(_parse_label(row["label"], where), mask)
        if mask is not None and correction.label in (GOOD, DROP):
            raise DataError(f"a frame that is {correction.label} has no mask", where=where)
        if found.setdefault(name, correction) != correction:
            raise DataError(f"contradicts an earlier row for {name}", where=where)
    return found


def _parse_label(text: str, where: str) -> str:
    """Return the label of a row, the two keywords in lower case.

    Raises:
        DataError: It is another word for good, which would count as a defect class.
    """
    low = text.casefold()
    if low in (GOOD, DROP):
        return low
    if is_good_class(text):
        raise DataError(
            f"'{text[:40]}' means good and is not a defect class",
            where=where,
            remedy=f"Write {GOOD}",
        )
    return text


def _frame_name(text: str) -> str:
    """Return a frame's name without an image suffix."""
    stem, dot, suffix = text.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else text
