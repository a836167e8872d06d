"""Opens a folder of images in any layout.

A layout is one module in `edgeinspect/learning/datasets/layouts/`, named after it, with

- `NEEDS: str`, what a folder must have, for error messages;
- `RANK: int`: up to 20 if a file in the folder declares the layout, which wins; above, if folder
  names do. Two matches of the latter are an error, unless one lists the other in `COVERS`;
- `recognise(path) -> bool`, fast, without decoding an image;
- `read(path, hints=LayoutHints()) -> Dataset`;
- `accepts(path) -> bool`, optional: whether the layout can be read if the user names it;
- `LABEL_SUFFIX: str`, optional: that of its label files, one per image. It accounts itself for
  those that cannot be read.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, InternalError, UsageError
from edgeinspect.imaging import is_image_name, load_declaration
from edgeinspect.learning.datasets import layouts as package
from edgeinspect.learning.datasets.annotations.broken_files import (
    broken_file_error,
    broken_files,
)
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.class_names import check_clear_names
from edgeinspect.learning.datasets.completeness import (
    check_images,
    check_shared_masks,
    check_unlisted,
    with_unread_skipped,
    without_same_stem,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints
from edgeinspect.learning.datasets.files import subfolders, unsupported_below
from edgeinspect.learning.datasets.folder_classes import check_class_names, with_unread_tables
from edgeinspect.learning.datasets.groups import with_copies_grouped
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.learning.datasets.split_lists import with_split_lists
from edgeinspect.learning.datasets.unread_labels import with_unread_labels
from edgeinspect.learning.datasets.unread_masks import check_partial_labels, with_unread_masks
from edgeinspect.learning.datasets.unsupported_formats import (
    detect_unsupported_format,
    note_unsupported_labels,
)
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder
from edgeinspect.system import escape_name

_MAX_TABLE_RANK = 20
"""Up to this rank, a file in the folder declares its layout."""
_PER_IMAGE = "LABEL_SUFFIX"
"""The constant of a layout with a label file for each image."""
_MAX_SUGGESTIONS = 8
_MAX_FOLDERS = 64
_MAX_DEPTH = 2


class NoLayoutError(DataError):
    """No layout recognises a folder: nothing in it says how it is labelled."""


@runtime_checkable
class LayoutModule(Protocol):
    """What the module of a layout exposes."""

    NEEDS: str
    RANK: int

    def recognise(self, path: Path) -> bool:
        """Return whether a folder (or a CSV file) has this layout. Decodes nothing."""
        ...

    def read(self, path: Path, hints: LayoutHints = ...) -> Dataset:
        """Read the samples of a folder.

        Raises:
            DataError: It has this layout, but is inconsistent.
        """
        ...


def layout_names() -> tuple[str, ...]:
    """Return the names of all layouts, sorted. Imports none of them."""
    found = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(entry.name for entry in found if not entry.name.startswith("_")))


def load_layout(name: str) -> LayoutModule:
    """Import a layout by name.

    Raises:
        UsageError: There is no such layout; the message lists those that exist.
    """
    if name not in layout_names():
        raise UsageError(
            f"there is no layout '{name}'", remedy=f"There are: {', '.join(layout_names())}"
        )
    module = importlib.import_module(f"{package.__name__}.{name}")
    for attribute in ("NEEDS", "RANK", "recognise", "read"):
        if not hasattr(module, attribute):
            raise InternalError(f"does not define `{attribute}`", where=module.__name__)
    return cast(LayoutModule, module)


def open_dataset(
    path: Path | str,
    layout: str | None = None,
    *,
    good_classes: Sequence[str] = (),
    classes: Sequence[str] = (),
    draws_boxes: bool = False,
) -> Dataset:
    """Read the samples of a data set. Images stay on disk; masks may be read once.

    Args:
        path: Its folder, or the file that declares its layout (CSV of `severstal`, JSON of
            `coco`, …). A folder that contains a single data set is accepted too.
        layout: Name of its layout; recognised when absent.
        good_classes: Names of the good classes, instead of the rule in `class_names.py`.
        classes: Names of classes 1..K of masks that contain ids only.
        draws_boxes: Fill annotated boxes as masks.

    Raises:
        DataError: No layout matches (the requirements of each are listed), or the set is
            inconsistent.
        UsageError: There is no layout of that name.
    """
    root = Path(path)
    if not root.exists():
        raise DataError("does not exist", where=str(root), remedy="Give the folder of a data set")
    found, name, others = _find_dataset(root, layout)
    hints = LayoutHints(tuple(good_classes), tuple(classes), layout, draws_boxes)
    data = _with_printable_names(_read_layout(name, found, hints))
    check_clear_names(data.classes, escape_name(found), hints.good_classes)
    if not data.samples:
        raise DataError("has no images", where=str(found), remedy=_all_requirements())
    data = _with_broken_files(data, root, name, is_layout_given=layout is not None)
    if layout is None and root.is_dir():
        check_unlisted(data)
    check_images(data, is_layout_given=layout is not None)
    if load_layout(name).RANK > _MAX_TABLE_RANK:
        data = with_unread_skipped(
            data, root, is_layout_given=layout is not None, other_layouts=others
        )
        data = _with_declared_sets_below(data, root, is_layout_given=layout is not None)
    data = with_unread_masks(data, root, is_layout_given=layout is not None)
    data = with_unread_labels(data, root, hints.good_classes, is_layout_given=layout is not None)
    check_partial_labels(data, root)
    if name == "class_folder" and layout is None:
        check_class_names(data)
    if load_layout(name).RANK > _MAX_TABLE_RANK and root.is_dir():
        data = with_unread_tables(data, root, is_layout_given=layout is not None)
    _check_other_layouts(data, found, others, hints)
    data = without_same_stem(data)
    check_shared_masks(data)
    data = with_split_lists(with_copies_grouped(data), root, is_layout_given=layout is not None)
    _check_unique_names(data)
    notes = [f"the data set is {found.relative_to(root)}"] if found != root else []
    notes += [f"layout {each} matches too: --layout {each}" for each in others]
    notes += [note] if (note := note_unsupported_labels(root)) else []
    data = data.with_notes(*notes)
    place = found if found.is_dir() else found.parent
    depth = find_bit_depth(
        [sample.path for sample in data.samples], load_declaration(place), escape_name(root)
    )
    data = data.with_notes(depth.warning) if depth.warning else data
    return replace(data, bit_depth=depth.bits, flat_end=depth.flat_end)


def _read_layout(name: str, path: Path, hints: LayoutHints) -> Dataset:
    try:
        return load_layout(name).read(path, hints)
    except DataError as error:
        foreign = detect_unsupported_format(path) if path.is_dir() else None
        if foreign is None or type(error) is not DataError:
            raise
        raise DataError(
            f"{error.what}; found {foreign.name}: not a supported format",
            where=error.where,
            remedy=". ".join(part for part in (error.remedy, foreign.remedy) if part),
        ) from error


def _with_broken_files(data: Dataset, root: Path, name: str, *, is_layout_given: bool) -> Dataset:
    """Return the set if no file with labels was passed over because it cannot be read.

    Raises:
        DataError: There is one. If the user named a layout that reads folder names only, it is
            a note.
    """
    module = load_layout(name)
    broken = broken_files(root, without=(getattr(module, _PER_IMAGE, ""),))
    if not broken:
        return data
    by_folders = module.RANK > _MAX_TABLE_RANK
    remedy = "Restore it, or remove it if it holds no labels"
    if by_folders:
        remedy += f"; --layout {name} reads the folders without it"
    error = broken_file_error(root, broken, remedy)
    if by_folders and is_layout_given:
        return data.with_notes(f"{error.what}: it is not read")
    raise error


def _check_other_layouts(
    data: Dataset, path: Path, others: Sequence[str], hints: LayoutHints
) -> None:
    """Check that other files with labels of the same images do not say the contrary.

    Raises:
        DataError: One calls an image defective that the set calls good.
    """
    for name in others:
        try:
            other = load_layout(name).read(path, hints)
        except DataError:
            continue  # a note names the layout
        bad = {sample.path for sample in other.samples if sample.is_defective}
        found = [each for each in data.samples if not each.is_defective and each.path in bad]
        if found:
            count = number_of(len(found), "image is", "images are")
            raise DataError(
                f"{count} good by layout {data.layout} and defective by layout {name}, such as "
                f"{found[0].name}",
                where=escape_name(path),
                remedy=f"Choose with --layout {data.layout} or --layout {name}, or move the wrong "
                "file with labels away",
            )


def _with_declared_sets_below(data: Dataset, root: Path, *, is_layout_given: bool) -> Dataset:
    """Return a set read by its folders if no folder below has a file with labels of images.

    Raises:
        DataError: There is one, of COCO, CVAT, Label Studio …, so folder names are not the labels.
            If the user named the layout, it is a note.
    """
    tables = [
        (name, module)
        for name in layout_names()
        if (module := load_layout(name)).RANK <= _MAX_TABLE_RANK and not hasattr(module, _PER_IMAGE)
    ]
    found = next(
        (
            (folder, name)
            for folder in _folders_below(root)
            for name, module in tables
            if module.recognise(folder)
        ),
        None,
    )
    if found is None:
        return data
    folder, name = found
    place = escape_name(folder.relative_to(root))
    what = f"{place}/ has labels of layout {name}, which layout {data.layout} does not read"
    if is_layout_given:
        return data.with_notes(what)
    raise DataError(
        what,
        where=escape_name(root),
        remedy=f"Give the folder of that set and its images, or move the file with the labels to "
        f"{escape_name(root.name)}/; --layout {data.layout} ignores it",
    )


def _folders_below(root: Path, depth: int = 0) -> Iterator[Path]:
    for folder in subfolders(root)[:_MAX_FOLDERS] if root.is_dir() else []:
        yield folder
        if depth < _MAX_DEPTH:
            yield from _folders_below(folder, depth + 1)


def _with_printable_names(data: Dataset) -> Dataset:
    """Return the set with printable names, whatever its files are called."""
    samples = tuple(
        replace(
            each,
            name=escape_name(each.name),
            class_name=None if each.class_name is None else escape_name(each.class_name),
            group=escape_name(each.group),
        )
        for each in data.samples
    )
    skipped = tuple(replace(one, name=escape_name(one.name)) for one in data.skipped)
    return replace(
        data, samples=samples, classes=tuple(map(escape_name, data.classes)), skipped=skipped
    )


def _find_dataset(root: Path, layout: str | None) -> tuple[Path, str, tuple[str, ...]]:
    """Return the set's folder, its layout, and other layouts declared by a file in it."""
    if layout is not None:
        module = load_layout(layout)
        if getattr(module, "accepts", module.recognise)(root):
            return root, layout, ()
        raise DataError(
            f"does not have the layout '{layout}'",
            where=str(root),
            remedy=f"This layout needs {load_layout(layout).NEEDS}",
        )
    if names := _matching_layouts(root):
        return root, names[0], names[1:]
    inner = list(islice(_datasets_below(root), _MAX_SUGGESTIONS + 1))
    if len(inner) == 1:
        return inner[0]
    if inner:
        some = ", ".join(str(folder) for folder, _name, _others in inner[:_MAX_SUGGESTIONS])
        raise DataError(
            "holds several data sets", where=str(root), remedy=f"Give one of them: {some}"
        )
    if root.is_dir() and (foreign := detect_unsupported_format(root)) is not None:
        raise DataError(
            f"has {foreign.name}: not a supported format", where=str(root), remedy=foreign.remedy
        )
    if broken := broken_files(root):
        raise broken_file_error(root, broken, "Restore it: no data set was recognised without it")
    raise NoLayoutError(
        f"does not match any data set layout{_describe_unsupported(root)}",
        where=str(root),
        remedy=_remedy_without_labels(root) + _all_requirements(),
    )


