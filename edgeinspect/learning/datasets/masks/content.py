"""Telling masks from pictures by what is in them, where names of folders do not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging import read_native
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.masks.pairing import mask_stems
from edgeinspect.learning.datasets.name_matching import normalize_name

_SAMPLE_COUNT = 5
_PAIR_SAMPLE_COUNT = 8
_FEW_VALUES = 16
_NEAR_LEVELS = 24
_MIN_BIMODAL_RATIO = 0.97
"""So many pixels of a soft mask are nearly black or nearly white."""


def check_no_masks_as_images(
    root: Path, placed: Sequence[tuple[Path, str]], hints: LayoutHints
) -> None:
    """Refuse masks in the place of a class of pictures.

    A folder holds masks if what was looked at has a few values only, while pictures of the
    same names stand in a folder that looks otherwise. One that holds both has files whose names
    are another's with a word more (`a.png`, `a_lab.png`, `mask_a.png`) and that look like masks.
    A person who names the layout is believed.

    Args:
        root: The set's folder.
        placed: Each file with its class.
        hints: What the person knows better.

    Raises:
        DataError: One of the classes holds masks, alone or among its pictures.
    """
    if hints.layout is not None:
        return
    files: dict[str, list[Path]] = defaultdict(list)
    for file, name in placed:
        files[name].append(file)
    flat = {name: _are_masks(some) for name, some in files.items()}
    stems = {name: {_image_stem(file) for file in some} for name, some in files.items()}
    for name in sorted(files):
        others = set().union(*(stems[each] for each in files if not flat[each]))
        if flat[name] and 2 * len(stems[name] & others) > len(stems[name]):
            raise DataError(
                f"{name}/ holds masks of the pictures in the other folders, not pictures",
                where=str(root),
                remedy="Name it masks/, so that it is read as such; --layout class_folder takes "
                "it for a class",
            )

    for name in sorted(files):
        _check_masks_among_images(root, name, files[name])


def _check_masks_among_images(root: Path, name: str, files: Sequence[Path]) -> None:
    found = list(_suffixed_files(files))
    some = found[:: max(1, len(found) // _PAIR_SAMPLE_COUNT)][:_PAIR_SAMPLE_COUNT]
    masks = [
        (mask, picture)
        for mask, picture in some
        if looks_like_mask(mask) and not looks_like_mask(picture)
    ]
    if 2 * len(masks) > len(some):
        mask, picture = masks[0]
        raise DataError(
            f"{name}/ holds masks among its pictures: {mask.name} looks like that of "
            f"{picture.name}",
            where=str(root),
            remedy=f"Name each {picture.stem}_mask.png, so that it is read as a mask, or put them "
            "into masks/; --layout class_folder takes them for pictures",
        )


def _suffixed_files(files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Files whose stem is another's of the folder with a word more, or under another ending."""
    by_stem: dict[tuple[Path, str], Path] = {}
    for file in files:
        first = by_stem.setdefault((file.parent, normalize_name(file.stem)), file)
        if first != file:
            yield file, first
            yield first, file
    for file in files:
        stem = normalize_name(file.stem)
        for cut in re.finditer(r"[_\-. ]+", stem):
            for rest in (stem[: cut.start()], stem[cut.end() :]):
                other = by_stem.get((file.parent, rest))
                if rest and other is not None:
                    yield file, other


def _image_stem(file: Path) -> str:
    return mask_stems(file)[-1]


def _are_masks(files: Sequence[Path]) -> bool:
    """True if all of some files spread over a folder have a mask's few values."""
    step = max(1, len(files) // _SAMPLE_COUNT)
    return all(map(looks_like_mask, files[::step][:_SAMPLE_COUNT]))


def looks_like_mask(path: Path) -> bool:
    """True for a picture of a few values, or of black and white with soft edges.

    Plain black is a mask too; a file that cannot be read is none.
    """
    try:
        picture = read_native(path)
    except DataError:
        return False
    if picture.shape[2] == 3:
        colors = picture[::2, ::2].reshape(-1, 3)
        if len(np.unique(colors, axis=0)) <= _FEW_VALUES:
            return True
    grey = picture[:, :, 0]
    count = np.bincount(grey.ravel(), minlength=256)
    if np.count_nonzero(count) <= _FEW_VALUES and picture.shape[2] == 1:
        return True
    ends = int(count[:_NEAR_LEVELS].sum() + count[256 - _NEAR_LEVELS : 256].sum())
    white = int(count[256 - _NEAR_LEVELS : 256].sum())
    return bool(0 < white < ends) and ends >= _MIN_BIMODAL_RATIO * grey.size
