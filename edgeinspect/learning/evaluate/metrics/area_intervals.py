"""Intervals of areas and overlaps that also tell how little a few images prove.

The variance that is estimated from the images themselves vanishes where they are all alike: three
defective images above three good ones would give an AUC of 1 with an interval from 1 to 1. The
intervals here take the variance from the size of the set instead wherever that happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeinspect.learning.evaluate.metrics.rates import wilson_interval

MIN_NORMAL_IMAGES = 30
"""With fewer good or defective images, a normal approximation of the AUC is not used."""
_Z = 1.96
_BISECTIONS = 60


def newcombe_interval(auc: float, defective: int, good: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUC from the numbers of images alone.

    The ends are the areas from which the measured one is 1.96 standard errors away, each with
    the standard error of that area (Hanley and McNeil 1982, with the mean of both numbers). So it
    has a width even at 0 and 1, as Wilson's interval of a rate does. (0, 1) without images.

    Source: Newcombe 2006, Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2, method 5
    """
    if not defective or not good:
        return 0.0, 1.0
    pairs, mean_less_one = defective * good, (defective + good) / 2 - 1

    def is_within(area: float) -> bool:
        more = mean_less_one * ((1 - area) / (2 - area) + area / (1 + area))
        return abs(auc - area) <= _Z * math.sqrt(area * (1 - area) * (1 + more) / pairs)

    return _last_within(auc, 0.0, is_within), _last_within(auc, 1.0, is_within)


def auc_interval(auc: float, spread: float, defective: int, good: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUC whose half width was estimated from the placements.

    Never narrower than Newcombe's of a perfect area, or of 0, over as many images: a set with
    errors cannot prove more than one without. Newcombe's if the estimate vanishes.

    Args:
        auc: The area.
        spread: Half the width, after DeLong, or over groups after Obuchowski.
        defective: Number of defective images, or of groups with one.
        good: Number of good images, or of groups with one.
    """
    if spread <= 0:
        return newcombe_interval(auc, defective, good)
    low = min(max(0.0, auc - spread), newcombe_interval(1.0, defective, good)[0])
    high = max(min(1.0, auc + spread), newcombe_interval(0.0, defective, good)[1])
    return low, high


def bootstrap_interval(value: float, low: float, high: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a score from 0 to 1 whose ends come from resampling.

    Never narrower than Wilson's of a score of 1, or of 0, over as many images: resampling images
    that are all right cannot draw a wrong one. Wilson's of the score itself if all draws agree;
    of all scores with values from 0 to 1, a rate has the largest variance.

    Source: Boyd et al. 2013, Area under the precision-recall curve: point estimates and
    confidence intervals (binomial, over the defective images); Wilson 1927

    Args:
        value: The score.
        low: Quantile of the draws.
        high: Quantile of the draws.
        count: Number of images, or of groups, that the score is a mean over.
    """
    if high - low <= 0:
        return wilson_interval(value * count, count)
    return min(low, wilson_interval(count, count)[0]), max(high, wilson_interval(0, count)[1])


def difference_interval(low: float, high: float, unproved: float) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two scores from 0 to 1 on the same images.

    That which was estimated, unless it vanishes, as with two scores of 1: three images cannot
    prove that two models are equal.

    Args:
        low: Its estimated lower end.
        high: Its estimated upper end.
        unproved: How far a score of 1 on these images may be from the true one.
    """
    if high - low > 0:
        return low, high
    return max(-1.0, low - unproved), min(1.0, high + unproved)


def _last_within(start: float, end: float, is_within: Callable[[float], bool]) -> float:
    """Return the last value on the way from `start`, which is within, to `end`."""
    if is_within(end):
        return end
    inside, outside = start, end
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_within(middle) else (inside, middle)
    return inside
