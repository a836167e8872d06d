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
_CANDIDATES = tuple((score, area_px) for score in _SCORES for area_px in _AREAS_PX)


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


def choose_class_thresholds(
    scores: SplitScores,
    defective: NDArray[np.bool_],
    classes: Sequence[str],
    gate: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """Choose score and area per class for the highest recall within `MAX_OVERKILL_RATIO`.

    Greedy: starts with no class rejecting and applies, step by step, the candidate with the
    most additional defective images per additional good one. Ties go to the larger area and
    the higher score. A class without a gain gets the strictest candidate.

    Args:
        scores: Of the validation split.
        defective: (N,).
        classes: The segmenter's, (K,).
        gate: The gate's `suspect` and `reject`.
    """
    suspect = scores.probs >= gate["suspect"]
    allowed = int(MAX_OVERKILL_RATIO * (~defective).sum())
    hits = np.stack(  # (K, candidates, N)
        [
            [
                suspect & (scores.class_scores[:, k] >= s) & (scores.largest_region_px[:, k] >= a)
                for s, a in _CANDIDATES
            ]
            for k in range(len(classes))
        ]
    )
    chosen: list[int | None] = [None] * len(classes)
    by_gate = scores.probs >= gate["reject"]

    def union(choice: Sequence[int | None]) -> NDArray[np.bool_]:
        rejected = by_gate.copy()
        for k, candidate in enumerate(choice):
            if candidate is not None:
                rejected |= hits[k, candidate]
        return rejected

    while True:
        current = union(chosen)
        best: tuple[float, float, float] = (0.0, 0.0, 0.0)
        step: tuple[int, int] | None = None
        for k in range(len(chosen)):
            others = union([*chosen[:k], None, *chosen[k + 1 :]])
            for candidate, (score, area_px) in enumerate(_CANDIDATES):
                rejected = others | hits[k, candidate]
                over = int((rejected & ~defective).sum())
                gain = int((rejected & defective).sum() - (current & defective).sum())
                cost = over - int((current & ~defective).sum())
                rank = (gain / (1 + max(0, cost)), area_px, score)
                if gain > 0 and over <= allowed and rank > best:
                    best, step = rank, (k, candidate)
        if step is None:
            break
        chosen[step[0]] = step[1]
    limits = [_CANDIDATES[-1 if candidate is None else candidate] for candidate in chosen]
    return {
        name: {"score": score, "area_px": area_px}
        for name, (score, area_px) in zip(classes, limits, strict=True)
    }


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
