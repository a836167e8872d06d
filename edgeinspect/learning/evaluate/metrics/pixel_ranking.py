"""How well an anomaly map ranks defect pixels above others: pixel AUC and overlap of regions.

Source: Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", section 4 (PRO).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets import VOID

_BINS = 1 << 14
"""Of values from 0 to 1: an AUC from them differs from the exact one by less than 1e-4."""
MAX_FALSE_POSITIVE_RATE = 0.3
"""The overlap of regions is averaged up to this rate, as is usual."""


@dataclass(frozen=True, slots=True)
class PixelRankingResult:
    """Metrics of an anomaly map over all images, without a threshold."""

    auc: float
    """Area under the ROC curve of single pixels."""
    region_overlap: float
    """Mean share of a labelled region that is found, averaged over the false-positive rates from 0
    to `MAX_FALSE_POSITIVE_RATE` (PRO): every region counts the same, however small."""
    regions: int
    defect_px: int


class PixelRanking:
    """Collects anomaly maps image by image; holds histograms only."""

    def __init__(self) -> None:
        self._defect = np.zeros(_BINS)
        self._good = np.zeros(_BINS)
        self._overlap = np.zeros(_BINS)
        """Sum over regions of the share of the region in each bin."""
        self._regions = 0

    def add(self, values: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Add one image.

        Args:
            values: (h, w), 0 to 1, higher is more likely a defect; scaled to the mask's size.
            mask: uint8 (H, W): 0 is good, `VOID` is ignored, all else is a defect.
        """
        height, width = mask.shape
        scaled = cv2.resize(
            values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
        )
        bins = np.clip((scaled * _BINS).astype(np.int32), 0, _BINS - 1)
        is_defect = (mask != 0) & (mask != VOID)
        self._good += np.bincount(bins[mask == 0], minlength=_BINS)
        if not is_defect.any():
            return
        self._defect += np.bincount(bins[is_defect], minlength=_BINS)
        count, labels = cv2.connectedComponents(is_defect.view(np.uint8), connectivity=8)
        for number in range(1, count):
            region = bins[labels == number]
            self._overlap += np.bincount(region, minlength=_BINS) / len(region)
        self._regions += count - 1

    def result(self) -> PixelRankingResult | None:
        """Return the metrics; None without pixels of both kinds."""
        if not self._defect.any() or not self._good.any():
            return None
        # From the highest value down: all pixels of a bin are accepted together.
        hits = _cumulative(self._defect)
        alarms = _cumulative(self._good)
        overlap = np.concatenate([[0.0], np.cumsum(self._overlap[::-1])]) / self._regions
        end = MAX_FALSE_POSITIVE_RATE
        inside = alarms < end
        rates = np.append(alarms[inside], end)
        found = np.append(overlap[inside], np.interp(end, alarms, overlap))
        return PixelRankingResult(
            float(_area(hits, alarms)),
            float(_area(found, rates) / end),
            self._regions,
            int(self._defect.sum()),
        )


def _cumulative(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.concatenate([[0.0], np.cumsum(histogram[::-1])]) / histogram.sum())


def _area(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return the area under a curve by trapezoids: a tie counts half."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
