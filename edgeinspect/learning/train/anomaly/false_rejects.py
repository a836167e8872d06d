"""The threshold for a wanted rate of false rejects, from the scores of held-out good images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate import estimate_rate
from edgeinspect.learning.train.anomaly.anomaly_map import ScoreScale

RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Of the table in the manifest."""
_MIN_FREEDOM = 3
"""Two images would ask for a threshold that nothing reaches."""
_MIN_UNIT = 0.05
"""Of scores, which are 5 to 20 in practice: below it rounding would show in `defect_prob`."""
_MEDIAN_U = 4.0
"""The median good image lies this many units below the threshold: at a probability of 0.1."""


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The threshold in force, and what the held-out good images say of it."""

    scale: ScoreScale
    wanted_rate: float
    rejected: int
    """Held-out good images above the threshold."""
    images: int
    is_extrapolated: bool
    """The images are too few to show the wanted rate: the threshold lies beyond all of them."""
    raised_by: int = 0
    """Number of defective images that the threshold was raised with; 0 without."""

    def to_document(self, scores: NDArray[np.float64]) -> dict[str, Any]:
        """Return what the manifest says of the threshold, with the table of other rates."""
        rate = estimate_rate(self.rejected, self.images)
        return {
            "wanted_rate": self.wanted_rate,
            "held_out_good": self.images,
            "rejected": self.rejected,
            "interval": [round(rate.low, 5), round(rate.high, 5)],
            "lowest_rate_shown": round(min(1.0, 3 / self.images), 5),
            "extrapolated": self.is_extrapolated,
            "raised_by_defective": self.raised_by,
            "thresholds": [self._table_row(scores, wanted) for wanted in RATES],
        }

    def _table_row(self, scores: NDArray[np.float64], wanted: float) -> dict[str, Any]:
        limit, is_extrapolated = limit_for_rate(scores, wanted)
        rejected = int((scores > limit).sum())
        rate = estimate_rate(rejected, len(scores))
        return {
            "rate": wanted,
            "defect_prob": round(_to_probability(self.scale, limit), 5),
            "rejected": rejected,
            "interval": [round(rate.low, 5), round(rate.high, 5)],
            "extrapolated": is_extrapolated,
        }


def choose_threshold(
    scores: NDArray[np.float64], wanted_rate: float, defective: Sequence[float] = ()
) -> ThresholdChoice:
    """Choose the threshold for a wanted rate of false rejects.

    Defective images raise it, to the middle between it and the lowest of them that it rejects: that
    loses none of them, and fewer good images are rejected. They never lower it.

    Args:
        scores: (N,) of good images, held out; at least two.
        wanted_rate: Above 0, below 1.
        defective: Scores of defective images, if there are any.
    """
    limit, is_extrapolated = limit_for_rate(scores, wanted_rate)
    caught = [score for score in defective if score > limit]
    if caught:
        limit = (limit + min(caught)) / 2
    median = float(np.median(scores))
    unit = max((limit - median) / _MEDIAN_U, _MIN_UNIT)
    return ThresholdChoice(
        ScoreScale(limit, unit),
        wanted_rate,
        int((scores > limit).sum()),
        len(scores),
        is_extrapolated,
        len(caught),
    )


def limit_for_rate(scores: NDArray[np.float64], rate: float) -> tuple[float, bool]:
    """Return the score above which this share of good images lies, and whether it is extrapolated.

    With too few images to have one above it, it is the bound for the next image that Student's
    distribution of the logarithms gives, and never below the highest score.
    """
    ordered = np.sort(scores)
    count = len(ordered)
    allowed = int(rate * count + 1e-9)
    if allowed:
        return float(ordered[count - 1 - allowed] + ordered[count - allowed]) / 2, False
    logs = np.log(np.maximum(ordered, 1e-6))
    spread = float(logs.std(ddof=1)) if count > 1 else 0.1
    # Equal images have no spread at all; the next one differs at least by the camera's noise.
    spread = max(spread, 0.01)
    reach = (
        student_quantile(1 - rate, max(_MIN_FREEDOM, count - 1)) * spread * math.sqrt(1 + 1 / count)
    )
    bound = math.exp(min(float(logs.mean()) + reach, float(logs.max()) + 5.0))
    return max(bound, float(ordered[-1]) + _MIN_UNIT), True


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution for a probability from 0.5 to 1.

    Source: Hill 1970, "Algorithm 396: Student's t-quantiles"; within 0.1 % from 3 degrees of
        freedom on, exact for 1 and 2.
    """
    tails = 2 * (1 - probability)
    if freedom == 1:
        return math.tan((1 - tails) * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (tails * (2 - tails)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * tails) ** (2 / freedom)
    if y > a + 0.05:
        x = -_normal_quantile(1 - tails / 2)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = (
            (
                1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3)
                + 0.5 / (freedom + 4)
            )
            * y
            - 1
        ) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)


def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def _to_probability(scale: ScoreScale, value: float) -> float:
    u = (value - scale.threshold) / scale.unit
    return 0.5 + 0.5 * u / (1 + abs(u))
