"""The worst frames of an evaluation, selected while it runs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult, FrameSample

CATEGORIES = ("escapes", "overkills", "overlap")
"""Missed defects, false rejects, lowest Dice."""


@dataclass(frozen=True, slots=True)
class FrameSnapshot:
    """One frame with its label and prediction, at frame size."""

    result: FrameResult
    image: NDArray[np.uint8]
    """uint8 (H, W, C)."""
    label_mask: NDArray[np.uint8] | None
    """uint8 (H, W); None where the data set has no masks."""
    predicted_mask: NDArray[np.uint8] | None
    """uint8 (H, W); None without a segmenter."""


@dataclass(order=True, slots=True)
class _HeapEntry:
    severity: float
    order: int
    """Descending: the earlier frame wins a tie, which keeps reports reproducible."""
    snapshot: FrameSnapshot = field(compare=False)


class WorstFrames:
    """The frames of each category with the highest severity. For one thread.

    Args:
        max_per_category: Frames to hold per category.
        stride: Of the predicted class maps.
        has_masks: Whether the data set has masks.
    """

    def __init__(self, max_per_category: int, *, stride: int, has_masks: bool) -> None:
        self._max_per_category = max_per_category
        self._stride = stride
        self._has_masks = has_masks
        self._heaps: dict[str, list[_HeapEntry]] = {category: [] for category in CATEGORIES}
        self._frame_count = 0

    def add(self, sample: FrameSample) -> None:
        """Copy a frame if it is among the worst so far."""
        result = sample.result
        self._frame_count += 1
        if result.is_defective and not result.is_rejected:
            # By the defect's area; without masks by the lowest score.
            self._add_to_heap("escapes", result.defect_px + 1 - result.score, sample)
        elif result.is_rejected and not result.is_defective:
            self._add_to_heap("overkills", result.score, sample)
        if result.dice is not None and result.dice < 1 and result.defect_px:
            self._add_to_heap("overlap", 1 - result.dice, sample)

    def top(self, category: str) -> Sequence[FrameSnapshot]:
        """Return the worst frames of one of `CATEGORIES`, the worst first."""
        return [entry.snapshot for entry in sorted(self._heaps[category], reverse=True)]

    def _add_to_heap(self, category: str, severity: float, sample: FrameSample) -> None:
        heap, order = self._heaps[category], -self._frame_count
        if len(heap) < self._max_per_category:
            heapq.heappush(heap, _HeapEntry(severity, order, self._snapshot(sample)))
        elif (severity, order) > (heap[0].severity, heap[0].order):
            heapq.heapreplace(heap, _HeapEntry(severity, order, self._snapshot(sample)))

    def _snapshot(self, sample: FrameSample) -> FrameSnapshot:
        class_map = sample.inspection.class_map
        height, width = sample.mask.shape
        return FrameSnapshot(
            sample.result,
            sample.image.copy(),
            sample.mask.copy() if self._has_masks else None,
            None
            if class_map is None
            else upsample_class_map(class_map, self._stride, height, width).copy(),
        )
