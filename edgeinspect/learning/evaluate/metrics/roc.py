"""Metrics of a score that ranks images, without a threshold: ROC, precision-recall, AUC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.area_intervals import (
    MIN_NORMAL_IMAGES,
    auc_interval,
    bootstrap_interval,
    newcombe_interval,
)
from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate, wilson_interval

FALSE_REJECT_RATES = (0.01, 0.05)
HISTOGRAM_BINS = 20
MAX_CURVE_POINTS = 500
"""Points of a curve in a report."""

BOOTSTRAP_ROUNDS = 1000
_BOOTSTRAP_CELLS = 1 << 20
"""Counts that a bootstrap holds at once."""
_Point = TypeVar("_Point")


@dataclass(frozen=True, slots=True)
class RocPoint:
    """All images with a score of at least `threshold` rejected."""

    threshold: float
    false_reject_ratio: float
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class RecallAtFalseRejectRate:
    """Highest recall whose false-reject rate does not exceed `false_reject_rate`."""

    false_reject_rate: float
    recall: Rate
    threshold: float
    """Images with a higher score are rejected."""


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Number of images with a score between `low` and `high`."""

    low: float
    high: float
    defective: int
    sound: int


@dataclass(frozen=True, slots=True)
class RocAnalysis:
    """Metrics that need no threshold."""

    auc: float
    auc_low: float
    """95 %, after DeLong 1988; after Newcombe 2006 with fewer than 30 images of a kind."""
    auc_high: float
    average_precision: float
    average_precision_low: float
    """95 %, from a bootstrap over the images, within the good and within the defective ones; not
    narrower than Wilson's over the defective ones that are all found first."""
    average_precision_high: float
    recall_at: tuple[RecallAtFalseRejectRate, ...]
    curve: tuple[RocPoint, ...]
    """From the highest threshold to the lowest."""
    histogram: tuple[ScoreBin, ...]


@dataclass(frozen=True, slots=True)
class ClassifierScores:
    """How well probabilities separate defective from good images."""

    auc: float
    recall: dict[float, float]
    """By false-reject rate."""
    recall_interval: dict[float, tuple[float, float]]
    threshold: dict[float, float]
    auc_interval: tuple[float, float]
    """95 %, after DeLong 1988; after Newcombe 2006 with fewer than 30 images of a kind."""


