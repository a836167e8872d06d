"""Opening a folder of pictures, whatever its layout.

A layout is one file in `edgeinspect/datasets/layouts/` that exposes

- `NEEDS: str`, what a folder must have, in words for a person;
- `RANK: int`: up to 20 where a file in the folder says what it is, which wins; above, where the
  folders' names do. Two of those are refused, unless one names the other in `COVERS`;
- `recognise(path) -> bool`, quick, decoding no picture;
- `read(path, hints=Hints()) -> DataSet`;
- `accepts(path) -> bool`, optional: whether it can be read so where a person names the layout.

Its name is the file's name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from edgeinspect.errors import DataError, InternalError, UsageError
from edgeinspect.imaging import load_declaration
from edgeinspect.learning.datasets import layouts as package
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.completeness import (
    check_images,
    with_unread_skipped,
    without_same_stem,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints
from edgeinspect.learning.datasets.files import subfolders, unsupported_below
from edgeinspect.learning.datasets.folder_names import is_annotation_folder
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.learning.datasets.unsupported_formats import (
    detect_unsupported_format,
    note_unsupported_labels,
)
from edgeinspect.system import escape_name

_MAX_TABLE_RANK = 20
"""Up to this rank a layout has a file that says what the folder holds."""
_MAX_SUGGESTIONS = 8
_MAX_FOLDERS = 64
_MAX_DEPTH = 2


@runtime_checkable
class LayoutModule(Protocol):
    """What a layout's file exposes."""

    NEEDS: str
    RANK: int

    def recognise(self, path: Path) -> bool:
        """True if a folder (or a CSV file) has this layout. Decodes nothing."""
        ...

    def read(self, path: Path, hints: LayoutHints = ...) -> Dataset:
        """Its records.

        Raises:
            DataError: It has this layout, but contradicts itself.
        """
        ...


def layout_names() -> tuple[str, ...]:
    """The layouts there are, sorted. Imports none of them."""
    found = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(entry.name for entry in found if not entry.name.startswith("_")))


def load_layout(name: str) -> LayoutModule:
    """Import one layout.

    Raises:
        UsageError: There is no such layout; those that exist are listed.
    """
    if name not in layout_names():
        raise UsageError(
            f"there is no layout '{name}'", remedy=f"There are: {', '.join(layout_names())}"
        )
    module = importlib.import_module(f"{package.__name__}.{name}")
    for wanted in ("NEEDS", "RANK", "recognise", "read"):
        if not hasattr(module, wanted):
            raise InternalError(f"does not expose `{wanted}`", where=module.__name__)
    return cast(LayoutModule, module)


