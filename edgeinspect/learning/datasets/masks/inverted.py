"""Finds the masks of a set that mark the background instead of the defect.

If nearly all of them do, the set is refused (`encoding.py`). Here are those that mark most of
their image up to all four borders, while others mark small areas or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.learning.datasets.masks.content import MaskContents

MAY_BE_INVERTED = "may be inverted"
"""Words of the note on such masks."""
_MIN_INVERTED_RATIO = 0.5
_MAX_OTHER_RATIO = 0.1
_MIN_OTHERS = 3
_MIN_SMALL_RATIO = 0.8
"""At least this part of the other masks marks less than `_MAX_OTHER_RATIO`."""
_MAX_NAMES = 3


def find_inverted(marked_ratios: Sequence[float], fill_frame: Sequence[bool]) -> list[int]:
    """Return the indices of masks that are probably inverted.

    Args:
        marked_ratios: Ratio of the pixels that each mask marks as defects.
        fill_frame: Whether these are most pixels of each of the four borders.
    """
    found = [
        index
        for index, (ratio, fills) in enumerate(zip(marked_ratios, fill_frame, strict=True))
        if fills and ratio > _MIN_INVERTED_RATIO
    ]
    others = np.delete(np.asarray(marked_ratios, np.float64), found)
    is_usual = len(others) >= _MIN_OTHERS and (others < _MAX_OTHER_RATIO).mean() >= _MIN_SMALL_RATIO
    return found if is_usual else []


def note_inverted(contents: MaskContents, root: Path) -> list[str]:
    """Return a note on the masks of a set that are probably inverted."""
    paths = list(contents)
    found = find_inverted(
        [contents[path].marked_ratio for path in paths],
        [contents[path].fills_frame for path in paths],
    )
    if not found:
        return []
    some = ", ".join(
        str(path.relative_to(root) if path.is_relative_to(root) else path)
        for path in (paths[index] for index in found[:_MAX_NAMES])
    )
    some += ", …" if found[_MAX_NAMES:] else ""
    count = number_of(len(found), "mask marks", "masks mark")
    return [
        f"{count} most of the image up to its borders, others small areas: {some} {MAY_BE_INVERTED}"
    ]
