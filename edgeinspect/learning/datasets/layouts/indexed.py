"""An indexed folder: `images/`, `masks/`, and an `index.csv` with the labels.

Columns: `image` (a file in `images/`), and any of `class_name` and `class_id` (image-level; 0 is
good), `class_ids` (several, as `1 3`), `defective` (0 or 1), `group`, `split`, `<class>_px` (pixels
of a class). A pixel of
`masks/STEM.png` is a class id, or white if `class_id` gives the class. An image without a mask
file has an empty mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import (
    Dataset,
    LayoutHints,
    MaskReader,
    Sample,
    SkippedImage,
)
from edgeinspect.learning.datasets.files import images_below, natural_key
from edgeinspect.learning.datasets.masks.content import MaskContents, read_mask_contents
from edgeinspect.learning.datasets.masks.encoding import infer_encoding
from edgeinspect.learning.datasets.masks.label_maps import (
    label_map_in_order,
    read_class_names,
    read_label_map,
)
from edgeinspect.learning.datasets.masks.pairing import ImageMaskPair, dataset_from_pairs
from edgeinspect.learning.datasets.masks.sources import (
    BINARY_ENCODING,
    MAX_CLASSES,
    UNLABELLED,
    MaskEncoding,
    MaskFile,
    MaskPerClass,
)
from edgeinspect.learning.datasets.name_matching import (
    MAX_MISSING_COUNT,
    MAX_MISSING_RATIO,
    FileNameIndex,
    check_missing_images,
    normalize_name,
)
from edgeinspect.learning.datasets.tables import NumberedRow, read_header, read_numbered_rows
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, is_good_class

NEEDS = "an index.csv with a column `image`, and the folders images/ and (for masks) masks/"
RANK = 10
_LABEL_COLUMNS = frozenset(("class_name", "class_id", "class_ids", "defective"))
_KNOWN_COLUMNS = _LABEL_COLUMNS | {"image", "group", "split"}
_BACKGROUND_NAMES = frozenset(("background", "_background_", "none", "nothing", "-"))
"""Names of id 0 besides words for good."""

_SIZE_COLUMNS = ("height_px", "width_px", "defect_px", "area_px")


@dataclass(frozen=True, slots=True)
class _Index:
    path: Path
    rows: list[NumberedRow]
    names: Mapping[int, str]
    """Line number to file name in `images/`."""
    classes: tuple[str, ...]
    good: tuple[str, ...]

    def class_id_of(self, name: str) -> int:
        return self.classes.index(name) + 1 if name in self.classes else 0


def recognise(path: Path) -> bool:
    """Return whether a folder has images/ and an index.csv with an `image` column."""
    header = [name.casefold() for name in read_header(path / "index.csv")]
    return "image" in header and (path / "images").is_dir()


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples of the index, sorted by name."""
    csv_path = path / "index.csv"
    rows = [(line, _normalize_columns(row)) for line, row in read_numbered_rows(csv_path)]
    if not rows:
        raise DataError("has no rows", where=str(csv_path))
    names, missing = _match_rows(csv_path, rows, path / "images")
    masks, images = path / "masks", path / "images"
    files = _masks_by_stem(masks)
    _check_label_columns(rows, csv_path, bool(files))
    classes = hints.classes or _classes_from_rows(rows, csv_path, hints) or read_class_names(path)
    by_name = not hints.classes and _has_names_only(rows[0][1])
    if by_name and set(listed_here := read_class_names(path)) >= set(classes):
        classes, by_name = listed_here, False
    rows = [(line, row) for line, row in rows if line in names]
    if files and not classes:
        data = _defective_from_masks(
            _Index(csv_path, rows, names, (), hints.good_classes), files, hints
        )
        return data.with_skipped(*missing)
    index = _Index(csv_path, rows, names, classes, hints.good_classes)
    contents = read_mask_contents(list(files.values()))
    # With binary masks, the label gives the class of white pixels.
    white = (
        len(classes) > 1
        and set().union(*(v.values for v in contents.values())) == {UNLABELLED}
        and not _declares_void(path, classes)
    )
    encoding = BINARY_ENCODING
    if files and not white:
        if by_name and len(classes) > 1:
            raise DataError(
                f"names the classes {', '.join(classes)}, but not the mask value of each",
                where=str(csv_path),
                remedy="Add a column class_id, or a classes.txt beside it: one name per line",
            )
        encoding = _infer_encoding(contents, classes, csv_path)
    samples = [
        _make_sample(index, row, line, files, None if white else encoding) for line, row in rows
    ]
    _check_class_ids(samples, contents, encoding, csv_path)
    if not classes and any(sample.is_defective for sample in samples):
        classes = ("defect",)
    data = Dataset(path, "indexed", classes, _sorted_samples(samples), bool(files))
    existing = {str(file.relative_to(images)) for file in images_below(images)}
    unlisted = existing - {str(sample.path.relative_to(images)) for sample in samples}
    skipped = [
        *missing,
        *(SkippedImage(name, "is not in the index", True) for name in sorted(unlisted)),
    ]
    data = data.with_skipped(*skipped).with_notes(
        *([] if files else _note_unlabelled_rows(rows, csv_path, hints))
    )
    return (
        data.with_notes(f"{number_of(len(unlisted), 'image is', 'images are')} not in the index")
        if unlisted
        else data
    )


