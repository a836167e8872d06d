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
from edgeinspect.imaging.read_settings import declared
from edgeinspect.learning.datasets import layouts as package
from edgeinspect.learning.datasets.bit_depth import find_depth
from edgeinspect.learning.datasets.coverage import check_pictures, without_twins, without_unread
from edgeinspect.learning.datasets.files import folders_in, unread_below
from edgeinspect.learning.datasets.folder_names import is_annotation
from edgeinspect.learning.datasets.name_matching import fold
from edgeinspect.learning.datasets.records import DataSet, Hints
from edgeinspect.learning.datasets.unsupported_formats import annotated, foreign_format
from edgeinspect.system.regular_file import printable

_BY_TABLE = 20
"""Up to this rank a layout has a file that says what the folder holds."""
_SUGGESTED = 8
_LOOKED_INTO = 64
_DEPTH = 2


@runtime_checkable
class Layout(Protocol):
    """What a layout's file exposes."""

    NEEDS: str
    RANK: int

    def recognise(self, path: Path) -> bool:
        """True if a folder (or a CSV file) has this layout. Decodes nothing."""
        ...

    def read(self, path: Path, hints: Hints = ...) -> DataSet:
        """Its records.

        Raises:
            DataError: It has this layout, but contradicts itself.
        """
        ...


def layout_names() -> tuple[str, ...]:
    """The layouts there are, sorted. Imports none of them."""
    found = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(entry.name for entry in found if not entry.name.startswith("_")))


def layout_of(name: str) -> Layout:
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
    return cast(Layout, module)


def open_data(
    path: Path | str,
    layout: str | None = None,
    *,
    good: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> DataSet:
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
    found, name, others = _find(root, layout)
    hints = Hints(tuple(good), tuple(classes), layout)
    data = _printable(_read(name, found, hints))
    if not data.records:
        raise DataError("has no picture", where=str(found), remedy=_needs())
    check_pictures(data, chosen=layout is not None)
    if layout_of(name).RANK > _BY_TABLE:
        data = without_unread(data, root, chosen=layout is not None, others=others)
    data = without_twins(data)
    _check_names(data)
    notes = [f"the data set is in {found.relative_to(root)}"] if found != root else []
    notes += [f"it is of the layout {each} too: --layout {each}" for each in others]
    notes += [note] if (note := annotated(root)) else []
    data = data.with_notes(*notes)
    place = found if found.is_dir() else found.parent
    depth = find_depth([record.path for record in data.records], declared(place), printable(root))
    data = data.with_notes(depth.doubt) if depth.doubt else data
    return replace(data, bits=depth.bits, flat_end=depth.flat_end)


def _read(name: str, path: Path, hints: Hints) -> DataSet:
    try:
        return layout_of(name).read(path, hints)
    except DataError as error:
        foreign = foreign_format(path) if path.is_dir() else None
        if foreign is None or type(error) is not DataError:
            raise
        raise DataError(
            f"{error.what}; {foreign.name} is there, which is not read",
            where=error.where,
            remedy=". ".join(part for part in (error.remedy, foreign.remedy) if part),
        ) from error


def _printable(data: DataSet) -> DataSet:
    """The set with names that can be shown, stored and sent, whatever its files are called."""
    records = tuple(
        replace(
            each,
            name=printable(each.name),
            class_name=None if each.class_name is None else printable(each.class_name),
            group=printable(each.group),
        )
        for each in data.records
    )
    left_out = tuple(replace(one, name=printable(one.name)) for one in data.left_out)
    return replace(
        data, records=records, classes=tuple(map(printable, data.classes)), left_out=left_out
    )


def _find(root: Path, layout: str | None) -> tuple[Path, str, tuple[str, ...]]:
    """The set's folder, its layout, and others that a table in it would give."""
    if layout is not None:
        module = layout_of(layout)
        if getattr(module, "accepts", module.recognise)(root):
            return root, layout, ()
        raise DataError(
            f"is not of the layout '{layout}'",
            where=str(root),
            remedy=f"It needs {layout_of(layout).NEEDS}",
        )
    if names := _recognised(root):
        return root, names[0], names[1:]
    inner = list(islice(_below(root), _SUGGESTED + 1))
    if len(inner) == 1:
        return inner[0]
    if inner:
        some = ", ".join(str(folder) for folder, _name, _others in inner[:_SUGGESTED])
        raise DataError(
            "holds several data sets", where=str(root), remedy=f"Give one of them: {some}"
        )
    if root.is_dir() and (foreign := foreign_format(root)) is not None:
        raise DataError(
            f"holds {foreign.name}, which is not read", where=str(root), remedy=foreign.remedy
        )
    raise DataError(
        f"is not a data set of any known layout{_unread_in(root)}", where=str(root), remedy=_needs()
    )


def _unread_in(root: Path) -> str:
    """What there is of pictures that are not read, in words; else nothing."""
    found = unread_below(root) if root.is_dir() else []
    more = f" and {len(found) - 1} more" if found[1:] else ""
    return f": {found[0].relative_to(root)}{more} are of a kind that is not read" if found else ""


def _below(root: Path, depth: int = 0) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """The data sets in a folder that is none itself, as unpacked archives have them."""
    for folder in folders_in(root)[:_LOOKED_INTO] if root.is_dir() else []:
        if is_annotation(folder.name):
            continue
        if names := _recognised(folder):
            yield folder, names[0], names[1:]
        elif depth < _DEPTH:
            yield from _below(folder, depth + 1)


def _recognised(path: Path) -> tuple[str, ...]:
    """The layout of a folder first, then others whose table it has too; none for no layout.

    Raises:
        DataError: Folders that could be read in two ways.
    """
    fitting = sorted(
        (module.RANK, name)
        for name in layout_names()
        if (module := layout_of(name)).recognise(path)
    )
    tables = tuple(name for rank, name in fitting if rank <= _BY_TABLE)
    if tables:  # it says itself what it is
        return tables
    names = [name for _rank, name in fitting]
    covered = {name for each in names for name in getattr(layout_of(each), "COVERS", ())}
    open_ones = [name for name in names if name not in covered]
    if len(open_ones) > 1:
        readings = "; ".join(f"{name} ({layout_of(name).NEEDS})" for name in open_ones)
        choices = " or ".join(f"--layout {name}" for name in open_ones)
        raise DataError(
            f"can be read in {len(open_ones)} ways: {readings}",
            where=str(path),
            remedy=f"Say which: {choices}",
        )
    return tuple(open_ones)


def _needs() -> str:
    lines = [f"  {name}: {layout_of(name).NEEDS}" for name in layout_names()]
    return "It needs one of:\n" + "\n".join(lines)


def _check_names(data: DataSet) -> None:
    spelled: dict[str, str] = {}
    for name in data.classes:
        if spelled.setdefault(fold(name), name) != name:
            raise DataError(
                f"has the classes '{spelled[fold(name)]}' and '{name}'",
                where=str(data.root),
                remedy="Spell them alike, if they are one",
            )
    seen: set[str] = set()
    for record in data.records:
        if record.name in seen:
            raise DataError(f"the picture '{record.name}' is there twice", where=str(data.root))
        seen.add(record.name)
