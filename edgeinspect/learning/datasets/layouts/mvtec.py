"""The layout of MVTec AD and related sets: good images in train, defects with masks in test.

- MVTec AD: `train/good`, `test/<defect>`, `ground_truth/<defect>/NAME_mask.png`
- MVTec LOCO: `ground_truth/<defect>/NAME/000.png`, several masks of one image
- MVTec AD 2: `test_public/bad`, `test_public/ground_truth/bad/NAME_mask.png`; `test_private`
  has no labels and is skipped
- BTAD: `train/ok`, `test/ko`, `ground_truth/ko/NAME.png`

Folders below one that says only defective (`test/defect/crack`) are classes, as in `class_folder`.
Its `train` has good images only, so `split_dataset` replaces it to train a classifier.

Source: Bergmann et al., "MVTec AD", CVPR 2019; IJCV 2022 (LOCO); Heckler-Kram et al. 2025
(AD 2); Mishra et al., ISIE 2021 (BTAD)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import (
    Dataset,
    LayoutHints,
    MaskReader,
    Sample,
    SkippedImage,
)
from edgeinspect.learning.datasets.files import (
    contains_images,
    images_below,
    subfolders,
    unique_names,
)
from edgeinspect.learning.datasets.layouts._kinds import find_kinds
from edgeinspect.learning.datasets.layouts.class_folder import is_neutral_folder
from edgeinspect.learning.datasets.masks.content import read_mask_contents
from edgeinspect.learning.datasets.masks.encoding import check_binary_masks
from edgeinspect.learning.datasets.masks.inverted import note_inverted
from edgeinspect.learning.datasets.masks.sources import MaskPerClass
from edgeinspect.learning.datasets.name_matching import (
    are_few,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, find_split_name

NEEDS = "train/good/, test/<defect>/ and ground_truth/<defect>/NAME_mask.png (MVTec-AD)"
RANK = 30
COVERS = ("class_folder", "class_masks", "mask_folder")

_MASK_FOLDER = "ground_truth"
_TEST_FOLDERS = ("test", "test_public")
_PRIVATE_PREFIX = "test_private"
_MAX_NAMES = 3


def recognise(path: Path) -> bool:
    """Return whether a folder has a test folder and a ground_truth/ with a folder per defect."""
    test, masks = _test_and_mask_folders(path)
    if not (masks.is_dir() and test.is_dir() and (path / "train").is_dir()):
        return False
    return bool({f.name for f in subfolders(test)} & {f.name for f in subfolders(masks)})


def _test_and_mask_folders(path: Path) -> tuple[Path, Path]:
    """Return the folder of test images and that of their masks."""
    for name in _TEST_FOLDERS:
        for masks in (path / name / _MASK_FOLDER, path / _MASK_FOLDER):
            if masks.is_dir() and (path / name).is_dir():
                return path / name, masks
    return path / _TEST_FOLDERS[0], path / _MASK_FOLDER


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples; a defective image without a mask is an error."""
    test, mask_root = _test_and_mask_folders(path)
    tops = [folder for folder in subfolders(path) if folder.name.lower() in SPLIT_NAMES]
    tops = [*(top for top in tops if top != test), test]
    files = [
        file
        for top in tops
        for file in images_below(top)
        if _MASK_FOLDER not in file.relative_to(path).parts
    ]
    names = unique_names(path, files)
    masked = {
        folder.name
        for folder in subfolders(mask_root)
        if contains_images(folder)
        and not (is_good_class(folder.name, hints.good_classes) and _has_empty_masks(folder))
    }
    folders = {_defect_folder(path, file) for file in files} - {""}
    good = {
        name for name in folders if name not in masked and is_good_class(name, hints.good_classes)
    }
    places = {file: _class_and_group(path, file) for file in files}
    kinds, notes = find_kinds(places.values(), good | {""})
    class_of = {file: kinds.get(place, place[0]) for file, place in places.items()}
    classes = tuple(sorted(set(class_of.values()) - good - {""}))
    samples = []
    for file, name in class_of.items():
        class_id = classes.index(name) + 1 if name in classes else 0
        masks_of_defect = mask_root / _defect_folder(path, file)
        samples.append(
            Sample(
                names[file],
                file,
                bool(class_id),
                name or None,
                names[file],
                "test"
                if file.is_relative_to(test)
                else find_split_name(file.relative_to(path).parts),
                _find_mask(path, masks_of_defect, file, class_id) if class_id else None,
                (class_id,) if class_id else (),
            )
        )
    masks = [each for sample in samples if sample.mask for each in _mask_paths(sample.mask)]
    contents = read_mask_contents(masks)
    check_binary_masks(contents, path)
    notes += note_inverted(contents, path)
    data = Dataset(path, "mvtec", classes, tuple(samples), has_masks=True, notes=tuple(notes))
    hidden = [
        file
        for folder in subfolders(path)
        if folder.name.lower().startswith(_PRIVATE_PREFIX)
        for file in images_below(folder)
    ]
    return data.with_skipped(
        *(
            SkippedImage(str(file.relative_to(path)), "has no published label", True)
            for file in hidden
        ),
        *_skip_orphans(path, mask_root, masks, masked),
    )


