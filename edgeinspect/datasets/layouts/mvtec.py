"""MVTec-AD's layout: `train/good`, `test/<defect>`, `ground_truth/<defect>/*_mask.png`.

Its `train` holds good pictures only, so `split` makes another one to train a classifier.

Source: Bergmann et al., "MVTec AD", CVPR 2019
"""

from __future__ import annotations

from pathlib import Path

from edgeinspect.datasets.files import folders_in, pictures_below, split_of, unique_names
from edgeinspect.datasets.goodness import is_good
from edgeinspect.datasets.masks import MaskPerClass
from edgeinspect.datasets.records import DataSet, Hints, Mask, Record
from edgeinspect.errors import DataError

NEEDS = "train/good/, test/<defect>/ and ground_truth/<defect>/NAME_mask.png (MVTec-AD)"
RANK = 30


def recognise(path: Path) -> bool:
    """True for a folder with test/ and ground_truth/ that hold a folder per defect."""
    truth, test = path / "ground_truth", path / "test"
    if not (truth.is_dir() and test.is_dir() and (path / "train").is_dir()):
        return False
    return bool({f.name for f in folders_in(test)} & {f.name for f in folders_in(truth)})


def read(path: Path, hints: Hints = Hints()) -> DataSet:  # noqa: B008 - frozen
    """The records; a defective picture without its mask is an error."""
    files = [file for top in ("train", "val", "test") for file in pictures_below(path / top)]
    names = unique_names(path, files)
    folders = sorted({file.parent.name for file in files})
    classes = tuple(name for name in folders if not is_good(name, hints.good or ("good",)))
    records = []
    for file in files:
        parts = file.relative_to(path).parts
        kind = parts[1] if len(parts) > 2 else ""
        class_id = classes.index(kind) + 1 if kind in classes else 0
        records.append(Record(
            names[file], file, bool(class_id), kind or None, names[file], split_of(parts),
            _mask(path, kind, file, class_id) if class_id else None,
            (class_id,) if class_id else (),
        ))  # fmt: skip
    return DataSet(path, "mvtec", classes, tuple(records), has_masks=True)


def _mask(path: Path, kind: str, file: Path, class_id: int) -> Mask:
    folder = path / "ground_truth" / kind
    for stem in (f"{file.stem}_mask", file.stem):
        for suffix in (".png", ".PNG", file.suffix, ".bmp", ".tif"):
            if (mask := folder / f"{stem}{suffix}").is_file():
                return MaskPerClass(((class_id, mask),))
    raise DataError(
        "has no mask", where=str(file), remedy=f"It belongs at {folder / file.stem}_mask.png"
    )