def open_dataset(
    path: Path | str,
    layout: str | None = None,
    *,
    good_classes: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """Read the records of a data set. Pictures stay on disk; masks may be looked through.

    Args:
        path: Its folder, or the CSV file of the `severstal` layout. A folder that holds nothing
            but one data set's folder will do.
        layout: Name of its layout; recognised when absent.
        good: Names of the classes that are good, instead of the rule in `goodness.py`.
        classes: Names of classes 1..K of masks that carry ids only.

    Raises:
        DataError: No layout fits (what each needs is listed), or the set contradicts itself.
        UsageError: There is no layout of that name.
    """
    root = Path(path)
    if not root.exists():
        raise DataError("does not exist", where=str(root), remedy="Give a data set's folder")
    found, name, others = _find_dataset(root, layout)
    hints = LayoutHints(tuple(good_classes), tuple(classes), layout)
    data = _with_printable_names(_read_layout(name, found, hints))
    if not data.samples:
        raise DataError("has no picture", where=str(found), remedy=_all_requirements())
    check_images(data, is_layout_given=layout is not None)
    if load_layout(name).RANK > _MAX_TABLE_RANK:
        data = with_unread_skipped(
            data, root, is_layout_given=layout is not None, other_layouts=others
        )
    data = without_same_stem(data)
    _check_unique_names(data)
    notes = [f"the data set is in {found.relative_to(root)}"] if found != root else []
    notes += [f"it is of the layout {each} too: --layout {each}" for each in others]
    notes += [note] if (note := note_unsupported_labels(root)) else []
    data = data.with_notes(*notes)
    place = found if found.is_dir() else found.parent
    depth = find_bit_depth(
        [record.path for record in data.samples], load_declaration(place), escape_name(root)
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
            f"{error.what}; {foreign.name} is there, which is not read",
            where=error.where,
            remedy=". ".join(part for part in (error.remedy, foreign.remedy) if part),
        ) from error


def _with_printable_names(data: Dataset) -> Dataset:
    """The set with names that can be shown, stored and sent, whatever its files are called."""
    records = tuple(
        replace(
            each,
            name=escape_name(each.name),
            class_name=None if each.class_name is None else escape_name(each.class_name),
            group=escape_name(each.group),
        )
        for each in data.samples
    )
    left_out = tuple(replace(one, name=escape_name(one.name)) for one in data.skipped)
    return replace(
        data, samples=records, classes=tuple(map(escape_name, data.classes)), skipped=left_out
    )


def _find_dataset(root: Path, layout: str | None) -> tuple[Path, str, tuple[str, ...]]:
    """The set's folder, its layout, and others that a table in it would give."""
    if layout is not None:
        module = load_layout(layout)
        if getattr(module, "accepts", module.recognise)(root):
            return root, layout, ()
        raise DataError(
            f"is not of the layout '{layout}'",
            where=str(root),
            remedy=f"It needs {load_layout(layout).NEEDS}",
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
            f"holds {foreign.name}, which is not read", where=str(root), remedy=foreign.remedy
        )
    raise DataError(
        f"is not a data set of any known layout{_describe_unsupported(root)}",
        where=str(root),
        remedy=_all_requirements(),
    )


def _describe_unsupported(root: Path) -> str:
    """What there is of pictures that are not read, in words; else nothing."""
    found = unsupported_below(root) if root.is_dir() else []
    more = f" and {len(found) - 1} more" if found[1:] else ""
    return f": {found[0].relative_to(root)}{more} are of a kind that is not read" if found else ""


def _datasets_below(root: Path, depth: int = 0) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """The data sets in a folder that is none itself, as unpacked archives have them."""
    for folder in subfolders(root)[:_MAX_FOLDERS] if root.is_dir() else []:
        if is_annotation_folder(folder.name):
            continue
        if names := _matching_layouts(folder):
            yield folder, names[0], names[1:]
        elif depth < _MAX_DEPTH:
            yield from _datasets_below(folder, depth + 1)


def _matching_layouts(path: Path) -> tuple[str, ...]:
    """The layout of a folder first, then others whose table it has too; none for no layout.

    Raises:
        DataError: Folders that could be read in two ways.
    """
    fitting = sorted(
        (module.RANK, name)
        for name in layout_names()
        if (module := load_layout(name)).recognise(path)
    )
    tables = tuple(name for rank, name in fitting if rank <= _MAX_TABLE_RANK)
    if tables:  # it says itself what it is
        return tables
    names = [name for _rank, name in fitting]
    covered = {name for each in names for name in getattr(load_layout(each), "COVERS", ())}
    open_ones = [name for name in names if name not in covered]
    if len(open_ones) > 1:
        readings = "; ".join(f"{name} ({load_layout(name).NEEDS})" for name in open_ones)
        choices = " or ".join(f"--layout {name}" for name in open_ones)
        raise DataError(
            f"can be read in {len(open_ones)} ways: {readings}",
            where=str(path),
            remedy=f"Say which: {choices}",
        )
    return tuple(open_ones)


def _all_requirements() -> str:
    lines = [f"  {name}: {load_layout(name).NEEDS}" for name in layout_names()]
    return "It needs one of:\n" + "\n".join(lines)


def _check_unique_names(data: Dataset) -> None:
    spelled: dict[str, str] = {}
    for name in data.classes:
        if spelled.setdefault(normalize_name(name), name) != name:
            raise DataError(
                f"has the classes '{spelled[normalize_name(name)]}' and '{name}'",
                where=str(data.root),
                remedy="Spell them alike, if they are one",
            )
    seen: set[str] = set()
    for record in data.samples:
        if record.name in seen:
            raise DataError(f"the picture '{record.name}' is there twice", where=str(data.root))
        seen.add(record.name)