def _check_class_ids(
    samples: Sequence[Sample], contents: MaskContents, encoding: MaskEncoding, path: Path
) -> None:
    """Check that the labels of the index and the masks number the classes alike."""
    both = [
        (sample, ids)
        for sample in samples
        if isinstance(sample.mask, MaskFile)
        and not encoding.is_soft
        and sample.class_ids
        and (
            ids := {encoding.ids.get(value, 0) for value in contents[sample.mask.path].values} - {0}
        )
    ]
    against = [sample for sample, ids in both if not ids & set(sample.class_ids)]
    if len(against) > max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * len(both)):
        some = ", ".join(sample.name for sample in against[:3])
        raise DataError(
            f"{len(against)} of {len(both)} masks have none of the classes that their rows name "
            f"({some})",
            where=str(path),
            remedy="Number the classes alike in the index and in the masks",
        )


def _infer_encoding(contents: MaskContents, classes: tuple[str, ...], path: Path) -> MaskEncoding:
    """Infer the encoding for the index's classes; a few masks of other values are broken."""
    known = {*range(1, len(classes) + 1), UNLABELLED}
    odd = [file for file, one in contents.items() if not one.values <= known]
    if len(odd) <= max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * len(contents)) < len(contents):
        contents = {file: one for file, one in contents.items() if file not in odd}
    label_map = read_label_map(path.parent)
    if label_map is None or label_map.names != classes:
        label_map = label_map_in_order(classes, str(path))
    return infer_encoding(contents, label_map, path.parent).encoding


def _declares_void(root: Path, classes: tuple[str, ...]) -> bool:
    """Return whether the set's label map says that 255 is unlabelled."""
    label_map = read_label_map(root)
    return label_map is not None and label_map.names == classes and UNLABELLED in label_map.void


def _match_rows(
    path: Path, rows: list[NumberedRow], images: Path
) -> tuple[dict[int, str], list[SkippedImage]]:
    """Return the file of each line, and the lines whose image does not exist."""
    files = [str(file.relative_to(images)) for file in images_below(images)]
    names, found, missing = FileNameIndex(files, str(path)), {}, {}
    for line, row in rows:
        if not row["image"]:
            raise DataError("names no image", where=f"{path}:{line}")
        name = names.find(row["image"])
        if name is None:
            missing[row["image"]] = f"{path.name}:{line}"
        else:
            found[line] = name
    check_missing_images(missing, len(rows), path, images)
    return found, [
        SkippedImage(name, f"{row} names it, but the image does not exist")
        for name, row in missing.items()
    ]


def _masks_by_stem(masks: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for mask in images_below(masks) if masks.is_dir() else []:
        key = normalize_name(mask.stem)
        if key in found:
            raise DataError(
                f"two masks belong to one image: {found[key].name} and {mask.name}",
                where=str(masks),
                remedy="Keep one of them",
            )
        found[key] = mask
    return found


def _defective_from_masks(index: _Index, files: dict[str, Path], hints: LayoutHints) -> Dataset:
    """Read an index without classes: images with mask pixels are defective."""
    root = index.path.parent
    pairs, rows = [], {}
    for line, row in index.rows:
        sample = _make_sample(index, row, line, files, BINARY_ENCODING)
        mask = files.get(normalize_name(sample.path.stem))
        pairs.append(ImageMaskPair(sample.path, (("", mask),) if mask else ()))
        rows[sample.path] = sample
    data = dataset_from_pairs(root, "indexed", pairs, hints)
    samples = []
    for sample in data.samples:
        row_sample = rows[sample.path]
        is_row_defective = row_sample.is_defective and "defective" in index.rows[0][1]
        samples.append(
            replace(
                sample,
                name=row_sample.name,
                group=row_sample.group,
                split=row_sample.split,
                is_defective=bool(sample.class_ids) or is_row_defective,
            )
        )
    return data.with_samples(_sorted_samples(samples))


def _make_mask(
    mask: Path | None, encoding: MaskEncoding | None, labelled: int
) -> MaskReader | None:
    if mask is None:
        return None
    if encoding is None:
        return MaskPerClass(((labelled, mask),)) if labelled else MaskFile(mask, MaskEncoding({}))
    return MaskFile(mask, encoding)


def _sorted_samples(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: natural_key(Path(sample.name))))


