"""Severstal's CSV of run-length codes, in both column forms.

`ImageId,ClassId,EncodedPixels`, one row per picture and class, or
`ImageId_ClassId,EncodedPixels` with `name.jpg_3`, one row per picture and every class, empty
where the class is not in it. Codes are column-major and count from 1. The pictures stand in a
folder beside the CSV file; those without a code are clean.

Source: kaggle.com/c/severstal-steel-defect-detection/data
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.datasets.files import (
    files_in,
    folders_in,
    is_picture,
    natural,
    pictures_below,
    split_of,
)
from edgeinspect.datasets.masks import MAX_CLASSES, MaskRuns
from edgeinspect.datasets.naming import named_classes
from edgeinspect.datasets.records import DataSet, Hints, Record
from edgeinspect.datasets.tables import header_of, read_rows
from edgeinspect.errors import DataError

NEEDS = (
    "a CSV file with the columns ImageId,ClassId,EncodedPixels or ImageId_ClassId,EncodedPixels, "
    "and its pictures in train_images/ or images/ beside it"
)
RANK = 20

_FOLDERS = ("train_images", "images", "train", "imgs", "image")
_EMPTY = frozenset(("", "-1", "nan", "none", "0"))


@dataclass(slots=True)
class _Table:
    """The rows of the CSV file by picture."""

    codes: dict[str, dict[int, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    """Picture to class id to (code, where it stands)."""
    groups: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str | None] = field(default_factory=dict)


def recognise(path: Path) -> bool:
    """True for such a CSV file, or a folder with one."""
    return bool(_tables(path))


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records: every picture of the folder, and every one that the CSV names."""
    csv_path = _the_table(path)
    root = csv_path.parent
    table = _read_table(csv_path)
    folder = _picture_folder(root, table)
    found = {file.name: file for file in pictures_below(folder)}
    top = max((class_id for codes in table.codes.values() for class_id in codes), default=0)
    classes = hints.classes or named_classes(root)
    if len(classes) < top:
        classes = (*classes, *(f"class_{i}" for i in range(len(classes) + 1, top + 1)))
    records = []
    for name in sorted({*found, *table.codes}, key=lambda name: natural(Path(name))):
        codes = {i: at for i, at in sorted(table.codes.get(name, {}).items()) if at[0]}
        ids = tuple(codes)
        records.append(Record(
            name, found.get(name, folder / name), bool(ids),
            classes[ids[0] - 1] if len(ids) == 1 else None,
            table.groups.get(name) or name, table.splits.get(name),
            MaskRuns(tuple((i, code, where) for i, (code, where) in codes.items())), ids,
        ))  # fmt: skip
    return DataSet(root, "severstal", classes, tuple(records), has_masks=True)


def _tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else files_in(path)
    return [file for file in files if file.suffix.lower() == ".csv" and _is_table(file)]


def _is_table(file: Path) -> bool:
    columns = {cell.lower() for cell in header_of(file)}
    return "encodedpixels" in columns and bool(columns & {"imageid", "imageid_classid"})


def _the_table(path: Path) -> Path:
    tables = _tables(path)
    named = [file for file in tables if file.name.lower() == "train.csv"]
    tables = named or [file for file in tables if "submission" not in file.name.lower()] or tables
    if len(tables) > 1:
        raise DataError(
            f"holds {len(tables)} tables of run-length codes", where=str(path),
            remedy=f"Give one of them: {', '.join(str(file) for file in tables)}",
        )  # fmt: skip
    return tables[0]


def _read_table(path: Path) -> _Table:
    table = _Table()
    for line, cells in enumerate(read_rows(path), 2):
        row = {key.lower(): value for key, value in cells.items()}
        where = f"{path.name}:{line}"
        name, class_id = _key(row, where)
        code = row["encodedpixels"]
        code = "" if code.lower() in _EMPTY else code
        codes = table.codes[name]
        if class_id is None:
            if code:
                raise DataError("has a code but no class", where=where)
        elif class_id in codes:
            raise DataError(
                f"gives {name} class {class_id} again, after {codes[class_id][1]}", where=where,
                remedy="Join the codes of one picture and class in one row",
            )  # fmt: skip
        else:
            codes[class_id] = (code, where)
        table.groups[name] = row.get("group") or row.get("coil") or ""
        table.splits[name] = split_of([row.get("split", "")])
    return table


def _key(row: dict[str, str], where: str) -> tuple[str, int | None]:
    """The picture and class that a row is about; no class where an empty row names none."""
    if "imageid_classid" in row:
        name, _, word = row["imageid_classid"].rpartition("_")
    else:
        name, word = row["imageid"], row.get("classid", "1")
    if not name:
        raise DataError(
            "names no picture", where=where, remedy="Write ImageId_ClassId as name.jpg_1"
        )
    if word.lower() in ("", "nan", "0", "-1"):
        return name, None
    number = word.removesuffix(".0")
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= MAX_CLASSES):
        raise DataError(
            f"ClassId is {word[:20]!r}", where=where, remedy=f"Classes are 1 to {MAX_CLASSES}"
        )
    return name, int(number)


def _picture_folder(root: Path, table: _Table) -> Path:
    """The folder that holds most of the named pictures; the usual names first."""
    inside = {folder.name.lower(): folder for folder in folders_in(root)}
    usual = [inside[name] for name in _FOLDERS if name in inside]
    others = [folder for folder in inside.values() if folder not in usual]
    some = list(table.codes)[:200]
    for folder in [*usual, *others, root]:
        if any((folder / name).is_file() for name in some):
            return folder
    if usual:
        return usual[0]
    if any(is_picture(file.name) for file in files_in(root)):
        return root
    raise DataError(
        "has none of its pictures beside it", where=str(root),
        remedy=f"Put them into {_FOLDERS[0]}/ or {_FOLDERS[1]}/ beside the CSV file",
    )  # fmt: skip
