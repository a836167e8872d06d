"""Proportions with Wilson intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `total` images, with a 95 % interval."""

    hits: int
    total: int
    value: float | None
    """None when `total` is 0."""
    low: float
    """95 % interval, after Wilson 1927; (0, 1) when `total` is 0."""
    high: float
    no_better_than: float | None
    """With 0 hits in n: 3/n, the one-sided 95 % limit of the true rate (rule of three). None if
    that says nothing, with up to 3 images."""


def estimate_rate(hits: int, total: int) -> Rate:
    """Return the rate of `hits` in `total` with its interval."""
    low, high = wilson_interval(hits, total)
    limit = 3 / total if total > 3 and not hits else None
    return Rate(hits, total, hits / total if total else None, low, high, limit)


def wilson_interval(hits: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927); (0, 1) when `total` is 0.

    Its ends are exactly 0 and 1 where the proportion is: rounding must not exclude it.

    Numbers that are not whole are effective ones, of `clusters.cluster_rate`.
    """
    if not total:
        return 0.0, 1.0
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if share <= 0 else max(0.0, (centre - spread) / scale)
    return low, 1.0 if share >= 1 else min(1.0, (centre + spread) / scale)
