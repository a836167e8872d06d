"""Intervals for images that are not independent: those of one coil, one part, one exposure series.

Ten images of one coil are not ten proofs. Where images have groups, every interval is computed over
groups: rates by the effective number of images, the AUC by the variance between groups, overlap by
resampling whole groups.

Sources: Korn and Graubard 1998 (proportions); Obuchowski 1997 (AUC); Durkalski et al. 2003 (paired
proportions); Cameron, Gelbach and Miller 2008 (few clusters: quantiles of t, G - 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, wilson_interval

Clusters = NDArray[np.int64]
"""(N,): the number of the group of each image; an image without a group has its own."""

_Z = 1.96
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t with 1 to 10 degrees of freedom."""


def find_clusters(names: Sequence[str], groups: Mapping[str, str]) -> Clusters | None:
    """Return the groups of images by number; None if no two of these images share one."""
    keys = [("group", groups[name]) if groups.get(name) else ("image", name) for name in names]
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    if len(number) == len(keys):
        return None
    return np.array([number[key] for key in keys], np.int64)


def count_clusters(clusters: Clusters) -> int:
    """Return the number of different groups."""
    return len(np.unique(clusters))


def t_quantile(clusters: int) -> float:
    """Return the half width of a 95 % interval in standard errors; infinite for one group."""
    freedom = clusters - 1
    if freedom < 1:
        return math.inf
    if freedom <= len(_T_QUANTILES):
        return _T_QUANTILES[freedom - 1]
    # Cornish-Fisher expansion; Abramowitz and Stegun 26.7.5.
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)


def sum_by_cluster(values: NDArray[np.float64], clusters: Clusters) -> NDArray[np.float64]:
    """Return (G, ...) sums of (N, ...) values over each group."""
    _names, index = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(index.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums


def cluster_rate(hits: NDArray[np.bool_], clusters: Clusters) -> Rate:
    """Return the rate of hits with a 95 % interval that respects groups.

    Wilson's interval with the effective number of images: as many independent ones as would give
    the variance that is seen between groups. Without a hit, or with hits only, no variance is seen,
    and a group counts as one image.

    Args:
        hits: (N,).
        clusters: (N,).
    """
    total, found = len(hits), int(hits.sum())
    if not total:
        return Rate(0, 0, None, 0.0, 1.0, None)
    share = found / total
    count = count_clusters(clusters)
    limit = 3 / count if count > 3 and not found else None
    if count < 2:
        return Rate(found, total, share, 0.0, 1.0, limit)
    effective = float(count)
    if 0 < found < total:
        deviations = sum_by_cluster(hits.astype(np.float64) - share, clusters)
        variance = count / (count - 1) * float((deviations**2).sum()) / total**2
        if variance > 0:
            effective = share * (1 - share) / variance * (_Z / t_quantile(count)) ** 2
        effective = min(float(total), max(1.0, effective))
    low, high = wilson_interval(share * effective, effective)
    return Rate(found, total, share, low, high, limit)


def auc_standard_error(
    placements: tuple[NDArray[np.float64], NDArray[np.float64]],
    is_defective: NDArray[np.bool_],
    clusters: Clusters,
) -> float:
    """Return the standard error of an AUC, or of a difference of two, over groups.

    Args:
        placements: Of defective and of good images, as `roc.delong_placements`; for a difference,
            the difference of both models' placements.
        is_defective: (N,).
        clusters: (N,).
    """
    deviations = np.zeros(len(is_defective))
    for kind, values in zip((is_defective, ~is_defective), placements, strict=True):
        if len(values):
            deviations[kind] = (values - values.mean()) / len(values)
    sums = sum_by_cluster(deviations, clusters)
    return math.sqrt(len(sums) / max(1, len(sums) - 1) * float((sums**2).sum()))


def auc_spread(
    placements: tuple[NDArray[np.float64], NDArray[np.float64]],
    is_defective: NDArray[np.bool_],
    clusters: Clusters,
) -> float:
    """Return the half width of the 95 % interval of an AUC, or of a difference of two.

    Never less than without groups: few groups may agree by chance. 1 with a single group.
    """
    count = count_clusters(clusters)
    if count < 2:
        return 1.0
    single = auc_standard_error(placements, is_defective, np.arange(len(clusters)))
    grouped = auc_standard_error(placements, is_defective, clusters)
    return max(_Z * single, t_quantile(count) * grouped)


def resample_clusters(
    values: NDArray[np.float64], clusters: Clusters, rounds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return (rounds, ...) sums of (N, ...) values over groups that are drawn with replacement."""
    sums = sum_by_cluster(values, clusters)
    count = len(sums)
    drawn = rng.multinomial(count, np.full(count, 1 / count), rounds).astype(np.float64)
    return (drawn @ sums.reshape(count, -1)).reshape(rounds, *values.shape[1:])


def paired_p_value(differences: NDArray[np.float64], clusters: Clusters) -> float:
    """Return the two-sided p-value that paired differences over groups have mean 0."""
    sums = sum_by_cluster(differences, clusters)
    spread = math.sqrt(float((sums**2).sum()))
    return math.erfc(abs(float(sums.sum())) / spread / math.sqrt(2)) if spread else 1.0