def delong_placements(
    scores: NDArray[np.floating[Any]], is_defective: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each defective image's share of good images below it, each good one's of those above.

    A tie counts half. The mean of either is the area under the ROC curve (AUC).
    Source: DeLong, DeLong and Clarke-Pearson 1988
    """
    bad, good = np.sort(scores[is_defective]), np.sort(scores[~is_defective])
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    under = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
    return below / (2 * max(1, len(good))), 1 - under / (2 * max(1, len(bad)))


def delong_variance(*placements: NDArray[np.float64]) -> float:
    """Return the variance of an AUC, or of a difference of two, from its placements."""
    return sum(float(np.var(each, ddof=1)) / len(each) for each in placements if len(each) > 1)


def classifier_scores(
    probs: NDArray[np.floating[Any]],
    defective: NDArray[np.bool_],
    false_reject_rates: Sequence[float],
) -> ClassifierScores:
    """Compute the AUC, and the recall at given false-reject rates."""
    bad, good = probs[defective], np.sort(probs[~defective])
    placements = delong_placements(probs, defective)
    auc = float(placements[0].mean()) if len(bad) and len(good) else 0.0
    recall, recall_interval, threshold = {}, {}, {}
    for rate in false_reject_rates:
        allowed = int(rate * len(good))  # good images that may be rejected
        limit = float(good[len(good) - 1 - allowed]) if len(good) > allowed else 0.0
        hits = int((bad > limit).sum())
        recall[rate] = hits / max(1, len(bad))
        recall_interval[rate] = wilson_interval(hits, len(bad))
        threshold[rate] = limit
    return ClassifierScores(auc, recall, recall_interval, threshold, _auc_interval(auc, placements))


def _auc_interval(
    auc: float, placements: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[float, float]:
    """Return the 95 % interval of an AUC, whose variance few images do not tell."""
    counts = len(placements[0]), len(placements[1])
    if min(counts) < MIN_NORMAL_IMAGES:
        return newcombe_interval(auc, *counts)
    return auc_interval(auc, 1.96 * math.sqrt(delong_variance(*placements)), *counts)


def analyse_roc(
    scores: NDArray[np.float64],
    defective: NDArray[np.bool_],
    false_reject_rates: Sequence[float] = FALSE_REJECT_RATES,
    seed: int = 1,
) -> RocAnalysis | None:
    """Compute ROC, precision-recall and their areas; None without good and defective images.

    Args:
        scores: (N,): higher is more likely defective.
        defective: (N,).
        false_reject_rates: Rates at which the recall is given.
        seed: Of the bootstrap.
    """
    bad = int(defective.sum())
    if not bad or bad == len(defective):
        return None
    summary = classifier_scores(scores, defective, false_reject_rates)
    points = roc_curve(scores, defective)
    precision = average_precision(scores, defective)
    precision_low, precision_high = bootstrap_interval(
        precision, *_bootstrap_average_precision(scores, defective, seed), bad
    )
    return RocAnalysis(
        auc=summary.auc,
        auc_low=summary.auc_interval[0],
        auc_high=summary.auc_interval[1],
        average_precision=precision,
        average_precision_low=precision_low,
        average_precision_high=precision_high,
        recall_at=tuple(
            RecallAtFalseRejectRate(
                rate, estimate_rate(round(summary.recall[rate] * bad), bad), summary.threshold[rate]
            )
            for rate in false_reject_rates
        ),
        curve=downsample_curve(points),
        histogram=_score_histogram(scores, defective),
    )


def average_precision(scores: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
    """Return the average precision: the mean precision at each defective image found.

    It is a sum of steps: interpolation would overestimate it. Equal scores are one step.
    """
    order, last = _descending(scores)
    return float(_average_precisions(defective[order].astype(np.int64)[None], last, None)[0])


def _descending(scores: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order from the highest score, and the last place of each group of equals."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def _average_precisions(
    bad: NDArray[np.int64], last: NDArray[np.intp], good: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return the average precision of each row of (rounds, N) counts, in descending order."""
    good = 1 - bad if good is None else good
    hits = np.cumsum(bad, axis=1)[:, last]
    over = np.cumsum(good, axis=1)[:, last]
    steps = np.diff(hits, axis=1, prepend=0)
    precisions = hits / np.maximum(1, hits + over)
    return np.asarray((steps * precisions).sum(axis=1) / np.maximum(1, hits[:, -1]))


def _bootstrap_average_precision(
    scores: NDArray[np.float64], defective: NDArray[np.bool_], seed: int
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the average precision of resampled images."""
    rng = np.random.default_rng(seed)
    order, last = _descending(scores)
    is_bad = defective[order]
    values: list[NDArray[np.float64]] = []
    rounds = max(1, min(BOOTSTRAP_ROUNDS, _BOOTSTRAP_CELLS // len(scores)))
    for first in range(0, BOOTSTRAP_ROUNDS, rounds):
        counts: NDArray[np.int64] = np.zeros(
            (min(rounds, BOOTSTRAP_ROUNDS - first), len(scores)), np.int64
        )
        for members in (is_bad, ~is_bad):
            size = int(members.sum())
            counts[:, members] = rng.multinomial(size, np.full(size, 1 / size), len(counts))
        values.append(_average_precisions(counts * is_bad, last, counts * ~is_bad))
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return float(low), float(high)


def roc_curve(scores: NDArray[np.float64], defective: NDArray[np.bool_]) -> tuple[RocPoint, ...]:
    """Return one point for each distinct score, from the highest to the lowest."""
    order = np.argsort(-scores, kind="stable")
    values, bad = scores[order], defective[order]
    last = np.flatnonzero(np.append(np.diff(values) != 0, True))
    hits, over = np.cumsum(bad)[last], np.cumsum(~bad)[last]
    all_bad, all_good = max(1, int(bad.sum())), max(1, int((~bad).sum()))
    return tuple(
        RocPoint(float(v), float(o / all_good), float(h / all_bad), float(h / (h + o)))
        for v, h, o in zip(values[last], hits, over, strict=True)
    )


def _score_histogram(
    scores: NDArray[np.float64], defective: NDArray[np.bool_]
) -> tuple[ScoreBin, ...]:
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    bad, _edges = np.histogram(scores[defective], edges)
    good, _edges = np.histogram(scores[~defective], edges)
    return tuple(
        ScoreBin(float(low), float(high), int(one), int(other))
        for low, high, one, other in zip(edges, edges[1:], bad, good, strict=False)
    )


def every_nth(points: Sequence[_Point], max_points: int) -> tuple[_Point, ...]:
    """Return at most `max_points` evenly spaced points, first and last included."""
    if len(points) <= max_points:
        return tuple(points)
    indices = np.linspace(0, len(points) - 1, max_points).round().astype(int)
    return tuple(points[i] for i in indices)


def downsample_curve(
    points: Sequence[RocPoint], max_points: int = MAX_CURVE_POINTS
) -> tuple[RocPoint, ...]:
    """Return at most `max_points` points, first and last included, corners preferred."""
    if len(points) <= max_points:
        return tuple(points)
    last = len(points) - 1
    over = [point.false_reject_ratio for point in points]
    corners = [0, *(i for i in range(1, last) if over[i - 1] != over[i]), last]
    if len(corners) > max_points:
        return tuple(points[i] for i in every_nth(corners, max_points))
    even = np.linspace(0, last, max_points - len(corners) + 1).round().astype(int)
    return tuple(points[i] for i in sorted({*corners, *even.tolist()}))
