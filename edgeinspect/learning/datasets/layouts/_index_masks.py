"""The column `mask` of an `index.csv`: the mask file of each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.layouts._index_columns import MASK_COLUMNS
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.learning.datasets.tables import NumberedRow


def masks_of_rows(
    path: Path, rows: Sequence[NumberedRow], masks: Iterable[Path]
) -> dict[int, Path]:
    """Return the mask that each line names; none for a line whose cell is empty.

    A name is relative to the index or to `masks/`, with or without its suffix. Rows may share one.

    Args:
        path: The index.
        rows: Its rows, with known columns in lower case.
        masks: The files in `masks/`.

    Raises:
        DataError: A cell names no mask of the set, or several.
    """
    root = path.parent
    by_name: dict[str, set[Path]] = {}
    for mask in masks:
        for base in (root, root / "masks"):
            name = mask.relative_to(base)
            for each in (name, name.with_suffix("")):
                by_name.setdefault(normalize_name(each.as_posix()), set()).add(mask)
    found = {}
    for line, row in rows:
        cell = next((row[column] for column in MASK_COLUMNS if column in row), "")
        if not cell:
            continue
        exact = root / cell.replace("\\", "/")
        is_inside = ".." not in exact.parts and exact.is_relative_to(root)
        if is_inside and is_image_name(exact.name) and exact.is_file():
            found[line] = exact
            continue
        alike = sorted(by_name.get(normalize_name(cell), ()))
        if len(alike) != 1:
            some = " and ".join(str(mask.relative_to(root)) for mask in alike[:2])
            raise DataError(
                f"the mask {cell[:60]!r} " + (f"may be {some}" if alike else "does not exist"),
                where=f"{path}:{line}",
                remedy="Write the mask's path relative to index.csv (masks/a.png), leave the cell "
                "empty for an image without a mask, or rename the column",
            )
        found[line] = alike[0]
    return found
