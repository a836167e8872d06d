"""Writes a data set in a layout that this and other programs read.

Image files are copied unchanged. The set is written to a temporary folder and renamed when it is
complete, so that a partial set is never taken for a whole one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError, OutputError
from edgeinspect.imaging import ReadSettings, encode_runs, format_runs, read_image
from edgeinspect.learning.datasets.dataset import VOID, ClassMap, Dataset, Sample, has_class
from edgeinspect.system import CLAIM_FILE, TableWriter, claim_folder

Progress = Callable[[int], None]
LABELS_FILE = "labels.csv"


def write_dataset(
    data: Dataset, out: Path, layout: str, progress: Progress = lambda done: None
) -> int:
    """Write all samples of a data set.

    Args:
        data: A data set with masks for all defective samples.
        out: A new or empty folder.
        layout: `mask-folder` or `severstal`.
        progress: Called with the number of samples done.

    Returns:
        The number of images written.

    Raises:
        DataError: It has no masks, or an image or mask cannot be read.
        OutputError: The folder is not empty, or cannot be written.
    """
    if not data.has_masks:
        raise DataError(
            "has defective frames without a mask",
            where=str(data.root),
            remedy="Add masks, or give a segmenter that predicts them",
        )
    for name in data.classes:
        if Path(name).name != name or name in ("", ".", ".."):
            raise DataError(f"class {name!r} cannot be a folder name")
    with new_dataset_folder(out, data.classes) as folder:
        (_write_severstal if layout == "severstal" else _write_mask_folder)(data, folder, progress)
    return len(data.samples)


@contextmanager
def new_dataset_folder(out: Path, classes: Sequence[str]) -> Iterator[Path]:
    """Create a data set's folder that appears as `out` when it is complete.

    Args:
        out: A new or empty folder.
        classes: Written to its `classes.txt`.

    Yields:
        The temporary folder to write into.

    Raises:
        OutputError: `out` is not empty, another process makes it, or it cannot be written.
    """
    out = out.absolute()
    part = out.with_name(f".{out.name}.part")
    folder = part / "set"
    try:
        with claim_folder(part, where=out):
            if out.exists() and any(out.iterdir()):
                raise OutputError("is not empty", where=str(out), remedy="Give a new folder")
            _remove_leftovers(part)
            try:
                folder.mkdir()
                yield folder
                (folder / "classes.txt").write_text(
                    "".join(f"{name}\n" for name in classes), "utf-8"
                )
                if out.exists():
                    out.rmdir()
                os.replace(folder, out)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(out)) from error
    finally:
        with suppress(OSError):  # of another process by now, or never made
            part.rmdir()


def _remove_leftovers(part: Path) -> None:
    """Remove what a process that was killed has left in a claimed folder."""
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != CLAIM_FILE:
            path.unlink()


def write_class_mask(
    folder: Path, class_name: str, image_name: str, mask: NDArray[np.bool_]
) -> None:
    """Write `masks/<class>/<stem>.png` of an image, white on black, below a data set's folder."""
    masks = folder / "masks" / class_name
    masks.mkdir(parents=True, exist_ok=True)
    white = np.where(mask, 255, 0).astype(np.uint8)
    path = masks / f"{Path(image_name).stem}.png"
    path.write_bytes(cv2.imencode(".png", white)[1].tobytes())


def _write_mask_folder(data: Dataset, out: Path, progress: Progress) -> None:
    """Write `images/NAME.png` and, per class in it, `masks/<class>/NAME.png`, white on black.

    One file per class: with one file of ids, readers would have to guess the meaning of a 3.
    """
    (out / "images").mkdir()
    for done, sample in enumerate(data.samples, 1):
        shutil.copyfile(sample.path, out / "images" / sample.name)
        if sample.is_defective:
            mask = _read_mask(sample, data.read_settings())
            for class_id in _class_ids(mask):
                write_class_mask(out, data.classes[class_id - 1], sample.name, mask == class_id)
        progress(done)


def _write_severstal(data: Dataset, out: Path, progress: Progress) -> None:
    """Write `train_images/NAME.png`, and a row in `train.csv` per image and class."""
    (out / "train_images").mkdir()
    with (out / "train.csv").open("w", newline="", encoding="utf-8") as file:
        rows = TableWriter(file)
        rows.writerow(["ImageId", "ClassId", "EncodedPixels"])
        for done, sample in enumerate(data.samples, 1):
            shutil.copyfile(sample.path, out / "train_images" / sample.name)
            if sample.is_defective:
                mask = _read_mask(sample, data.read_settings())
                for class_id in _class_ids(mask):
                    code = format_runs(encode_runs(mask == class_id))
                    rows.writerow([sample.name, class_id, code])
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
            "is defective, but its mask is empty",
            where=sample.name,
            remedy="Correct it to good, or drop it",
        )
    return mask
