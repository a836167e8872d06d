"""Images without a label file that was read: good, not labelled, or labelled by their folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.annotated_set import AnnotatedImage, AnnotatedImages
from edgeinspect.learning.datasets.annotations.broken_files import (
    describe_unread,
    entries_below,
    find_problem,
)
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.class_names import is_defect_class, is_good_class
from edgeinspect.learning.datasets.dataset import LayoutHints, SkippedImage
from edgeinspect.learning.datasets.layouts import class_folder
from edgeinspect.learning.datasets.name_matching import (
    MIN_EMPTY_LABEL_FACTOR,
    are_few,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import find_split_name

_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """The label files that a layout has read: one per image."""

    folder: Path
    """They are below it."""
    paths: Sequence[Path]
    suffix: str
    what: str
    """As messages count them: `XML file`."""
    format: str
    """`Pascal VOC's XML`."""
    image_folder: str = ""
    """The folders of images of a format that has a file for every one: one without is not
    labelled, and other folders hold no images of parts."""


def with_unlabelled(
    found: AnnotatedImages,
    labels: LabelFiles,
    hints: LayoutHints,
    split_of: Callable[[Path], str | None] | None = None,
    unread: Mapping[Path, str] = MappingProxyType({}),
) -> AnnotatedImages:
    """Return the set with its images without a label: good, or skipped as unlabelled.

    They are good unless the set has an empty label file for its good images. An image whose
    label file exists but was not read is skipped: it is empty, cut short, a pipe or a link to
    nothing, and says nothing of the image.

    Args:
        found: The images that have a label file. If its root is not the folder of the label
            files, other images are not of the set.
        labels: The label files.
        hints: What the user stated.
        split_of: Returns the split of an image; by its folders when absent.
        unread: Images whose label file was read, but is no label, and why.

    Raises:
        DataError: Skipped images are more than a few, or the folders of images that would count
            as good are classes.
    """
    root, known = found.root, {image.path for image in found.images}
    bare = [each for each in found.files.drawable_paths if each not in known]
    bare = bare if labels.folder == root else []
    total = len(bare) + len(found.images)
    unread_files, orphans = _unread_labels(labels, bare)
    unread = {**unread_files, **unread}
    _check_few_unread(unread, total, root)
    bare = [each for each in bare if each not in unread]
    if labels.image_folder:
        bare = [each for each in bare if each.parent.name.lower() == labels.image_folder]
        why = f"has no {labels.what}, and {labels.format} has one for every image"
        orphans += skip_unlabelled(root, dict.fromkeys(bare, why), total)
        bare = []
    empty = sum(not image.shapes for image in found.images)
    unlabelled, notes = skip_without_label(
        root, bare, empty, total, labels.what, hints, found.layout
    )
    left_out = {one.name for one in unlabelled}

    def split_by_folder(path: Path) -> str | None:
        return find_split_name(path.relative_to(root).parts[:-1])

    good = [
        AnnotatedImage(each, str(each), split=(split_of or split_by_folder)(each))
        for each in bare
        if str(each.relative_to(root)) not in left_out
    ]
    skipped = [
        *(SkippedImage(str(path.relative_to(root)), why) for path, why in unread.items()),
        *orphans,
        *unlabelled,
    ]
    return replace(
        found,
        images=[*found.images, *good],
        notes=[*found.notes, *notes],
        skipped=[*found.skipped, *skipped],
    )


def _unread_labels(
    labels: LabelFiles, bare: Sequence[Path]
) -> tuple[dict[Path, str], list[SkippedImage]]:
    """Return images whose label file was not read, and why, and broken files of no image."""
    by_stem: dict[str, list[Path]] = {}
    for image in bare:
        for name in {image.stem, image.name}:  # a.json, or Supervisely's a.png.json
            by_stem.setdefault(normalize_name(name), []).append(image)
    unread: dict[Path, str] = {}
    orphans = []
    read = set(labels.paths)
    for entry in entries_below(labels.folder, (labels.suffix,)):
        if entry in read:
            continue
        place = str(entry.relative_to(labels.folder))
        images = by_stem.get(normalize_name(entry.name[: -len(labels.suffix)]), [])
        beside = [image for image in images if image.parent == entry.parent]
        for image in beside or images:
            unread.setdefault(image, f"{place} {describe_unread(entry, labels.format)}")
        if not images and (problem := find_problem(entry)):
            orphans.append(SkippedImage(place, problem))
    return unread, orphans


def skip_unread(root: Path, labels: Mapping[Path, Path | None]) -> list[SkippedImage]:
    """Return the images whose label file is not a regular file, as skipped.

    Args:
        root: Folder of the set.
        labels: Each image, and its label file; None if it has none.

    Raises:
        DataError: They are more than a few.
    """
    unread = {
        image: f"{label.relative_to(root)} {problem}"
        for image, label in labels.items()
        if label is not None and (problem := find_problem(label, is_parsed=False))
    }
    _check_few_unread(unread, len(labels), root)
    return [SkippedImage(str(image.relative_to(root)), why) for image, why in unread.items()]


def _check_few_unread(unread: Mapping[Path, str], total: int, root: Path) -> None:
    if not are_few(len(unread), total):
        some, reason = next(iter(unread.items()))
        raise DataError(
            f"{len(unread)} of {total} images have a label that cannot be read, such as "
            f"{some.relative_to(root)}: {reason}",
            where=str(root),
            remedy="Export or copy them again",
        )


def skip_without_label(
    root: Path,
    bare: Sequence[Path],
    empty_count: int,
    total: int,
    what: str,
    hints: LayoutHints,
    layout: str,
) -> tuple[list[SkippedImage], list[str]]:
    """Return which images without a label file are unlabelled, and notes.

    Args:
        root: Folder of the set.
        bare: The images without a label file.
        empty_count: Number of good images with an empty one.
        total: Number of images of the set.
        what: What the images lack: `XML file`.
        hints: What the user stated.
        layout: The layout that reads the labels.

    Raises:
        DataError: Those are more than a few, or the folders of images that would count as good
            are classes.
    """
    if not bare:
        return [], []
    some = ", ".join(str(path.relative_to(root)) for path in bare[:_MAX_NAMES])
    some += ", …" if bare[_MAX_NAMES:] else ""
    if empty_count >= MIN_EMPTY_LABEL_FACTOR * len(bare):
        if not are_few(len(bare), total):
            raise DataError(
                f"{len(bare)} of {total} images have no {what} ({some}), while {empty_count} "
                "others have an empty one",
                where=str(root),
                remedy="Label them, or remove unlabelled images",
            )
        reason = f"has no {what}, while good images have an empty one"
        return [SkippedImage(str(path.relative_to(root)), reason) for path in bare], []
    check_not_in_class_folders(root, bare, f"no {what}", hints, layout)
    return [], [f"{len(bare)} of {total} images have no {what}: taken as good ({some})"]


def check_not_in_class_folders(
    root: Path, paths: Sequence[Path], what: str, hints: LayoutHints, layout: str
) -> None:
    """Check that images that would count as good are not labelled by their folders.

    Args:
        root: Folder of the set.
        paths: Images without a label.
        what: What they lack: `no JSON file`.
        hints: If they name the layout, folders are no classes.
        layout: The layout that reads the labels.

    Raises:
        DataError: The folders are classes by their names or number. Images in folders that say
            good, by the rule or by the user, are good in both readings.
    """
    if hints.layout is not None:
        return
    paths = [path for path in paths if not _is_in_good_folder(path.relative_to(root), hints)]
    found = [path for path in paths if any(map(is_defect_class, path.relative_to(root).parts[:-1]))]
    if found or (paths and class_folder.recognise(root)):
        path = (found or paths)[0].relative_to(root)
        raise DataError(
            f"images such as {path} have {what} and would count as good, but folders seem to be "
            "their classes",
            where=str(root),
            remedy=f"--layout {layout} reads the labels, and images without one as good; "
            "--layout class_folder reads folders as classes, and no labels",
        )


def _is_in_good_folder(place: Path, hints: LayoutHints) -> bool:
    folders = place.parts[:-1]
    return any(is_good_class(part, hints.good_classes) for part in folders) and (
        bool(hints.good_classes) or not any(map(is_defect_class, folders))
    )
