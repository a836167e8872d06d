"""Masks in the same folder as their images, as in the Kolektor and magnetic tile sets.

`10000.png` with `10000_GT.png` (KolektorSDD2), `kos01/Part0.jpg` with `kos01/Part0_label.bmp`
(KolektorSDD), `exp1_num_9.jpg` with `exp1_num_9.png` (magnetic tiles, a folder per class).

Sources: Tabernik et al. 2020; Bozic et al. 2021; Huang et al. 2018
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints
from edgeinspect.learning.datasets.files import images_below
from edgeinspect.learning.datasets.masks.pair_folders import ImageMaskPair
from edgeinspect.learning.datasets.masks.pairing import dataset_from_pairs
from edgeinspect.learning.datasets.name_matching import MASK_NAME, normalize_name, split_suffix
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    SPLIT_NAMES,
    find_split_name,
    is_annotation_folder,
)

NEEDS = "each image's mask beside it: NAME.png with NAME_GT.png, NAME_label.bmp or NAME_mask.png"
RANK = 50
COVERS = ("class_folder",)

_MIN_MASKED_RATIO = 0.5
_JPEG_SUFFIXES = (".jpg", ".jpeg")
_NEUTRAL_NAMES = SPLIT_NAMES.keys() | IMAGE_FOLDER_NAMES
_PART_FOLDER = re.compile(r"[A-Za-z]{0,3}[_-]?\d+")
"""The folder of one part below that of its class: `S0001` of Real-IAD."""


def recognise(path: Path) -> bool:
    """Return whether most images of a folder have a mask beside them.

    One such folder below is enough: good images in folders of their own have no masks. If all
    images are in one folder, a few files named as masks of others (`1_mask.png`) are enough.
    """
    if not path.is_dir():
        return False
    try:
        pairs = _pair_files(path)
    except DataError:  # two masks of an image: reported by `read`
        return True
    if not any(_class_and_part(image.relative_to(path).parts[:-1])[0] for image in pairs):
        masks = [mask for mask in pairs.values() if mask is not None]
        if any(MASK_NAME.fullmatch(normalize_name(mask.stem)) for mask in masks):
            return True
    total = Counter(_class_and_part(image.relative_to(path).parts[:-1])[0] for image in pairs)
    masked = Counter(
        _class_and_part(image.relative_to(path).parts[:-1])[0]
        for image, mask in pairs.items()
        if mask is not None
    )
    if masked.total() > _MIN_MASKED_RATIO * total.total():
        return True
    return any(
        count > _MIN_MASKED_RATIO * total[folder]
        for folder, count in masked.items()
        if folder and not any(map(is_annotation_folder, folder.split("/")))
    )


def accepts(path: Path) -> bool:
    """Return whether an image of a folder has a mask beside it."""
    try:
        return path.is_dir() and any(_pair_files(path).values())
    except DataError:
        return True


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples; folders that differ in a number only are groups."""
    pairs = []
    for image, mask in _pair_files(path).items():
        parts = image.relative_to(path).parts[:-1]
        folder, part = _class_and_part(parts)
        masks = () if mask is None else (("", mask),)
        pairs.append(ImageMaskPair(image, masks, folder, find_split_name(parts), part))
    return dataset_from_pairs(path, "mask_beside", pairs, hints)


def _class_and_part(parts: tuple[str, ...]) -> tuple[str, str]:
    """Return the class or group folder, and the folder of a single part below it."""
    informative = [part for part in parts if part.lower() not in _NEUTRAL_NAMES]
    whole = "/".join(informative)
    while len(informative) > 1 and _PART_FOLDER.fullmatch(informative[-1]):
        informative.pop()
    folder = "/".join(informative)
    return folder, whole if whole != folder else ""


def _pair_files(path: Path) -> dict[Path, Path | None]:
    """Return each image with its mask."""
    files = images_below(path)
    by_stem: dict[tuple[Path, str], Path] = {}
    jpegs: dict[tuple[Path, str], Path] = {}
    for file in files:
        by_stem[file.parent, normalize_name(file.stem)] = file
        if file.suffix.lower() in _JPEG_SUFFIXES:
            jpegs[file.parent, normalize_name(file.stem)] = file
    masks: dict[Path, Path] = {}
    mask_files: set[Path] = set()
    for file in files:
        stem = normalize_name(file.stem)
        named = MASK_NAME.fullmatch(stem)
        image = None
        for each in (named["stem"], split_suffix(named["stem"])[0]) if named else ():
            image = image or by_stem.get((file.parent, each))
        for each in (
            (stem, split_suffix(stem)[0]) if file.suffix.lower() not in _JPEG_SUFFIXES else ()
        ):
            image = image or jpegs.get((file.parent, each))
        if image is not None and image != file:
            if image in masks:
                raise DataError(
                    f"{image.name} has two masks: {masks[image].name} and {file.name}",
                    where=str(image.parent),
                    remedy="Remove the wrong one",
                )
            masks[image] = file
            mask_files.add(file)
    return {file: masks.get(file) for file in files if file not in mask_files}
