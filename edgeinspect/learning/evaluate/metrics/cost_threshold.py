"""The threshold with the lowest expected cost of escapes and overkills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate
from edgeinspect.learning.evaluate.metrics.roc import MAX_CURVE_POINTS, every_nth, roc_curve

_BOOTSTRAP_ROUNDS = 500
_PARTS_PER_COST = 1000
_MAX_COST_SHARE_OF_ONE_FRAME = 0.1
"""Above this share of the cost for a single image, the data set is too small."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A threshold and its cost."""

    threshold: float
    cost_per_1000: float
    escape_ratio: float
    overkill_ratio: float


@dataclass(frozen=True, slots=True)
class CostThreshold:
    """The threshold with the lowest expected cost on these images, and its uncertainty."""

    escape_cost: float
    overkill_cost: float
    prevalence_ratio: float
    """Share of defective parts that the cost is computed for."""
    threshold: float
    """Scores of at least this are rejected."""
    cost_per_1000: float
    """Of 1000 parts, in the unit of the two costs."""
    cost_low: float
    """From the ends of both rates' 95 % intervals."""
    cost_high: float
    escape: Rate
    overkill: Rate
    threshold_low: float
    """95 % bootstrap interval of the chosen threshold."""
    threshold_high: float
    overkill_low: float
    """The same, as the share of these good images that it would reject."""
    overkill_high: float
    cost_now_per_1000: float | None
    """With the thresholds in force."""
    warning: str
    """Why the set is too small for this cost ratio; empty if it is large enough."""
    curve: tuple[CostPoint, ...]


def choose_cost_threshold(
    scores: NDArray[np.float64],
    defective: NDArray[np.bool_],
    *,
    escape_cost: float,
    overkill_cost: float,
    prevalence_ratio: float | None = None,
    rejected: NDArray[np.bool_] | None = None,
    seed: int = 1,
) -> CostThreshold | None:
    """Choose the threshold with the lowest cost; None without good and defective images.

    Args:
        scores: (N,): the threshold applies to these.
        defective: (N,).
        escape_cost: Of one defective part that passes, any unit.
        overkill_cost: Of one good part that is rejected, same unit.
        prevalence_ratio: Share of defective parts on the line; the set's own when absent.
        rejected: (N,): the decisions in force, to compare their cost.
        seed: Of the resampling.
    """
    bad, good = int(defective.sum()), int((~defective).sum())
    if not bad or not good:
        return None
    share = bad / (bad + good) if prevalence_ratio is None else prevalence_ratio
    weights = (_PARTS_PER_COST * share * escape_cost, _PARTS_PER_COST * (1 - share) * overkill_cost)
    points = _cost_curve(scores, defective, weights)
    best = min(points, key=lambda point: (point.cost_per_1000, -point.threshold))
    is_above = scores >= best.threshold
    escape = estimate_rate(int((defective & ~is_above).sum()), bad)
    overkill = estimate_rate(int((~defective & is_above).sum()), good)
    resampled = _resampled_thresholds(scores, defective, weights, seed)
    overkills = 1 - np.searchsorted(np.sort(scores[~defective]), resampled, "left") / good
    cost_now = None
    if rejected is not None:
        cost_now = float(
            weights[0] * (~rejected[defective]).mean() + weights[1] * rejected[~defective].mean()
        )
    interval = np.quantile(overkills, (0.025, 0.975)).astype(np.float64)
    return CostThreshold(
        escape_cost=escape_cost,
        overkill_cost=overkill_cost,
        prevalence_ratio=share,
        threshold=best.threshold,
        cost_per_1000=best.cost_per_1000,
        cost_low=weights[0] * escape.low + weights[1] * overkill.low,
        cost_high=weights[0] * escape.high + weights[1] * overkill.high,
        escape=escape,
        overkill=overkill,
        threshold_low=float(np.quantile(resampled, 0.025)),
        threshold_high=float(np.quantile(resampled, 0.975)),
        overkill_low=float(interval[0]),
        overkill_high=float(interval[1]),
        cost_now_per_1000=cost_now,
        warning=_sample_size_warning(escape, escape_cost / overkill_cost, weights, best, interval),
        curve=every_nth(points, MAX_CURVE_POINTS),
    )


def _cost_curve(
    scores: NDArray[np.float64], defective: NDArray[np.bool_], weights: tuple[float, float]
) -> tuple[CostPoint, ...]:
    above = float(np.nextafter(scores.max(), np.inf))
    return (
        CostPoint(above, weights[0], 1.0, 0.0),  # nothing rejected
        *(
            CostPoint(
                point.threshold,
                weights[0] * (1 - point.recall) + weights[1] * point.false_reject_ratio,
                1 - point.recall,
                point.false_reject_ratio,
            )
            for point in roc_curve(scores, defective)
        ),
    )


def _resampled_thresholds(
    scores: NDArray[np.float64],
    defective: NDArray[np.bool_],
    weights: tuple[float, float],
    seed: int,
) -> NDArray[np.float64]:
    """Return (rounds,) thresholds chosen on resamplings, stratified by label."""
    rng = np.random.default_rng(seed)
    values, index = np.unique(scores, return_inverse=True)
    candidates = np.append(values, np.nextafter(values[-1], np.inf))
    out = np.empty(_BOOTSTRAP_ROUNDS)
    bad, good = index[defective], index[~defective]
    for number in range(_BOOTSTRAP_ROUNDS):
        drawn_bad = np.bincount(rng.choice(bad, len(bad)), minlength=len(candidates))
        drawn_good = np.bincount(rng.choice(good, len(good)), minlength=len(candidates))
        escapes = (np.cumsum(drawn_bad) - drawn_bad) / len(bad)  # strictly below
        overkills = np.cumsum(drawn_good[::-1])[::-1] / len(good)
        cost = weights[0] * escapes + weights[1] * overkills
        out[number] = candidates[len(cost) - 1 - int(np.argmin(cost[::-1]))]
    return out


def _sample_size_warning(
    escape: Rate,
    cost_ratio: float,
    weights: tuple[float, float],
    best: CostPoint,
    overkill_interval: NDArray[np.float64],
) -> str:
    """Explain why the set is too small for the choice; empty if it is large enough."""
    reasons = []
    one_more = weights[0] / escape.total / max(best.cost_per_1000, 1e-9)
    low, high = overkill_interval
    if one_more > _MAX_COST_SHARE_OF_ONE_FRAME:
        reasons.append(
            f"at {cost_ratio:g}:1 a single escape among its {escape.total} defective images "
            f"changes the cost by {one_more:.0%}, and their escape rate is only known to be "
            f"between {escape.low:.1%} and {escape.high:.1%}"
        )
    if high - low > max(0.02, low):
        reasons.append(
            "other images of the same kind would choose a threshold that rejects between "
            f"{low:.1%} and {high:.1%} of the good ones"
        )
    return "The set is too small for this cost ratio: " + "; ".join(reasons) if reasons else ""
