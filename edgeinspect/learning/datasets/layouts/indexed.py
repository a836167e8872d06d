"""An indexed folder: `images/`, `masks/`, and an `index.csv` that says what each picture is.

Columns: `image` (a file in `images/`), and any of `class_name` and `class_id` (image-level; 0 is
good), `defective` (0 or 1), `group`, `split`, `<class>_px` (pixels of a class). A pixel of
`masks/STEM.png` is a class id, or white where `class_id` says which class. A picture without a
mask file has none to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good
from edgeinspect.learning.datasets.files import (
    natural,
    pictures_below,
)
from edgeinspect.learning.datasets.index_columns import (
    amount_of,
    check_columns,
    classes_of,
    empty_rows,
    has_areas,
    is_by_name,
    number_of,
    split_word,
    with_known_columns,
)
from edgeinspect.learning.datasets.masks.encoding import encoding_of
from edgeinspect.learning.datasets.masks.label_maps import listed, named_classes
from edgeinspect.learning.datasets.masks.masks import (
    BINARY,
    UNLABELLED,
    MaskFile,
    MaskPerClass,
    Meaning,
)
from edgeinspect.learning.datasets.masks.pairing import Pair, data_set
from edgeinspect.learning.datasets.masks.stored_values import Found, values_of
from edgeinspect.learning.datasets.name_matching import (
    FEW,
    MISSING_RATIO,
    Names,
    check_missing,
    fold,
)
from edgeinspect.learning.datasets.records import DataSet, Hints, Mask, Record, Skipped
from edgeinspect.learning.datasets.tables import Row, header_of, read_numbered

NEEDS = "an index.csv with a column `image`, and the folders images/ and (for masks) masks/"
RANK = 10


@dataclass(frozen=True, slots=True)
class _Index:
    path: Path
    rows: list[Row]
    names: Mapping[int, str]
    """Line to the picture in `images/` that it means."""
    classes: tuple[str, ...]
    good: tuple[str, ...]

    def id_of(self, name: str) -> int:
        return self.classes.index(name) + 1 if name in self.classes else 0


def recognise(path: Path) -> bool:
    """True for a folder with an index.csv that has an `image` column, and images/."""
    header = [name.casefold() for name in header_of(path / "index.csv")]
    return "image" in header and (path / "images").is_dir()


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records of the index, in the order of their names."""
    csv_path = path / "index.csv"
    rows = [(line, with_known_columns(row)) for line, row in read_numbered(csv_path)]
    if not rows:
        raise DataError("has no rows", where=str(csv_path))
    names, missing = _matched(csv_path, rows, path / "images")
    masks, images = path / "masks", path / "images"
    files = _by_stem(masks)
    check_columns(rows, csv_path, bool(files))
    classes = hints.classes or classes_of(rows, csv_path, hints) or named_classes(path)
    by_name = not hints.classes and is_by_name(rows[0][1])
    if by_name and set(listed_here := named_classes(path)) >= set(classes):
        classes, by_name = listed_here, False
    rows = [(line, row) for line, row in rows if line in names]
    if files and not classes:
        data = _told_by_masks(_Index(csv_path, rows, names, (), hints.good), files, hints)
        return data.without(*missing)
    index = _Index(csv_path, rows, names, classes, hints.good)
    found = values_of(list(files.values()))
    # Black and white masks beside labels: the label says which class the white is.
    white = len(classes) > 1 and set().union(*(v.values for v in found.values())) == {UNLABELLED}
    meaning = BINARY
    if files and not white:
        if by_name and len(classes) > 1:
            raise DataError(
                f"names the classes {', '.join(classes)}, and does not say which of them is which "
                "value of a mask",
                where=str(csv_path),
                remedy="Add a column class_id, or classes.txt beside it: a name a line from 1",
            )
        meaning = _meaning(found, classes, csv_path)
    records = [_record(index, row, line, files, None if white else meaning) for line, row in rows]
    _check_against(records, found, meaning, csv_path)
    if not classes and any(record.defective for record in records):
        classes = ("defect",)
    data = DataSet(path, "indexed", classes, _sorted(records), bool(files))
    there = {str(file.relative_to(images)) for file in pictures_below(images)}
    lost = there - {str(record.path.relative_to(images)) for record in records}
    left_out = [*missing, *(Skipped(name, "is not in the index", True) for name in sorted(lost))]
    data = data.without(*left_out).with_notes(*([] if files else empty_rows(rows, csv_path, hints)))
    return data.with_notes(f"{len(lost)} pictures are not in the index") if lost else data


