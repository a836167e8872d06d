"""Finds the connected areas of each class in a class map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blobs:
    """The connected areas of one class on one frame, in class-map pixels.

    Plain lists, as numpy operations on arrays this small cost more than the rest of the search
    while the caches are cold after an inference.
    """

    class_id: int
    score: float
    """Mean probability of the class, as the model returns it."""
    left_px: int
    top_px: int
    """Origin of `stats` and `centroids`."""
    stats: list[list[int]]
    """x, y, width, height and area of each."""
    centroids: list[list[float]]
    """x and y of each."""

    @property
    def largest_px(self) -> int:
        """The largest area, in class-map pixels."""
        return max(area for _x, _y, _width, _height, area in self.stats)


def find_blobs(
    class_map: NDArray[np.uint8],
    class_area_px: NDArray[np.float32],
    class_score: NDArray[np.float32],
) -> Sequence[Blobs]:
    """Return the connected areas (8-neighbourhood) of every class that the model counted.

    Args:
        class_map: uint8 (h, w), 0 = background; read only.
        class_area_px: float32 (K,), the model's count per class; classes with 0 are skipped.
        class_score: float32 (K,).

    Returns:
        One entry per class present, in the order of class ids. Empty on a clean frame.
    """
    blobs = []
    for index, area_px in enumerate(class_area_px.tolist()):
        if not area_px:
            continue
        mask = cv2.inRange(class_map, index + 1, index + 1)
        # Label the bounding box only: 4 times faster on a 128 by 800 map.
        x, y, width, height = cv2.boundingRect(mask)
        if not width:
            continue
        _count, _labels, stats, centroids = cv2.connectedComponentsWithStats(
            mask[y : y + height, x : x + width], connectivity=8, ltype=cv2.CV_16U
        )
        blobs.append(  # label 0 is the background
            Blobs(
                index + 1,
                float(class_score[index]),
                x,
                y,
                stats[1:].tolist(),
                centroids[1:].tolist(),
            )
        )
    return blobs
