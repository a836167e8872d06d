"""Images without a label file: good, not labelled, or labelled by their folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import LayoutHints, SkippedImage
from edgeinspect.learning.datasets.layouts import class_folder
from edgeinspect.learning.datasets.name_matching import (
    MAX_MISSING_COUNT,
    MAX_MISSING_RATIO,
    MIN_EMPTY_LABEL_FACTOR,
)
from edgeinspect.learning.datasets.vocabulary import is_defect_class

_MAX_NAMES = 3


def skip_unlabelled(
    root: Path, bare: Sequence[Path], empty_count: int, total: int, what: str, hints: LayoutHints
) -> tuple[list[SkippedImage], list[str]]:
    """Return which images without a label file are unlabelled; the others are good.

    They are unlabelled if the set has an empty label file for its good images.

    Args:
        root: Folder of the set.
        bare: Images without a label file.
        empty_count: Number of images whose label file is empty.
        total: Number of all images.
        what: Name of a label file: `JSON file`.
        hints: What the user stated.

    Returns:
        The unlabelled images as skipped, and notes.

    Raises:
        DataError: Those are more than a few, or the folders of images that would count as good
            are classes.
    """
    if not bare:
        return [], []
    some = ", ".join(str(path.relative_to(root)) for path in bare[:_MAX_NAMES])
    some += ", …" if bare[_MAX_NAMES:] else ""
    if empty_count >= MIN_EMPTY_LABEL_FACTOR * len(bare):
        if len(bare) > max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * total):
            raise DataError(
                f"{len(bare)} of {total} images have no {what} ({some}), while {empty_count} "
                "others have an empty one",
                where=str(root),
                remedy="Label them, or remove unlabelled images",
            )
        reason = f"has no {what}, while good images have an empty one"
        return [SkippedImage(str(path.relative_to(root)), reason) for path in bare], []
    check_not_in_class_folders(root, bare, f"no {what}", hints)
    return [], [f"{len(bare)} of {total} images have no {what}: taken as good ({some})"]


def check_not_in_class_folders(
    root: Path, paths: Sequence[Path], what: str, hints: LayoutHints
) -> None:
    """Check that images that would count as good are not labelled by their folders.

    Args:
        root: Folder of the set.
        paths: Images without a label.
        what: What they lack: `no JSON file`.
        hints: If they name the layout, folders are no classes.

    Raises:
        DataError: The folders are classes by their names or number.
    """
    if not paths or hints.layout is not None:
        return
    found = [path for path in paths if any(map(is_defect_class, path.relative_to(root).parts[:-1]))]
    if found or class_folder.recognise(root):
        path = (found or paths)[0].relative_to(root)
        raise DataError(
            f"images such as {path} have {what} and would count as good, but folders seem to be "
            "their classes",
            where=str(root),
            remedy="--layout class_folder reads folders as classes; if they are not, name the "
            "layout of the annotations",
        )
