"""The worst pictures of an evaluation: kept while it runs, never more than a few."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.frame_results import Answer, Seen
from edgeinspect.learning.evaluate.metrics.scores import enlarge


@dataclass(frozen=True, slots=True)
class Kept:
    """One picture with what is true and what was found, at frame size."""

    answer: Answer
    image: NDArray[np.uint8]
    """uint8 (H, W, C)."""
    truth: NDArray[np.uint8] | None
    """uint8 (H, W); None where the set has no masks."""
    found: NDArray[np.uint8] | None
    """uint8 (H, W); None without a segmenter."""


@dataclass(order=True, slots=True)
class _Entry:
    badness: float
    place: int
    """The earlier picture wins a tie, so that a report can be repeated."""
    kept: Kept = field(compare=False)


class Worst:
    """Escapes, overkills and lowest Dice. For one thread.

    Args:
        most: Pictures kept of each sort.
        stride: Of the found maps.
        has_masks: Whether the truth is known by pixel.
    """

    def __init__(self, most: int, *, stride: int, has_masks: bool) -> None:
        self._most = most
        self._stride = stride
        self._has_masks = has_masks
        self._heaps: dict[str, list[_Entry]] = {"escapes": [], "overkills": [], "overlap": []}
        self._place = 0

    def see(self, seen: Seen) -> None:
        """Keep a copy of a picture if it is among the worst so far."""
        answer = seen.answer
        self._place += 1
        if answer.defective and not answer.rejected:
            # The largest defect that got through; without masks the one least suspected.
            self._offer("escapes", answer.defect_px + 1 - answer.rank, seen)
        elif answer.rejected and not answer.defective:
            self._offer("overkills", answer.rank, seen)
        if answer.dice is not None and answer.dice < 1 and answer.defect_px:
            self._offer("overlap", 1 - answer.dice, seen)

    def of(self, sort: str) -> Sequence[Kept]:
        """The worst of `escapes`, `overkills` or `overlap`, the worst first."""
        return [entry.kept for entry in sorted(self._heaps[sort], reverse=True)]

    def _offer(self, sort: str, badness: float, seen: Seen) -> None:
        heap = self._heaps[sort]
        if len(heap) >= self._most and (badness, -self._place) <= (heap[0].badness, heap[0].place):
            return
        entry = _Entry(badness, -self._place, self._keep(seen))
        if len(heap) < self._most:
            heapq.heappush(heap, entry)
        else:
            heapq.heapreplace(heap, entry)

    def _keep(self, seen: Seen) -> Kept:
        found = seen.judged.class_map
        return Kept(
            seen.answer,
            seen.image.copy(),
            seen.mask.copy() if self._has_masks else None,
            None if found is None else enlarge(found, self._stride, *seen.mask.shape).copy(),
        )
