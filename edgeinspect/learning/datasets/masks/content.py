"""The content of single files: the values of masks, and whether an image is a mask."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging import read_mask_values, read_native
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.masks.sources import (
    MAX_CLASSES,
    SOFT_THRESHOLD,
    UNLABELLED,
    has_void_border,
    set_pixels,
)
from edgeinspect.learning.datasets.name_matching import mask_stems, normalize_name
from edgeinspect.learning.datasets.parallel import map_in_threads

NEAR_LEVELS = 24
"""Greys this close to black or white are JPEG noise or smooth edges."""
_RIM_PX = 2
_MIN_RIM_RATIO = 0.8
_MIN_ISOLATED_RATIO = 0.2
"""Classes form areas; the values of a soft edge are beside other values."""
_MIN_BORDER_RATIO = 0.5
_SAMPLE_COUNT = 5
_PAIR_SAMPLE_COUNT = 8
_FEW_VALUES = 16
_MIN_BIMODAL_RATIO = 0.97
"""Minimum ratio of nearly black and nearly white pixels in a soft mask."""


@dataclass(frozen=True, slots=True)
class MaskContent:
    """What one mask file contains."""

    values: frozenset[int]
    has_set_pixels: bool = False
    """Read as a binary mask, some pixel is set."""
    reaches_threshold: bool = False
    """Some value reaches the threshold of a soft mask."""
    midtone_ratio: float = 0.0
    """Ratio of pixels that are neither nearly black, nearly white, nor an id."""
    problem: str = ""
    """Why it cannot be read; empty if it can."""
    isolated: frozenset[int] = frozenset()
    """Of at most `MAX_CLASSES` values, those with only themselves and 0 around them."""
    rim_values: frozenset[int] = frozenset()
    """Of several ids, those within 2 px of a higher one nearly everywhere."""
    majority_value: int = -1
    """The value of more than half of the pixels, 0 for background; -1 for none."""
    is_connected: bool = False
    """Its values are 1..n, each one connected area."""
    marked_ratio: float = 0.0
    """Ratio of the set pixels of a binary mask, or of those with an id."""
    fills_frame: bool = False
    """These are most pixels of each of the four borders."""

    @property
    def has_several_ids(self) -> bool:
        """Whether several values are class ids instead of a soft edge; 255 is void."""
        return has_several_ids(self.values)


def has_several_ids(values: Iterable[int]) -> bool:
    """Return whether several values are class ids instead of a soft edge; 255 is void."""
    ids = set(values) - {0, UNLABELLED}
    return len(ids) > 1 and max(ids) <= MAX_CLASSES


MaskContents = Mapping[Path, MaskContent]


def read_mask_contents(files: Sequence[Path], *, colors: bool = False) -> dict[Path, MaskContent]:
    """Read every mask file once; unreadable ones have a `problem`."""

    def work(path: Path) -> MaskContent:
        return _read_content(path, colors)

    return dict(zip(files, map_in_threads(work, files), strict=True))


def _read_content(path: Path, colors: bool) -> MaskContent:
    try:
        values = read_mask_values(path, colors=colors)
    except DataError as error:
        return MaskContent(frozenset(), problem=error.what)
    between = 0.0
    if values.size and int(values.max()) < 0x10000:
        count = np.bincount(values.ravel(), minlength=256)
        found = np.flatnonzero(count)
        amounts = count[found]
        # A mask of ids has few values, however large its areas are.
        if len(found) > MAX_CLASSES:
            between = (
                float(count[NEAR_LEVELS : 256 - NEAR_LEVELS].sum() + count[256:].sum())
                / values.size
            )
    else:
        found, amounts = np.unique(values, return_counts=True)
        between = float(len(found) > 16 * MAX_CLASSES)
    nonzero = frozenset(int(value) for value in found if value)
    strong = max(nonzero, default=0) >= SOFT_THRESHOLD
    border = has_void_border(nonzero)
    alone = _isolated_values(values, nonzero) if 0 < len(nonzero) <= MAX_CLASSES else nonzero
    marked = (
        (values > 0) & (values != UNLABELLED)
        if border or has_several_ids(nonzero)
        else set_pixels(values)
    )
    values_of_half = [
        int(value) for value, px in zip(found, amounts, strict=True) if 2 * int(px) > values.size
    ]
    most = values_of_half[0] if values_of_half else -1
    return MaskContent(
        nonzero,
        bool(border or has_several_ids(nonzero) or marked.any()),
        strong,
        between,
        "",
        alone,
        _rim_values(values, nonzero),
        most,
        _is_connected(values, nonzero),
        float(marked.mean()) if marked.size else 0.0,
        fills_frame(marked),
    )


def fills_frame(marked: NDArray[np.bool_]) -> bool:
    """Return whether most pixels of each of the four borders are marked."""
    borders = (marked[:1], marked[-1:], marked[:, :1], marked[:, -1:])
    return all(border.size and border.mean() >= _MIN_BORDER_RATIO for border in borders)


def _rim_values(values: NDArray[Any], nonzero: frozenset[int]) -> frozenset[int]:
    """Return `MaskContent.rim_values`: what smoothing leaves around the highest id."""
    if not has_several_ids(nonzero):
        return frozenset()
    mask = np.where(values == UNLABELLED, 0, values).astype(np.uint8)
    side = 2 * _RIM_PX + 1
    beside = mask[cv2.dilate(mask, np.ones((side, side), np.uint8)) > mask]
    px, beside_px = (np.bincount(each.ravel(), minlength=256) for each in (mask, beside))
    return frozenset(
        value for value in nonzero - {UNLABELLED} if beside_px[value] >= _MIN_RIM_RATIO * px[value]
    )


def _is_connected(values: NDArray[Any], nonzero: frozenset[int]) -> bool:
    count = len(nonzero)
    if not 1 < count <= MAX_CLASSES or nonzero != set(range(1, count + 1)):
        return False
    return all(
        cv2.connectedComponents((values == value).astype(np.uint8))[0] == 2 for value in nonzero
    )


def _isolated_values(values: NDArray[Any], nonzero: frozenset[int]) -> frozenset[int]:
    """Return `MaskContent.isolated` of at most `MAX_CLASSES` values."""
    ordered = np.array([0, *sorted(nonzero)])
    mask = np.searchsorted(ordered, values).astype(np.uint8)
    around = np.ones((3, 3), np.uint8)
    least = cv2.erode(np.where(mask > 0, mask, np.uint8(255)), around)
    alone = mask[(cv2.dilate(mask, around) == mask) & (least == mask)]
    px, alone_px = (np.bincount(each.ravel(), minlength=len(ordered)) for each in (mask, alone))
    return frozenset(ordered[1:][alone_px[1:] >= _MIN_ISOLATED_RATIO * px[1:]].tolist())


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
    ends = int(count[:NEAR_LEVELS].sum() + count[256 - NEAR_LEVELS : 256].sum())
    white = int(count[256 - NEAR_LEVELS : 256].sum())
    return bool(0 < white < ends) and ends >= _MIN_BIMODAL_RATIO * grey.size


def is_plain(path: Path) -> bool:
    """Return whether all pixels of an image are alike, as of a camera without light."""
    try:
        image = read_native(path)
    except DataError:
        return True
    return bool((image == image[:1, :1]).all())
