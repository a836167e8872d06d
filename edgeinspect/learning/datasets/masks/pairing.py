"""From pictures paired with mask files to records, when nothing but the masks says what is what.

All masks are looked through once: a set's values must be known before one of them means
anything, and a picture is defective if its mask has a pixel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good
from edgeinspect.learning.datasets.files import natural, unique_names
from edgeinspect.learning.datasets.folder_names import says_mask, words_of
from edgeinspect.learning.datasets.masks.encoding import binary_encoding, encoding_of
from edgeinspect.learning.datasets.masks.label_maps import listed, naming_of
from edgeinspect.learning.datasets.masks.masks import (
    BINARY,
    MAX_CLASSES,
    MaskFile,
    MaskPerClass,
    Meaning,
)
from edgeinspect.learning.datasets.masks.stored_values import Found, has_ids, values_of
from edgeinspect.learning.datasets.name_matching import (
    CLEAN_TIMES,
    FEW,
    MISSING_RATIO,
    fold,
    stem_of,
)
from edgeinspect.learning.datasets.records import DataSet, Hints, Record, Skipped

MASK_SUFFIX = re.compile(
    r"(?P<stem>.+?)[_\-. ]?(?:mask|gt|label|seg|annotation|ground_?truth)s?", re.IGNORECASE
)
"""`NAME_mask`, `NAME_GT`, `NAME_label`: the mask of NAME."""
_SUFFIXES = frozenset(("lab", "lbl", "msk", "m", "bin", "binary", "bw"))
_ONCE_MIN = 16
"""So many words that one mask file has are numbers of objects, not classes."""
_SHOWN = 3


def mask_stems(path: Path) -> list[str]:
    """The folded stems of pictures that a file can be the mask of, the likeliest first.

    `a.png`, `a.jpg.png`, `a_mask.png` and `a.jpg_mask.png` are masks of `a.jpg`.
    """
    stem = fold(path.stem)
    named = MASK_SUFFIX.fullmatch(stem)
    stems = [stem] if named is None else [stem, named["stem"]]
    return list(dict.fromkeys(each for one in stems for each in (one, stem_of(one)[0])))


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its mask files."""

    path: Path
    masks: tuple[tuple[str, Path], ...]
    """(class, file); class is empty for a file that holds the whole mask."""
    folder: str = ""
    """The folder that it stands in, if that tells anything: a class, or a group."""
    split: str | None = None
    part: str = ""
    """The folder of a single part, whose pictures are a group."""


def data_set(root: Path, layout: str, pairs: Sequence[Pair], hints: Hints) -> DataSet:
    """The records of paired files.

    Folders that differ in a number only (`kos01`, `kos02`) are groups, others are classes.

    Raises:
        DataError: Values that cannot be told to be classes.
    """
    files = [path for pair in pairs for _name, path in pair.masks]
    naming = listed(hints.classes, "the classes given") if hints.classes else naming_of(root)
    found = values_of(files, colors=naming is not None and naming.colors)
    folders = {pair.folder for pair in pairs} - {""}
    grouped = len({re.sub(r"\d+", "#", name) for name in folders}) <= 1
    named = naming.names if naming else ()
    by_class = sorted({name for pair in pairs for name, _path in pair.masks if name})
    if len(by_class) == 1 and (
        _is_suffix(by_class[0]) or has_ids(set().union(*(v.values for v in found.values())))
    ):
        pairs = [
            replace(pair, masks=tuple(("", path) for _n, path in pair.masks)) for pair in pairs
        ]
        by_class = []  # `NAME_lab.png` for all: a word for masks, and no class
    pairs, by_class = _numbered(pairs, by_class, root)
    notes = []
    meaning = BINARY
    if by_class:
        binary_encoding(found, root)
        classes = named if set(named) >= set(by_class) else tuple(by_class)
    else:
        encoding = encoding_of(found, naming, root)
        meaning, classes = encoding.meaning, encoding.classes
        notes += [encoding.note] if encoding.note else []
        if encoding.is_binary and folders and not grouped:
            classes = tuple(sorted(name for name in folders if not is_good(name, hints.good)))
            by_class = list(classes)
    names = unique_names(root, [pair.path for pair in pairs])
    lost = _unknown(pairs, found, grouped, root)
    left_out = [
        Skipped(
            str(pair.path.relative_to(root)),
            "has no mask file, and clean pictures have an empty one",
        )
        for pair in lost
    ]
    pairs = [pair for pair in pairs if pair not in lost]
    made = [
        _record(pair, names[pair.path], classes, meaning, found, grouped, bool(by_class), hints)
        for pair in pairs
    ]
    notes += _notes([pair for pair in pairs if grouped or not pair.folder], root)
    records = sorted(made, key=lambda record: natural(Path(record.name)))
    data = DataSet(root, layout, classes, tuple(records), has_masks=True, notes=tuple(notes))
    return data.without(*left_out)


