"""Opening a folder of pictures, whatever its layout.

A layout is one file in `edgeinspect/datasets/layouts/` that exposes

- `NEEDS: str`, what a folder must have, in words for a person;
- `RANK: int`, which comes first where two recognise a folder (the lower);
- `recognise(path) -> bool`, quick, decoding no picture;
- `read(path, hints=Hints()) -> DataSet`.

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

from edgeinspect.datasets import layouts as package
from edgeinspect.datasets.depth import find_depth
from edgeinspect.datasets.files import folders_in
from edgeinspect.datasets.records import DataSet, Hints
from edgeinspect.errors import DataError, InternalError, UsageError
from edgeinspect.imaging.reading import declared
from edgeinspect.regular_file import printable

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
    found, name = _find(root, layout)
    hints = Hints(tuple(good), tuple(classes))
    data = _printable(layout_of(name).read(found, hints))
    if not data.records:
        raise DataError("has no picture", where=str(found), remedy=_needs())
    _check_names(data)
    if found != root:
        data = data.with_notes(f"the data set is in {found.relative_to(root)}")
    place = found if found.is_dir() else found.parent
    depth = find_depth([record.path for record in data.records], declared(place), printable(root))
    return replace(data, bits=depth.bits, flat_end=depth.flat_end)


def _find(root: Path, layout: str | None) -> tuple[Path, str]:
    if layout is not None:
        if layout_of(layout).recognise(root):
            return root, layout
        raise DataError(
            f"is not of the layout '{layout}'", where=str(root),
            remedy=f"It needs {layout_of(layout).NEEDS}",
        )  # fmt: skip
    if name := _recognised(root):
        return root, name
    inner = list(islice(_below(root), _SUGGESTED + 1))
    if len(inner) == 1:
        return inner[0]
    if inner:
        some = ", ".join(str(folder) for folder, _name in inner[:_SUGGESTED])
        raise DataError(
            "holds several data sets", where=str(root), remedy=f"Give one of them: {some}"
        )
    raise DataError("is not a data set of any known layout", where=str(root), remedy=_needs())


def _below(root: Path, depth: int = 0) -> Iterator[tuple[Path, str]]:
    """The data sets in a folder that is none itself, as unpacked archives have them."""
    for folder in folders_in(root)[:_LOOKED_INTO] if root.is_dir() else []:
        if name := _recognised(folder):
            yield folder, name
        elif depth < _DEPTH:
            yield from _below(folder, depth + 1)


def _recognised(path: Path) -> str | None:
    fitting = [
        (module.RANK, name)
        for name in layout_names()
        if (module := layout_of(name)).recognise(path)
    ]
    return min(fitting)[1] if fitting else None


def _needs() -> str:
    lines = [f"  {name}: {layout_of(name).NEEDS}" for name in layout_names()]
    return "It needs one of:\n" + "\n".join(lines)


def _printable(data: DataSet) -> DataSet:
    """The set with names that can be stored and shown; a file's may be of any bytes."""
    records = tuple(
        replace(
            each,
            name=printable(each.name),
            class_name=None if each.class_name is None else printable(each.class_name),
            group=printable(each.group),
        )
        for each in data.records
    )
    return replace(data, records=records, classes=tuple(map(printable, data.classes)))


def _check_names(data: DataSet) -> None:
    seen: set[str] = set()
    for record in data.records:
        if record.name in seen:
            raise DataError(f"the picture '{record.name}' is there twice", where=str(data.root))
        seen.add(record.name)
