"""From pictures paired with mask files to records, when nothing but the masks says what is what.

All masks are looked through once: a set's values must be known before one of them means
anything, and a picture is defective if its mask has a pixel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.datasets.files import named_classes, natural, unique_names
from edgeinspect.datasets.goodness import is_good
from edgeinspect.datasets.looks import in_threads
from edgeinspect.datasets.masks import (
    BINARY,
    MAX_CLASSES,
    THRESHOLD,
    UNLABELLED,
    MaskFile,
    MaskPerClass,
    Meaning,
    is_set,
)
from edgeinspect.datasets.records import DataSet, Hints, Record
from edgeinspect.errors import DataError
from edgeinspect.imaging.mask_file import COLOR, read_mask_values

MASK_SUFFIX = re.compile(
    r"(?P<stem>.+?)[_\-. ]?(?:mask|gt|label|seg|annotation|ground_?truth)s?", re.IGNORECASE
)
"""`NAME_mask`, `NAME_GT`, `NAME_label`: the mask of NAME."""


_MAX_GREYS = 16
"""More greys than this that are no ids 1..K are soft edges, not classes."""
_NEAR = 24
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its mask files."""

    path: Path
    masks: tuple[tuple[str, Path], ...]
    """(class, file); class is empty for a file that holds the whole mask."""
    folder: str = ""
    """The folder that it stands in, if that tells anything: a class, or a group."""
    split: str | None = None


@dataclass(frozen=True, slots=True)
class _Values:
    """The nonzero values of a mask file."""

    values: frozenset[int]
    any_set: bool = False
    """As a binary mask, some pixel is set."""
    strong: bool = False
    """Some reach the threshold of a soft mask."""
    broken: bool = False


def data_set(root: Path, layout: str, pairs: Sequence[Pair], hints: Hints) -> DataSet:
    """The records of paired files.

    Folders that differ in a number only (`kos01`, `kos02`) are groups, others are classes.

    Raises:
        DataError: Values that cannot be told to be classes.
    """
    files = [path for pair in pairs for _name, path in pair.masks]
    values = dict(zip(files, in_threads(_values, files), strict=True))
    folders = {pair.folder for pair in pairs} - {""}
    grouped = len({re.sub(r"\d+", "#", name) for name in folders}) <= 1
    named = hints.classes or named_classes(root)
    by_class = sorted({name for pair in pairs for name, _path in pair.masks if name})
    notes = []
    if by_class:
        classes = tuple(named) if set(named) >= set(by_class) else tuple(by_class)
        meaning = BINARY
    else:
        meaning, count, note = meaning_of(values.values(), root)
        notes += [note] if note else []
        classes = (*named, *(f"class_{i}" for i in range(len(named) + 1, count + 1)))
        if count <= 1 and folders and not grouped:
            classes = tuple(sorted(name for name in folders if not is_good(name, hints.good)))
            by_class = list(classes)
        elif count <= 1 and not named:
            classes = ("defect",)
    names = unique_names(root, [pair.path for pair in pairs])
    made = [
        _record(pair, names[pair.path], classes, meaning, values, grouped, bool(by_class), hints)
        for pair in pairs
    ]
    notes += _notes(pairs, values)
    records = sorted(made, key=lambda record: natural(Path(record.name)))
    return DataSet(root, layout, classes, tuple(records), has_masks=True, notes=tuple(notes))


def _record(
    pair: Pair, name: str, classes: tuple[str, ...], meaning: Meaning,
    values: dict[Path, _Values], grouped: bool, by_class: bool, hints: Hints,
) -> Record:  # fmt: skip
    folder = "" if grouped else pair.folder
    bad_folder = bool(folder) and not is_good(folder, hints.good)
    ids: set[int] = set()
    broken = any(values[path].broken for _name, path in pair.masks)
    mask: MaskFile | MaskPerClass | None = None
    if by_class:
        files = []
        for word, path in pair.masks:
            class_name = word or folder
            if class_name in classes:
                files.append((classes.index(class_name) + 1, path))
                if values[path].any_set:
                    ids.add(files[-1][0])
            elif values[path].any_set:
                raise DataError(
                    "has defect pixels, but its folder is of good pictures", where=str(path)
                )
        mask = MaskPerClass(tuple(sorted(files))) if files else None
    elif pair.masks:
        mask = MaskFile(pair.masks[0][1], meaning)
        found = values[mask.path]
        ids = {meaning.ids.get(value, 0) for value in found.values} - {0}
        if meaning.soft and found.strong:
            ids = {1}
    alone = classes[min(ids) - 1] if len(ids) == 1 and len(classes) > 1 else None
    return Record(
        name, pair.path, bool(ids) or bad_folder or broken, folder or alone,
        (pair.folder if grouped else "") or name, pair.split, mask, tuple(sorted(ids)),
    )  # fmt: skip