def _remedy_without_labels(root: Path) -> str:
    """Return what images that lie in a folder by themselves are good for; empty without them."""
    if not root.is_dir() or not any(is_image_name(entry.name) for entry in root.iterdir()):
        return ""
    return (
        "If all images are of good parts, learn from these alone with `edgeinspect train anomaly`. "
    )


def _describe_unsupported(root: Path) -> str:
    """Return a description of images in unsupported formats; empty if there are none."""
    found = unsupported_below(root) if root.is_dir() else []
    more = f" and {len(found) - 1} more" if found[1:] else ""
    return (
        f": {found[0].relative_to(root)}{more} are in a format that is not supported"
        if found
        else ""
    )


def _datasets_below(root: Path, depth: int = 0) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Yield the data sets inside a folder, as unpacked archives have them."""
    for folder in subfolders(root)[:_MAX_FOLDERS] if root.is_dir() else []:
        if is_annotation_folder(folder.name):
            continue
        if names := _matching_layouts(folder):
            yield folder, names[0], names[1:]
        elif depth < _MAX_DEPTH:
            yield from _datasets_below(folder, depth + 1)


def _matching_layouts(path: Path) -> tuple[str, ...]:
    """Return the layout of a folder, then other layouts that a file in it declares.

    Raises:
        DataError: Several layouts match by folder names.
    """
    fitting = sorted(
        (module.RANK, name)
        for name in layout_names()
        if (module := load_layout(name)).recognise(path)
    )
    tables = tuple(name for rank, name in fitting if rank <= _MAX_TABLE_RANK)
    if tables:  # declared by a file
        return tables
    names = [name for _rank, name in fitting]
    covered = {name for each in names for name in getattr(load_layout(each), "COVERS", ())}
    open_ones = [name for name in names if name not in covered]
    if len(open_ones) > 1:
        readings = "; ".join(f"{name} ({load_layout(name).NEEDS})" for name in open_ones)
        choices = " or ".join(f"--layout {name}" for name in open_ones)
        raise DataError(
            f"matches {len(open_ones)} layouts: {readings}",
            where=str(path),
            remedy=f"Choose one: {choices}",
        )
    return tuple(open_ones)


def _all_requirements() -> str:
    lines = [f"  {name}: {load_layout(name).NEEDS}" for name in layout_names()]
    return "The layouts need:\n" + "\n".join(lines)


def _check_unique_names(data: Dataset) -> None:
    spelled: dict[str, str] = {}
    for name in data.classes:
        if spelled.setdefault(normalize_name(name), name) != name:
            raise DataError(
                f"has the classes '{spelled[normalize_name(name)]}' and '{name}'",
                where=str(data.root),
                remedy="Spell them alike if they are one class",
            )
    seen: set[str] = set()
    for sample in data.samples:
        if sample.name in seen:
            raise DataError(f"has two images named '{sample.name}'", where=str(data.root))
        seen.add(sample.name)
