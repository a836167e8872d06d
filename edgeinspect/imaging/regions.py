"""From a class map to connected regions, only where the graph says there is something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blobs:
    """The connected areas of one class on one frame, in class-map pixels."""

    class_id: int
    score: float
    """The class's mean probability, from the graph."""
    stats: NDArray[np.int32]
    """(n, 5): x, y, width, height, area."""
    centroids: NDArray[np.float64]
    """(n, 2): x, y."""


def find_blobs(
    class_map: NDArray[np.uint8],
    class_area_px: NDArray[np.float32],
    class_score: NDArray[np.float32],
) -> Sequence[Blobs]:
    """Connected areas (8-neighbourhood) of every class that the graph counted at all.

    Args:
        class_map: uint8 (h, w), 0 = background; read only.
        class_area_px: float32 (K,), the graph's own count per class; a class with 0 costs
            nothing here.
        class_score: float32 (K,).

    Returns:
        One entry per class present, in the order of class ids. Empty on a clean frame.
    """
    found = []
    for index in np.flatnonzero(class_area_px):
        class_id = int(index) + 1
        binary = (class_map == class_id).view(np.uint8)
        count, _labels, stats, centroids = cv2.connectedComponentsWithStats(
            binary, connectivity=8, ltype=cv2.CV_16U
        )
        if count > 1:  # label 0 is the background
            found.append(Blobs(class_id, float(class_score[index]), stats[1:], centroids[1:]))
    return found
