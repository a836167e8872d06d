"""Writing a data set in a layout that this program, and others, read.

Picture files are copied as they are. A set is written beside its place and moved there when it
is whole, so that no half of one is ever taken for all of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.errors import DataError, StorageError
from edgeinspect.imaging import ReadSettings, encode_runs, format_runs, read_image
from edgeinspect.learning.datasets.dataset import VOID, ClassMap, Dataset, Sample, has_class
from edgeinspect.system import TableWriter

Progress = Callable[[int], None]
LABELS_FILE = "labels.csv"


def write_dataset(
    data: Dataset, out: Path, layout: str, progress: Progress = lambda done: None
) -> int:
    """Write all records of a set.

    Args:
        data: With masks for all that is defective.
        out: Folder that is not there, or empty.
        layout: `mask-folder` or `severstal`.
        progress: Called with the number of records done.

    Returns:
        How many pictures were written.

    Raises:
        DataError: It has no masks, nothing defective, or a picture cannot be read.
        StorageError: The folder is not empty, or cannot be written.
    """
    if not data.has_masks:
        raise DataError(
            "has defective frames without a mask",
            where=str(data.root),
            remedy="Give masks, or a segmenter that draws them",
        )
    for name in data.classes:
        if Path(name).name != name or name in ("", ".", ".."):
            raise DataError(f"the class {name!r} cannot be the name of a folder")
    part = out.with_name(f".{out.name}.part")
    try:
        if out.exists() and any(out.iterdir()):
            raise StorageError("is not empty", where=str(out), remedy="Name a new folder")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (_write_severstal if layout == "severstal" else _write_mask_folder)(data, part, progress)
        (part / "classes.txt").write_text("".join(f"{n}\n" for n in data.classes), "utf-8")
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(out)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(data.samples)


def _write_mask_folder(data: Dataset, out: Path, progress: Progress) -> None:
    """`images/NAME.png` and, per class that is in it, `masks/<class>/NAME.png`, white on black.

    A file per class: a file of ids would leave a reader to guess what a lone 3 means.
    """
    (out / "images").mkdir()
    for done, record in enumerate(data.samples, 1):
        shutil.copyfile(record.path, out / "images" / record.name)
        if record.is_defective:
            mask = _read_mask(record, data.read_settings())
            for class_id in _class_ids(mask):
                folder = out / "masks" / data.classes[class_id - 1]
                folder.mkdir(parents=True, exist_ok=True)
                white = np.where(mask == class_id, 255, 0).astype(np.uint8)
                path = folder / f"{Path(record.name).stem}.png"
                path.write_bytes(cv2.imencode(".png", white)[1].tobytes())
        progress(done)


def _write_severstal(data: Dataset, out: Path, progress: Progress) -> None:
    """`train_images/NAME.png`, and a row in `train.csv` per picture and class."""
    (out / "train_images").mkdir()
    with (out / "train.csv").open("w", newline="", encoding="utf-8") as file:
        rows = TableWriter(file)
        rows.writerow(["ImageId", "ClassId", "EncodedPixels"])
        for done, record in enumerate(data.samples, 1):
            shutil.copyfile(record.path, out / "train_images" / record.name)
            if record.is_defective:
                mask = _read_mask(record, data.read_settings())
                for class_id in _class_ids(mask):
                    code = format_runs(encode_runs(mask == class_id))
                    rows.writerow([record.name, class_id, code])
            progress(done)


def _class_ids(mask: ClassMap) -> list[int]:
    found: list[int] = np.unique(mask[(mask > 0) & (mask != VOID)]).tolist()
    return found


def _read_mask(
    sample: Sample, reading: ReadSettings
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    height, width = read_image(sample.path, reading).shape[:2]
    mask = sample.read_mask(height, width)
    if not has_class(mask):
        raise DataError(
            "is defective, and its mask is empty",
            where=sample.name,
            remedy="Say in the corrections that it is good, or drop it",
        )
    return mask
