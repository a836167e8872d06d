"""A folder per class: the folder a picture stands in says what it is.

`ok_front/`, `def_front/` (casting), `crazing/`, `inclusion/` … (NEU), optionally below `train/`,
`val/`, `test/`, and with `images/` in between. A folder below the class's is a group. Which
classes are good: `goodness.py`, or `--good NAME`. There are no masks.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

from edgeinspect.datasets.files import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_NAMES,
    folders_in,
    has_pictures,
    pictures_below,
    split_of,
    unique_names,
)
from edgeinspect.datasets.goodness import is_good
from edgeinspect.datasets.records import DataSet, Hints, Record
from edgeinspect.errors import DataError

NEEDS = (
    "a folder of pictures per class, at least two (ok/ and defect/, or crazing/ and scratches/), "
    "which may stand below train/, val/ and test/"
)
RANK = 60

_NEUTRAL = SPLIT_NAMES.keys() | IMAGE_FOLDERS


def recognise(path: Path) -> bool:
    """True for a folder with at least two class folders."""
    return path.is_dir() and len(list(islice(_class_names(path), 2))) == 2


def _class_names(path: Path, depth: int = 0) -> list[str]:
    names: dict[str, None] = {}
    for folder in folders_in(path):
        low = folder.name.lower()
        if low in _NEUTRAL:
            if depth < 3:
                names.update(dict.fromkeys(_class_names(folder, depth + 1)))
        elif low not in MASK_FOLDERS and has_pictures(folder):
            names[folder.name] = None
    return list(names)


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records; pictures that stand in no class folder are left out and counted."""
    files = pictures_below(path)
    names = unique_names(path, files)
    placed = [(file, _place(file.relative_to(path).parts[:-1])) for file in files]
    counts = Counter(place[0] for _file, place in placed if place is not None)
    good = {name for name in counts if is_good(name, hints.good)}
    if hints.good and not good:
        raise DataError(
            f"has no class {' or '.join(hints.good)}", where=str(path),
            remedy=f"Its classes are: {', '.join(sorted(counts))}",
        )  # fmt: skip
    if len(counts) < 2:
        raise DataError(
            f"holds one class only ({', '.join(counts) or 'none'})", where=str(path),
            remedy="A gate is trained on good and defective pictures",
        )  # fmt: skip
    classes = tuple(sorted(counts.keys() - good))
    if not classes:
        raise DataError(
            f"every class counts as good: {', '.join(sorted(good))}", where=str(path),
            remedy="Name the good ones with --good",
        )  # fmt: skip
    records = []
    for file, place in placed:
        if place is None:
            continue
        name, group, split = place
        ids = () if name in good else (classes.index(name) + 1,)
        records.append(Record(
            names[file], file, bool(ids), name, group or names[file], split, None, ids
        ))  # fmt: skip
    notes = [f"good: {', '.join(sorted(good)) or 'no class'}"]
    if left := len(files) - len(records):
        notes.append(f"{left} pictures stand in no class folder and are left out")
    return DataSet(path, "class_folder", classes, tuple(records), False, notes=tuple(notes))


def _place(parts: tuple[str, ...]) -> tuple[str, str, str | None] | None:
    """(class, group, split) of a picture by the folders it stands in; None for none."""
    telling = [part for part in parts if part.lower() not in _NEUTRAL]
    if not telling or any(part.lower() in MASK_FOLDERS for part in parts):
        return None
    group = "/".join(telling) if len(telling) > 1 else ""
    return telling[0], group, split_of(parts)
