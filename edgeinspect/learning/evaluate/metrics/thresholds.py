"""Thresholds of gate and segmenter, chosen on a validation split from the graphs' outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import find_blobs
from edgeinspect.learning.evaluate.metrics.rates import estimate_rate

MIN_AREA_PX = 48.0
MAX_OVERKILL_RATIO = 0.012
"""Share of good images that all classes together may reject on the validation split."""

_SCORES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_AREAS_PX = (MIN_AREA_PX, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0)
_SMALL_AREAS_PX = (2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Tried as well where the labelled defects are small."""
_NOISE_RATIO = 0.25
"""Regions below this share of the smallest labelled defect are not tried as defects."""

NO_GATE = {"suspect": 0.0, "reject": 2.0}
"""Thresholds of a line without a gate: the segmenter sees every frame, and decides alone."""


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Scores of gate and segmenter for every image of a split."""

    probs: NDArray[np.float64]
    """(N,): the gate's `defect_prob`."""
    class_scores: NDArray[np.float64]
    """(N, K): the segmenter's `class_score`."""
    largest_region_px: NDArray[np.float64]
    """(N, K): largest connected region of a class in frame pixels; 0 without one."""


def summarise_outputs(
    probs: NDArray[np.float64], outputs: Sequence[Sequence[NDArray[Any]]], stride: int
) -> SplitScores:
    """Reduce a segmenter's outputs to what the line's rule depends on."""
    class_scores = np.array([output[2][0] for output in outputs], np.float64)
    largest_px = np.zeros(class_scores.shape)
    for row, (class_map, area_px, scores) in enumerate(outputs):
        for blob in find_blobs(class_map[0], area_px[0], scores[0]):
            largest_px[row, blob.class_id - 1] = blob.largest_px * stride * stride
    return SplitScores(probs, class_scores, largest_px)


def choose_gate_thresholds(
    probs: NDArray[np.float64], defective: NDArray[np.bool_], max_missed_ratio: float = 0.005
) -> dict[str, float]:
    """Choose the gate's thresholds.

    Returns:
        `suspect`: at most `max_missed_ratio` of the defective images are below. `reject`:
        above every good image. `degraded`: above 99 % of the good images, for a gate that
        must decide alone.
    """
    bad, good = probs[defective], probs[~defective]
    suspect = min(0.5, float(np.quantile(bad, max_missed_ratio)))
    reject = float(min(0.9999, max(0.95, good.max() + 0.02)))
    degraded = min(max(float(np.quantile(good, 0.99)), suspect), reject)
    return {
        "suspect": round(suspect, 4),
        "reject": round(reject, 4),
        "degraded": round(degraded, 4),
    }


def area_candidates(smallest_defect_px: float) -> tuple[float, ...]:
    """Return areas to choose from, smallest first, given the smallest labelled defect."""
    least = _NOISE_RATIO * smallest_defect_px
    return (*(area for area in _SMALL_AREAS_PX if least <= area), *_AREAS_PX)


def choose_class_thresholds(
    scores: SplitScores,
    defective: NDArray[np.bool_],
    classes: Sequence[str],
    gate: Mapping[str, float],
    *,
    areas_px: Sequence[float] = _AREAS_PX,
    sensitive: bool = False,
) -> dict[str, dict[str, float]]:
    """Choose score and area per class for the highest recall within `MAX_OVERKILL_RATIO`.

    Greedy: starts with no class rejecting and applies, step by step, the candidate with the
    most additional defective images per additional good one.

    Args:
        scores: Of the validation split.
        defective: (N,).
        classes: The segmenter's, (K,).
        gate: The gate's `suspect` and `reject`; `NO_GATE` without one.
        areas_px: Areas to choose from, in ascending order.
        sensitive: Of equal candidates, take the smaller area and the lower score, also for a
            class without a gain: right for a split of few images, where a strict threshold that
            finds all of them misses the next ones. Otherwise the larger and the higher, and the
            strictest for a class without a gain.
    """
    choice = _GreedyChoice(scores, defective, gate, areas_px, sensitive=sensitive)
    chosen = choice.choose(len(classes))
    return {
        name: {"score": score, "area_px": area_px}
        for name, (score, area_px) in zip(classes, chosen, strict=True)
    }


