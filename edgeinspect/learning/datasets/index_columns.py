"""The columns of an `index.csv`: which there are, and what a cell of each may say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.files import SPLIT_NAMES
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES
from edgeinspect.learning.datasets.tables import NumberedRow

_KNOWN_COLUMNS = frozenset(("image", "class_name", "class_id", "defective", "group", "split"))
_LABEL_COLUMNS = frozenset(("class_name", "class_id", "defective"))
_BACKGROUND_NAMES = frozenset(("background", "_background_", "none", "nothing", "-"))
"""Names of id 0 besides those of good pictures."""

_SIZE_COLUMNS = ("height_px", "width_px", "defect_px", "area_px")


def normalize_columns(row: dict[str, str]) -> dict[str, str]:
    """The row, with the columns that have a meaning written as here: `Image`, `Pit_PX`."""
    return {_normalize_column(key): value for key, value in row.items()}


def _normalize_column(key: str) -> str:
    low = key.casefold()
    if low in _KNOWN_COLUMNS or low in _SIZE_COLUMNS:
        return low
    return key[: -len("_px")] + "_px" if low.endswith("_px") else key


def check_label_columns(rows: list[NumberedRow], path: Path, has_masks: bool) -> None:
    """Without a column of labels, nor masks, every picture would be good."""
    columns = rows[0][1]
    if not has_masks and not _LABEL_COLUMNS & columns.keys() and not _area_classes(columns):
        raise DataError(
            f"says of no picture whether it is defective: it has {', '.join(columns)[:80]}",
            where=str(path),
            remedy="Add class_name, class_id, defective or <class>_px, or put masks into masks/",
        )


def note_unlabelled_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> list[str]:
    """A note on rows with no label, which are good, as long as good ones are not named too."""
    if _area_classes(rows[0][1]) or not _LABEL_COLUMNS & rows[0][1].keys():
        return []
    empty = [line for line, row in rows if not any(row.get(key) for key in _LABEL_COLUMNS)]
    good = [
        line
        for line, row in rows
        if (row.get("class_name") and is_good_class(row["class_name"], hints.good_classes))
        or any(
            row.get(key) and not parse_integer(row[key], f"{path}:{line}")
            for key in ("class_id", "defective")
        )
    ]
    if empty and good:
        raise DataError(
            f"{len(empty)} rows have no label, and others say that they are good (line {good[0]})",
            where=f"{path}:{empty[0]}",
            remedy="Are they good, or not labelled yet? Fill in the label, or take the rows out",
        )
    return [f"{len(empty)} of {len(rows)} rows have no label: taken as good"] if empty else []


def has_names_only(columns: Mapping[str, str]) -> bool:
    """True where names are all that tells of the classes: in no order."""
    return "class_id" not in columns and not _area_classes(columns)


def _area_classes(columns: Iterable[str]) -> list[str]:
    return [
        key[: -len("_px")] for key in columns if key.endswith("_px") and key not in _SIZE_COLUMNS
    ]


def has_area_columns(row: dict[str, str]) -> bool:
    """True where a row says how many pixels of defects it has."""
    return (
        any(key.endswith("_px") and key not in _SIZE_COLUMNS for key in row) or "defect_px" in row
    )


def classes_from_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> tuple[str, ...]:
    """Names of the classes 1..K: by id and name, by `<class>_px` columns, or by name."""
    first = rows[0][1]
    if "class_id" in first:
        named: dict[int, str] = {}
        for line, row in rows:
            class_id = parse_integer(row["class_id"] or "0", f"{path}:{line}")
            if class_id > MAX_CLASSES:
                raise DataError(
                    f"class_id is {class_id}",
                    where=f"{path}:{line}",
                    remedy=f"Classes are 1 to {MAX_CLASSES}",
                )
            name = row.get("class_name") or f"class_{class_id}"
            _check_class_id_zero(class_id, row.get("class_name", ""), f"{path}:{line}", hints)
            if class_id and named.setdefault(class_id, name) != name:
                raise DataError(
                    f"class {class_id} is '{name}' here and '{named[class_id]}' above",
                    where=f"{path}:{line}",
                )
        top = max(named, default=0)
        return tuple(named.get(class_id, f"class_{class_id}") for class_id in range(1, top + 1))
    if areas := _area_classes(first):
        return tuple(areas)
    names = {row.get("class_name", "") for _line, row in rows} - {""}
    return tuple(sorted(name for name in names if not is_good_class(name, hints.good_classes)))


def _check_class_id_zero(class_id: int, name: str, where: str, hints: LayoutHints) -> None:
    """0 is good: ids that count the first kind of defect as 0 would make it so."""
    good = is_good_class(name, hints.good_classes)
    if name and (good if class_id else not good and name.casefold() not in _BACKGROUND_NAMES):
        says = "is the name of good pictures" if good else "does not say that it is good"
        raise DataError(
            f"class_id is {class_id}, and {name[:40]!r} {says}",
            where=where,
            remedy="0 is good and the defects count from 1: correct the ids, or say which is good "
            "with --good-class",
        )


def parse_integer(text: str, where: str) -> int:
    """A whole number, as a spreadsheet may write it: `2` or `2.0`."""
    number = parse_number(text, where)
    if number != int(number):
        raise DataError(
            f"{text[:20]!r} is not a whole number",
            where=where,
            remedy="A class or a label is one; a probability is none",
        )
    return int(number)


def parse_number(text: str, where: str) -> float:
    """A number from 0 on; 0 for an empty cell.

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
    """The split that a cell names; None for an empty one.

    Raises:
        DataError: A word that is no split.
    """
    if not text:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise DataError(
            f"there is no split {text[:20]!r}", where=where, remedy="Write train, val or test"
        )
    return SPLIT_NAMES[text.lower()]
