"""Pictures in one folder, masks in another beside it: `images/` and `masks/`.

Also `labels/`, `annotations/`, `ground_truth/` …; also below `train/`, `val/`, `test/`, with those
below `images/` and `masks/`, or pictures with a folder `Label/` beside them (DAGM). A mask
belongs to the picture of the same stem (`NAME.png`, `NAME_mask.png`, `NAME_GT.png`); one file
per class is `NAME_<class>.png` or `<class>/NAME.png`. Masks are binary, class ids, palette or
colours (`encoding.py`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.files import (
    IMAGE_FOLDERS,
    SPLIT_NAMES,
    files_in,
    folders_in,
    has_pictures,
    is_picture,
    pictures_below,
    split_of,
)
from edgeinspect.learning.datasets.folder_names import says_drawing, says_mask, words_of
from edgeinspect.learning.datasets.masks.pairing import Pair, data_set, mask_stems
from edgeinspect.learning.datasets.name_matching import FEW, MISSING_RATIO, fold, stem_of
from edgeinspect.learning.datasets.records import DataSet, Hints, Skipped

NEEDS = "images/ and masks/ (or labels/, annotations/, ground_truth/) with files of the same stem"
RANK = 40
_SHOWN = 3


def recognise(path: Path) -> bool:
    """True for a folder with at least one such pair of folders that hold pictures."""
    try:
        return path.is_dir() and bool(_twins(path))
    except DataError:  # two folders of one kind: said when it is read
        return True


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records; a picture without a mask is taken as clean, and a note says so.

    Raises:
        DataError: More than a few masks have no picture, a picture could have two masks, or the
            masks' values cannot be classes.
    """
    pairs: list[Pair] = []
    lost: list[Path] = []
    count = 0
    for images, masks, direct in _twins(path):
        more, unused, seen = _pair(path, images, masks, direct)
        pairs += more
        lost += unused
        count += seen
    if not any(pair.masks for pair in pairs):
        raise DataError(
            "no mask has the stem of a picture",
            where=str(path),
            remedy="Name them alike: images/a.jpg and masks/a.png",
        )
    some = ", ".join(str(mask.relative_to(path)) for mask in lost[:_SHOWN])
    some += ", …" if lost[_SHOWN:] else ""
    if len(lost) > max(FEW, MISSING_RATIO * count):
        raise DataError(
            f"{len(lost)} of {count} masks have no picture: {some}",
            where=str(path),
            remedy="Name masks as their pictures, or put the pictures beside them",
        )
    data = data_set(path, "mask_folder", pairs, hints)
    left_out = [
        Skipped(str(mask.relative_to(path)), "is a mask without a picture") for mask in lost
    ]
    data = data.without(*left_out)
    return data.with_notes(f"{len(lost)} masks have no picture: {some}") if lost else data


def _twins(path: Path) -> list[tuple[Path, Path, bool]]:
    """Folders of pictures with their folders of masks, in the set's folder or its splits'.

    The third is true where the pictures stand beside the folder of masks, as in DAGM.

    Raises:
        DataError: Two folders could be the pictures of a split, or its masks.
    """
    bases = [path, *(f for f in folders_in(path) if f.name.lower() in SPLIT_NAMES)]
    twins = []
    for base in bases:
        kinds: dict[str, dict[str, list[Path]]] = {"image": {}, "mask": {}}
        for folder in folders_in(base):
            kind, which = _kind(folder.name)
            if kind and has_pictures(folder):
                kinds[kind].setdefault(which, []).append(folder)
        direct = not kinds["image"] and any(is_picture(file.name) for file in files_in(base))
        if direct and "" in kinds["mask"]:
            kinds["image"][""] = [base]
        for which, images in kinds["image"].items():
            if masks := kinds["mask"].get(which):
                twins.append((_alone(images, "pictures"), _alone(masks, "masks"), direct))
    return twins


def _alone(folders: list[Path], what: str) -> Path:
    if len(folders) > 1:
        raise DataError(
            f"has two folders of {what}: {folders[0].name}/ and {folders[1].name}/",
            where=str(folders[0].parent),
            remedy="Move the one away that is not meant",
        )
    return folders[0]


def _kind(name: str) -> tuple[str, str]:
    """(`image`, `mask` or nothing, the split it names): `train_masks` is (`mask`, `train`)."""
    low = name.lower()
    words = words_of(name)
    split = split_of(words) or ""
    if says_drawing(name):
        return "", split
    if says_mask(name):
        return "mask", split
    if low in IMAGE_FOLDERS or (IMAGE_FOLDERS - {"data"}) & set(words):
        return "image", split
    return "", ""


def _pair(
    root: Path, images: Path, masks: Path, direct: bool
) -> tuple[list[Pair], list[Path], int]:
    """The pictures of a folder with their masks, the masks of none, and how many masks."""
    pictures = pictures_below(images)
    if direct:
        pictures = [picture for picture in pictures if picture.parent == images]
    by_key: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for picture in pictures:
        by_key[fold(_parent(picture, images)), fold(picture.stem)].append(picture)
    found: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    unused = []
    files = pictures_below(masks)
    for mask in files:
        at = _find(fold(_parent(mask, masks)), mask, by_key)
        if at is None:
            unused.append(mask)
        else:
            for picture in at[0]:
                found[picture].append((at[1], mask))
    pairs = []
    for picture in pictures:
        of = found[picture]
        whole = [file for file in of if not file[0]]
        if len(whole) > 1:
            raise DataError(
                f"{picture.name} could have two masks: {whole[0][1].name} and {whole[1][1].name}",
                where=str(masks),
                remedy="Move the one away that is not meant",
            )
        parts = picture.relative_to(root).parts[:-1]
        inner = [p for p in Path(_parent(picture, images)).parts if p.lower() not in SPLIT_NAMES]
        pairs.append(Pair(picture, tuple(whole or of), "/".join(inner), split_of(_words(parts))))
    return pairs, unused, len(files)


def _words(parts: tuple[str, ...]) -> list[str]:
    return [word for part in parts for word in (part, *re.split(r"[^A-Za-z]+", part))]


def _parent(path: Path, base: Path) -> str:
    parent = path.parent.relative_to(base).as_posix()
    return "" if parent == "." else parent


def _find(
    parent: str, mask: Path, pictures: dict[tuple[str, str], list[Path]]
) -> tuple[list[Path], str] | None:
    """The pictures that a mask is of, and the class where the mask is of one only."""
    stem, stems = fold(mask.stem), mask_stems(mask)
    for each in stems:
        if (parent, each) in pictures:
            return pictures[parent, each], ""
    for cut in reversed([match.start() for match in re.finditer(r"[_\-. ]", stem)]):
        for each in (stem[:cut], stem_of(stem[:cut])[0]):
            if (parent, each) in pictures and cut + 1 < len(stem):
                raw = mask.stem.strip()
                name = raw if len(raw) == len(stem) else stem  # as it is spelled
                return pictures[parent, each], name[cut + 1 :]
    above, _, folded = parent.rpartition("/")
    for each in stems if folded else ():
        if (above, each) in pictures:
            return pictures[above, each], mask.parent.name
    return None
