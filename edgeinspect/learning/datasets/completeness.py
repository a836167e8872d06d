"""Checks that a layout has read a folder completely: which images are neither sample nor mask.

Without them, a layout that fits only a part of a folder would silently read half a data set.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset, Sample, SkippedImage
from edgeinspect.learning.datasets.files import (
    UNSUPPORTED_SUFFIXES,
    images_below,
    unsupported_below,
)
from edgeinspect.learning.datasets.masks.content import is_plain, looks_like_mask
from edgeinspect.learning.datasets.masks.sources import MaskFile, MaskPerClass
from edgeinspect.learning.datasets.name_matching import (
    are_few,
    mask_stems,
    normalize_name,
)
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.learning.datasets.vocabulary import has_mask_word, is_annotation_folder
from edgeinspect.system import escape_name

_MAX_NAMES = 4
_SAMPLE_COUNT = 5
_SMALL_FILE_RATIO = 0.5
"""A file of less than this part of the bytes of an image may be a mask: masks compress well."""
_SUFFIX_PREFERENCE = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".webp", ".gif")
"""Preferred suffixes first; lossy formats come last."""


def with_unread_skipped(
    data: Dataset, root: Path, *, is_layout_given: bool, other_layouts: Iterable[str]
) -> Dataset:
    """Return the set with the images that its layout did not read listed as skipped.

    Args:
        data: As read by a layout that is recognised by folder names.
        root: The folder that the user gave, which may be above the set's own.
        is_layout_given: The user named the layout, so images may be skipped intentionally.
        other_layouts: Layouts that also match.

    Raises:
        DataError: More than a few images would be skipped; their folders are named.
    """
    used = {sample.path for sample in data.samples}
    used.update(path for sample in data.samples for path in mask_paths(sample))
    skipped_names = {escape_name(data.root / one.name) for one in data.skipped}
    unread = [
        path
        for path in images_below(root)
        if path not in used
        and escape_name(path) not in skipped_names
        and not _is_in_annotation_folder(path, root)
    ]
    used_stems = {(path.parent, normalize_name(path.stem)) for path in used}
    unsupported = unsupported_below(root)
    _check_unread_masks(data, unsupported, root)
    other_kinds = [
        path
        for path in unsupported
        if path.suffix.lower() in UNSUPPORTED_SUFFIXES
        and (path.parent, normalize_name(path.stem)) not in used_stems
        and not _is_in_annotation_folder(path, root)
    ]
    unread += other_kinds
    if not unread:
        return data
    if not is_layout_given and not are_few(len(unread), len(data)):
        read = _count_folders((sample.path for sample in data.samples), root)
        more = "".join(f"; --layout {name} reads it as that layout" for name in other_layouts)
        raise DataError(
            f"is read only in part by layout {data.layout}: it reads {read}, "
            f"and skips {_count_folders(unread, root)}",
            where=str(root),
            remedy="Move away what does not belong to the set; "
            f"--layout {data.layout} reads it like this{more}",
        )
    skipped = [
        SkippedImage(
            escape_name(path.relative_to(data.root) if path.is_relative_to(data.root) else path),
            _skip_reason(path, data),
            is_layout_given,
        )
        for path in unread
    ]
    return data.with_skipped(*skipped)


def check_unlisted(data: Dataset) -> None:
    """Check that the file with the labels names the images of the set, but for a few.

    Raises:
        DataError: It names too few: rows or a file are missing.
    """
    found = [one for one in data.skipped if one.is_unlisted]
    if not are_few(len(found), len(data)):
        names = ", ".join(one.name for one in found[:_MAX_NAMES])
        raise DataError(
            f"{len(found)} of {len(data) + len(found)} images are not labelled: {names}"
            f"{' …' if found[_MAX_NAMES:] else ''} ({found[0].reason})",
            where=str(data.root),
            remedy="Add them to the file with the labels, restore a file that is missing, or move "
            f"them out of the set; --layout {data.layout} reads the set without them",
        )


def check_images(data: Dataset, *, is_layout_given: bool) -> None:
    """Check that no mask or visualisation was read as an image: it would count as good.

    Args:
        data: As read by its layout.
        is_layout_given: The user named the layout: folder names are not questioned then.

    Raises:
        DataError: An image is also a mask file, or is in a folder named as masks and has no
            mask itself, or has the name or the size of a mask and looks like one.
    """
    masks = {_file_id(path) for sample in data.samples for path in mask_paths(sample)} - {None}
    found = [sample for sample in data.samples if masks and _file_id(sample.path) in masks]
    words, why = ("image is", "images are"), "also used as masks of the set"
    if not found and not is_layout_given:
        found = [
            sample
            for sample in data.samples
            if sample.mask is None
            and sample.path.is_relative_to(data.root)
            and _is_in_annotation_folder(sample.path, data.root)
        ]
        words = "image without a mask is", "images without masks are"
        why = "in a folder named as masks or visualizations"
    if found:
        some = ", ".join(str(sample.path.relative_to(data.root)) for sample in found[:_MAX_NAMES])
        raise DataError(
            f"{number_of(len(found), *words)} {why}: {escape_name(some)}"
            f"{' …' if found[_MAX_NAMES:] else ''}",
            where=str(data.root),
            remedy="Move that folder out of the set. If it holds images of parts, rename it or "
            f"name the layout (--layout {data.layout})",
        )
    if data.has_masks or not is_layout_given:
        _check_stray_masks(data, by_name_only=is_layout_given)


def _check_stray_masks(data: Dataset, *, by_name_only: bool) -> None:
    """Check that no mask whose name belongs to no image was read as an image.

    Copies of masks are such files (`p1_mask (1).png`, `p1_gt2.png`). Only files with a word for
    masks in their names are decoded and, in a set with masks, those that take up much less room
    than the images with a mask.

    Raises:
        DataError: There is one.
    """
    bare = [sample for sample in data.samples if sample.mask is None]
    masked = [sample for sample in data.samples if sample.mask is not None]
    sizes = [_file_bytes(sample.path) for sample in masked]
    small = median(sizes) * _SMALL_FILE_RATIO if sizes and not by_name_only else 0.0
    chosen = [
        sample
        for sample in bare
        if has_mask_word(sample.path.stem) or 0 < _file_bytes(sample.path) < small
    ]
    left_out = {sample.name for sample in chosen}
    others = [sample for sample in data.samples if sample.name not in left_out]
    some = others[:: max(1, len(others) // _SAMPLE_COUNT)][:_SAMPLE_COUNT]
    if not chosen or not some or any(looks_like_mask(sample.path) for sample in some):
        return
    alike = map_in_threads(lambda sample: looks_like_mask(sample.path), chosen)
    found = [
        sample
        for sample, is_alike in zip(chosen, alike, strict=True)
        if is_alike and (has_mask_word(sample.path.stem) or not is_plain(sample.path))
    ]
    if found:
        names = ", ".join(sample.name for sample in found[:_MAX_NAMES])
        raise DataError(
            f"{number_of(len(found), 'file looks', 'files look')} like masks but would count as "
            f"images: {names}{' …' if found[_MAX_NAMES:] else ''}",
            where=str(data.root),
            remedy="Name each after its image (NAME_mask.png for NAME.png), or move it out of "
            "the set",
        )


def _file_bytes(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _skip_reason(path: Path, data: Dataset) -> str:
    if path.suffix.lower() in UNSUPPORTED_SUFFIXES:
        return f"{path.suffix.lower()} is not supported: save it as PNG"
    return f"is in a folder that layout {data.layout} does not read"


def _check_unread_masks(data: Dataset, unsupported: Iterable[Path], root: Path) -> None:
    """Check for masks in unsupported formats: their images would be taken as good.

    Args:
        data: As read by its layout.
        unsupported: Files in formats that are not supported.
        root: Folder of the set.

    Raises:
        DataError: One of them is the mask of an image without a mask.
    """
    bare = {
        normalize_name(sample.path.stem): sample for sample in data.samples if sample.mask is None
    }
    found = [
        (path, bare[stem])
        for path in unsupported
        if data.has_masks and _is_in_annotation_folder(path, root)
        for stem in mask_stems(path)
        if stem in bare
    ]
    if found:
        path, sample = found[0]
        raise DataError(
            f"{number_of(len(found), 'mask is', 'masks are')} in a format that is not supported, "
            f"such as {path.relative_to(root)}; {sample.name} would be taken as good",
            where=str(root),
            remedy="Save masks as PNG",
        )


def without_same_stem(data: Dataset) -> Dataset:
    """Return the set with one image of those that a folder holds under several suffixes.

    Raises:
        DataError: They have different labels.
    """
    groups: dict[tuple[Path, str], list[Sample]] = defaultdict(list)
    for sample in data.samples:
        groups[sample.path.parent, normalize_name(sample.path.stem)].append(sample)
    repeated = [
        group for group in groups.values() if len(group) > 1 and _has_several_suffixes(group)
    ]
    if not repeated:
        return data
    skipped = []
    for group in repeated:
        first, *others = sorted(group, key=_preference)
        for other in others:
            if (first.is_defective, first.class_ids) != (other.is_defective, other.class_ids):
                raise DataError(
                    f"{first.name} and {other.name} are one image by their names, but "
                    f"{first.name} is {_describe_label(first)}, {other.name} "
                    f"{_describe_label(other)}",
                    where=str(data.root),
                    remedy="Keep the file that the label belongs to",
                )
            why = f"is {first.name} again, under another suffix"
            skipped.append(SkippedImage(other.name, why))
    names = {one.name for one in skipped}
    kept = [sample for sample in data.samples if sample.name not in names]
    return data.with_samples(kept).with_skipped(*skipped)


def check_shared_masks(data: Dataset) -> None:
    """Check that no mask file is that of two images, which happens where names repeat.

    Good images may share an empty one, and a table may give one to several images by name.

    Raises:
        DataError: One is.
    """
    first: dict[Path, Sample] = {}
    for sample in data.samples:
        for mask in mask_paths(sample):
            other = first.setdefault(mask, sample)
            if (
                getattr(sample.mask, "is_shared", False)
                or other is sample
                or not (
                    sample.is_defective
                    or other.is_defective
                    or None in (sample.class_name, other.class_name)
                )
            ):
                continue
            name = mask.relative_to(data.root) if mask.is_relative_to(data.root) else mask
            raise DataError(
                f"{escape_name(name)} would be the mask of two images: {other.name} and "
                f"{sample.name}",
                where=escape_name(data.root),
                remedy="Give each image of the set a name that no other has, and a mask of that "
                "name, or move the image that has no mask out of the set",
            )


def _describe_label(sample: Sample) -> str:
    return f"defective ({sample.class_name or 'by its label'})" if sample.is_defective else "good"


def _has_several_suffixes(group: list[Sample]) -> bool:
    return len({sample.path.suffix.lower() for sample in group}) > 1


def _preference(sample: Sample) -> tuple[int, str]:
    suffix = sample.path.suffix.lower()
    return (
        _SUFFIX_PREFERENCE.index(suffix)
        if suffix in _SUFFIX_PREFERENCE
        else len(_SUFFIX_PREFERENCE),
        sample.name,
    )


def mask_paths(sample: Sample) -> list[Path]:
    """Return the mask files of a sample."""
    if isinstance(sample.mask, MaskFile):
        return [sample.mask.path]
    if isinstance(sample.mask, MaskPerClass):
        return [path for _class_id, path in sample.mask.files]
    return []


def _is_in_annotation_folder(path: Path, root: Path) -> bool:
    """Return whether a file is in a folder of masks, visualizations or the like."""
    return any(map(is_annotation_folder, path.relative_to(root).parts[:-1]))


def _folder_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return f"{'/'.join(parts)}/" if parts else "its own folder"


def _count_folders(paths: Iterable[Path], root: Path) -> str:
    count = Counter(_folder_name(path, root) for path in paths)
    return ", ".join(f"{name} ({number})" for name, number in count.most_common(_MAX_NAMES))
