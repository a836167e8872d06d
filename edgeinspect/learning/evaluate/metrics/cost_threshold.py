"""The threshold that costs least, when an escape costs so much and an overkill so much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate
from edgeinspect.learning.evaluate.metrics.roc import MAX_CURVE_POINTS, every_nth, roc_curve

_BOOTSTRAP_ROUNDS = 500
_PARTS_PER_COST = 1000
_MAX_COST_SHARE_OF_ONE_FRAME = 0.1
"""One picture should not decide over more than this share of the cost."""


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A threshold and its cost."""

    threshold: float
    cost_per_1000: float
    escape_ratio: float
    overkill_ratio: float


@dataclass(frozen=True, slots=True)
class CostThreshold:
    """Least expected cost on these pictures, and how far it can be believed."""

    escape_cost: float
    overkill_cost: float
    prevalence_ratio: float
    """Share of defective parts that the cost is reckoned with."""
    threshold: float
    """Everything at or above it rejected."""
    cost_per_1000: float
    """Of 1000 parts, in the unit of the two costs."""
    cost_low: float
    """From the ends of both rates' 95 % intervals."""
    cost_high: float
    escape: Rate
    overkill: Rate
    threshold_low: float
    """Where 95 % of resamplings of the pictures choose the threshold."""
    threshold_high: float
    overkill_low: float
    """The same, as the share of these sound pictures that it would reject."""
    overkill_high: float
    cost_now_per_1000: float | None
    """With the decisions as the thresholds in force make them."""
    warning: str
    """Empty if the set is large enough for this ratio."""
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
    """Weigh escapes against overkills over every threshold.

    Args:
        rank: (N,): what the threshold is put on.
        defective: (N,).
        escape_cost: Of one defective part that passes, any unit.
        overkill_cost: Of one sound part that is thrown away, same unit.
        prevalence_ratio: Share of defective parts on the line; the set's own when absent.
        rejected: (N,): decisions in force, to give their cost beside.
        seed: Of the resampling.

    Returns:
        None unless both kinds of pictures are there.
    """
    bad, good = int(defective.sum()), int((~defective).sum())
    if not bad or not good:
        return None
    share = bad / (bad + good) if prevalence_ratio is None else prevalence_ratio
    weights = (_PARTS_PER_COST * share * escape_cost, _PARTS_PER_COST * (1 - share) * overkill_cost)
    points = _cost_curve(scores, defective, weights)
    best = min(points, key=lambda point: (point.cost_per_1000, -point.threshold))
    over_threshold = scores >= best.threshold
    escape = estimate_rate(int((defective & ~over_threshold).sum()), bad)
    overkill = estimate_rate(int((~defective & over_threshold).sum()), good)
    drawn = _resampled_thresholds(scores, defective, weights, seed)
    sound = np.sort(scores[~defective])
    overkills = 1 - np.searchsorted(sound, drawn, "left") / good
    low, high = (
        weights[0] * getattr(escape, end) + weights[1] * getattr(overkill, end)
        for end in ("low", "high")
    )
    now = None
    if rejected is not None:
        now = float(
            weights[0] * (~rejected[defective]).mean() + weights[1] * rejected[~defective].mean()
        )
    spread = np.quantile(overkills, (0.025, 0.975)).astype(np.float64)
    return CostThreshold(
        escape_cost=escape_cost,
        overkill_cost=overkill_cost,
        prevalence_ratio=share,
        threshold=best.threshold,
        cost_per_1000=best.cost_per_1000,
        cost_low=float(low),
        cost_high=float(high),
        escape=escape,
        overkill=overkill,
        threshold_low=float(np.quantile(drawn, 0.025)),
        threshold_high=float(np.quantile(drawn, 0.975)),
        overkill_low=float(spread[0]),
        overkill_high=float(spread[1]),
        cost_now_per_1000=now,
        warning=_sample_size_warning(escape, escape_cost / overkill_cost, weights, best, spread),
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
    """(rounds,) thresholds chosen on resamplings, defective and sound ones drawn apart."""
    rng = np.random.default_rng(seed)
    values, place = np.unique(scores, return_inverse=True)
    choices = np.append(values, np.nextafter(values[-1], np.inf))
    out = np.empty(_BOOTSTRAP_ROUNDS)
    bad, good = place[defective], place[~defective]
    for number in range(_BOOTSTRAP_ROUNDS):
        drawn_bad = np.bincount(rng.choice(bad, len(bad)), minlength=len(choices))
        drawn_good = np.bincount(rng.choice(good, len(good)), minlength=len(choices))
        escapes = (np.cumsum(drawn_bad) - drawn_bad) / len(bad)  # those strictly below
        overkills = np.cumsum(drawn_good[::-1])[::-1] / len(good)
        cost = weights[0] * escapes + weights[1] * overkills
        out[number] = choices[len(cost) - 1 - int(np.argmin(cost[::-1]))]
    return out


def _sample_size_warning(
    escape: Rate,
    ratio: float,
    weights: tuple[float, float],
    best: CostPoint,
    spread: NDArray[np.float64],
) -> str:
    """What makes the choice unsafe, in words; empty if nothing does."""
    reasons = []
    one_more = weights[0] / escape.total / max(best.cost_per_1000, 1e-9)
    if one_more > _MAX_COST_SHARE_OF_ONE_FRAME:
        reasons.append(
            f"at {ratio:g}:1 a single escape among its {escape.total} defective pictures "
            f"changes the cost by {one_more:.0%}, and their escape rate is only known to lie "
            f"between {escape.low:.1%} and {escape.high:.1%}"
        )
    if spread[1] - spread[0] > max(0.02, spread[0]):
        reasons.append(
            f"other pictures of the same kind would choose a threshold that rejects between "
            f"{spread[0]:.1%} and {spread[1]:.1%} of the sound ones"
        )
    return "The set is too small to carry this ratio: " + "; ".join(reasons) if reasons else ""
