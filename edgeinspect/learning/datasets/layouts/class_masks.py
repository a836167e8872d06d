"""A folder of images per class, and a folder of masks of the defective ones beside them.

`good/`, `crack/`, `masks/crack/000.png`; or `normal_dir/`, `abnormal_dir/`, `mask_dir/000.png`
(anomalib's Folder). A mask belongs to the image of the same stem in folders of the same names
(`test/crack/day1/0.png`, `masks/test/crack/day1/0.png`); folders that the masks do not have may
be left out where names are unique. Without a class folder, it belongs to a defective image. Masks
may also be in a folder of each class or split: `ok/`, `ng/`, `ng/masks/000.png`. Folders below one
that says only defective are classes, as in `class_folder`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import contains_images, images_below, subfolders
from edgeinspect.learning.datasets.layouts._kinds import find_kinds
from edgeinspect.learning.datasets.layouts.class_folder import (
    check_levels,
    class_folders,
    is_neutral_folder,
    place_images,
)
from edgeinspect.learning.datasets.masks.content import check_no_masks_as_images
from edgeinspect.learning.datasets.masks.pair_folders import ImageMaskPair
from edgeinspect.learning.datasets.masks.pairing import dataset_from_pairs
from edgeinspect.learning.datasets.name_matching import (
    are_few,
    class_first_remedy,
    mask_stems,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    find_split_name,
    is_annotation_folder,
    is_mask_folder,
    is_visualization_folder,
    split_words,
)

NEEDS = (
    "a folder of images per class (good/, crack/) and a folder of masks beside or in them "
    "(masks/, crack/masks/), with files of the same stem"
)
RANK = 45
COVERS = ("class_folder",)
_MAX_NAMES = 3
_MAX_DEPTH = 3


def recognise(path: Path) -> bool:
    """Return whether a folder has class folders and one mask folder, but no image folder.

    Mask folders in the class folders are those of one set if a class is good by its name: else
    `bottle/masks/` and `cable/masks/` are two sets.
    """
    return accepts(path) and (
        any(folder.parent == path for folder in _mask_folders(path))
        or any(is_good_class(folder.name) for folder in class_folders(path))
    )


def accepts(path: Path) -> bool:
    """Return whether a folder has class folders and mask folders, whatever their classes mean."""
    if not path.is_dir():
        return False
    places = [folder.parent for folder in _mask_folders(path)]
    for base in (path, *(place for place in places if is_neutral_folder(place.name))):
        inside = subfolders(base)
        if any(f.name.lower() in IMAGE_FOLDER_NAMES and contains_images(f) for f in inside):
            return False
    return 0 < len(places) == len(set(places)) and len({f.name for f in class_folders(path)}) > 1


def _mask_folders(path: Path, depth: int = 0) -> list[Path]:
    """Return the folders of masks beside class folders, and in them and in splits."""
    found = []
    for folder in subfolders(path):
        if is_visualization_folder(folder.name):
            continue
        if not is_mask_folder(folder.name):
            found += _mask_folders(folder, depth + 1) if depth < _MAX_DEPTH else []
        elif contains_images(folder):
            found.append(folder)
    return found


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples.

    Raises:
        DataError: A mask matches two classes, an image two masks, more than a few masks match
            no image, or mask values cannot be classes.
    """
    places: dict[Path, _Place] = {}
    for file, found in place_images(path, images_below(path), hints):
        if found is not None:
            name, group, split = found
            places[file] = _Place(name, group, split)
    check_levels(
        path, [(place.name, place.group) for place in places.values()], hints, "class_masks"
    )
    check_no_masks_as_images(path, [(file, place.name) for file, place in places.items()], hints)
    images = _Images(path, places, hints.good_classes)
    mask_of: dict[Path, Path] = {}
    orphans = []
    files = [mask for folder in _mask_folders(path) for mask in images_below(folder)]
    for mask in files:
        found_images = images.of_mask(mask)
        for image in found_images:
            if image in mask_of:
                both = (str(one.relative_to(path)) for one in (mask_of[image], mask))
                raise DataError(
                    f"could have two masks: {' and '.join(both)}",
                    where=str(image),
                    remedy="Give each mask the folders and the name of its image, or move the "
                    "wrong one away",
                )
            mask_of[image] = mask
        orphans += [] if found_images else [mask]
    some = ", ".join(str(mask.relative_to(path)) for mask in orphans[:_MAX_NAMES])
    if not are_few(len(orphans), len(files)):
        raise DataError(
            f"{len(orphans)} of {len(files)} masks have no image: {some}",
            where=str(path),
            remedy=class_first_remedy(orphans, places)
            or "Name masks after the images of the defective classes, and their folders after "
            "the images' folders",
        )
    _check_views(path, places, mask_of)
    good = {p.name for p in places.values() if is_good_class(p.name, hints.good_classes)}
    kinds, notes = find_kinds([(place.name, place.group) for place in places.values()], good)
    pairs = [
        ImageMaskPair(
            file,
            (("", mask_of[file]),) if file in mask_of else (),
            kinds.get((place.name, place.group), place.name),
            place.split,
        )
        for file, place in places.items()
    ]
    data = dataset_from_pairs(path, "class_masks", pairs, hints)
    if set(data.classes) <= {pair.folder for pair in pairs}:  # else the masks give the classes
        data = data.with_notes(*notes)
    return data.with_skipped(
        *(
            SkippedImage(str(mask.relative_to(path)), "is a mask without an image")
            for mask in orphans
        )
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """What the folders of an image say."""

    name: str
    """Its class."""
    group: str
    """The class and the folders below it, if there are any."""
    split: str | None

    @property
    def folders(self) -> set[str]:
        """Its folders without splits and `images`, normalised."""
        return set(normalize_name(self.group or self.name).split("/"))


def _check_views(path: Path, places: dict[Path, _Place], mask_of: dict[Path, Path]) -> None:
    """Check that no folder holds other views of the images with masks: `rgb/`, `depth/`, `gt/`.

    Raises:
        DataError: More than a few images have no mask, while that of their name above has one.
    """
    masked = defaultdict(list)
    for image in mask_of:
        place = places[image]
        masked[normalize_name(image.stem), place.name, place.split].append(place.folders)
    views = [
        str(file.relative_to(path))
        for file, place in places.items()
        if file not in mask_of
        and any(
            folders < place.folders
            for folders in masked[normalize_name(file.stem), place.name, place.split]
        )
    ]
    if not are_few(len(views), len(mask_of)):
        raise DataError(
            f"{len(views)} images have no mask, while the image of the same name and class has "
            f"one: {', '.join(views[:_MAX_NAMES])}",
            where=str(path),
            remedy="Move other views of a part (depth, another light) out of the set; give other "
            "parts a mask each",
        )


class _Images:
    """Finds the images of masks."""

    def __init__(
        self, path: Path, places: dict[Path, _Place], good_classes: tuple[str, ...]
    ) -> None:
        self._path = path
        self._places = places
        self._good_classes = good_classes
        self._known = set[str]().union(*(place.folders for place in places.values()))
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for file in places:
            self._by_stem[normalize_name(file.stem)].append(file)

    def of_mask(self, mask: Path) -> list[Path]:
        """Return the images of a mask: several if its folders do not tell them apart.

        Raises:
            DataError: They are of two classes.
        """
        parts = mask.relative_to(self._path).parts[:-1]
        split = find_split_name([word for part in parts for word in (part, *split_words(part))])
        folders = {
            normalize_name(part)
            for part in parts
            if not is_neutral_folder(part) and not is_annotation_folder(part)
        }
        for stem in mask_stems(mask):
            found = {
                file: place
                for file in self._by_stem.get(stem, ())
                if self._may_hold(place := self._places[file], folders, split)
            }
            found = {f: p for f, p in found.items() if p.folders == folders} or found
            found = {f: p for f, p in found.items() if p.split == split} or found
            if not any(normalize_name(place.name) in folders for place in found.values()):
                found = {
                    f: p for f, p in found.items() if not is_good_class(p.name, self._good_classes)
                } or found
            of_class = {place.name: file for file, place in found.items()}
            if len(of_class) > 1:
                (first, file), (second, _other) = sorted(of_class.items())[:2]
                raise DataError(
                    f"could belong to {file.name} in {first}/ or in {second}/",
                    where=str(mask),
                    remedy="Put the masks into folders named after the classes",
                )
            if found:
                return list(found)
        return []

    def _may_hold(self, place: _Place, folders: set[str], split: str | None) -> bool:
        """Return whether the folders of a mask do not speak against those of an image.

        A mask has no folder of other images. One that no image has (`masks/crack/png/`) says
        nothing if another names the class.
        """
        if split and place.split and split != place.split:
            return False
        others = folders - place.folders
        return not others or (
            normalize_name(place.name) in folders and self._known.isdisjoint(others)
        )
