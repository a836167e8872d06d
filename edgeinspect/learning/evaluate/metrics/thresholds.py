"""Thresholds: chosen on a validation split, from what the exported graphs gave on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import find_blobs
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate.metrics.scores import wilson_interval

MIN_AREA_PX = 48.0
MAX_OVERKILL_RATIO = 0.012
"""Share of sound pictures that all classes together may reject on the validation split."""

_SCORES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_AREAS_PX = (MIN_AREA_PX, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0)
_CANDIDATES = tuple((score, area_px) for score in _SCORES for area_px in _AREAS_PX)


@dataclass(frozen=True, slots=True)
class SplitScores:
    """What gate and segmenter gave on every picture of a split."""

    probs: NDArray[np.float64]
    """(N,): the gate's `defect_prob`."""
    class_scores: NDArray[np.float64]
    """(N, K): the segmenter's `class_score`."""
    largest_region_px: NDArray[np.float64]
    """(N, K): largest connected region of a class, in frame pixels; 0 where there is none."""


def summarise_outputs(
    probs: NDArray[np.float64], outputs: Sequence[Sequence[NDArray[Any]]], stride: int
) -> SplitScores:
    """Reduce a segmenter's outputs to what the line's rule looks at."""
    classes = outputs[0][1].shape[1]
    score = np.array([output[2][0] for output in outputs], np.float64)
    largest_px = np.zeros((len(outputs), classes))
    for row, (class_map, area_px, scores) in enumerate(outputs):
        for blob in find_blobs(class_map[0], area_px[0], scores[0]):
            largest_px[row, blob.class_id - 1] = blob.largest_px * stride * stride
    return SplitScores(probs, score, largest_px)


def choose_gate_thresholds(
    probs: NDArray[np.float64], defective: NDArray[np.bool_], max_missed_ratio: float = 0.005
) -> dict[str, float]:
    """Suspect: where all but `missed_ratio` of the defective are; reject: above every sound one.

    Degraded: above 99 % of the sound ones, for when the gate must decide alone.
    """
    bad, good = probs[defective], probs[~defective]
    suspect = min(0.5, float(np.quantile(bad, max_missed_ratio)))
    sure = float(min(0.9999, max(0.95, good.max() + 0.02)))
    strict = float(np.quantile(good, 0.99))
    return {
        "suspect": round(suspect, 4),
        "reject": round(sure, 4),
        "degraded": round(min(max(strict, suspect), sure), 4),
    }


def choose_class_thresholds(
    split_scores: SplitScores, images: ImageArrays, gate: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Score and area per class that together find most within `OVERKILL_RATIO`.

    Starts with every class shut and opens, step by step, the one limit that finds most
    more defective pictures for each sound picture it costs; among equals the larger area
    and the higher score win. A class that finds nothing more keeps the strictest limits.
    """
    suspect = split_scores.probs >= gate["suspect"]
    allowed = int(MAX_OVERKILL_RATIO * (~images.defective).sum())
    hits = np.stack(  # (K, options, N)
        [
            [
                suspect
                & (split_scores.class_scores[:, k] >= s)
                & (split_scores.largest_region_px[:, k] >= a)
                for s, a in _CANDIDATES
            ]
            for k in range(len(images.classes))
        ]
    )
    chosen: list[int | None] = [None] * len(images.classes)
    always = split_scores.probs >= gate["reject"]

    def union(choice: Sequence[int | None]) -> NDArray[np.bool_]:
        rejected = always.copy()
        for k, option in enumerate(choice):
            if option is not None:
                rejected |= hits[k, option]
        return rejected

    while True:
        now = union(chosen)
        best: tuple[float, float, float] = (0.0, 0.0, 0.0)
        step: tuple[int, int] | None = None
        for k in range(len(chosen)):
            others = union([*chosen[:k], None, *chosen[k + 1 :]])
            for option, (score, area_px) in enumerate(_CANDIDATES):
                rejected = others | hits[k, option]
                over = int((rejected & ~images.defective).sum())
                gain = int((rejected & images.defective).sum() - (now & images.defective).sum())
                cost = over - int((now & ~images.defective).sum())
                rank = (gain / (1 + max(0, cost)), area_px, score)
                if gain > 0 and over <= allowed and rank > best:
                    best, step = rank, (k, option)
        if step is None:
            break
        chosen[step[0]] = step[1]
    strictest = len(_CANDIDATES) - 1
    return {
        name: dict(
            zip(("score", "area_px"), _CANDIDATES[strictest if c is None else c], strict=True)
        )
        for name, c in zip(images.classes, chosen, strict=True)
    }


def line_metrics(
    split_scores: SplitScores,
    images: ImageArrays,
    gate: Mapping[str, float],
    classes: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """What gate and segmenter together reject, by the line's own rule."""
    rejected = split_scores.probs >= gate["reject"]
    for k, name in enumerate(images.classes):
        limits = classes[name]
        rejected |= (split_scores.class_scores[:, k] >= limits["score"]) & (
            split_scores.largest_region_px[:, k] >= limits["area_px"]
        )
    rejected &= split_scores.probs >= gate["suspect"]
    bad, good = images.defective, ~images.defective
    hits, over = int(rejected[bad].sum()), int(rejected[good].sum())
    suspects = float((split_scores.probs[good] >= gate["suspect"]).mean()) if good.any() else 0.0
    return {
        "defective": int(bad.sum()),
        "rejected": hits,
        "recall": round(hits / max(1, int(bad.sum())), 4),
        "recall_interval": [round(v, 4) for v in wilson_interval(hits, int(bad.sum()))],
        "clean": int(good.sum()),
        "overkill": round(over / max(1, int(good.sum())), 4),
        "overkill_interval": [round(v, 4) for v in wilson_interval(over, int(good.sum()))],
        "clean_that_are_suspect": round(suspects, 4),
    }