class _GreedyChoice:
    """Candidates of score and area, and which images each of them rejects."""

    def __init__(
        self,
        scores: SplitScores,
        defective: NDArray[np.bool_],
        gate: Mapping[str, float],
        areas_px: Sequence[float],
        *,
        sensitive: bool,
    ) -> None:
        self._defective = defective
        self._sensitive = sensitive
        self._candidates = [(score, area) for score in _SCORES for area in areas_px]
        self._allowed = int(MAX_OVERKILL_RATIO * (~defective).sum())
        suspect = scores.probs >= gate["suspect"]
        self._by_gate = scores.probs >= gate["reject"]
        self._hits = np.stack(  # (candidates, N, K)
            [
                suspect[:, None] & (scores.class_scores >= s) & (scores.largest_region_px >= a)
                for s, a in self._candidates
            ]
        )

    def choose(self, class_count: int) -> list[tuple[float, float]]:
        """Return (score, area) of each class."""
        chosen: list[int | None] = [None] * class_count
        while (step := self._best_step(chosen)) is not None:
            chosen[step[0]] = step[1]
        for k in range(class_count):
            if chosen[k] is None:
                chosen[k] = self._without_gain(chosen, k)
        return [self._candidates[-1 if each is None else each] for each in chosen]

    def _union(self, choice: Sequence[int | None]) -> NDArray[np.bool_]:
        rejected = self._by_gate.copy()
        for k, candidate in enumerate(choice):
            if candidate is not None:
                rejected |= self._hits[candidate, :, k]
        return rejected

    def _best_step(self, chosen: Sequence[int | None]) -> tuple[int, int] | None:
        """Return class and candidate with the most gain; None if none has any."""
        defective, sign = self._defective, -1 if self._sensitive else 1
        current = self._union(chosen)
        best: tuple[float, float, float] | None = None
        step: tuple[int, int] | None = None
        for k in range(len(chosen)):
            others = self._union([*chosen[:k], None, *chosen[k + 1 :]])
            for candidate, (score, area_px) in enumerate(self._candidates):
                rejected = others | self._hits[candidate, :, k]
                over = int((rejected & ~defective).sum())
                gain = int((rejected & defective).sum() - (current & defective).sum())
                cost = over - int((current & ~defective).sum())
                rank = (gain / (1 + max(0, cost)), sign * area_px, sign * score)
                if gain > 0 and over <= self._allowed and (best is None or rank > best):
                    best, step = rank, (k, candidate)
        return step

    def _without_gain(self, chosen: Sequence[int | None], k: int) -> int | None:
        """Return the most sensitive candidate of a class that rejects no further good image."""
        if not self._sensitive:
            return None
        current = self._union(chosen)
        free = [
            candidate
            for candidate in range(len(self._candidates))
            if not (self._hits[candidate, :, k] & ~current & ~self._defective).any()
        ]
        return min(free, key=lambda each: self._candidates[each][::-1], default=None)


def line_metrics(
    scores: SplitScores,
    defective: NDArray[np.bool_],
    gate: Mapping[str, float],
    classes: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Measure what gate and segmenter together reject, by the line's own rule.

    Args:
        scores: Of the test split.
        defective: (N,).
        gate: The gate's `suspect` and `reject`.
        classes: Score and area by class, in the order of the segmenter's classes.
    """
    rejected = scores.probs >= gate["reject"]
    for k, limits in enumerate(classes.values()):
        rejected |= (scores.class_scores[:, k] >= limits["score"]) & (
            scores.largest_region_px[:, k] >= limits["area_px"]
        )
    rejected &= scores.probs >= gate["suspect"]
    recall = estimate_rate(int(rejected[defective].sum()), int(defective.sum()))
    overkill = estimate_rate(int(rejected[~defective].sum()), int((~defective).sum()))
    suspects = (scores.probs[~defective] >= gate["suspect"]).mean() if overkill.total else 0.0
    return {
        "defective": recall.total,
        "rejected": recall.hits,
        "recall": round(recall.value or 0.0, 4),
        "recall_interval": [round(recall.low, 4), round(recall.high, 4)],
        "clean": overkill.total,
        "overkill": round(overkill.value or 0.0, 4),
        "overkill_interval": [round(overkill.low, 4), round(overkill.high, 4)],
        "clean_that_are_suspect": round(float(suspects), 4),
    }
