"""Severstal's CSV of run-length codes, in both column forms.

`ImageId,ClassId,EncodedPixels`, one row per picture and class, or
`ImageId_ClassId,EncodedPixels` with `name.jpg_3`, one row per picture and every class, empty
where the class is not in it. Codes are column-major and count from 1. The pictures stand in a
folder beside the CSV file; those without a code are clean.

Source: kaggle.com/c/severstal-steel-defect-detection/data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging.image_file import decode_picture
from edgeinspect.imaging.run_length import direction_of, parse_runs
from edgeinspect.learning.datasets.files import (
    files_in,
    folders_in,
    is_picture,
    natural,
    pictures_below,
    split_of,
    unique_names,
)
from edgeinspect.learning.datasets.masks.label_maps import named_classes
from edgeinspect.learning.datasets.masks.masks import MAX_CLASSES, MaskRuns
from edgeinspect.learning.datasets.name_matching import (
    CLEAN_TIMES,
    FEW,
    MISSING_RATIO,
    Names,
    check_missing,
)
from edgeinspect.learning.datasets.records import DataSet, Hints, Record, Skipped
from edgeinspect.learning.datasets.tables import header_of, read_numbered, read_table

NEEDS = (
    "a CSV file with the columns ImageId,ClassId,EncodedPixels or ImageId_ClassId,EncodedPixels, "
    "and its pictures in train_images/ or images/ beside it"
)
RANK = 20

_FOLDERS = ("train_images", "images", "train", "imgs", "image")
_LOOKED_UP = 200
_DECODED = 32
_EMPTY = frozenset(("", "-1", "nan", "none", "0"))


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    class_id: int | None
    code: str
    where: str
    group: str
    split: str | None


@dataclass(slots=True)
class _Labels:
    """What the table says of one picture."""

    codes: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Class id to (code, where it stands)."""
    group: str = ""
    split: str | None = None


