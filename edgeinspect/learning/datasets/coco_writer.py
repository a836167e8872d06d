"""Writes COCO: `annotations/instances_<split>.json` and `images/<split>/`.

Each connected area is an annotation with its exact pixels as run lengths, so that masks are
the same when they are read again. Unlabelled areas are of the category `__ignore__`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets.annotations.run_lengths import (
    encode_compressed_counts,
    mask_counts,
)
from edgeinspect.learning.datasets.dataset import VOID, ClassMap, Dataset, Sample

_IGNORED = "__ignore__"
_NO_SPLIT = "default"


class CocoWriter:
    """Collects the annotations of each split.

    Args:
        folder: Folder of the set.
        data: The data set, for its classes.
    """

    def __init__(self, folder: Path, data: Dataset) -> None:
        self._folder = folder
        self._classes = data.classes
        self._documents: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._count = 0
        self._has_void = False

    def image_path(self, sample: Sample, name: str) -> Path:
        """Return where an image belongs."""
        images = self._folder / "images"
        return images / sample.split / name if sample.split else images / name

    def add(self, sample: Sample, place: Path, mask: ClassMap) -> None:
        """Add one image with its areas and boxes."""
        document = self._documents.setdefault(
            sample.split or _NO_SPLIT, {"images": [], "annotations": []}
        )
        images = document["images"]
        height, width = mask.shape
        image: dict[str, Any] = {
            "id": len(images) + 1,
            "file_name": place.name,
            "width": width,
            "height": height,
        }
        if sample.group not in ("", sample.name):
            image["group"] = sample.group
        images.append(image)
        found = [
            (value, _segmentation(area, mask.shape), _extent(area))
            for value in np.unique(mask[mask > 0]).tolist()
            for area in _connected(mask == value)
        ]
        for value, segmentation, box in found:
            self._has_void |= value == VOID
            category = value if value != VOID else len(self._classes) + 1
            document["annotations"].append(
                self._annotation(image["id"], category, box, segmentation[0], segmentation[1])
            )
        for one in sample.boxes:
            box = (one.left_px, one.top_px, one.right_px - one.left_px, one.bottom_px - one.top_px)
            document["annotations"].append(
                self._annotation(image["id"], one.class_id, box, box[2] * box[3], [])
            )

    def _annotation(
        self,
        image_id: int,
        category_id: int,
        box: tuple[float, float, float, float],
        area: float,
        segmentation: object,
    ) -> dict[str, Any]:
        self._count += 1
        return {
            "id": self._count,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": segmentation,
        }

    def finish(self) -> None:
        """Write the files."""
        names = [*self._classes, *([_IGNORED] if self._has_void else [])]
        categories = [
            {"id": index, "name": name, "supercategory": ""} for index, name in enumerate(names, 1)
        ]
        folder = self._folder / "annotations"
        folder.mkdir()
        for split, document in self._documents.items():
            whole = {"info": {}, "licenses": [], "categories": categories, **document}
            path = folder / f"instances_{split}.json"
            path.write_bytes(msgspec.json.encode(whole))


def _connected(area: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the connected areas (8 neighbours), each bool (h, w)."""
    count, labels = cv2.connectedComponents(area.astype(np.uint8), connectivity=8)
    return [labels == index for index in range(1, count)]


def _segmentation(
    area: NDArray[np.bool_], shape: tuple[int, ...]
) -> tuple[float, dict[str, object]]:
    counts = mask_counts(area.ravel(order="F")).tolist()
    return float(area.sum()), {"size": list(shape), "counts": encode_compressed_counts(counts)}


def _extent(area: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return (left, top, width, height)."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
