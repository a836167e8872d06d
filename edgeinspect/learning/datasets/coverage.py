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
from edgeinspect.learning.datasets.files import UNREAD, pictures_below, unread_below
from edgeinspect.learning.datasets.folder_names import is_annotation
from edgeinspect.learning.datasets.masks.masks import MaskFile, MaskPerClass
from edgeinspect.learning.datasets.masks.pairing import mask_stems
from edgeinspect.learning.datasets.name_matching import FEW, MISSING_RATIO, fold
from edgeinspect.learning.datasets.records import DataSet, Record, Skipped
from edgeinspect.system.regular_file import printable

_SHOWN = 4
_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".webp", ".gif")
"""The better first: what is compressed with loss comes last."""


def without_unread(data: DataSet, root: Path, *, chosen: bool, others: Iterable[str]) -> DataSet:
    """The set, with the pictures of its folder that it does not read named as left out.

    Args:
        data: As a layout that goes by folders read it.
        root: The folder that a person gave, which may be above the set's own.
        chosen: The person named the layout: whatever it leaves aside is meant.
        others: Layouts that fit too.

    Raises:
        DataError: They are more than a few; the folders are named, and both readings.
    """
    used = {record.path for record in data.records}
    used.update(path for record in data.records for path in _mask_files(record))
    told = {printable(data.root / one.name) for one in data.left_out}
    unread = [
        path
        for path in pictures_below(root)
        if path not in used and printable(path) not in told and not _beside(path, root)
    ]
    shown = {(path.parent, fold(path.stem)) for path in used}
    strange = unread_below(root)
    _check_masks(data, strange, root)
    other_kinds = [
        path
        for path in strange
        if path.suffix.lower() in UNREAD
        and (path.parent, fold(path.stem)) not in shown
        and not _beside(path, root)
    ]
    unread += other_kinds
    if not unread:
        return data
    if not chosen and len(unread) > max(FEW, MISSING_RATIO * len(data)):
        count = Counter(_folder(path, root) for path in unread)
        folders = ", ".join(f"{name} ({number})" for name, number in count.most_common(_SHOWN))
        read = Counter(_folder(record.path, root) for record in data.records)
        taken = ", ".join(f"{name} ({number})" for name, number in read.most_common(_SHOWN))
        more = "".join(f"; --layout {name} reads it as that" for name in others)
        raise DataError(
            f"is read as {data.layout} only in part: it has {taken}, and leaves out {folders}",
            where=str(root),
            remedy="Move away what is no part of the set; "
            f"--layout {data.layout} reads it so{more}",
        )
    left_out = [
        Skipped(
            printable(path.relative_to(data.root) if path.is_relative_to(data.root) else path),
            _why(path, data),
            chosen,
        )
        for path in unread
    ]
    return data.without(*left_out)


def check_pictures(data: DataSet, *, chosen: bool) -> None:
    """Refuse masks and drawings that a layout took for pictures: they would be clean ones.

    Args:
        data: As its layout read it.
        chosen: The person named the layout: a folder's name is no doubt then.

    Raises:
        DataError: A picture is also a mask's file, or stands in a folder that says masks and
            has no mask itself.
    """
    masks = {_identity(path) for record in data.records for path in _mask_files(record)} - {None}
    found = [record for record in data.records if masks and _identity(record.path) in masks]
    why = "are masks of the set too"
    if not found and not chosen:
        found = [
            record
            for record in data.records
            if record.mask is None
            and record.path.is_relative_to(data.root)
            and _beside(record.path, data.root)
        ]
        why = "stand in a folder whose name says masks, or drawings, and have no mask"
    if found:
        some = ", ".join(str(record.path.relative_to(data.root)) for record in found[:_SHOWN])
        raise DataError(
            f"{len(found)} pictures {why}: {printable(some)}{' …' if found[_SHOWN:] else ''}",
            where=str(data.root),
            remedy="Move that folder out of the set; or give it another name, or name the layout "
            f"(--layout {data.layout}), if it holds pictures of parts",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _why(path: Path, data: DataSet) -> str:
    if path.suffix.lower() in UNREAD:
        return f"{path.suffix.lower()} is not read: save it as PNG"
    return f"stands in no folder that {data.layout} reads"


def _check_masks(data: DataSet, strange: Iterable[Path], root: Path) -> None:
    """Refuse masks in a form that is not read: their pictures would be taken as clean.

    Args:
        data: As its layout read it.
        strange: Files of kinds that are not read.
        root: Of the set.

    Raises:
        DataError: A picture without a mask has one of them.
    """
    bare = {fold(record.path.stem): record for record in data.records if record.mask is None}
    found = [
        (path, bare[stem])
        for path in strange
        if data.has_masks and _beside(path, root)
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


def without_twins(data: DataSet) -> DataSet:
    """The set with one picture of each that stands in a folder under two endings.

    Raises:
        DataError: The two have different labels.
    """
    groups: dict[tuple[Path, str], list[Record]] = defaultdict(list)
    for record in data.records:
        groups[record.path.parent, fold(record.path.stem)].append(record)
    twins = [group for group in groups.values() if len(group) > 1 and _endings(group)]
    if not twins:
        return data
    left_out = []
    for group in twins:
        first, *others = sorted(group, key=_rank)
        for other in others:
            if (first.defective, first.class_ids) != (other.defective, other.class_ids):
                raise DataError(
                    f"{first.name} and {other.name} are one picture by their names, and "
                    f"{first.name} is {_says(first)}, {other.name} {_says(other)}",
                    where=str(data.root),
                    remedy="Keep the file that the label is of",
                )
            why = f"is {first.name} again, under another ending"
            left_out.append(Skipped(other.name, why))
    names = {one.name for one in left_out}
    kept = [record for record in data.records if record.name not in names]
    return data.with_records(kept).without(*left_out)


def _says(record: Record) -> str:
    return f"defective ({record.class_name or 'by its label'})" if record.defective else "clean"


def _endings(group: list[Record]) -> bool:
    return len({record.path.suffix.lower() for record in group}) > 1


def _rank(record: Record) -> tuple[int, str]:
    suffix = record.path.suffix.lower()
    return (_ENDINGS.index(suffix) if suffix in _ENDINGS else len(_ENDINGS), record.name)


def _mask_files(record: Record) -> list[Path]:
    if isinstance(record.mask, MaskFile):
        return [record.mask.path]
    if isinstance(record.mask, MaskPerClass):
        return [path for _class_id, path in record.mask.files]
    return []


def _beside(path: Path, root: Path) -> bool:
    """True for masks of no picture, drawings and the like, which are no pictures of parts."""
    return any(map(is_annotation, path.relative_to(root).parts[:-1]))


def _folder(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return f"{'/'.join(parts)}/" if parts else "its own folder"