def recognise(path: Path) -> bool:
    """True for such a CSV file, or a folder with one."""
    return bool(_tables(path))


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records: every picture of the folder, and every one that the CSV names."""
    csv_path = _the_table(path)
    root = csv_path.parent
    rows = _rows(csv_path)
    folder = _picture_folder(root, rows)
    files = pictures_below(folder)
    names = unique_names(folder, files)
    found = {name: file for file, name in names.items()}
    labels, missing = _by_picture(csv_path, rows, found, folder)
    top = max((i for each in labels.values() for i in each.codes), default=0)
    records = []
    classes = _classes(hints, root, top)
    for name in sorted(found, key=lambda name: natural(Path(name))):
        told = labels.get(name, _Labels())
        codes = {i: at for i, at in sorted(told.codes.items()) if at[0]}
        ids = tuple(codes)
        records.append(
            Record(
                name,
                found[name],
                bool(ids),
                classes[ids[0] - 1] if len(ids) == 1 else None,
                told.group or name,
                told.split,
                MaskRuns(tuple((i, code, where) for i, (code, where) in codes.items())),
                ids,
            )
        )
    _check_direction(csv_path, records)
    bare = [name for name in found if name not in labels]
    _check_beside(csv_path, bare)
    left_out = tuple(
        Skipped(name, f"{row} names it, and there is no such picture")
        for name, row in missing.items()
    )
    if _clean_have_rows(csv_path, bare, labels, len(found)):
        records = [record for record in records if record.name in labels]
        why = "has no row, and clean pictures have an empty one"
        left_out += tuple(Skipped(name, why) for name in bare)
        bare = []
    notes = [f"{len(bare)} of {len(found)} pictures have no row: taken as good"] if bare else []
    return DataSet(
        root,
        "severstal",
        classes,
        tuple(records),
        has_masks=True,
        notes=tuple(notes),
        left_out=left_out,
    )


def _classes(hints: Hints, root: Path, top: int) -> tuple[str, ...]:
    classes = hints.classes or named_classes(root)
    if classes and len(classes) < top:
        raise DataError(
            f"has ClassId {top}, and {len(classes)} classes are named",
            where=str(root),
            remedy="Name every class in classes.txt, one a line, in the order of the ids",
        )
    return tuple(classes) or tuple(f"class_{i}" for i in range(1, top + 1))


def _by_picture(
    path: Path, rows: Sequence[_Row], found: Mapping[str, Path], folder: Path
) -> tuple[dict[str, _Labels], dict[str, str]]:
    """The rows by the picture on disk that they mean, and the names that mean none."""
    names = Names(found, str(path))
    meant = {name: names.find(name) for name in dict.fromkeys(row.name for row in rows)}
    labels: dict[str, _Labels] = {}
    missing: dict[str, str] = {}
    for row in rows:
        name = meant[row.name]
        if name is None:
            missing.setdefault(row.name, row.where)
            continue
        told = labels.setdefault(name, _Labels())
        for what, before, now in (
            ("group", told.group, row.group),
            ("split", told.split, row.split),
        ):
            if before and now and before != now:
                raise DataError(
                    f"gives {name} the {what} {now}, and {before} above",
                    where=row.where,
                    remedy="A picture has one of each",
                )
        told.group, told.split = row.group or told.group, row.split or told.split
        if row.class_id is None:
            continue
        if row.class_id in told.codes:
            raise DataError(
                f"gives {name} class {row.class_id} again, after {told.codes[row.class_id][1]}",
                where=row.where,
                remedy="Join the codes of one picture and class in one row",
            )
        told.codes[row.class_id] = (row.code, row.where)
    check_missing(missing, len(meant), path, folder)
    return labels, missing


def _check_beside(path: Path, bare: Sequence[str]) -> None:
    """Refuse a table without rows of pictures to which another one beside it gives codes.

    Raises:
        DataError: So `val.csv` does to those that would be good by `train.csv`.
    """
    for other in _tables(path.parent) if bare else ():
        if other.name == path.name or "submission" in other.name.lower():
            continue
        names = Names(bare, str(other))
        coded = (row.name for row in _rows(other) if row.code)
        lost = {name for each in dict.fromkeys(coded) if (name := names.find(each)) is not None}
        if lost:
            raise DataError(
                f"has no row for {len(lost)} pictures that are defective in {other.name}: "
                f"{', '.join(sorted(lost)[:3])}",
                where=str(path),
                remedy="Join the tables, with train, val or test in a column `split`, or give each "
                "its own folder of pictures; move away what is no table of labels",
            )


def _clean_have_rows(
    path: Path, bare: Sequence[str], labels: Mapping[str, _Labels], total: int
) -> bool:
    """True where clean pictures have rows too: one without a row is not known to be clean.

    Raises:
        DataError: Those without are more than a few.
    """
    clean = [name for name, each in labels.items() if not any(at[0] for at in each.codes.values())]
    if clean and len(bare) > max(FEW, MISSING_RATIO * total):
        raise DataError(
            f"has empty codes for clean pictures, as {clean[0]}, and no row for {len(bare)} "
            f"others: {', '.join(bare[:3])}, …",
            where=str(path),
            remedy="Give every picture its row, or move those without one away",
        )
    return bool(bare) and len(clean) >= CLEAN_TIMES * len(bare)


def _check_direction(path: Path, records: Sequence[Record]) -> None:
    """Refuse a table whose codes run along the rows: its masks would be noise."""
    votes: Counter[str] = Counter()
    coded = [record for record in records if record.defective]
    for record in coded[:: max(1, len(coded) // _DECODED)][:_DECODED]:
        try:
            height, width = decode_picture(record.path).shape[:2]
            codes = record.mask.codes if isinstance(record.mask, MaskRuns) else ()
            found = [direction_of(parse_runs(code), height, width) for _id, code, _where in codes]
        except DataError:  # said where the picture is used
            continue
        votes.update(each for each in found if each)
    if votes["rows"] > votes["columns"]:
        raise DataError(
            f"its codes run along the rows: {votes['rows']} of {sum(votes.values())} that were "
            "looked at",
            where=str(path),
            remedy="Severstal's codes run down the columns, from 1: encode each mask transposed",
        )


def _tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else files_in(path)
    return [file for file in files if file.suffix.lower() == ".csv" and _is_table(file)]


def _is_table(file: Path) -> bool:
    columns = {_column(cell) for cell in header_of(file)}
    return "encodedpixels" in columns and bool(columns & {"imageid", "imageid_classid"})


def _column(cell: str) -> str:
    """`EncodedPixels`, `encoded_pixels`; `ImageId_ClassId` keeps what divides it."""
    low = cell.casefold()
    return low if low == "imageid_classid" else low.replace("_", "")


def _the_table(path: Path) -> Path:
    tables = _tables(path)
    named = [file for file in tables if file.name.lower() == "train.csv"]
    tables = named or [file for file in tables if "submission" not in file.name.lower()] or tables
    if len(tables) > 1:
        raise DataError(
            f"holds {len(tables)} tables of run-length codes",
            where=str(path),
            remedy=f"Give one of them: {', '.join(str(file) for file in tables)}",
        )
    return tables[0]


def _rows(path: Path) -> list[_Row]:
    rows = []
    for line, cells in read_numbered(path):
        row = {_column(key): value for key, value in cells.items()}
        where = f"{path.name}:{line}"
        code = row["encodedpixels"]
        code = "" if code.lower() in _EMPTY else code
        name, class_id = _key(row, where)
        if class_id is None and code:
            raise DataError(
                "has a code but no class",
                where=where,
                remedy="ClassId counts from 1: where yours counts from 0, add 1 to all",
            )
        group = row.get("group") or row.get("coil") or ""
        rows.append(_Row(name, class_id, code, where, group, split_of([row.get("split", "")])))
    if not rows:
        raise DataError("has no row", where=str(path))
    if not read_table(path).endswith(("\n", "\r")):
        raise DataError(
            "ends within a line, as a table does that was copied in part: codes and rows may be "
            "missing",
            where=str(path),
            remedy="Copy it again; if it is whole, end its last line",
        )
    return rows


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
    if not (
        number.isascii()
        and number.isdecimal()
        and len(number) <= 4
        and 1 <= int(number) <= MAX_CLASSES
    ):
        raise DataError(
            f"ClassId is {word[:20]!r}", where=where, remedy=f"Classes are 1 to {MAX_CLASSES}"
        )
    return name, int(number)


def _picture_folder(root: Path, rows: Sequence[_Row]) -> Path:
    """The folder that holds most of the named pictures; the usual names first."""
    inside = {folder.name.lower(): folder for folder in folders_in(root)}
    usual = [inside[name] for name in _FOLDERS if name in inside]
    others = [folder for folder in inside.values() if folder not in usual]
    some = list(dict.fromkeys(row.name for row in rows))[:_LOOKED_UP]
    best, most = None, 0
    for folder in [*usual, *others, root]:
        files = pictures_below(folder) if folder != root else files_in(root)
        names = Names((str(file.relative_to(folder)) for file in files), str(root))
        count = sum(_is_there(names, name) for name in some)
        if count > most:
            best, most = folder, count
    if best is not None:
        return best
    if usual:
        return usual[0]
    if any(is_picture(file.name) for file in files_in(root)):
        return root
    raise DataError(
        "has none of its pictures beside it",
        where=str(root),
        remedy=f"Put them into {_FOLDERS[0]}/ or {_FOLDERS[1]}/ beside the CSV file",
    )


def _is_there(names: Names, name: str) -> bool:
    try:
        return names.find(name) is not None
    except DataError:  # more than one: it will be said when the table is read
        return True