def _make_sample(
    index: _Index,
    row: dict[str, str],
    line: int,
    files: dict[str, Path],
    encoding: MaskEncoding | None,
) -> Sample:
    where = f"{index.path}:{line}"
    name = index.names[line]
    mask = files.get(normalize_name(Path(name).stem))
    ids = {
        class_id
        for class_id, class_name in enumerate(index.classes, 1)
        if _parse_number(row.get(f"{class_name}_px", ""), where) > 0
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
        defective = bool(ids) or (mask is not None and not _has_area_columns(row))
    return Sample(
        name,
        index.path.parent / "images" / name,
        defective,
        class_name,
        row.get("group") or name,
        _parse_split(row.get("split", ""), where),
        _make_mask(mask, encoding, labelled),
        tuple(sorted(ids)),
    )


def _listed_class_ids(index: _Index, row: dict[str, str], where: str) -> set[int]:
    """Return the ids in the cell `class_ids`."""
    ids = {_parse_integer(word, where) for word in row.get("class_ids", "").split()}
    if unknown := ids - set(range(1, len(index.classes) + 1)):
        raise DataError(
            f"class_ids has {min(unknown)}, which is not a class",
            where=where,
            remedy=f"The set has {len(index.classes)} classes: list their names in classes.txt",
        )
    return ids


def _labelled_class_id(index: _Index, row: dict[str, str], where: str) -> int:
    """Return the image-level class id; K + 1 for a defect of unknown class."""
    if row.get("class_id"):
        return _parse_integer(row["class_id"], where)
    name = row.get("class_name", "")
    if name:
        return 0 if is_good_class(name, index.good) else index.class_id_of(name)
    if row.get("defective"):
        value = _parse_integer(row["defective"], where)
        if value > 1:
            raise DataError(f"defective is {value}", where=where, remedy="Write 0 or 1")
        return value and len(index.classes) + 1
    return 0


def _normalize_columns(row: dict[str, str]) -> dict[str, str]:
    """Return the row with known columns in lower case: `Image`, `Pit_PX`."""
    return {_normalize_column(key): value for key, value in row.items()}


def _normalize_column(key: str) -> str:
    low = key.casefold()
    if low in _KNOWN_COLUMNS or low in _SIZE_COLUMNS:
        return low
    return key[: -len("_px")] + "_px" if low.endswith("_px") else key


def _check_label_columns(rows: list[NumberedRow], path: Path, has_masks: bool) -> None:
    """Check that there are label columns or masks; otherwise every image would be good."""
    columns = rows[0][1]
    if not has_masks and not _LABEL_COLUMNS & columns.keys() and not _area_classes(columns):
        raise DataError(
            f"has no label column: it has {', '.join(columns)[:80]}",
            where=str(path),
            remedy="Add class_name, class_id, defective or <class>_px, or put masks into masks/",
        )


def _note_unlabelled_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> list[str]:
    """Return a note on rows without a label, which are good unless others are labelled good."""
    if _area_classes(rows[0][1]) or not _LABEL_COLUMNS & rows[0][1].keys():
        return []
    empty = [line for line, row in rows if not any(row.get(key) for key in _LABEL_COLUMNS)]
    good = [
        line
        for line, row in rows
        if (row.get("class_name") and is_good_class(row["class_name"], hints.good_classes))
        or any(
            row.get(key) and not _parse_integer(row[key], f"{path}:{line}")
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


def _has_names_only(columns: Mapping[str, str]) -> bool:
    """Return whether classes are given by names only, without an order."""
    return "class_id" not in columns and not _area_classes(columns)


def _area_classes(columns: Iterable[str]) -> list[str]:
    return [
        key[: -len("_px")] for key in columns if key.endswith("_px") and key not in _SIZE_COLUMNS
    ]


def _has_area_columns(row: dict[str, str]) -> bool:
    """Return whether a row has columns with defect areas."""
    return (
        any(key.endswith("_px") and key not in _SIZE_COLUMNS for key in row) or "defect_px" in row
    )


def _classes_from_rows(rows: list[NumberedRow], path: Path, hints: LayoutHints) -> tuple[str, ...]:
    """Return the names of classes 1..K: by id and name, by `<class>_px` columns, or by name."""
    first = rows[0][1]
    if "class_id" in first:
        named: dict[int, str] = {}
        for line, row in rows:
            class_id = _parse_integer(row["class_id"] or "0", f"{path}:{line}")
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


def _parse_integer(text: str, where: str) -> int:
    """Return an integer, also one that a spreadsheet wrote as `2.0`.

    Raises:
        DataError: Anything else.
    """
    number = _parse_number(text, where)
    if number != int(number):
        raise DataError(
            f"{text[:20]!r} is not a whole number",
            where=where,
            remedy="Classes and labels are whole numbers, not probabilities",
        )
    return int(number)


def _parse_number(text: str, where: str) -> float:
    """Return a non-negative number; 0 for an empty cell.

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


def _parse_split(text: str, where: str) -> str | None:
    """Return the split that a cell names; None for an empty cell.

    Raises:
        DataError: It names no split.
    """
    if not text:
        return None
    if text.lower() not in SPLIT_NAMES:
        raise DataError(
            f"{text[:20]!r} is not a split", where=where, remedy="Write train, val or test"
        )
    return SPLIT_NAMES[text.lower()]
