"""A folder of images without labels, all of them good: what a training from good parts may get.

It is no layout: nothing in it says that its images are good but the user. So nothing in it may
say otherwise: a file that may hold labels, a folder of another name, or masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import DECLARATION_FILE, is_image_name, load_declaration
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.class_names import is_defect_class, is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, Sample
from edgeinspect.learning.datasets.files import (
    ARRAY_SUFFIXES,
    UNSUPPORTED_SUFFIXES,
    entries_in,
    natural_key,
)
from edgeinspect.learning.datasets.folder_names import is_origin_folder
from edgeinspect.learning.datasets.masks.content import check_no_masks_as_images
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    SPLIT_NAMES,
    split_words,
    word_set,
)
from edgeinspect.system import escape_name

_LABEL_SUFFIXES = ARRAY_SUFFIXES | word_set(
    """
    .json .jsonl .ndjson .xml .yaml .yml .csv .tsv .txt .xlsx .xls .ods .parquet .tfrecord .h5
    .hdf5 .pkl .pickle .db3 .sqlite .names .data
    """
)
"""Suffixes of files that may hold labels."""
_ABOUT = word_set("readme license licence copying notice authors changelog citation attribution")
_MAX_DEPTH = 8
_MIN_GROUPS = 3
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]+(?![^\W_])")
"""A word of a file name that stands by itself: `NG` of `a1_NG`, not of `a1NG`."""


def read_plain_folder(path: Path, good_classes: Sequence[str] = ()) -> Dataset:
    """Return the images of a folder and of those below it, as good ones.

    Args:
        path: The folder. Those below it are named as good ones, as images, or by numbers only;
            days, cameras and splits hold or lie in good ones. From three folders on each is a
            group.
        good_classes: Names of folders with good images, instead of the rule in `class_names.py`.

    Raises:
        DataError: It has no image, or something in it may say that an image is not good.
    """
    others: list[Path] = []
    found = _images(path, tuple(good_classes), others, _Said.BY_USER, 0)
    files = sorted(found, key=natural_key)
    if not files:
        raise DataError(
            "has no images", where=escape_name(path), remedy="Give a folder of images of good parts"
        )
    check_no_masks_as_images(path, [(file, file.parent.name) for file in files], LayoutHints())
    _check_file_names(path, files)
    notes = ["the folder has no labels: every image is taken as good"]
    if others:
        name = escape_name(others[0].relative_to(path))
        count = number_of(len(others), "other file is", "other files are")
        notes.append(f"{count} not read, such as {name}")
    depth = find_bit_depth(files, load_declaration(path), escape_name(path))
    notes += [depth.warning] if depth.warning else []
    return Dataset(
        path,
        "plain folder",
        (),
        _samples(path, files),
        False,
        depth.bits,
        depth.flat_end,
        tuple(notes),
    )


def _samples(root: Path, files: Sequence[Path]) -> tuple[Sample, ...]:
    folders = {file.parent for file in files} - {root}
    has_groups = len(folders) >= _MIN_GROUPS
    return tuple(
        Sample(
            escape_name(file.relative_to(root)),
            file,
            False,
            group=escape_name(file.parent.relative_to(root))
            if has_groups and file.parent != root
            else "",
        )
        for file in files
    )


def _check_file_names(root: Path, files: Sequence[Path]) -> None:
    """Reject images of which only some have a word for a defect in their names.

    Raises:
        DataError: There are some: `part_12_NG.png` beside `part_13_OK.png`.
    """
    bad = [file for file in files if any(map(is_defect_class, _WORD.findall(file.stem)))]
    if bad and len(bad) < len(files):
        raise DataError(
            f"has {number_of(len(bad), 'image')} whose names say defective, such as "
            f"{escape_name(bad[0].relative_to(root))}",
            where=escape_name(root),
            remedy="Move them into a folder of defective images, or rename them if they are good",
        )


class _Said(Enum):
    """What says that the images of a folder are good."""

    BY_USER = "the user, of the folder as a whole"
    BY_NAME = "a folder's name"
    NOTHING = "a day, a camera or a split says nothing"


def _images(
    folder: Path, good_names: tuple[str, ...], others: list[Path], said: _Said, depth: int
) -> Iterator[Path]:
    for entry in entries_in(folder):
        where = escape_name(entry)
        if entry.is_dir():
            below = _said_below(entry.name, good_names, said)
            if depth >= _MAX_DEPTH or below is None:
                raise DataError(
                    "is in a folder of good images, and its name does not say that its own are",
                    where=where,
                    remedy="Move it away, or name it good; --good-class NAME says so of a name",
                )
            yield from _images(entry, good_names, others, below, depth + 1)
        elif is_image_name(entry.name):
            if said is _Said.NOTHING:
                raise DataError(
                    "has images, and its name does not say that they are good",
                    where=escape_name(folder),
                    remedy=f"Say so with --good-class {escape_name(folder.name)}, or move them",
                )
            yield entry
        elif entry.suffix.lower() in UNSUPPORTED_SUFFIXES:
            raise DataError(
                "is in a format that is not supported", where=where, remedy="Save it as PNG"
            )
        elif entry.suffix.lower() in _LABEL_SUFFIXES and not _is_about(entry):
            if entry.name != DECLARATION_FILE:
                raise DataError(
                    "may hold labels, and no data set layout reads it",
                    where=where,
                    remedy="Move it away if it holds none; `edgeinspect data inspect` lists the "
                    "layouts and what they need",
                )
        else:
            others.append(entry)


def _said_below(name: str, good_names: tuple[str, ...], said: _Said) -> _Said | None:
    """Return what says that the images of a folder in another are good; None for another name."""
    low = name.casefold()
    if is_good_class(name, good_names):
        return _Said.BY_NAME
    if low in IMAGE_FOLDER_NAMES or SPLIT_NAMES.get(low) == "train" or not split_words(name):
        return said
    if low in SPLIT_NAMES or is_origin_folder(name):
        return said if said is _Said.BY_NAME else _Said.NOTHING
    return None


def _is_about(file: Path) -> bool:
    """Return whether a file is about the images as a whole, by its name: `README.txt`."""
    return bool(_ABOUT & set(split_words(file.stem)))
