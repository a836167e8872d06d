"""A folder of images per class, and a folder of masks of the defective ones beside them.

`good/`, `crack/`, `masks/crack/000.png`; or `normal_dir/`, `abnormal_dir/`, `mask_dir/000.png`
(anomalib's Folder). A mask belongs to the image of the same stem in the class folder of the same
name or, if masks are not in class folders, to the only defective image of the same stem.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import contains_images, images_below, subfolders
from edgeinspect.learning.datasets.layouts.class_folder import class_folders, class_group_split
from edgeinspect.learning.datasets.masks.content import check_no_masks_as_images
from edgeinspect.learning.datasets.masks.pairing import ImageMaskPair, dataset_from_pairs
from edgeinspect.learning.datasets.name_matching import (
    are_few,
    mask_stems,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    is_good_class,
    is_mask_folder,
    is_visualization_folder,
)

NEEDS = (
    "a folder of images per class (good/, crack/) and a folder of masks beside them (masks/), "
    "with files of the same stem"
)
RANK = 45
COVERS = ("class_folder",)
_MAX_NAMES = 3


def recognise(path: Path) -> bool:
    """Return whether a folder has class folders and one mask folder, but no image folder."""
    if not path.is_dir():
        return False
    inside = [folder for folder in subfolders(path) if contains_images(folder)]
    if any(folder.name.lower() in IMAGE_FOLDER_NAMES for folder in inside):
        return False
    masks = [folder for folder in inside if _is_mask_folder(folder)]
    return len(masks) == 1 and len({folder.name for folder in class_folders(path)}) > 1


def _is_mask_folder(folder: Path) -> bool:
    return is_mask_folder(folder.name) and not is_visualization_folder(folder.name)


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples.

    Raises:
        DataError: A mask matches two images, more than a few match none, or mask values cannot
            be classes.
    """
    masks = next(folder for folder in subfolders(path) if _is_mask_folder(folder))
    by_key: dict[tuple[str, str], list[Path]] = defaultdict(list)
    by_stem: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    placed = []
    for file in images_below(path):
        place = class_group_split(file.relative_to(path).parts[:-1])
        if place is None:
            continue
        placed.append((file, place))
        by_key[normalize_name(place[0]), normalize_name(file.stem)].append(file)
        by_stem[normalize_name(file.stem)].append((file, place[0]))
    check_no_masks_as_images(path, [(file, place[0]) for file, place in placed], hints)
    mask_of: dict[Path, Path] = {}
    orphans = []
    files = images_below(masks)
    for mask in files:
        images = _images_of_mask(mask, masks, by_key, by_stem, hints)
        for image in images:
            if image in mask_of:
                raise DataError(
                    f"could have two masks: {mask_of[image].name} and {mask.name}",
                    where=str(image),
                    remedy="Remove the wrong one",
                )
            mask_of[image] = mask
        orphans += [] if images else [mask]
    some = ", ".join(str(mask.relative_to(path)) for mask in orphans[:_MAX_NAMES])
    if not are_few(len(orphans), len(files)):
        raise DataError(
            f"{len(orphans)} of {len(files)} masks have no image: {some}",
            where=str(path),
            remedy="Name masks after the images of the defective classes",
        )
    pairs = [
        ImageMaskPair(file, (("", mask_of[file]),) if file in mask_of else (), name, split)
        for file, (name, _group, split) in placed
    ]
    data = dataset_from_pairs(path, "class_masks", pairs, hints)
    return data.with_skipped(
        *(
            SkippedImage(str(mask.relative_to(path)), "is a mask without an image")
            for mask in orphans
        )
    )


def _images_of_mask(
    mask: Path,
    masks: Path,
    by_key: dict[tuple[str, str], list[Path]],
    by_stem: dict[str, list[tuple[Path, str]]],
    hints: LayoutHints,
) -> list[Path]:
    """Return the image of a mask under each of its suffixes; empty if there is none."""
    parts = mask.relative_to(masks).parts[:-1]
    for stem in mask_stems(mask):
        for part in reversed(parts):
            if images := by_key.get((normalize_name(part), stem)):
                return images
        some = [(file, name) for file, name in by_stem.get(stem, ()) if not parts]
        bad = [
            (file, name) for file, name in some if not is_good_class(name, hints.good_classes)
        ] or some
        if len({name for _file, name in bad}) > 1:
            raise DataError(
                f"could belong to {bad[0][0].name} in {bad[0][1]}/ or in {bad[1][1]}/",
                where=str(mask),
                remedy="Put the masks into folders named after the classes",
            )
        if bad:
            return [file for file, _name in bad]
    return []
