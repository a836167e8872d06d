"""The columns of an `index.csv`: which of them are labels, and the classes that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.layouts._index_cells import parse_integer
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES
from edgeinspect.learning.datasets.tables import NumberedRow

_LABEL_COLUMNS = frozenset(("class_name", "class_id", "class_ids", "defective"))
MASK_COLUMNS = ("mask_path", "mask_file", "mask_filename", "mask_name", "mask")
"""Columns with the mask file of an image, the clearest first."""
_KNOWN_COLUMNS = _LABEL_COLUMNS | {"image", "group", "split", *MASK_COLUMNS}
_BACKGROUND_NAMES = frozenset(("background", "_background_", "none", "nothing", "-"))
"""Names of id 0 besides words for good."""

_SIZE_COLUMNS = ("height_px", "width_px", "defect_px", "area_px")


def normalize_columns(row: dict[str, str]) -> dict[str, str]:
    """Return the row with known columns in lower case: `Image`, `Pit_PX`."""
    return {_normalize_column(key): value for key, value in row.items()}


def _normalize_column(key: str) -> str:
    low = key.casefold()
    if low in _KNOWN_COLUMNS or low in _SIZE_COLUMNS:
        return low
    return key[: -len("_px")] + "_px" if low.endswith("_px") else key


def check_label_columns(rows: list[NumberedRow], path: Path, has_masks: bool) -> None:
    """Check that there are label columns or masks; otherwise every image would be good."""
    columns = rows[0][1]
    if not has_masks and not _LABEL_COLUMNS & columns.keys() and not _area_classes(columns):
        raise DataError(
            f"has no label column: it has {', '.join(columns)[:80]}",
            where=str(path),
            remedy="Add class_name, class_id, defective or <class>_px, or put masks into masks/",
        )


def note_unlabelled_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> list[str]:
    """Return a note on rows without a label, which are good unless others are labelled good."""
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
            f"{number_of(len(empty), 'row has', 'rows have')} no label, but others are "
            f"labelled good (line {good[0]})",
            where=f"{path}:{empty[0]}",
            remedy="Are they good, or not labelled yet? Fill in the label, or remove the rows",
        )
    return [f"{len(empty)} of {len(rows)} rows have no label: taken as good"] if empty else []


def has_names_only(columns: Mapping[str, str]) -> bool:
    """Return whether classes are given by names only, without an order."""
    return "class_id" not in columns and not _area_classes(columns)


def _area_classes(columns: Iterable[str]) -> list[str]:
    return [
        key[: -len("_px")] for key in columns if key.endswith("_px") and key not in _SIZE_COLUMNS
    ]


def has_area_columns(row: dict[str, str]) -> bool:
    """Return whether a row has columns with defect areas."""
    return (
        any(key.endswith("_px") and key not in _SIZE_COLUMNS for key in row) or "defect_px" in row
    )


def classes_from_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> tuple[str, ...]:
    """Return the names of classes 1..K: by id and name, by `<class>_px` columns, or by name."""
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
    """Check that id 0 is good: ids that start at 0 would make the first defect class good."""
    good = is_good_class(name, hints.good_classes)
    if name and (good if class_id else not good and name.casefold() not in _BACKGROUND_NAMES):
        reason = "means good" if good else "does not mean good"
        raise DataError(
            f"class_id is {class_id}, but {name[:40]!r} {reason}",
            where=where,
            remedy="0 is good and defects start at 1: correct the ids, or name the good class "
            "with --good-class",
        )