def _check_against(records: Sequence[Record], found: Found, meaning: Meaning, path: Path) -> None:
    """Refuse an index whose labels number the classes otherwise than the masks do."""
    both = [
        (record, ids)
        for record in records
        if isinstance(record.mask, MaskFile)
        and not meaning.soft
        and record.class_ids
        and (ids := {meaning.ids.get(value, 0) for value in found[record.mask.path].values} - {0})
    ]
    against = [record for record, ids in both if not ids & set(record.class_ids)]
    if len(against) > max(FEW, MISSING_RATIO * len(both)):
        some = ", ".join(record.name for record in against[:3])
        raise DataError(
            f"{len(against)} of {len(both)} masks show none of the classes that their rows name "
            f"({some})",
            where=str(path),
            remedy="Number the classes alike in the index and in the masks",
        )


def _meaning(found: Found, classes: tuple[str, ...], path: Path) -> Meaning:
    """What the values mean under the index's classes; a few masks of other values are broken."""
    known = {*range(1, len(classes) + 1), UNLABELLED}
    odd = [file for file, one in found.items() if not one.values <= known]
    if len(odd) <= max(FEW, MISSING_RATIO * len(found)) < len(found):
        found = {file: one for file, one in found.items() if file not in odd}
    return encoding_of(found, listed(classes, str(path)), path.parent).meaning


def _matched(path: Path, rows: list[Row], images: Path) -> tuple[dict[int, str], list[Skipped]]:
    """The picture of each line, and the lines whose picture is not there."""
    files = [str(file.relative_to(images)) for file in pictures_below(images)]
    names, found, missing = Names(files, str(path)), {}, {}
    for line, row in rows:
        if not row["image"]:
            raise DataError("names no image", where=f"{path}:{line}")
        name = names.find(row["image"])
        if name is None:
            missing[row["image"]] = f"{path.name}:{line}"
        else:
            found[line] = name
    check_missing(missing, len(rows), path, images)
    return found, [
        Skipped(name, f"{row} names it, and there is no such picture")
        for name, row in missing.items()
    ]


def _by_stem(masks: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for mask in pictures_below(masks) if masks.is_dir() else []:
        key = fold(mask.stem)
        if key in found:
            raise DataError(
                f"two masks are of one picture: {found[key].name} and {mask.name}",
                where=str(masks),
                remedy="Keep one of them",
            )
        found[key] = mask
    return found


def _told_by_masks(index: _Index, files: dict[str, Path], hints: Hints) -> DataSet:
    """The records of an index that knows no classes: the masks say what is defective."""
    root = index.path.parent
    pairs, rows = [], {}
    for line, row in index.rows:
        record = _record(index, row, line, files, BINARY)
        mask = files.get(fold(record.path.stem))
        pairs.append(Pair(record.path, (("", mask),) if mask else ()))
        rows[record.path] = record
    data = data_set(root, "indexed", pairs, hints)
    records = []
    for seen in data.records:
        told = rows[seen.path]
        row_says = told.defective and "defective" in index.rows[0][1]
        records.append(
            replace(
                seen,
                name=told.name,
                group=told.group,
                split=told.split,
                defective=bool(seen.class_ids) or row_says,
            )
        )
    return data.with_records(_sorted(records))


def _mask(mask: Path | None, meaning: Meaning | None, labelled: int) -> Mask | None:
    if mask is None:
        return None
    if meaning is None:
        return MaskPerClass(((labelled, mask),)) if labelled else MaskFile(mask, Meaning({}))
    return MaskFile(mask, meaning)


def _sorted(records: list[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: natural(Path(record.name))))


def _record(
    index: _Index,
    row: dict[str, str],
    line: int,
    files: dict[str, Path],
    meaning: Meaning | None,
) -> Record:
    where = f"{index.path}:{line}"
    name = index.names[line]
    mask = files.get(fold(Path(name).stem))
    ids = {
        class_id
        for class_id, class_name in enumerate(index.classes, 1)
        if amount_of(row.get(f"{class_name}_px", ""), where) > 0
    }
    class_name = row.get("class_name") or None
    labelled = _labelled(index, row, where)
    if labelled and labelled <= len(index.classes):
        ids.add(labelled)
        class_name = class_name or index.classes[labelled - 1]
    if "defective" in row or "class_id" in row or class_name is not None:
        defective = bool(labelled or ids)
    else:
        defective = bool(ids) or (mask is not None and not has_areas(row))
    return Record(
        name,
        index.path.parent / "images" / name,
        defective,
        class_name,
        row.get("group") or name,
        split_word(row.get("split", ""), where),
        _mask(mask, meaning, labelled),
        tuple(sorted(ids)),
    )


def _labelled(index: _Index, row: dict[str, str], where: str) -> int:
    """The image-level class id; one beyond the classes for a defect of unknown class."""
    if row.get("class_id"):
        return number_of(row["class_id"], where)
    name = row.get("class_name", "")
    if name:
        return 0 if is_good(name, index.good) else index.id_of(name)
    if row.get("defective"):
        said = number_of(row["defective"], where)
        if said > 1:
            raise DataError(f"defective is {said}", where=where, remedy="It is 0 or 1")
        return said and len(index.classes) + 1
    return 0
