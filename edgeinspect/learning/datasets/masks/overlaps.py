"""Notes masks of several classes of one image that overlap: a pixel has one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import read_mask_values
from edgeinspect.learning.datasets.masks.content import MaskContents
from edgeinspect.learning.datasets.masks.sources import set_pixels
from edgeinspect.learning.datasets.parallel import map_in_threads

_MAX_NAMES = 3


def note_overlaps(masks: Sequence[Sequence[Path]], contents: MaskContents, root: Path) -> list[str]:
    """Return a note on masks of one image that cover pixels of each other.

    Args:
        masks: Files of one class each, per image.
        contents: What each file contains.
        root: The set's folder.
    """
    drawn = [[path for path in files if contents[path].has_set_pixels] for files in masks]
    several = [files for files in drawn if len(files) > 1]
    overlapping = [
        files
        for files, is_one in zip(several, map_in_threads(_overlap, several), strict=True)
        if is_one
    ]
    if not overlapping:
        return []
    some = ", ".join(
        " and ".join(str(path.relative_to(root)) for path in files[:2])
        for files in overlapping[:_MAX_NAMES]
    )
    more = ", …" if overlapping[_MAX_NAMES:] else ""
    count = number_of(len(overlapping), "image has", "images have")
    return [f"{count} masks of several classes that overlap: the later class wins ({some}{more})"]


def _overlap(files: Sequence[Path]) -> bool:
    covered: np.ndarray | None = None
    for path in files:
        try:
            pixels = set_pixels(read_mask_values(path))
        except DataError:
            continue  # reported where the mask is read
        if covered is None or covered.shape != pixels.shape:
            covered = pixels
        elif (covered & pixels).any():
            return True
        else:
            covered = covered | pixels
    return False
