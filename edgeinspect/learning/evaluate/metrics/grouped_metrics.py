"""The metrics of an evaluation with intervals over groups of images instead of single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.area_intervals import auc_interval, bootstrap_interval
from edgeinspect.learning.evaluate.metrics.clusters import (
    Clusters,
    auc_spread,
    cluster_rate,
    count_clusters,
    resample_clusters,
)
from edgeinspect.learning.evaluate.metrics.decisions import DecisionMetrics
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis, delong_placements

_ROUNDS = 1000
_ROUNDS_PER_BATCH = 100


@dataclass(frozen=True, slots=True)
class OverlapInterval:
    """95 % intervals of mean IoU and mean Dice: a bootstrap over images, or over groups.

    Not narrower than Wilson's over as many faultless images, or groups, with a pixel of a class.
    """

    miou_low: float
    miou_high: float
    mean_dice_low: float
    mean_dice_high: float


def regroup_decisions(
    decisions: DecisionMetrics, results: Sequence[FrameResult], clusters: Clusters
) -> DecisionMetrics:
    """Return the same counts and rates, with intervals over groups."""
    bad = np.array([one.is_defective for one in results], np.bool_)
    rejected = np.array([one.is_rejected for one in results], np.bool_)
    return replace(
        decisions,
        accuracy=cluster_rate(bad == rejected, clusters),
        precision=cluster_rate(bad[rejected], clusters[rejected]),
        recall=cluster_rate(rejected[bad], clusters[bad]),
        escape=cluster_rate(~rejected[bad], clusters[bad]),
        overkill=cluster_rate(rejected[~bad], clusters[~bad]),
    )


def regroup_roc(
    roc: RocAnalysis | None,
    scores: NDArray[np.float64],
    defective: NDArray[np.bool_],
    clusters: Clusters,
) -> RocAnalysis | None:
    """Return the same curve and areas, with intervals over groups."""
    if roc is None:
        return None
    placements = delong_placements(scores, defective)
    spread = auc_spread(placements, defective, clusters)
    recall_at = tuple(
        replace(at, recall=cluster_rate(scores[defective] > at.threshold, clusters[defective]))
        for at in roc.recall_at
    )
    low, high = auc_interval(
        roc.auc, spread, *(count_clusters(clusters[kind]) for kind in (defective, ~defective))
    )
    return replace(
        roc,
        # Few images have a wide interval of their own, which groups do not narrow.
        auc_low=min(low, roc.auc_low),
        auc_high=max(high, roc.auc_high),
        recall_at=recall_at,
    )


def overlap_interval(
    results: Sequence[FrameResult], clusters: Clusters | None, seed: int
) -> OverlapInterval | None:
    """Return intervals of mean IoU and mean Dice; None without masks or labelled defects.

    The means are over the classes that the whole set has, as in `measure_segmentation`.
    """
    confusions = [one.confusion for one in results if one.confusion is not None]
    if not confusions or len(confusions) != len(results):
        return None
    each = np.stack(confusions)
    counts = np.stack([np.diagonal(each, axis1=1, axis2=2), each.sum(2), each.sum(1)], axis=1)
    _hit, true, predicted = counts.sum(0)
    if not true[1:].any():
        return None
    shown = true + predicted > 0
    groups = np.arange(len(results)) if clusters is None else clusters
    if len(np.unique(groups)) < 2:
        return OverlapInterval(0.0, 1.0, 0.0, 1.0)
    rng = np.random.default_rng(seed)
    whole = counts.sum(0, dtype=np.float64)[None]  # row 0: the set itself
    sums = np.concatenate(
        [
            whole,
            *(
                resample_clusters(counts.astype(np.float64), groups, _ROUNDS_PER_BATCH, rng)
                for _ in range(_ROUNDS // _ROUNDS_PER_BATCH)
            ),
        ]
    )[:, :, shown]
    hit, true_px, predicted_px = sums[:, 0], sums[:, 1], sums[:, 2]  # (rounds, classes)
    either = true_px + predicted_px
    drawn = either > 0  # a class may be in no drawn group
    iou = _row_means(hit / np.maximum(1, either - hit), drawn)
    dice = _row_means(2 * hit / np.maximum(1, either), drawn & (np.flatnonzero(shown) > 0))
    # An image without a pixel of a class, true or found, says nothing of the classes' overlap.
    count = count_clusters(groups[counts[:, 1:, 1:].any(axis=(1, 2))])
    ends: list[float] = []
    for values in (iou, dice):
        low, high = np.quantile(values[1:], (0.025, 0.975)).tolist()
        ends += bootstrap_interval(float(values[0]), low, high, count)
    return OverlapInterval(*ends)


def _row_means(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of the counted values of each row; 0 in a row without one."""
    return np.asarray(
        np.where(counted, values, 0.0).sum(axis=1) / np.maximum(1, counted.sum(axis=1)), np.float64
    )
