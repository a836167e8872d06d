"""Telling masks from pictures by what is in them, where names of folders do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.datasets.pairing import mask_stems
from edgeinspect.datasets.records import Hints
from edgeinspect.errors import DataError
from edgeinspect.imaging.picture_file import decode_picture

_LOOKED_AT = 5
_FEW_VALUES = 16
_NEAR = 24
_HEAPS_RATIO = 0.97
"""So many pixels of a soft mask are nearly black or nearly white."""


def check_looks(root: Path, placed: Sequence[tuple[Path, str]], hints: Hints) -> None:
    """Refuse masks in the place of a class of pictures.

    A folder holds masks if what was looked at has a few values only, while pictures of the
    same names stand in a folder that looks otherwise. A person who names the layout is believed.

    Args:
        root: The set's folder.
        placed: Each file with its class.
        hints: What the person knows better.

    Raises:
        DataError: One of the classes holds masks.
    """
    if hints.layout is not None:
        return
    files: dict[str, list[Path]] = defaultdict(list)
    for file, name in placed:
        files[name].append(file)
    flat = {name: _is_flat(some) for name, some in files.items()}
    stems = {name: {_stem(file) for file in some} for name, some in files.items()}
    for name in sorted(files):
        others = set().union(*(stems[each] for each in files if not flat[each]))
        if flat[name] and 2 * len(stems[name] & others) > len(stems[name]):
            raise DataError(
                f"{name}/ holds masks of the pictures in the other folders, not pictures",
                where=str(root),
                remedy="Name it masks/, so that it is read as such; --layout class_folder takes "
                "it for a class",
            )  # fmt: skip


def _stem(file: Path) -> str:
    return mask_stems(file)[-1]


def _is_flat(files: Sequence[Path]) -> bool:
    """True if all of some files spread over a folder have a mask's few values."""
    step = max(1, len(files) // _LOOKED_AT)
    return all(map(looks_like_mask, files[::step][:_LOOKED_AT]))


def looks_like_mask(path: Path) -> bool:
    """True for a picture of a few values, or of black and white with soft edges.

    Plain black is a mask too; a file that cannot be read is none.
    """
    try:
        picture = decode_picture(path)
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
    ends = int(count[:_NEAR].sum() + count[256 - _NEAR : 256].sum())
    white = int(count[256 - _NEAR : 256].sum())
    return bool(0 < white < ends) and ends >= _HEAPS_RATIO * grey.size
