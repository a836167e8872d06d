"""Writes any data set as this project's own layout `indexed`, or as COCO.

Images are linked or copied, never encoded again. Masks are written without loss: as PNGs of class
ids, or as COCO's run lengths. Splits, groups, names of classes and unlabelled areas are kept. The
folder appears when it is complete.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging import DECLARATION_FILE, read_displayed_size, read_image
from edgeinspect.learning.datasets.coco_writer import CocoWriter
from edgeinspect.learning.datasets.dataset import VOID, ClassMap, Dataset, Sample, SkippedImage
from edgeinspect.learning.datasets.export import new_dataset_folder
from edgeinspect.learning.datasets.files import printable_file_name
from edgeinspect.learning.datasets.masks.label_maps import VALUE_TABLE
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.system import TableWriter

OWN, COCO = "edgeinspect", "coco"
FORMATS = (OWN, COCO)
Progress = Callable[[int], None]
_NO_BITS = 8


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written."""

    images: int
    skipped: tuple[SkippedImage, ...]
    """Images that could not be read, and what the data set has left out itself."""
    notes: tuple[str, ...]


def convert_dataset(
    data: Dataset, out: Path, target: str, progress: Progress = lambda done: None
) -> Conversion:
    """Write all samples of a data set.

    Args:
        data: The data set.
        out: A new or empty folder.
        target: `edgeinspect` or `coco`.
        progress: Called with the number of images done.

    Raises:
        DataError: COCO cannot hold its labels, or more than a few images are unreadable.
        OutputError: The folder is not empty, or cannot be written.
        UsageError: There is no such format.
    """
    if target not in FORMATS:
        raise UsageError(
            f"there is no format '{target}'", remedy=f"There are: {', '.join(FORMATS)}"
        )
    if target == COCO:
        _check_coco(data)
    names = _plain_names(data.samples)
    skipped: list[SkippedImage] = []
    notes: list[str] = []
    with new_dataset_folder(out, () if target == COCO else data.classes) as folder:
        writer = CocoWriter(folder, data) if target == COCO else _IndexWriter(folder, data)
        for done, sample in enumerate(data.samples, 1):
            try:
                mask = _read_mask(data, sample)
            except DataError as error:
                is_image = error.where == str(sample.path)
                reason = error.what if is_image else f"{Path(error.where).name} {error.what}"
                skipped.append(SkippedImage(sample.name, reason))
            else:
                place = writer.image_path(sample, names[sample.name])
                link_or_copy(sample.path, place)
                writer.add(sample, place, mask)
            progress(done)
        if 2 * len(skipped) > len(data.samples):
            raise DataError(
                f"{len(skipped)} of {len(data.samples)} images cannot be read: "
                f"{skipped[0].name}: {skipped[0].reason}",
                where=str(data.root),
            )
        writer.finish()
        _write_declaration(folder, data)
        if target == COCO:
            (folder / "classes.txt").unlink(missing_ok=True)
    boxes = sum(len(sample.boxes) for sample in data.samples)
    if target == OWN and boxes and not data.has_masks:
        notes.append(
            f"{number_of(boxes, 'box is', 'boxes are')} not kept, only the classes of each image: "
            "--to coco keeps boxes"
        )
    renamed = sum(names[sample.name] != sample.path.name for sample in data.samples)
    if renamed:
        notes.append(
            f"{number_of(renamed, 'image was', 'images were')} renamed: names must differ, and be "
            "text without backslashes"
        )
    count = len(data.samples) - len(skipped)
    return Conversion(count, (*data.skipped, *skipped), tuple(notes))


def link_or_copy(source: Path, target: Path) -> None:
    """Make a second name of a file or, on another file system, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


def _read_mask(data: Dataset, sample: Sample) -> ClassMap:
    """Return the class map of a sample; (h, w), all 0 if it has no mask."""
    if data.has_masks and sample.mask is not None:
        return sample.read_mask(*read_image(sample.path, data.read_settings()).shape[:2])
    size = read_displayed_size(sample.path)
    if size is None:
        raise DataError("cannot be read", where=str(sample.path))
    return np.zeros((size.height_px, size.width_px), np.uint8)


def _check_coco(data: Dataset) -> None:
    """Check that the labels are areas or boxes: COCO has no labels of whole images."""
    bare = [
        sample
        for sample in data.samples
        if sample.is_defective and not sample.boxes and (sample.mask is None or not data.has_masks)
    ]
    if bare:
        raise DataError(
            f"{number_of(len(bare), 'image is', 'images are')} defective as a whole "
            f"({bare[0].name}), which COCO cannot express",
            where=str(data.root),
            remedy=f"--to {OWN} keeps such labels",
        )


def _plain_names(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the file name of each sample: its own, or its path if two would have one stem.

    A name that is no text is escaped: an index and a COCO document could not hold it.
    """
    count: dict[str, int] = {}
    for sample in samples:
        key = normalize_name(sample.path.stem)
        count[key] = count.get(key, 0) + 1
    names: dict[str, str] = {}
    taken: set[str] = set()
    for sample in samples:
        name = printable_file_name(sample.path)
        if count[normalize_name(sample.path.stem)] > 1:
            name = re.sub(r"[\\/]+", "_", sample.name)
        stem, suffix = Path(name).stem, Path(name).suffix
        number = 1
        while normalize_name(Path(name).stem) in taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(normalize_name(Path(name).stem))
        names[sample.name] = name
    return names


def _write_declaration(folder: Path, data: Dataset) -> None:
    lines = [f"bits: {data.bit_depth}\n"] if data.bit_depth > _NO_BITS else []
    lines += ["flat_end: true\n"] if data.flat_end else []
    if lines:
        (folder / DECLARATION_FILE).write_text("".join(lines), "utf-8")


class _IndexWriter:
    """Writes `images/`, `masks/`, `index.csv` and the names of the mask values."""

    def __init__(self, folder: Path, data: Dataset) -> None:
        self._folder = folder
        self._data = data
        self._rows: list[list[object]] = []
        self._has_void = False

    def image_path(self, sample: Sample, name: str) -> Path:
        return self._folder / "images" / name

    def add(self, sample: Sample, place: Path, mask: ClassMap) -> None:
        ids = set(sample.class_ids) | (set(np.unique(mask).tolist()) - {0, VOID})
        group = "" if sample.group == sample.name else sample.group
        self._rows.append(
            [
                place.name,
                sample.split or "",
                group,
                int(sample.is_defective),
                " ".join(map(str, sorted(ids))),
            ]
        )
        if mask.any():
            self._has_void |= bool((mask == VOID).any())
            masks = self._folder / "masks"
            masks.mkdir(exist_ok=True)
            encoded = cv2.imencode(".png", mask)[1]
            (masks / f"{place.stem}.png").write_bytes(encoded.tobytes())

    def finish(self) -> None:
        with (self._folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
            rows = TableWriter(file)
            rows.writerow(["image", "split", "group", "defective", "class_ids"])
            rows.writerows(self._rows)
        with (self._folder / VALUE_TABLE).open("w", newline="", encoding="utf-8") as file:
            values = TableWriter(file)
            values.writerow(["Pixel Value", "Class"])
            values.writerow([0, "background"])
            values.writerows(enumerate(self._data.classes, 1))
            if self._has_void:
                values.writerow([VOID, "__ignore__"])
