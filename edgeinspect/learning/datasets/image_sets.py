"""Lists of the images of each split beside the images: Pascal VOC's, and VisA's.

- VOC: `ImageSets/Main/train.txt`, `ImageSets/Segmentation/val.txt`. A line is the stem of an image,
  maybe followed by a flag. Lists of other names (`trainval`, `default`, `crack_train`) say nothing
  of a split.
- VisA: `split_csv/1cls.csv` above the folder of an object, with columns `split` and `image`

Source: the VOC2012 development kit; Zou et al., "SPot-the-Difference", ECCV 2022 (VisA)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.files import files_in
from edgeinspect.learning.datasets.tables import read_numbered_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES

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


def with_listed_splits(data: Dataset) -> Dataset:
    """Return the set with the splits of its `ImageSets/`, if it has such lists."""
    if by_path := _read_visa_splits(data.root):
        place = data.root.resolve()
        return data.with_samples(
            [
                replace(
                    sample, split=by_path.get(_path_end(place / sample.path.relative_to(data.root)))
                )
                for sample in data.samples
            ]
        )
    splits = read_image_sets(data.root)
    if not splits:
        return data
    return data.with_samples(
        [
            replace(sample, split=sample.split or splits.get(sample.path.stem))
            for sample in data.samples
        ]
    )


def _path_end(path: PurePosixPath | Path) -> tuple[str, ...]:
    """Return the end of a path that VisA's table gives: `candle/Data/Images/Normal/0.JPG`."""
    return tuple(path.parts[-_VISA_PARTS:])


def _read_visa_splits(root: Path) -> dict[tuple[str, ...], str]:
    """Return the split of each path in VisA's table; empty if there is none.

    Raises:
        DataError: The table has no column `split` or `image`, or another split.
    """
    if root.resolve().name != _VISA_FOLDER:
        return {}
    table = root.resolve().parent.parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return {}
    splits = {}
    for line, row in read_numbered_rows(table):
        split = SPLIT_NAMES.get(row.get("split", "").lower())
        if split is None or not row.get("image"):
            raise DataError(
                "has no split or no image",
                where=f"{table}:{line}",
                remedy="Its columns are object, split, label, image and mask",
            )
        splits[_path_end(PurePosixPath(row["image"]))] = split
    return splits
