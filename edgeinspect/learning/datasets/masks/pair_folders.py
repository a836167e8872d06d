"""What the folders of images with masks say: the class of their defects, or where they are from.

`scratch/` is a class, `2024-01-03/` and `cam2/` are groups, and so are folders that differ in a
number only (`kos01`, `kos02`). Names with no word for good or defective may be those of parts
(`housing/`, `cover/`): the masks decide, because images without a defect are in no class of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_defect_class, is_good_class
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.folder_names import is_origin_folder
from edgeinspect.learning.datasets.masks.content import MaskContents
from edgeinspect.learning.datasets.name_matching import are_few

_MIN_GROUPS = 3
"""Fewer folders of a class are not groups: a class of one group could not be split."""
_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class ImageMaskPair:
    """An image and its mask files."""

    path: Path
    masks: tuple[tuple[str, Path], ...]
    """(class, file); class is empty for a file with the whole mask."""
    folder: str = ""
    """Its folder, if that is a class or a group."""
    split: str | None = None
    part_folder: str = ""
    """The folder of a single part, whose images are a group."""


def folders_are_groups(pairs: Sequence[ImageMaskPair]) -> bool:
    """Return whether the folders of images differ in a number only: `kos01`, `kos02`."""
    return len({re.sub(r"\d+", "#", pair.folder) for pair in pairs} - {""}) <= 1


def class_of_folder(folder: str) -> str:
    """Return a path of folders without days, cameras and batches; empty if it has no others."""
    return "/".join(part for part in folder.split("/") if not is_origin_folder(part))


def with_sorted_folders(
    pairs: Sequence[ImageMaskPair],
    contents: MaskContents,
    root: Path,
    layout: str,
    hints: LayoutHints,
) -> tuple[list[ImageMaskPair], list[str]]:
    """Return the pairs with the folders that are classes as such, others as groups, and notes.

    Args:
        pairs: Images and masks, with their whole folders.
        contents: What the masks contain.
        root: Folder of the set.
        layout: Its layout, for messages.
        hints: What the user stated.

    Raises:
        DataError: The folders may be classes of defects, or hold good images.
    """
    if folders_are_groups(pairs):
        return list(pairs), []
    sorted_pairs = _with_origins_as_groups(pairs)
    if folders_are_groups(sorted_pairs) or not _are_parts(
        sorted_pairs, contents, root, layout, hints
    ):
        return sorted_pairs, []
    names = sorted({pair.folder for pair in sorted_pairs} - {""})
    some = ", ".join(names[:_MAX_NAMES]) + (", …" if names[_MAX_NAMES:] else "")
    note = f"the folders {some} are taken as parts, not as classes: many of their masks are empty"
    groups = names if len(names) >= _MIN_GROUPS else []
    return [
        replace(
            pair,
            folder="",
            part_folder=pair.part_folder or (pair.folder if pair.folder in groups else ""),
        )
        for pair in sorted_pairs
    ], [note]


def _with_origins_as_groups(pairs: Sequence[ImageMaskPair]) -> list[ImageMaskPair]:
    """Return the pairs with days and cameras as groups, if a class has three or more of them."""
    classes = {pair: class_of_folder(pair.folder) for pair in pairs}
    origins = defaultdict(set)
    for pair, name in classes.items():
        if name != pair.folder:
            origins[name].add(_origin(pair.folder))
    is_group = bool(origins) and all(len(each) >= _MIN_GROUPS for each in origins.values())
    return [
        replace(
            pair,
            folder=name,
            part_folder=pair.part_folder
            or (_origin(pair.folder) if is_group and name != pair.folder else ""),
        )
        for pair, name in classes.items()
    ]


def _origin(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if is_origin_folder(part))


def _are_parts(
    pairs: Sequence[ImageMaskPair],
    contents: MaskContents,
    root: Path,
    layout: str,
    hints: LayoutHints,
) -> bool:
    """Return whether no folder is named as good or defective, and many masks are empty.

    Folders without any defect in a mask are not counted: they may be good ones with another name.

    Raises:
        DataError: Many images have no mask instead: they are good, or not labelled yet.
    """
    folders = {pair.folder for pair in pairs} - {""}
    if any(is_good_class(name, hints.good_classes) or is_defect_class(name) for name in folders):
        return False
    drawn = {
        pair
        for pair in pairs
        if any(contents[path].has_set_pixels or contents[path].problem for _n, path in pair.masks)
    }
    of_defects = {pair.folder for pair in drawn} - {""}
    inside = [pair for pair in pairs if pair.folder in of_defects]
    empty = sum(bool(pair.masks) and pair not in drawn for pair in inside)
    bare = sorted({pair.folder for pair in pairs if pair.folder and not pair.masks})
    count = sum(bool(pair.folder) and not pair.masks for pair in pairs)
    if not are_few(empty, len(inside)):
        return True
    if hints.layout is None and not are_few(count, len(pairs)):
        raise DataError(
            f"{count} images have no mask, and the names of their folders do not tell whether "
            f"these are good: {', '.join(bare[:_MAX_NAMES])}" + (", …" * bool(bare[_MAX_NAMES:])),
            where=str(root),
            remedy="Name the folders of good images with --good-class NAME, or give each good "
            f"image an empty mask; --layout {layout} takes the folders as classes of defects",
        )
    return False


def without_masks_of_folder(
    pairs: Sequence[ImageMaskPair], before: Sequence[ImageMaskPair], hints: LayoutHints
) -> dict[ImageMaskPair, str]:
    """Return the images of parts of which no image has a mask, while those of others have, and why.

    Args:
        pairs: With folders of parts as groups.
        before: The same with the folders as they are.
        hints: Names of good classes.
    """
    masked = {old.folder for old in before if old.masks}
    return {
        pair: f"no image of {old.folder}/ has a mask (--good-class NAME names a folder of good "
        "images)"
        for pair, old in zip(pairs, before, strict=True)
        if old.folder
        and not pair.folder
        and old.folder not in masked
        and not is_good_class(old.folder, hints.good_classes)
    }
