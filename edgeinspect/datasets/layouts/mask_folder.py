"""Pictures in one folder, masks in another beside it: `images/` and `masks/`.

Also `labels/`, `annotations/`, `ground_truth/` …; also below `train/`, `val/`, `test/`, or with
those below `images/` and `masks/`. A mask belongs to the picture of the same stem (`NAME.png`,
`NAME_mask.png`, `NAME_GT.png`); one file per class is `NAME_<class>.png` or
`<class>/NAME.png`. Masks are binary, class ids, palette or colours (`pairing.py`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from edgeinspect.datasets.files import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    SPLIT_NAMES,
    folders_in,
    has_pictures,
    pictures_below,
    split_of,
)
from edgeinspect.datasets.pairing import MASK_SUFFIX, Pair, data_set
from edgeinspect.datasets.records import DataSet, Hints
from edgeinspect.errors import DataError

NEEDS = "images/ and masks/ (or labels/, annotations/, ground_truth/) with files of the same stem"
RANK = 40


def recognise(path: Path) -> bool:
    """True for a folder with at least one such pair of folders that hold pictures."""
    return path.is_dir() and bool(_twins(path))


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records; a picture without a mask is taken as clean, and a note says so.

    Raises:
        DataError: No mask has a picture, or the masks' values cannot be classes.
    """
    pairs: list[Pair] = []
    lost = 0
    for images, masks in _twins(path):
        more, unused = _pair(path, images, masks)
        pairs += more
        lost += unused
    if not any(pair.masks for pair in pairs):
        raise DataError(
            "no mask has the stem of a picture", where=str(path),
            remedy="Name them alike: images/a.jpg and masks/a.png",
        )  # fmt: skip
    data = data_set(path, "mask_folder", pairs, hints)
    return data.with_notes(f"{lost} masks have no picture") if lost else data


def _twins(path: Path) -> list[tuple[Path, Path]]:
    """Folders of pictures with their folders of masks, in the set's folder or its splits'."""
    bases = [path, *(f for f in folders_in(path) if f.name.lower() in SPLIT_NAMES)]
    twins = []
    for base in bases:
        kinds: dict[str, dict[str, Path]] = {"image": {}, "mask": {}}
        for folder in folders_in(base):
            kind, which = _kind(folder.name)
            if kind and has_pictures(folder):
                kinds[kind].setdefault(which, folder)
        for which, images in kinds["image"].items():
            if which in kinds["mask"]:
                twins.append((images, kinds["mask"][which]))
    return twins


def _kind(name: str) -> tuple[str, str]:
    """(`image`, `mask` or nothing, the split it names): `train_masks` is (`mask`, `train`)."""
    low = name.lower()
    words = re.split(r"[^a-z]+", low)
    split = split_of(words) or ""
    if low in MASK_FOLDERS or MASK_FOLDERS & set(words) or {"ground", "truth"} <= set(words):
        return "mask", split
    if low in IMAGE_FOLDERS or (IMAGE_FOLDERS - {"data"}) & set(words):
        return "image", split
    return "", ""


def _pair(root: Path, images: Path, masks: Path) -> tuple[list[Pair], int]:
    """The pictures of a folder with their masks, and how many masks were of none."""
    pictures = pictures_below(images)
    by_key: dict[tuple[str, str], Path] = {}
    for picture in pictures:
        by_key.setdefault((_parent(picture, images), picture.stem), picture)
    found: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    unused = 0
    for mask in pictures_below(masks):
        at = _find(_parent(mask, masks), mask.stem, by_key)
        if at is None:
            unused += 1
        else:
            found[at[0]].append((at[1], mask))
    pairs = []
    for picture in pictures:
        files = found[picture]
        whole = [file for file in files if not file[0]]
        parts = picture.relative_to(root).parts[:-1]
        inner = [p for p in Path(_parent(picture, images)).parts if p.lower() not in SPLIT_NAMES]
        pairs.append(
            Pair(picture, tuple(whole[:1] or files), "/".join(inner), split_of(_words(parts)))
        )
    return pairs, unused


def _words(parts: tuple[str, ...]) -> list[str]:
    return [word for part in parts for word in (part, *re.split(r"[^A-Za-z]+", part))]


def _parent(path: Path, base: Path) -> str:
    parent = path.parent.relative_to(base).as_posix()
    return "" if parent == "." else parent


def _find(parent: str, stem: str, pictures: dict[tuple[str, str], Path]) -> tuple[Path, str] | None:
    """The picture that a mask is of, and the class where the mask is of one only."""
    if (parent, stem) in pictures:
        return pictures[parent, stem], ""
    named = MASK_SUFFIX.fullmatch(stem)
    if named and (parent, named["stem"]) in pictures:
        return pictures[parent, named["stem"]], ""
    for cut in reversed([match.start() for match in re.finditer(r"[_\-. ]", stem)]):
        if (parent, stem[:cut]) in pictures and cut + 1 < len(stem):
            return pictures[parent, stem[:cut]], stem[cut + 1 :]
    above, _, class_name = parent.rpartition("/")
    if class_name and (above, stem) in pictures:
        return pictures[above, stem], class_name
    if class_name and named and (above, named["stem"]) in pictures:
        return pictures[above, named["stem"]], class_name
    return None
