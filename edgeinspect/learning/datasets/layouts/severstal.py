"""The CSV file of run-length codes of Severstal's competition, in both column forms.

`ImageId,ClassId,EncodedPixels`, one row per image and class, or
`ImageId_ClassId,EncodedPixels` with `name.jpg_3`, one row per image and every class, empty
if the class is not in it. Codes are column-major and start at 1. The images are in a
folder beside the CSV file; those without a code are good.

Source: kaggle.com/c/severstal-steel-defect-detection/data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import detect_run_direction, is_image_name, parse_runs, read_native
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, Sample, SkippedImage
from edgeinspect.learning.datasets.files import (
    files_in,
    images_below,
    natural_key,
    subfolders,
    unique_names,
)
from edgeinspect.learning.datasets.masks.label_maps import read_class_names
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES, MaskRuns
from edgeinspect.learning.datasets.name_matching import (
    MIN_EMPTY_LABEL_FACTOR,
    FileNameIndex,
    are_few,
    check_missing_images,
)
from edgeinspect.learning.datasets.tables import read_header, read_numbered_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import find_split_name

NEEDS = (
    "a CSV file with the columns ImageId,ClassId,EncodedPixels or ImageId_ClassId,EncodedPixels, "
    "and its images in train_images/ or images/ beside it"
)
RANK = 20

_IMAGE_FOLDERS = ("train_images", "images", "train", "imgs", "image")
_MAX_LOOKUPS = 200
_MAX_DECODED = 32
_EMPTY_CODES = frozenset(("", "-1", "nan", "none", "0"))


@dataclass(frozen=True, slots=True)
class _CodeRow:
    name: str
    class_id: int | None
    code: str
    where: str
    group: str
    split: str | None


@dataclass(slots=True)
class _ImageLabels:
    """The labels of one image in the table."""

    codes: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Class id to (code, row)."""
    group: str = ""
    split: str | None = None