def _record(
    pair: Pair,
    name: str,
    classes: tuple[str, ...],
    meaning: Meaning,
    values: Found,
    grouped: bool,
    by_class: bool,
    hints: Hints,
) -> Record:
    folder = "" if grouped else pair.folder
    bad_folder = bool(folder) and not is_good(folder, hints.good)
    ids: set[int] = set()
    broken = any(bool(values[path].problem) for _name, path in pair.masks)
    mask: MaskFile | MaskPerClass | None = None

    def is_drawn(path: Path) -> bool:
        return values[path].any_set and not values[path].values <= meaning.void

    if by_class:
        files = []
        for word, path in pair.masks:
            class_name = word or folder
            if class_name in classes:
                files.append((classes.index(class_name) + 1, path))
                if is_drawn(path):
                    ids.add(files[-1][0])
            elif is_drawn(path):
                raise DataError(
                    "has defect pixels, but its folder is of good pictures", where=str(path)
                )
            else:  # of a good picture: read too, so that its size is checked
                empty = Meaning({}, void=meaning.void) if meaning.void else Meaning({}, soft=True)
                mask = MaskFile(path, empty)
        if files:
            mask = MaskPerClass(tuple(sorted(files)), meaning.void)
    elif pair.masks:
        mask = MaskFile(pair.masks[0][1], meaning)
        found = values[mask.path]
        ids = {meaning.ids.get(value, 0) for value in found.values} - {0}
        if meaning.soft and found.strong:
            ids = {1}
    alone = classes[min(ids) - 1] if len(ids) == 1 and len(classes) > 1 else None
    return Record(
        name,
        pair.path,
        bool(ids) or bad_folder or broken,
        folder or alone,
        pair.part or (pair.folder if grouped else "") or name,
        pair.split,
        mask,
        tuple(sorted(ids)),
    )


def _unknown(pairs: Sequence[Pair], found: Found, grouped: bool, root: Path) -> list[Pair]:
    """Pictures without a mask file in a set that has empty masks for its clean pictures.

    Raises:
        DataError: They are more than a few.
    """
    bare = [pair for pair in pairs if not pair.masks and (grouped or not pair.folder)]
    empty = [
        pair for pair in pairs if pair.masks and not any(found[p].values for _n, p in pair.masks)
    ]
    if not bare or len(empty) < CLEAN_TIMES * len(bare):
        return []
    if len(bare) > max(FEW, MISSING_RATIO * len(pairs)):
        some = ", ".join(str(pair.path.relative_to(root)) for pair in bare[:_SHOWN])
        raise DataError(
            f"{len(bare)} of {len(pairs)} pictures have no mask file ({some}, …), and "
            f"{len(empty)} others have an empty one",
            where=str(root),
            remedy="Give clean pictures an empty mask each, or take out those of which nothing "
            "is known",
        )
    return bare


def _numbered(
    pairs: Sequence[Pair], by_class: list[str], root: Path
) -> tuple[Sequence[Pair], list[str]]:
    """The classes of files that hold one each, where their names are no numbers of objects.

    `NAME_mask_0.png` and `NAME_mask_1.png` are masks of two objects and of one class.

    Raises:
        DataError: The names are numbers, or differ from file to file.
    """
    bare = {name: re.sub(r"[\d_\-. ]+$", "", name) for name in by_class}
    if len(by_class) > 1 and all(rest and _is_suffix(rest) for rest in bare.values()):
        one = [
            replace(pair, masks=tuple(("defect", path) for _n, path in pair.masks))
            for pair in pairs
        ]
        return one, ["defect"]
    count = Counter(name for pair in pairs for name, _path in pair.masks if name)
    once = sum(number == 1 for number in count.values())
    if (
        len(by_class) > MAX_CLASSES
        or (once >= _ONCE_MIN and 2 * once > len(by_class))
        or (by_class and not any(bare.values()))
    ):
        some = ", ".join(by_class[:_SHOWN])
        raise DataError(
            f"mask files are named by {len(by_class)} words or numbers ({some}, …), which cannot "
            "be classes",
            where=str(root),
            remedy="Name a file that holds one class NAME_<class>.png or <class>/NAME.png",
        )
    return pairs, by_class


def _is_suffix(name: str) -> bool:
    """True for what masks are called, which is no class: `gt_mask`, `labelIds`, `msk`."""
    return says_mask(name) or set(words_of(name)) <= _SUFFIXES


def _notes(pairs: Sequence[Pair], root: Path) -> list[str]:
    bare = [pair.path for pair in pairs if not pair.masks]
    if not bare:
        return []
    some = ", ".join(str(path.relative_to(root)) for path in bare[:_SHOWN])
    more = ", …" if len(bare) > _SHOWN else ""
    count = f"{len(bare)} of {len(pairs)}"
    return [f"{count} pictures have no mask file: taken as clean ({some}{more})"]
