"""Differences between two models on the same pictures, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult

_ROUNDS_PER_BATCH = 100


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A figure of both, and B less A with its 95 % interval."""

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DiscordantPairs:
    """Errors of one kind (escapes or overkills), paired by picture."""

    pictures: int
    """Pictures on which such an error is possible."""
    only_a: int
    """A errs, B does not."""
    only_b: int
    both: int
    p_value: float
    """McNemar's exact test, two-sided: as likely by chance if A and B were equally good."""
    rate: PairedDifference
    """Error rates; the interval after Agresti and Min 2005, wider than 0 without a flip."""


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that two paired error rates are equal (binomial, half and half)."""
    flipped, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(flipped, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / (1 << flipped)))


def compare_errors(
    name: str, error_a: NDArray[np.bool_], error_b: NDArray[np.bool_]
) -> DiscordantPairs:
    """Errors of A and B on the same pictures, (N,) each."""
    only_a, only_b = int((error_a & ~error_b).sum()), int((~error_a & error_b).sum())
    total = len(error_a)
    # Half a flip more each way keeps the interval honest where none was seen.
    more, fewer, size = only_b + 0.5, only_a + 0.5, total + 2
    centre = (more - fewer) / size
    spread = 1.96 * sqrt(max(0.0, more + fewer - (more - fewer) ** 2 / size)) / size
    rate = PairedDifference(
        name,
        float(error_a.mean()),
        float(error_b.mean()),
        float(error_b.mean() - error_a.mean()),
        max(-1.0, centre - spread),
        min(1.0, centre + spread),
    )
    both = int((error_a & error_b).sum())
    return DiscordantPairs(total, only_a, only_b, both, mcnemar_p_value(only_a, only_b), rate)


def compare_overlap(
    results_a: Sequence[FrameResult],
    results_b: Sequence[FrameResult],
    classes: Sequence[str],
    seed: int,
    rounds: int,
) -> tuple[tuple[PairedDifference, ...], tuple[PairedDifference, ...]]:
    """Dice and IoU of both, with intervals from one bootstrap over the pictures."""
    counts = [_pixel_counts(side) for side in (results_a, results_b)]
    if counts[0] is None or counts[1] is None:
        return (), ()
    pair = np.stack([counts[0], counts[1]], axis=1)  # (N, 2, 3, K+1)
    number = len(pair)
    flat = pair.reshape(number, -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    drawn = [
        rng.multinomial(number, np.full(number, 1 / number), _ROUNDS_PER_BATCH) @ flat
        for _ in range(max(1, rounds // _ROUNDS_PER_BATCH))
    ]
    every = np.concatenate([flat.sum(0)[None], *drawn]).reshape(-1, *pair.shape[1:])
    hit, true, found = every[:, :, 0], every[:, :, 1], every[:, :, 2]  # (R+1, 2, K+1)
    dice = 2 * hit / np.maximum(1, true + found)
    iou = hit / np.maximum(1, true + found - hit)
    return (
        _bootstrap_differences(dice[:, :, 1:], list(classes)),
        _bootstrap_differences(iou, ["background", *classes]),
    )


def _bootstrap_differences(
    values: NDArray[np.float64], names: Sequence[str]
) -> tuple[PairedDifference, ...]:
    """Row 0 is the whole set, the others are resamplings; (R+1, 2, names)."""
    values = np.concatenate([values, values.mean(axis=2, keepdims=True)], axis=2)
    change = values[:, 1] - values[:, 0]
    low, high = np.quantile(change[1:], (0.025, 0.975), axis=0)
    return tuple(
        PairedDifference(
            name,
            float(values[0, 0, k]),
            float(values[0, 1, k]),
            float(change[0, k]),
            float(low[k]),
            float(high[k]),
        )
        for k, name in enumerate([*names, "mean"])
    )


def _pixel_counts(side: Sequence[FrameResult]) -> NDArray[np.int64] | None:
    """(N, 3, K+1): pixels hit, true and found."""
    cells = [one.confusion for one in side if one.confusion is not None]
    if len(cells) != len(side):
        return None
    whole = np.stack(cells)
    return np.stack([np.diagonal(whole, axis1=1, axis2=2), whole.sum(2), whole.sum(1)], axis=1)


def delong_placements(
    scores: NDArray[np.float64], is_defective: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each defective picture's share of sound ones below it, each sound one's of those above.

    A tie counts half. The mean of either is the area under the ROC curve.
    """
    high, low = scores[is_defective], scores[~is_defective]
    order_low, order_high = np.sort(low), np.sort(high)
    below = np.searchsorted(order_low, high, "left") + np.searchsorted(order_low, high, "right")
    under = np.searchsorted(order_high, low, "left") + np.searchsorted(order_high, low, "right")
    return below / (2 * len(low)), 1 - under / (2 * len(high))


def compare_auc(
    scores_a: NDArray[np.float64], scores_b: NDArray[np.float64], is_defective: NDArray[np.bool_]
) -> PairedDifference | None:
    """Area under the ROC curve of both, paired; None with fewer than two of a kind.

    Source: DeLong, DeLong and Clarke-Pearson 1988
    """
    if min(is_defective.sum(), (~is_defective).sum()) < 2:
        return None
    (high_a, low_a), (high_b, low_b) = (
        delong_placements(scores_a, is_defective),
        delong_placements(scores_b, is_defective),
    )
    change = float(high_b.mean() - high_a.mean())
    variance = np.var(high_b - high_a, ddof=1) / len(high_a) + np.var(low_b - low_a, ddof=1) / len(
        low_a
    )
    spread = 1.96 * sqrt(float(variance))
    return PairedDifference(
        "AUC", float(high_a.mean()), float(high_b.mean()), change, change - spread, change + spread
    )
