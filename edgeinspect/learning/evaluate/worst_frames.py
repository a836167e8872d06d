"""The worst pictures of an evaluation: kept while it runs, never more than a few."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult, FrameSample
from edgeinspect.learning.evaluate.metrics.scores import upsample_class_map


@dataclass(frozen=True, slots=True)
class FrameSnapshot:
    """One picture with what is true and what was found, at frame size."""

    result: FrameResult
    image: NDArray[np.uint8]
    """uint8 (H, W, C)."""
    label_mask: NDArray[np.uint8] | None
    """uint8 (H, W); None where the set has no masks."""
    predicted_mask: NDArray[np.uint8] | None
    """uint8 (H, W); None without a segmenter."""


@dataclass(order=True, slots=True)
class _HeapEntry:
    severity: float
    order: int
    """The earlier picture wins a tie, so that a report can be repeated."""
    snapshot: FrameSnapshot = field(compare=False)


class WorstFrames:
    """Escapes, overkills and lowest Dice. For one thread.

    Args:
        most: Pictures kept of each sort.
        stride: Of the found maps.
        has_masks: Whether the truth is known by pixel.
    """

    def __init__(self, max_per_category: int, *, stride: int, has_masks: bool) -> None:
        self._max_per_category = max_per_category
        self._stride = stride
        self._has_masks = has_masks
        self._heaps: dict[str, list[_HeapEntry]] = {"escapes": [], "overkills": [], "overlap": []}
        self._frame_count = 0

    def add(self, sample: FrameSample) -> None:
        """Keep a copy of a picture if it is among the worst so far."""
        answer = sample.result
        self._frame_count += 1
        if answer.is_defective and not answer.is_rejected:
            # The largest defect that got through; without masks the one least suspected.
            self._add_to_heap("escapes", answer.defect_px + 1 - answer.score, sample)
        elif answer.is_rejected and not answer.is_defective:
            self._add_to_heap("overkills", answer.score, sample)
        if answer.dice is not None and answer.dice < 1 and answer.defect_px:
            self._add_to_heap("overlap", 1 - answer.dice, sample)

    def top(self, category: str) -> Sequence[FrameSnapshot]:
        """The worst of `escapes`, `overkills` or `overlap`, the worst first."""
        return [entry.snapshot for entry in sorted(self._heaps[category], reverse=True)]

    def _add_to_heap(self, category: str, severity: float, sample: FrameSample) -> None:
        heap = self._heaps[category]
        if len(heap) >= self._max_per_category and (severity, -self._frame_count) <= (
            heap[0].severity,
            heap[0].order,
        ):
            return
        entry = _HeapEntry(severity, -self._frame_count, self._snapshot(sample))
        if len(heap) < self._max_per_category:
            heapq.heappush(heap, entry)
        else:
            heapq.heapreplace(heap, entry)

    def _snapshot(self, sample: FrameSample) -> FrameSnapshot:
        found = sample.inspection.class_map
        return FrameSnapshot(
            sample.result,
            sample.image.copy(),
            sample.mask.copy() if self._has_masks else None,
            None
            if found is None
            else upsample_class_map(found, self._stride, *sample.mask.shape).copy(),
        )
