"""One row of an `index.csv` as a sample: its image, label, classes and mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import MaskReader, Sample
from edgeinspect.learning.datasets.layouts._index_cells import (
    parse_integer,
    parse_number,
    parse_split,
)
from edgeinspect.learning.datasets.layouts._index_columns import has_area_columns
from edgeinspect.learning.datasets.masks.sources import MaskEncoding, MaskFile, MaskPerClass
from edgeinspect.learning.datasets.tables import NumberedRow


@dataclass(frozen=True, slots=True)
class Index:
    """Rows of an `index.csv` whose image exists, and the classes of the set."""

    path: Path
    rows: list[NumberedRow]
    names: Mapping[int, str]
    """Line number to file name in `images/`."""
    classes: tuple[str, ...]
    good: tuple[str, ...]
    """Names of the good class besides the usual words."""

    def class_id_of(self, name: str) -> int:
        """Return the id of a class; 0 for a name that is not one."""
        return self.classes.index(name) + 1 if name in self.classes else 0


def _make_mask(
    mask: Path | None, encoding: MaskEncoding | None, labelled: int
) -> MaskReader | None:
    if mask is None:
        return None
    if encoding is None:
        return MaskPerClass(((labelled, mask),)) if labelled else MaskFile(mask, MaskEncoding({}))
    return MaskFile(mask, encoding)


def make_sample(
    index: Index,
    row: dict[str, str],
    line: int,
    files: dict[str, Path],
    encoding: MaskEncoding | None,
) -> Sample:
    """Return the sample of a row; without an encoding, its label says what white pixels are.

    Args:
        index: The row's index.
        row: Its cells by column.
        line: Its line in the file.
        files: Masks by the name of their image.
        encoding: Of the masks.

    Raises:
        DataError: A cell cannot be used.
    """
    where = f"{index.path}:{line}"
    name = index.names[line]
    mask = files.get(name)
    ids = {
        class_id
        for class_id, class_name in enumerate(index.classes, 1)
        if parse_number(row.get(f"{class_name}_px", ""), where) > 0
    }
    class_name = row.get("class_name") or None
    ids |= _listed_class_ids(index, row, where)
    labelled = _labelled_class_id(index, row, where)
    if labelled and labelled <= len(index.classes):
        ids.add(labelled)
        class_name = class_name or index.classes[labelled - 1]
    elif len(ids) == 1 and class_name is None:
        class_name = index.classes[min(ids) - 1]
    if "defective" in row or "class_id" in row or class_name is not None:
        defective = bool(labelled or ids)
    else:
        defective = bool(ids) or (mask is not None and not has_area_columns(row))
    return Sample(
        name,
        index.path.parent / "images" / name,
        defective,
        class_name,
        row.get("group") or name,
        parse_split(row.get("split", ""), where),
        _make_mask(mask, encoding, labelled),
        tuple(sorted(ids)),
    )


def _listed_class_ids(index: Index, row: dict[str, str], where: str) -> set[int]:
    """Return the ids in the cell `class_ids`."""
    ids = {parse_integer(word, where) for word in row.get("class_ids", "").split()}
    if unknown := ids - set(range(1, len(index.classes) + 1)):
        raise DataError(
            f"class_ids has {min(unknown)}, which is not a class",
            where=where,
            remedy=f"The set has {len(index.classes)} classes: list their names in classes.txt",
        )
    return ids


def _labelled_class_id(index: Index, row: dict[str, str], where: str) -> int:
    """Return the image-level class id; K + 1 for a defect of unknown class."""
    if row.get("class_id"):
        return parse_integer(row["class_id"], where)
    name = row.get("class_name", "")
    if name:
        return 0 if is_good_class(name, index.good) else index.class_id_of(name)
    if row.get("defective"):
        value = parse_integer(row["defective"], where)
        if value > 1:
            raise DataError(f"defective is {value}", where=where, remedy="Write 0 or 1")
        return value and len(index.classes) + 1
    return 0
