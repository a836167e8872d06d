"""What a reading of a folder leaves aside: pictures that are no record and no mask.

A layout that fits a part of a folder would make half a set of it, without a word. Pictures of
one part under two endings are one picture.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset, Sample, SkippedImage
from edgeinspect.learning.datasets.files import (
    UNSUPPORTED_SUFFIXES,
    images_below,
    unsupported_below,
)
from edgeinspect.learning.datasets.folder_names import is_annotation_folder
from edgeinspect.learning.datasets.masks.pairing import mask_stems
from edgeinspect.learning.datasets.masks.sources import MaskFile, MaskPerClass
from edgeinspect.learning.datasets.name_matching import (
    MAX_MISSING_COUNT,
    MAX_MISSING_RATIO,
    normalize_name,
)
from edgeinspect.system import escape_name

_MAX_NAMES = 4
_SUFFIX_PREFERENCE = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".webp", ".gif")
"""The better first: what is compressed with loss comes last."""


def with_unread_skipped(
    data: Dataset, root: Path, *, is_layout_given: bool, other_layouts: Iterable[str]
) -> Dataset:
    """The set, with the pictures of its folder that it does not read named as left out.

    Args:
        data: As a layout that goes by folders read it.
        root: The folder that a person gave, which may be above the set's own.
        chosen: The person named the layout: whatever it leaves aside is meant.
        others: Layouts that fit too.

    Raises:
        DataError: They are more than a few; the folders are named, and both readings.
    """
    used = {record.path for record in data.samples}
    used.update(path for record in data.samples for path in _mask_paths(record))
    told = {escape_name(data.root / one.name) for one in data.skipped}
    unread = [
        path
        for path in images_below(root)
        if path not in used
        and escape_name(path) not in told
        and not _is_in_annotation_folder(path, root)
    ]
    shown = {(path.parent, normalize_name(path.stem)) for path in used}
    strange = unsupported_below(root)
    _check_unread_masks(data, strange, root)
    other_kinds = [
        path
        for path in strange
        if path.suffix.lower() in UNSUPPORTED_SUFFIXES
        and (path.parent, normalize_name(path.stem)) not in shown
        and not _is_in_annotation_folder(path, root)
    ]
    unread += other_kinds
    if not unread:
        return data
    if not is_layout_given and len(unread) > max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * len(data)):
        count = Counter(_folder_name(path, root) for path in unread)
        folders = ", ".join(f"{name} ({number})" for name, number in count.most_common(_MAX_NAMES))
        read = Counter(_folder_name(record.path, root) for record in data.samples)
        taken = ", ".join(f"{name} ({number})" for name, number in read.most_common(_MAX_NAMES))
        more = "".join(f"; --layout {name} reads it as that" for name in other_layouts)
        raise DataError(
            f"is read as {data.layout} only in part: it has {taken}, and leaves out {folders}",
            where=str(root),
            remedy="Move away what is no part of the set; "
            f"--layout {data.layout} reads it so{more}",
        )
    left_out = [
        SkippedImage(
            escape_name(path.relative_to(data.root) if path.is_relative_to(data.root) else path),
            _skip_reason(path, data),
            is_layout_given,
        )
        for path in unread
    ]
    return data.with_skipped(*left_out)


def check_images(data: Dataset, *, is_layout_given: bool) -> None:
    """Refuse masks and drawings that a layout took for pictures: they would be clean ones.

    Args:
        data: As its layout read it.
        chosen: The person named the layout: a folder's name is no doubt then.

    Raises:
        DataError: A picture is also a mask's file, or stands in a folder that says masks and
            has no mask itself.
    """
    masks = {_file_id(path) for record in data.samples for path in _mask_paths(record)} - {None}
    found = [record for record in data.samples if masks and _file_id(record.path) in masks]
    why = "are masks of the set too"
    if not found and not is_layout_given:
        found = [
            record
            for record in data.samples
            if record.mask is None
            and record.path.is_relative_to(data.root)
            and _is_in_annotation_folder(record.path, data.root)
        ]
        why = "stand in a folder whose name says masks, or drawings, and have no mask"
    if found:
        some = ", ".join(str(record.path.relative_to(data.root)) for record in found[:_MAX_NAMES])
        raise DataError(
            f"{len(found)} pictures {why}: {escape_name(some)}{' …' if found[_MAX_NAMES:] else ''}",
            where=str(data.root),
            remedy="Move that folder out of the set; or give it another name, or name the layout "
            f"(--layout {data.layout}), if it holds pictures of parts",
        )


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _skip_reason(path: Path, data: Dataset) -> str:
    if path.suffix.lower() in UNSUPPORTED_SUFFIXES:
        return f"{path.suffix.lower()} is not read: save it as PNG"
    return f"stands in no folder that {data.layout} reads"


def _check_unread_masks(data: Dataset, unsupported: Iterable[Path], root: Path) -> None:
    """Refuse masks in a form that is not read: their pictures would be taken as clean.

    Args:
        data: As its layout read it.
        strange: Files of kinds that are not read.
        root: Of the set.

    Raises:
        DataError: A picture without a mask has one of them.
    """
    bare = {
        normalize_name(record.path.stem): record for record in data.samples if record.mask is None
    }
    found = [
        (path, bare[stem])
        for path in unsupported
        if data.has_masks and _is_in_annotation_folder(path, root)
        for stem in mask_stems(path)
        if stem in bare
    ]
    if found:
        path, record = found[0]
        raise DataError(
            f"{len(found)} masks are of a kind that is not read, as {path.relative_to(root)}, and "
            f"{record.name} would be taken as clean",
            where=str(root),
            remedy="Save masks as PNG",
        )


def without_same_stem(data: Dataset) -> Dataset:
    """The set with one picture of each that stands in a folder under two endings.

    Raises:
        DataError: The two have different labels.
    """
    groups: dict[tuple[Path, str], list[Sample]] = defaultdict(list)
    for record in data.samples:
        groups[record.path.parent, normalize_name(record.path.stem)].append(record)
    twins = [group for group in groups.values() if len(group) > 1 and _has_several_suffixes(group)]
    if not twins:
        return data
    left_out = []
    for group in twins:
        first, *others = sorted(group, key=_preference)
        for other in others:
            if (first.is_defective, first.class_ids) != (other.is_defective, other.class_ids):
                raise DataError(
                    f"{first.name} and {other.name} are one picture by their names, and "
                    f"{first.name} is {_describe_label(first)}, {other.name} "
                    f"{_describe_label(other)}",
                    where=str(data.root),
                    remedy="Keep the file that the label is of",
                )
            why = f"is {first.name} again, under another ending"
            left_out.append(SkippedImage(other.name, why))
    names = {one.name for one in left_out}
    kept = [record for record in data.samples if record.name not in names]
    return data.with_samples(kept).with_skipped(*left_out)


def _describe_label(record: Sample) -> str:
    return f"defective ({record.class_name or 'by its label'})" if record.is_defective else "clean"


def _has_several_suffixes(group: list[Sample]) -> bool:
    return len({record.path.suffix.lower() for record in group}) > 1


def _preference(record: Sample) -> tuple[int, str]:
    suffix = record.path.suffix.lower()
    return (
        _SUFFIX_PREFERENCE.index(suffix)
        if suffix in _SUFFIX_PREFERENCE
        else len(_SUFFIX_PREFERENCE),
        record.name,
    )


def _mask_paths(record: Sample) -> list[Path]:
    if isinstance(record.mask, MaskFile):
        return [record.mask.path]
    if isinstance(record.mask, MaskPerClass):
        return [path for _class_id, path in record.mask.files]
    return []


def _is_in_annotation_folder(path: Path, root: Path) -> bool:
    """True for masks of no picture, drawings and the like, which are no pictures of parts."""
    return any(map(is_annotation_folder, path.relative_to(root).parts[:-1]))


def _folder_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return f"{'/'.join(parts)}/" if parts else "its own folder"
