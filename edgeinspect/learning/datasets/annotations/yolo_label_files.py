"""Finds the label file of each image of a YOLO data set.

`labels/a.txt` for `images/a.jpg` (also below `train/`, `val/`, or `images/train/`), or `a.txt`
beside `a.jpg`. Names are compared exactly, then without case, Unicode form and the number that
Label Studio puts in front; `a.jpg.txt` is a label of `a.jpg` too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.broken_files import entries_below
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import LayoutHints
from edgeinspect.learning.datasets.files import entries_in
from edgeinspect.learning.datasets.name_matching import (
    name_before_label_studio,
    normalize_name,
)

LABEL_SUFFIX = ".txt"
LABEL_DEPTH = 4
"""Folders below that of the set in which label files are looked for."""
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
_MAX_NAMES = 3


def find_labels(images: Sequence[Path], root: Path) -> dict[Path, Path | None]:
    """Return the label file of each image; None if it has none.

    It may be anything of that name, such as a link to nothing, which says that there is a label.

    Raises:
        DataError: Several label files match an image, or one matches several images, by names
            that are not exactly theirs.
    """
    labels = {image: _exact_label(image, root) for image in images}
    if None not in labels.values():
        return labels
    used = {label for label in labels.values() if label is not None}
    by_name: dict[str, list[Path]] = {}
    for entry in entries_below(root, (LABEL_SUFFIX,), LABEL_DEPTH):
        if entry not in used:
            original = name_before_label_studio(entry.stem)
            for stem in (entry.stem, *([original] if original else [])):
                name = (entry.parent.relative_to(root) / stem).as_posix()
                by_name.setdefault(normalize_name(name), []).append(entry)
    owners: dict[Path, Path] = {}
    for image, exact in labels.items():
        if exact is not None:
            continue
        parts = image.relative_to(root).parts[:-1]
        names = [
            normalize_name("/".join((*folder, name)))
            for name in (image.stem, image.name)
            for folder in (*_label_places(parts), parts, ("labels", *parts))
        ]
        found = next((by_name[name] for name in names if name in by_name), [])
        if len(found) > 1:
            some = " and ".join(str(each.relative_to(root)) for each in found[:_MAX_NAMES])
            raise DataError(
                f"{image.relative_to(root)} has the label files {some}",
                where=str(root),
                remedy="Keep the correct one, named like the image",
            )
        for label in found:
            owner = owners.setdefault(label, image)
            if owner.with_suffix("") != image.with_suffix(""):
                raise DataError(
                    f"is the label file of {owner.relative_to(root)} and of "
                    f"{image.relative_to(root)}, by their names",
                    where=str(label),
                    remedy="Name it exactly like its image",
                )
            labels[image] = label
    return labels


def _exact_label(image: Path, root: Path) -> Path | None:
    """Return the label file of an image: in `labels/` for `images/`, or beside it."""
    parts = image.relative_to(root).parts[:-1]
    for folder in (*_label_places(parts), parts, ("labels", *parts)):
        label = root.joinpath(*folder, image.stem + LABEL_SUFFIX)
        if os.path.lexists(label):
            return label
    return None


def _label_places(parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the folders of labels for a folder of images below `images/`."""
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].lower() in _IMAGE_FOLDERS:
            for name in ("labels", "label", "Labels"):
                yield (*parts[:at], name, *parts[at + 1 :])


def without_label_folder(
    labels: Mapping[Path, Path | None],
    splits: Mapping[Path, str | None],
    root: Path,
    hints: LayoutHints,
) -> dict[Path, str]:
    """Return images whose labels are missing as a whole, and why.

    No image of their split has a label file while other splits have some; or no image of their
    folder has one, and what should be the folder of their labels is none, is empty, or does not
    exist while others do, unless the folder is named as one of good images.
    """
    has_folders = any(label and label.parent != image.parent for image, label in labels.items())
    labelled_folders = {image.parent for image, label in labels.items() if label is not None}
    labelled = {splits[image] for image, label in labels.items() if label is not None}
    reasons: dict[Path, str] = {}
    problems: dict[Path, str] = {}
    for image, label in labels.items():
        if label is None:
            if image.parent not in problems:
                is_labelled = image.parent in labelled_folders
                problems[image.parent] = (
                    "" if is_labelled else _folder_problem(image.parent, root, hints, has_folders)
                )
            split = splits[image]
            if problem := problems[image.parent]:
                reasons[image] = problem
            elif labelled and split is not None and split not in labelled:
                places = list(_label_places(image.parent.relative_to(root).parts))
                place = root.joinpath(*places[0]) if places else image.parent
                reasons[image] = (
                    f"no image of the split {split} has a label file in {place.relative_to(root)}/"
                )
    return reasons


def _folder_problem(images: Path, root: Path, hints: LayoutHints, has_folders: bool) -> str:
    """Return why the folder of the labels of a folder of images has none; empty if it may.

    Args:
        images: The folder.
        root: Folder of the set.
        hints: They name good classes, and so good folders.
        has_folders: Whether labels of other images are in folders of their own.
    """
    parts = images.relative_to(root).parts
    places = [root.joinpath(*folder) for folder in _label_places(parts)]
    for place in places:
        here = place.relative_to(root)
        if place.is_dir():
            return "" if entries_in(place) else f"the folder of its labels, {here}/, is empty"
        if os.path.lexists(place):
            return f"{here} is not a folder, so its labels are missing"
    is_good = any(is_good_class(part, hints.good_classes) for part in parts)
    if places and has_folders and not is_good:
        return (
            f"the folder of its labels, {places[0].relative_to(root)}/, does not exist "
            "(--good-class NAME names a folder of good images)"
        )
    return ""
