"""Pascal VOC's lists of images: `ImageSets/Main/train.txt`, `ImageSets/Segmentation/val.txt`.

A line is the stem of an image, maybe followed by a flag. Lists of other names (`trainval`,
`default`, `crack_train`) say nothing of a split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.files import files_in
from edgeinspect.learning.datasets.tables import read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES

_FOLDERS = ("Segmentation", "Main")


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
    splits = read_image_sets(data.root)
    if not splits:
        return data
    return data.with_samples(
        [
            replace(sample, split=sample.split or splits.get(sample.path.stem))
            for sample in data.samples
        ]
    )