def _skip_orphans(
    path: Path, mask_root: Path, used: Sequence[Path], masked: set[str]
) -> list[SkippedImage]:
    """Return the masks of defects that belong to no image of their folder.

    Their image is missing, or was moved to the good ones.

    Raises:
        DataError: They are more than a few.
    """
    every = [mask for name in sorted(masked) for mask in images_below(mask_root / name)]
    known = set(used)
    orphans = [mask for mask in every if mask not in known]
    some = [str(mask.relative_to(path)) for mask in orphans]
    if not are_few(len(orphans), len(every)):
        raise DataError(
            f"{len(orphans)} of {len(every)} masks have no image: {', '.join(some[:_MAX_NAMES])}"
            + (", …" if some[_MAX_NAMES:] else ""),
            where=str(path),
            remedy="Put their images into the folder of test images with the name of the masks' "
            "folder: among the good images they would be learned as good",
        )
    return [SkippedImage(name, "is a mask without an image") for name in some]


def _mask_paths(mask: MaskReader) -> list[Path]:
    return [file for _class_id, file in mask.files] if isinstance(mask, MaskPerClass) else []


def _has_empty_masks(folder: Path) -> bool:
    """Return whether no mask of a folder has a defect pixel, as for good images."""
    return not any(
        one.has_set_pixels or one.problem
        for one in read_mask_contents(images_below(folder)).values()
    )


def _defect_folder(path: Path, file: Path) -> str:
    parts = file.relative_to(path).parts
    return parts[1] if len(parts) > 2 else ""


def _class_and_group(path: Path, file: Path) -> tuple[str, str]:
    """Return the folder of an image in a split, and that with the folders below it."""
    folder, *below = file.relative_to(path).parts[1:-1] or ("",)
    return folder, "/".join((folder, *(each for each in below if not is_neutral_folder(each))))


def _find_mask(path: Path, folder: Path, file: Path, class_id: int) -> MaskReader:
    """Return the mask of a defective image: `NAME_mask.png`, `NAME.png`, or all in `NAME/`.

    It is in the folders of its image below that of the defect, or in fewer of them, the nearest
    first. Masks in the folder of another image are never its own, whatever they are called.
    """
    stem = normalize_name(file.stem)
    inner = file.relative_to(path).parts[2:-1]
    every = images_below(folder)
    masks: list[Path] = []
    for place in (folder.joinpath(*inner[start:]) for start in range(len(inner) + 1)):
        below = [each for each in subfolders(place) if normalize_name(each.name) == stem]
        masks = images_below(below[0]) if below else []
        if not masks:
            beside = {normalize_name(mask.stem): mask for mask in every if mask.parent == place}
            masks = [beside[name] for name in (f"{stem}_mask", stem) if name in beside][:1]
        if masks:
            break
    if not masks:
        remedy = f"Its mask should be {folder.joinpath(*inner, file.stem)}_mask.png"
        if is_good_class(folder.name):
            remedy += f"; if {folder.name} is good, its masks must not have defect pixels"
        raise DataError("has no mask", where=str(file), remedy=remedy)
    return MaskPerClass(tuple((class_id, mask) for mask in masks))
