"""Lists of the images of each split beside the images: Pascal VOC's, and VisA's.

- VOC: `ImageSets/Main/train.txt`, `ImageSets/Segmentation/val.txt`. A line is the stem of an image,
  maybe followed by a flag. Lists of other names (`trainval`, `default`, `crack_train`) say nothing
  of a split.
- VisA: `split_csv/1cls.csv` above the folder of an object, with columns `split`,
  `label` and `image`

Source: the VOC2012 development kit; Zou et al., "SPot-the-Difference", ECCV 2022 (VisA)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.files import files_in
from edgeinspect.learning.datasets.tables import read_numbered_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES
from edgeinspect.system import escape_name

_FOLDERS = ("Segmentation", "Main")
_VISA_FOLDER = "Data"
_VISA_PARTS = 5


def read_image_sets(root: Path) -> dict[str, str]:
    """Return the split of each stem, of the first folder that has lists; empty if none has.

    Raises:
        DataError: A stem is in two splits.
    """
    for name in _FOLDERS:
        if splits := _read_lists(root / "ImageSets" / name):
            return splits
    return {}


def _read_lists(folder: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for file in files_in(folder):
        split = SPLIT_NAMES.get(file.stem.lower())
        if split is None or file.suffix.lower() != ".txt":
            continue
        for line, text in enumerate(read_table_text(file).splitlines(), 1):
            if not text.strip():
                continue
            word = PurePosixPath(text.split()[0].replace("\\", "/")).name
            stem = PurePosixPath(word).stem if is_image_name(word) else word
            if splits.setdefault(stem, split) != split:
                raise DataError(
                    f"{stem[:60]} is in {splits[stem]} too",
                    where=f"{file}:{line}",
                    remedy="List each image in one split",
                )
    return splits


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of VisA's table."""

    split: str
    label: str
    where: str


_PathEnd = tuple[str, ...]
"""The end of a path that VisA's table gives: `candle/Data/Images/Normal/0.JPG`, in parts."""


def with_listed_splits(data: Dataset, *, is_layout_given: bool = False) -> Dataset:
    """Return the set with the splits of its `ImageSets/` or VisA's table, if it has such lists.

    Args:
        data: As read by its folders.
        is_layout_given: The user named the layout: what the table says to the contrary is a note.

    Raises:
        DataError: VisA's table says good of an image with a defect, or the contrary.
    """
    if rows := _read_visa_table(data.root):
        return _with_visa_splits(data, rows, is_layout_given=is_layout_given)
    splits = read_image_sets(data.root)
    if not splits:
        return data
    return data.with_samples(
        [
            replace(sample, split=sample.split or splits.get(sample.path.stem))
            for sample in data.samples
        ]
    )


def _path_end(path: PurePosixPath | Path) -> _PathEnd:
    return tuple(path.parts[-_VISA_PARTS:])


def _with_visa_splits(
    data: Dataset, rows: Mapping[_PathEnd, _Row], *, is_layout_given: bool
) -> Dataset:
    place = data.root.resolve()
    ends = [_path_end(place / sample.path.relative_to(data.root)) for sample in data.samples]
    moved = {  # rows of images that are in another folder now
        (end[0], end[-1]): row for end, row in rows.items() if end not in set(ends)
    }
    found = [rows.get(end) or moved.get((end[0], end[-1])) for end in ends]
    contrary = [
        (sample, row)
        for sample, row in zip(data.samples, found, strict=True)
        if row is not None and row.label and is_good_class(row.label) == sample.is_defective
    ]
    if contrary:
        sample, row = contrary[0]
        count = number_of(len(contrary), "image has", "images have")
        what = (
            f"{count} another label in {row.where} than by folder and mask, such as "
            f"{sample.name}: '{escape_name(row.label[:60])}', but it is "
            f"{'defective' if sample.is_defective else 'good'}"
        )
        if not is_layout_given:
            raise DataError(
                what,
                where=escape_name(data.root),
                remedy="Move the images and masks back to where the table has them, or correct "
                f"the table; --layout {data.layout} reads the folders",
            )
        data = data.with_notes(what)
    unlisted = sum(row is None for row in found)
    if unlisted:
        count = number_of(unlisted, "image is", "images are")
        data = data.with_notes(f"{count} not in VisA's table of splits: without a split")
    return data.with_samples(
        [
            replace(sample, split=None if row is None else row.split)
            for sample, row in zip(data.samples, found, strict=True)
        ]
    )


def _read_visa_table(root: Path) -> dict[_PathEnd, _Row]:
    """Return the rows of VisA's table by path; empty if there is none.

    Raises:
        DataError: The table has no column `split` or `image`, or another split.
    """
    if root.resolve().name != _VISA_FOLDER:
        return {}
    table = root.resolve().parent.parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return {}
    rows = {}
    for line, row in read_numbered_rows(table):
        split = SPLIT_NAMES.get(row.get("split", "").lower())
        if split is None or not row.get("image"):
            raise DataError(
                "has no split or no image",
                where=f"{table}:{line}",
                remedy="Its columns are object, split, label, image and mask",
            )
        where = f"{table.name}:{line}"
        rows[_path_end(PurePosixPath(row["image"]))] = _Row(split, row.get("label", ""), where)
    return rows
