"""Differences between two models on the same images, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.area_intervals import (
    difference_interval,
    newcombe_interval,
)
from edgeinspect.learning.evaluate.metrics.clusters import (
    Clusters,
    auc_spread,
    count_clusters,
    paired_p_value,
    resample_clusters,
    sum_by_cluster,
    t_quantile,
)
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.rates import wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import delong_placements, delong_variance

_ROUNDS_PER_BATCH = 100


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A metric of A and B, and B minus A with its 95 % interval."""

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DiscordantPairs:
    """Errors of one kind (escapes or overkills), paired by image."""

    pictures: int
    """Images on which this error is possible."""
    only_a: int
    """Errors of A where B is right."""
    only_b: int
    both: int
    p_value: float
    """McNemar's exact test, two-sided; over groups, Durkalski's if that is larger."""
    rate: PairedDifference
    """Error rates; the interval after Agresti and Min 2005, not empty without discordant pairs."""


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p-value that two paired error rates are equal (binomial)."""
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(discordant, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / (1 << discordant)))


def compare_errors(
    name: str,
    error_a: NDArray[np.bool_],
    error_b: NDArray[np.bool_],
    clusters: Clusters | None = None,
) -> DiscordantPairs:
    """Compare the errors of A and B on the same images, (N,) each.

    With groups, the interval is at least as wide as the variance between them requires.
    """
    only_a, only_b = int((error_a & ~error_b).sum()), int((~error_a & error_b).sum())
    total = len(error_a)
    # Half a pair more each way keeps the interval valid without a discordant pair.
    more, fewer, size = only_b + 0.5, only_a + 0.5, total + 2
    centre = (more - fewer) / size
    spread = 1.96 * sqrt(max(0.0, more + fewer - (more - fewer) ** 2 / size)) / size
    p_value = mcnemar_p_value(only_a, only_b)
    if clusters is not None:
        spread = max(spread, _cluster_spread(error_a, error_b, clusters))
        differences = error_b.astype(np.float64) - error_a
        p_value = max(p_value, paired_p_value(differences, clusters))
    rate = PairedDifference(
        name,
        float(error_a.mean()),
        float(error_b.mean()),
        float(error_b.mean() - error_a.mean()),
        max(-1.0, centre - spread),
        min(1.0, centre + spread),
    )
    both = int((error_a & error_b).sum())
    return DiscordantPairs(total, only_a, only_b, both, p_value, rate)


def _cluster_spread(
    error_a: NDArray[np.bool_], error_b: NDArray[np.bool_], clusters: Clusters
) -> float:
    """Return the half width of the 95 % interval of a difference of rates, over groups."""
    count = count_clusters(clusters)
    if count < 2:
        return 1.0
    differences = error_b.astype(np.float64) - error_a
    sums = sum_by_cluster(differences - differences.mean(), clusters)
    variance = count / (count - 1) * float((sums**2).sum()) / len(differences) ** 2
    return t_quantile(count) * sqrt(variance)


def compare_overlap(
    results_a: Sequence[FrameResult],
    results_b: Sequence[FrameResult],
    classes: Sequence[str],
    seed: int,
    rounds: int,
    clusters: Clusters | None = None,
) -> tuple[tuple[PairedDifference, ...], tuple[PairedDifference, ...]]:
    """Compare Dice and IoU, with intervals from one bootstrap over the images, or their groups.

    Of background and the classes that are labelled or predicted; nothing if no defect is labelled.
    """
    counts_a, counts_b = _pixel_counts(results_a), _pixel_counts(results_b)
    if counts_a is None or counts_b is None:
        return (), ()
    pairs = np.stack([counts_a, counts_b], axis=1)  # (N, 2, 3, K+1)
    flat = pairs.reshape(len(pairs), -1).astype(np.float64)
    groups = np.arange(len(pairs)) if clusters is None else clusters
    rng = np.random.default_rng(seed)
    drawn = [
        resample_clusters(flat, groups, _ROUNDS_PER_BATCH, rng)
        for _ in range(max(1, rounds // _ROUNDS_PER_BATCH))
    ]
    sums = np.concatenate([flat.sum(0)[None], *drawn]).reshape(-1, *pairs.shape[1:])
    hit, true, predicted = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]  # (R+1, 2, K+1)
    dice = 2 * hit / np.maximum(1, true + predicted)
    iou = hit / np.maximum(1, true + predicted - hit)
    if not true[0, :, 1:].any():
        return (), ()
    shown = [0, *(1 + np.flatnonzero((true + predicted)[0, :, 1:].any(axis=0))).tolist()]
    names = ["background", *classes]
    count = count_clusters(groups)
    return (
        _bootstrap_differences(
            dice[:, :, shown[1:]], [names[column] for column in shown[1:]], count
        ),
        _bootstrap_differences(iou[:, :, shown], [names[column] for column in shown], count),
    )


def _bootstrap_differences(
    values: NDArray[np.float64], names: Sequence[str], count: int
) -> tuple[PairedDifference, ...]:
    """Differences of (R+1, 2, names); row 0 is the whole set, the others are resamplings.

    `count` is the number of images, or of groups.
    """
    values = np.concatenate([values, values.mean(axis=2, keepdims=True)], axis=2)
    differences = values[:, 1] - values[:, 0]
    ends = np.quantile(differences[1:], (0.025, 0.975), axis=0).T.tolist()
    unproved = 1 - wilson_interval(count, count)[0]
    columns = np.stack([*values[0], differences[0]], axis=1).tolist()
    found = []
    for name, (a, b, difference), (low, high) in zip([*names, "mean"], columns, ends, strict=True):
        low, high = difference_interval(low, high, unproved)
        found.append(PairedDifference(name, a, b, difference, low, high))
    return tuple(found)


def _pixel_counts(results: Sequence[FrameResult]) -> NDArray[np.int64] | None:
    """Return (N, 3, K+1): correct, labelled and predicted pixels."""
    confusions = [one.confusion for one in results if one.confusion is not None]
    if len(confusions) != len(results):
        return None
    each = np.stack(confusions)
    return np.stack([np.diagonal(each, axis1=1, axis2=2), each.sum(2), each.sum(1)], axis=1)


def compare_auc(
    scores_a: NDArray[np.float64],
    scores_b: NDArray[np.float64],
    is_defective: NDArray[np.bool_],
    clusters: Clusters | None = None,
) -> PairedDifference | None:
    """Compare the area under the ROC curve, paired; None with fewer than two of a kind.

    Source: DeLong, DeLong and Clarke-Pearson 1988; over groups Obuchowski 1997
    """
    if min(is_defective.sum(), (~is_defective).sum()) < 2:
        return None
    bad_a, good_a = delong_placements(scores_a, is_defective)
    bad_b, good_b = delong_placements(scores_b, is_defective)
    auc_a, auc_b = float(bad_a.mean()), float(bad_b.mean())
    difference = float(bad_b.mean() - bad_a.mean())
    spread = 1.96 * sqrt(delong_variance(bad_b - bad_a, good_b - good_a))
    if clusters is not None:
        spread = auc_spread((bad_b - bad_a, good_b - good_a), is_defective, clusters)
    groups = np.arange(len(is_defective)) if clusters is None else clusters
    unproved = (
        1
        - newcombe_interval(
            1.0, count_clusters(groups[is_defective]), count_clusters(groups[~is_defective])
        )[0]
    )
    low, high = difference_interval(difference - spread, difference + spread, unproved)
    return PairedDifference("AUC", auc_a, auc_b, difference, low, high)
