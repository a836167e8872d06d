"""Distinguishes masks from images by content, if folder names do not."""

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
"""Minimum ratio of nearly black and nearly white pixels in a soft mask."""


def check_no_masks_as_images(
    root: Path, placed: Sequence[tuple[Path, str]], hints: LayoutHints
) -> None:
    """Check that no class folder holds masks.

    A folder holds masks if sampled files have few values, while another folder has images of
    the same names with many. A folder holds both if some names are another's with an extra word
    (`a.png`, `a_lab.png`, `mask_a.png`) and these files look like masks. There is no check if
    the user named the layout.

    Args:
        root: The set's folder.
        placed: Each file with its class.
        hints: What the user stated.

    Raises:
        DataError: A class folder holds masks, alone or among its images.
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
                f"{name}/ has masks of the images in the other folders",
                where=str(root),
                remedy="Rename it to masks/, or read it as a class with --layout class_folder",
            )

    for name in sorted(files):
        _check_masks_among_images(root, name, files[name])


def _check_masks_among_images(root: Path, name: str, files: Sequence[Path]) -> None:
    found = list(_suffixed_files(files))
    some = found[:: max(1, len(found) // _PAIR_SAMPLE_COUNT)][:_PAIR_SAMPLE_COUNT]
    masks = [
        (mask, image)
        for mask, image in some
        if looks_like_mask(mask) and not looks_like_mask(image)
    ]
    if 2 * len(masks) > len(some):
        mask, image = masks[0]
        raise DataError(
            f"{name}/ has masks among its images: {mask.name} looks like the mask of {image.name}",
            where=str(root),
            remedy=f"Name each like {image.stem}_mask.png, or put them into masks/; "
            "--layout class_folder reads them as images",
        )


def _suffixed_files(files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield files whose stem is another's with an extra word, or with another suffix."""
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
    """Return whether all of some evenly sampled files look like masks."""
    step = max(1, len(files) // _SAMPLE_COUNT)
    return all(map(looks_like_mask, files[::step][:_SAMPLE_COUNT]))


def looks_like_mask(path: Path) -> bool:
    """Return whether an image has few values, or is black and white with soft edges.

    Plain black counts as a mask; an unreadable file does not.
    """
    try:
        image = read_native(path)
    except DataError:
        return False
    if image.shape[2] == 3:
        colors = image[::2, ::2].reshape(-1, 3)
        if len(np.unique(colors, axis=0)) <= _FEW_VALUES:
            return True
    grey = image[:, :, 0]
    count = np.bincount(grey.ravel(), minlength=256)
    if np.count_nonzero(count) <= _FEW_VALUES and image.shape[2] == 1:
        return True
    ends = int(count[:_NEAR_LEVELS].sum() + count[256 - _NEAR_LEVELS : 256].sum())
    white = int(count[256 - _NEAR_LEVELS : 256].sum())
    return bool(0 < white < ends) and ends >= _MIN_BIMODAL_RATIO * grey.size
