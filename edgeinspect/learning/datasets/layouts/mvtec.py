"""MVTec-AD's layout and its kin: good pictures to train on, defects with masks in the test.

- MVTec AD: `train/good`, `test/<defect>`, `ground_truth/<defect>/NAME_mask.png`
- MVTec LOCO: `ground_truth/<defect>/NAME/000.png`, several masks of one picture
- MVTec AD 2: `test_public/bad`, `test_public/ground_truth/bad/NAME_mask.png`; `test_private`
  has no labels and is left out
- BTAD: `train/ok`, `test/ko`, `ground_truth/ko/NAME.png`

Its `train` holds good pictures only, so `split` makes another one to train a classifier.

Source: Bergmann et al., "MVTec AD", CVPR 2019; IJCV 2022 (LOCO); Heckler-Kram et al. 2025
(AD 2); Mishra et al., ISIE 2021 (BTAD)
"""

from __future__ import annotations

from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_good
from edgeinspect.learning.datasets.files import (
    SPLIT_NAMES,
    folders_in,
    has_pictures,
    pictures_below,
    split_of,
    unique_names,
)
from edgeinspect.learning.datasets.masks.encoding import binary_encoding
from edgeinspect.learning.datasets.masks.masks import MaskPerClass
from edgeinspect.learning.datasets.masks.stored_values import values_of
from edgeinspect.learning.datasets.name_matching import fold
from edgeinspect.learning.datasets.records import DataSet, Hints, Mask, Record, Skipped

NEEDS = "train/good/, test/<defect>/ and ground_truth/<defect>/NAME_mask.png (MVTec-AD)"
RANK = 30
COVERS = ("class_folder", "class_masks", "mask_folder")

_TRUTH = "ground_truth"
_TESTS = ("test", "test_public")
_PRIVATE = "test_private"


def recognise(path: Path) -> bool:
    """True for a folder with a test and a ground_truth/ that hold a folder per defect."""
    test, truth = _places(path)
    if not (truth.is_dir() and test.is_dir() and (path / "train").is_dir()):
        return False
    return bool({f.name for f in folders_in(test)} & {f.name for f in folders_in(truth)})


def _places(path: Path) -> tuple[Path, Path]:
    """The folder of test pictures, and that of their masks."""
    for name in _TESTS:
        for truth in (path / name / _TRUTH, path / _TRUTH):
            if truth.is_dir() and (path / name).is_dir():
                return path / name, truth
    return path / _TESTS[0], path / _TRUTH


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records; a defective picture without its mask is an error."""
    test, truth = _places(path)
    tops = [folder for folder in folders_in(path) if folder.name.lower() in SPLIT_NAMES]
    tops = [*(top for top in tops if top != test), test]
    files = [
        file
        for top in tops
        for file in pictures_below(top)
        if _TRUTH not in file.relative_to(path).parts
    ]
    names = unique_names(path, files)
    masked = {
        folder.name
        for folder in folders_in(truth)
        if has_pictures(folder) and not (is_good(folder.name, hints.good) and _is_empty(folder))
    }
    folders = sorted({_kind(path, file) for file in files} - {""})
    good = [name for name in folders if name not in masked and is_good(name, hints.good)]
    classes = tuple(name for name in folders if name not in good)
    records = []
    for file in files:
        kind = _kind(path, file)
        class_id = classes.index(kind) + 1 if kind in classes else 0
        records.append(
            Record(
                names[file],
                file,
                bool(class_id),
                kind or None,
                names[file],
                "test" if file.is_relative_to(test) else split_of(file.relative_to(path).parts),
                _mask(truth / kind, file, class_id) if class_id else None,
                (class_id,) if class_id else (),
            )
        )
    masks = [each for record in records if record.mask for each in _files_of(record.mask)]
    binary_encoding(values_of(masks), path)
    data = DataSet(path, "mvtec", classes, tuple(records), has_masks=True)
    hidden = [
        file
        for folder in folders_in(path)
        if folder.name.lower().startswith(_PRIVATE)
        for file in pictures_below(folder)
    ]
    return data.without(
        *(Skipped(str(file.relative_to(path)), "has no published label", True) for file in hidden)
    )


def _files_of(mask: Mask) -> list[Path]:
    return [file for _class_id, file in mask.files] if isinstance(mask, MaskPerClass) else []


def _is_empty(folder: Path) -> bool:
    """True if no mask of a folder has a defect pixel, as those of good pictures."""
    return not any(one.any_set or one.problem for one in values_of(pictures_below(folder)).values())


def _kind(path: Path, file: Path) -> str:
    parts = file.relative_to(path).parts
    return parts[1] if len(parts) > 2 else ""


def _mask(folder: Path, file: Path, class_id: int) -> Mask:
    stem = fold(file.stem)
    inner = [each for each in folders_in(folder) if fold(each.name) == stem]
    masks = pictures_below(inner[0]) if inner else []
    if not masks:
        stems = (f"{stem}_mask", stem)
        beside = {fold(mask.stem): mask for mask in pictures_below(folder)}
        masks = [beside[name] for name in stems if name in beside][:1]
    if not masks:
        remedy = f"It belongs at {folder / file.stem}_mask.png"
        if is_good(folder.name):
            remedy += f"; where {folder.name} is good, none of its masks may have a defect pixel"
        raise DataError("has no mask", where=str(file), remedy=remedy)
    return MaskPerClass(tuple((class_id, mask) for mask in masks))
