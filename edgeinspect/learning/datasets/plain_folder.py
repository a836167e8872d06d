"""A folder of images without labels, all of them good: what a training from good parts may get.

It is no layout: nothing in it says that its images are good but the user. So nothing in it may
say otherwise: a file that may hold labels, a folder of another name, or masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import DECLARATION_FILE, is_image_name, load_declaration
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, Sample
from edgeinspect.learning.datasets.files import (
    ARRAY_SUFFIXES,
    UNSUPPORTED_SUFFIXES,
    entries_in,
    natural_key,
)
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


def read_plain_folder(path: Path, good_classes: Sequence[str] = ()) -> Dataset:
    """Return the images of a folder and of those below it, as good ones.

    Args:
        path: The folder. Those below it are named as good ones, as images, or by numbers only.
        good_classes: Names of folders with good images, instead of the rule in `class_names.py`.

    Raises:
        DataError: It has no image, or something in it may say that an image is not good.
    """
    others: list[Path] = []
    files = sorted(_images(path, path, tuple(good_classes), others, 0), key=natural_key)
    if not files:
        raise DataError(
            "has no images", where=escape_name(path), remedy="Give a folder of images of good parts"
        )
    check_no_masks_as_images(path, [(file, file.parent.name) for file in files], LayoutHints())
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
        tuple(Sample(escape_name(file.relative_to(path)), file, False) for file in files),
        False,
        depth.bits,
        depth.flat_end,
        tuple(notes),
    )


def _images(
    root: Path, folder: Path, good_names: tuple[str, ...], others: list[Path], depth: int
) -> Iterator[Path]:
    for entry in entries_in(folder):
        where = escape_name(entry)
        if entry.is_dir():
            if depth >= _MAX_DEPTH or not _is_for_good(entry.name, good_names):
                raise DataError(
                    "is in a folder of good images, and its name does not say that its own are",
                    where=where,
                    remedy="Move it away, or name it good; --good-class NAME says so of a name",
                )
            yield from _images(root, entry, good_names, others, depth + 1)
        elif is_image_name(entry.name):
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


def _is_for_good(name: str, good_names: tuple[str, ...]) -> bool:
    low = name.casefold()
    is_neutral = low in IMAGE_FOLDER_NAMES or SPLIT_NAMES.get(low) == "train"
    return is_neutral or not split_words(name) or is_good_class(name, good_names)


def _is_about(file: Path) -> bool:
    """Return whether a file is about the images as a whole, by its name: `README.txt`."""
    return bool(_ABOUT & set(split_words(file.stem)))
