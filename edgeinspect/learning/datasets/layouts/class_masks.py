"""A folder of pictures per class, and the masks of the defective ones in a folder beside them.

`good/`, `crack/`, `masks/crack/000.png`; or `normal_dir/`, `abnormal_dir/`, `mask_dir/000.png`
(anomalib's Folder). A mask is of the picture of its stem in the class folder of its name, or,
where masks are not in folders of classes, of the one defective picture of its stem.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good
from edgeinspect.learning.datasets.files import (
    IMAGE_FOLDERS,
    folders_in,
    has_pictures,
    pictures_below,
)
from edgeinspect.learning.datasets.folder_names import says_drawing, says_mask
from edgeinspect.learning.datasets.layouts.class_folder import class_folders, place_of
from edgeinspect.learning.datasets.masks.content import check_looks
from edgeinspect.learning.datasets.masks.pairing import Pair, data_set, mask_stems
from edgeinspect.learning.datasets.name_matching import FEW, MISSING_RATIO, fold
from edgeinspect.learning.datasets.records import DataSet, Hints, Skipped

NEEDS = (
    "a folder of pictures per class (good/, crack/) and a folder of masks beside them (masks/), "
    "with files of the same stem"
)
RANK = 45
COVERS = ("class_folder",)
_SHOWN = 3


def recognise(path: Path) -> bool:
    """True for a folder with class folders and one folder of masks, and no folder of pictures."""
    if not path.is_dir():
        return False
    inside = [folder for folder in folders_in(path) if has_pictures(folder)]
    if any(folder.name.lower() in IMAGE_FOLDERS for folder in inside):
        return False
    masks = [folder for folder in inside if _is_masks(folder)]
    return len(masks) == 1 and len({folder.name for folder in class_folders(path)}) > 1


def _is_masks(folder: Path) -> bool:
    return says_mask(folder.name) and not says_drawing(folder.name)


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records.

    Raises:
        DataError: A mask could be of two pictures, more than a few are of none, or their values
            cannot be classes.
    """
    masks = next(folder for folder in folders_in(path) if _is_masks(folder))
    by_key: dict[tuple[str, str], list[Path]] = defaultdict(list)
    by_stem: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    placed = []
    for file in pictures_below(path):
        place = place_of(file.relative_to(path).parts[:-1])
        if place is None:
            continue
        placed.append((file, place))
        by_key[fold(place[0]), fold(file.stem)].append(file)
        by_stem[fold(file.stem)].append((file, place[0]))
    check_looks(path, [(file, place[0]) for file, place in placed], hints)
    found: dict[Path, Path] = {}
    lost = []
    files = pictures_below(masks)
    for mask in files:
        pictures = _pictures_of(mask, masks, by_key, by_stem, hints)
        for picture in pictures:
            if picture in found:
                raise DataError(
                    f"could have two masks: {found[picture].name} and {mask.name}",
                    where=str(picture),
                    remedy="Move the one away that is not meant",
                )
            found[picture] = mask
        lost += [] if pictures else [mask]
    some = ", ".join(str(mask.relative_to(path)) for mask in lost[:_SHOWN])
    if len(lost) > max(FEW, MISSING_RATIO * len(files)):
        raise DataError(
            f"{len(lost)} of {len(files)} masks are of no picture: {some}",
            where=str(path),
            remedy="Name masks as the pictures of the defective classes",
        )
    pairs = [
        Pair(file, (("", found[file]),) if file in found else (), name, split)
        for file, (name, _group, split) in placed
    ]
    data = data_set(path, "class_masks", pairs, hints)
    return data.without(
        *(Skipped(str(mask.relative_to(path)), "is a mask without a picture") for mask in lost)
    )


def _pictures_of(
    mask: Path,
    masks: Path,
    by_key: dict[tuple[str, str], list[Path]],
    by_stem: dict[str, list[tuple[Path, str]]],
    hints: Hints,
) -> list[Path]:
    """The picture of a mask, under each of its endings; none if there is none."""
    parts = mask.relative_to(masks).parts[:-1]
    for stem in mask_stems(mask):
        for part in reversed(parts):
            if pictures := by_key.get((fold(part), stem)):
                return pictures
        some = [(file, name) for file, name in by_stem.get(stem, ()) if not parts]
        bad = [(file, name) for file, name in some if not is_good(name, hints.good)] or some
        if len({name for _file, name in bad}) > 1:
            raise DataError(
                f"could be of {bad[0][0].name} in {bad[0][1]}/ or in {bad[1][1]}/",
                where=str(mask),
                remedy="Put the masks into folders of the classes' names",
            )
        if bad:
            return [file for file, _name in bad]
    return []