def meaning_of(found: Iterable[_Values], root: Path) -> tuple[Meaning, int, str]:
    """What the values of a set's masks mean, how many classes there are, and what to say.

    One value, or 1 and 255: binary. 1..64: class ids, with 255 for unlabelled pixels. At most
    16 other greys or 64 colours: a class each, in ascending order. More greys, or only nearly
    black and white ones: binary with soft edges, cut at 128.

    Raises:
        DataError: Too many colours to be classes.
    """
    values: set[int] = set()
    for one in found:
        values |= one.values
    if len(values) <= 1 or values == {1, 255}:
        note = "no mask has a defect pixel" if not values else ""
        only = min(values, default=1)
        return (BINARY if only in (1, 255) else Meaning({only: 1})), len(values), note
    ids = values - {UNLABELLED}
    if max(ids) <= MAX_CLASSES and len(ids) >= 2:
        note = "mask value 255 is taken as unlabelled, so as background"
        meaning = {**{i: i for i in range(1, max(ids) + 1)}, UNLABELLED: 0}
        return Meaning(meaning), max(ids), note if UNLABELLED in values else ""
    grey = max(values) <= UNLABELLED
    if grey and (len(values) > _MAX_GREYS or _two_heaps(values)):
        return Meaning({}, soft=True), 1, "masks have soft edges; they are cut at 128"
    if len(values) <= MAX_CLASSES:
        ordered = sorted(values)
        told = ", ".join(f"{_word(value)} is {i}" for i, value in enumerate(ordered[:8], 1))
        return (
            Meaning({value: i for i, value in enumerate(ordered, 1)}), len(ordered),
            f"mask values are classes in ascending order: {told}",
        )  # fmt: skip
    raise DataError(
        f"the masks hold {len(values)} values, which cannot be classes", where=str(root),
        remedy="Save masks as PNG (JPEG blurs values), one value or colour per class",
    )  # fmt: skip


def _two_heaps(values: set[int]) -> bool:
    """True if all greys are near black or near white, as after a JPEG: a binary mask."""
    return all(value < _NEAR or value > UNLABELLED - _NEAR for value in values)


def _word(value: int) -> str:
    return f"#{value & 0xFFFFFF:06x}" if value & COLOR else str(value)


def _values(path: Path) -> _Values:
    try:
        values = read_mask_values(path)
    except DataError:
        return _Values(frozenset(), broken=True)
    if values.size and int(values.max()) < 0x10000:
        found = np.flatnonzero(np.bincount(values.ravel()))
    else:
        found = np.unique(values)
    nonzero = frozenset(int(value) for value in found if value)
    strong = max(nonzero, default=0) >= THRESHOLD
    return _Values(nonzero, bool(is_set(values).any()), strong)


def all_white(files: Sequence[Path]) -> bool:
    """True if some masks of a set show that it knows black and white only."""
    found = [one.values for one in in_threads(_values, files[:_LOOKED_AT])]
    return set().union(*found) == {UNLABELLED}


def _notes(pairs: Sequence[Pair], values: dict[Path, _Values]) -> list[str]:
    notes = []
    count = Counter(bool(pair.masks) for pair in pairs)
    if count[False]:
        notes.append(f"{count[False]} of {len(pairs)} pictures have no mask file: taken as clean")
    if broken := sum(value.broken for value in values.values()):
        notes.append(f"{broken} masks cannot be read")
    return notes
