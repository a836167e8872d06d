"""How well one number ranks defective above sound pictures: ROC, precision and recall, AUC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate
from edgeinspect.learning.evaluate.metrics.scores import classifier_scores

FALSE_REJECT_RATES = (0.01, 0.05)
HISTOGRAM_BINS = 20
MAX_CURVE_POINTS = 500
"""Points of a curve that a report keeps."""


_Point = TypeVar("_Point")


@dataclass(frozen=True, slots=True)
class RocPoint:
    """Everything at or above `threshold` rejected."""

    threshold: float
    false_reject_ratio: float
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class RecallAtFalseRejectRate:
    """Recall at a false-reject rate that is not exceeded."""

    false_reject_rate: float
    recall: Rate
    threshold: float
    """Above it a picture is rejected."""


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Pictures whose rank lies in one twentieth."""

    low: float
    high: float
    defective: int
    sound: int


@dataclass(frozen=True, slots=True)
class RocAnalysis:
    """Figures that need no threshold."""

    auc: float
    auc_low: float
    """95 %, after DeLong 1988."""
    auc_high: float
    average_precision: float
    recall_at: tuple[RecallAtFalseRejectRate, ...]
    curve: tuple[RocPoint, ...]
    """From the highest threshold to the lowest."""
    histogram: tuple[ScoreBin, ...]


def analyse_roc(
    scores: NDArray[np.float64],
    defective: NDArray[np.bool_],
    false_reject_rates: Sequence[float] = FALSE_REJECT_RATES,
) -> RocAnalysis | None:
    """ROC, precision-recall and their areas; None unless both kinds of pictures are there.

    Args:
        rank: (N,): higher is more likely defective.
        defective: (N,).
        rates: False-reject rates to give the recall at.
    """
    bad = int(defective.sum())
    if not bad or bad == len(defective):
        return None
    figures = classifier_scores(scores, defective, false_reject_rates)
    points = roc_curve(scores, defective)
    recalls = np.array([point.recall for point in points])
    precisions = np.array([point.precision for point in points])
    # A step's area is its own precision: no interpolation, which would flatter.
    area = float(np.sum(np.diff(recalls, prepend=0.0) * precisions))
    return RocAnalysis(
        auc=figures.auc,
        auc_low=figures.auc_interval[0],
        auc_high=figures.auc_interval[1],
        average_precision=area,
        recall_at=tuple(
            RecallAtFalseRejectRate(
                each, estimate_rate(round(figures.recall[each] * bad), bad), figures.threshold[each]
            )
            for each in false_reject_rates
        ),
        curve=downsample_curve(points),
        histogram=_score_histogram(scores, defective),
    )


def roc_curve(scores: NDArray[np.float64], defective: NDArray[np.bool_]) -> tuple[RocPoint, ...]:
    """One point for each different value of `rank`, from the highest to the lowest."""
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
    """At most `most` of the points at even places, first and last among them."""
    if len(points) <= max_points:
        return tuple(points)
    return tuple(points[i] for i in np.linspace(0, len(points) - 1, max_points).round().astype(int))


def downsample_curve(
    points: Sequence[RocPoint], max_points: int = MAX_CURVE_POINTS
) -> tuple[RocPoint, ...]:
    """At most `most` of the points, first and last among them, the corners before the rest."""
    if len(points) <= max_points:
        return tuple(points)
    over = [point.false_reject_ratio for point in points]
    corners = [0, len(points) - 1]
    corners += [i for i in range(1, len(points) - 1) if over[i - 1] != over[i]]
    if len(corners) > max_points:
        corners = sorted(set(corners))
        picks = np.linspace(0, len(corners) - 1, max_points).round().astype(int)
        corners = [corners[i] for i in picks]
    else:
        even = np.linspace(0, len(points) - 1, max_points - len(corners) + 1).round().astype(int)
        corners += even.tolist()
    return tuple(points[i] for i in sorted(set(corners)))