def recognise(path: Path) -> bool:
    """Return whether this is such a CSV file, or a folder with one."""
    return bool(_find_tables(path))


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples: every image of the folder, with the labels of the CSV file."""
    csv_path = _choose_table(path)
    root = csv_path.parent
    rows = _read_codes(csv_path)
    folder = _image_folder(root, rows)
    files = images_below(folder)
    names = unique_names(folder, files)
    files_by_name = {name: file for file, name in names.items()}
    labels, missing = _labels_by_image(csv_path, rows, files_by_name, folder)
    top = max((i for each in labels.values() for i in each.codes), default=0)
    samples = []
    classes = _class_names(hints, root, top)
    for name in sorted(files_by_name, key=lambda name: natural_key(Path(name))):
        label = labels.get(name, _ImageLabels())
        codes = {i: at for i, at in sorted(label.codes.items()) if at[0]}
        ids = tuple(codes)
        samples.append(
            Sample(
                name,
                files_by_name[name],
                bool(ids),
                classes[ids[0] - 1] if len(ids) == 1 else None,
                label.group or name,
                label.split,
                MaskRuns(tuple((i, code, where) for i, (code, where) in codes.items())),
                ids,
            )
        )
    _check_run_direction(csv_path, samples)
    unlisted = [name for name in files_by_name if name not in labels]
    _check_other_tables(csv_path, unlisted)
    skipped = tuple(
        SkippedImage(name, f"{row} names it, but the image does not exist")
        for name, row in missing.items()
    )
    if _do_good_images_have_rows(csv_path, unlisted, labels, len(files_by_name)):
        samples = [sample for sample in samples if sample.name in labels]
        why = "has no row, while good images have an empty one"
        skipped += tuple(SkippedImage(name, why) for name in unlisted)
        unlisted = []
    note = f"{len(unlisted)} of {len(files_by_name)} images have no row: taken as good"
    return Dataset(
        root,
        "severstal",
        classes,
        tuple(samples),
        has_masks=True,
        notes=(note,) if unlisted else (),
        skipped=skipped,
    )


def _class_names(hints: LayoutHints, root: Path, top: int) -> tuple[str, ...]:
    classes = hints.classes or read_class_names(root)
    if classes and len(classes) < top:
        raise DataError(
            f"has ClassId {top}, but only {len(classes)} class names",
            where=str(root),
            remedy="Name every class in classes.txt, one per line, in the order of the ids",
        )
    return tuple(classes) or tuple(f"class_{i}" for i in range(1, top + 1))


def _labels_by_image(
    path: Path, rows: Sequence[_CodeRow], found: Mapping[str, Path], folder: Path
) -> tuple[dict[str, _ImageLabels], dict[str, str]]:
    """Return the labels by image file, and the names without an image."""
    names = FileNameIndex(found, str(path))
    matches = {name: names.find(name) for name in dict.fromkeys(row.name for row in rows)}
    labels: dict[str, _ImageLabels] = {}
    missing: dict[str, str] = {}
    for row in rows:
        name = matches[row.name]
        if name is None:
            missing.setdefault(row.name, row.where)
            continue
        label = labels.setdefault(name, _ImageLabels())
        for what, before, now in (
            ("group", label.group, row.group),
            ("split", label.split, row.split),
        ):
            if before and now and before != now:
                raise DataError(
                    f"gives {name} the {what} {now}, but {before} above",
                    where=row.where,
                    remedy="An image has one group and one split",
                )
        label.group, label.split = row.group or label.group, row.split or label.split
        if row.class_id is None:
            continue
        if row.class_id in label.codes:
            raise DataError(
                f"repeats class {row.class_id} of {name} from {label.codes[row.class_id][1]}",
                where=row.where,
                remedy="Join the codes of an image and class in one row",
            )
        label.codes[row.class_id] = (row.code, row.where)
    check_missing_images(missing, len(matches), path, folder)
    return labels, missing


def _check_other_tables(path: Path, unlisted: Sequence[str]) -> None:
    """Check that images without a row have no code in another table beside this one.

    Raises:
        DataError: They do, such as in `val.csv`; by `train.csv` alone they would be good.
    """
    for other in _find_tables(path.parent) if unlisted else ():
        if other.name == path.name or "submission" in other.name.lower():
            continue
        names = FileNameIndex(unlisted, str(other))
        coded = (row.name for row in _read_codes(other) if row.code)
        contradicted = {name for each in dict.fromkeys(coded) if (name := names.find(each))}
        if contradicted:
            raise DataError(
                f"has no row for {len(contradicted)} images that are defective in {other.name}: "
                f"{', '.join(sorted(contradicted)[:3])}",
                where=str(path),
                remedy="Join the tables, with train, val or test in a column `split`, or give each "
                "its own image folder; move away tables that are not labels",
            )


def _do_good_images_have_rows(
    path: Path, unlisted: Sequence[str], labels: Mapping[str, _ImageLabels], total: int
) -> bool:
    """Return whether good images have rows too: then an image without a row is unlabelled.

    Raises:
        DataError: More than a few are without a row.
    """
    empty = [name for name, each in labels.items() if not any(at[0] for at in each.codes.values())]
    if empty and not are_few(len(unlisted), total):
        raise DataError(
            f"has empty codes for good images, such as {empty[0]}, but no row for {len(unlisted)} "
            f"others: {', '.join(unlisted[:3])}, …",
            where=str(path),
            remedy="Add a row for every image, or move those without one away",
        )
    return bool(unlisted) and len(empty) >= MIN_EMPTY_LABEL_FACTOR * len(unlisted)


def _check_run_direction(path: Path, samples: Sequence[Sample]) -> None:
    """Check that codes do not run along the rows: masks would be noise."""
    votes: Counter[str] = Counter()
    coded = [sample for sample in samples if sample.is_defective]
    for sample in coded[:: max(1, len(coded) // _MAX_DECODED)][:_MAX_DECODED]:
        try:
            height, width = read_native(sample.path).shape[:2]
            codes = sample.mask.codes if isinstance(sample.mask, MaskRuns) else ()
            found = [
                detect_run_direction(parse_runs(code), height, width) for _id, code, _where in codes
            ]
        except DataError:  # reported when the image is used
            continue
        votes.update(each for each in found if each)
    if votes["rows"] > votes["columns"]:
        raise DataError(
            f"codes run along the rows: {votes['rows']} of {sum(votes.values())} sampled",
            where=str(path),
            remedy="Severstal's codes run down the columns from 1: encode each mask transposed",
        )


def _find_tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else files_in(path)
    return [file for file in files if file.suffix.lower() == ".csv" and _is_code_table(file)]


def _is_code_table(file: Path) -> bool:
    columns = {_normalize_column(cell) for cell in read_header(file)}
    return "encodedpixels" in columns and bool(columns & {"imageid", "imageid_classid"})


def _normalize_column(cell: str) -> str:
    """Return a column name in lower case without underscores, except `imageid_classid`."""
    low = cell.casefold()
    return low if low == "imageid_classid" else low.replace("_", "")


def _choose_table(path: Path) -> Path:
    tables = _find_tables(path)
    named = [file for file in tables if file.name.lower() == "train.csv"]
    tables = named or [file for file in tables if "submission" not in file.name.lower()] or tables
    if len(tables) > 1:
        raise DataError(
            f"has {len(tables)} tables of run-length codes",
            where=str(path),
            remedy=f"Give one of them: {', '.join(str(file) for file in tables)}",
        )
    return tables[0]


def _read_codes(path: Path) -> list[_CodeRow]:
    rows = []
    for line, cells in read_numbered_rows(path):
        row = {_normalize_column(key): value for key, value in cells.items()}
        where = f"{path.name}:{line}"
        code = row["encodedpixels"]
        code = "" if code.lower() in _EMPTY_CODES else code
        name, class_id = _image_and_class(row, where)
        if class_id is None and code:
            raise DataError(
                "has a code but no class",
                where=where,
                remedy="ClassId starts at 1: if yours starts at 0, add 1 to all",
            )
        group = row.get("group") or row.get("coil") or ""
        rows.append(
            _CodeRow(name, class_id, code, where, group, find_split_name([row.get("split", "")]))
        )
    if not rows:
        raise DataError("has no rows", where=str(path))
    if not read_table_text(path).endswith(("\n", "\r")):
        raise DataError(
            "ends within a line, like a partly copied table: codes and rows may be missing",
            where=str(path),
            remedy="Copy it again; if it is complete, end its last line with a newline",
        )
    return rows


def _image_and_class(row: dict[str, str], where: str) -> tuple[str, int | None]:
    """Return the image and class of a row; no class if an empty row names none."""
    if "imageid_classid" in row:
        name, _, word = row["imageid_classid"].rpartition("_")
    else:
        name, word = row["imageid"], row.get("classid", "1")
    if not name:
        raise DataError("names no image", where=where, remedy="Write ImageId_ClassId as name.jpg_1")
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
            f"ClassId is {word[:20]!r}", where=where, remedy=f"Class ids are 1 to {MAX_CLASSES}"
        )
    return name, int(number)


def _image_folder(root: Path, rows: Sequence[_CodeRow]) -> Path:
    """Return the folder with most of the named images; the usual folder names first."""
    inside = {folder.name.lower(): folder for folder in subfolders(root)}
    usual = [inside[name] for name in _IMAGE_FOLDERS if name in inside]
    others = [folder for folder in inside.values() if folder not in usual]
    some = list(dict.fromkeys(row.name for row in rows))[:_MAX_LOOKUPS]
    best, most = None, 0
    for folder in [*usual, *others, root]:
        files = images_below(folder) if folder != root else files_in(root)
        names = FileNameIndex((str(file.relative_to(folder)) for file in files), str(root))
        count = sum(_is_present(names, name) for name in some)
        if count > most:
            best, most = folder, count
    if best is not None:
        return best
    if usual:
        return usual[0]
    if any(is_image_name(file.name) for file in files_in(root)):
        return root
    raise DataError(
        "has none of its images beside it",
        where=str(root),
        remedy=f"Put them into {_IMAGE_FOLDERS[0]}/ or {_IMAGE_FOLDERS[1]}/ beside the CSV file",
    )


def _is_present(names: FileNameIndex, name: str) -> bool:
    try:
        return names.find(name) is not None
    except DataError:  # several match: reported when the table is read
        return True
