"""Differences between two models on the same pictures, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.frame_results import Answer

_ROUNDS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both, and B less A with its 95 % interval."""

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Flips:
    """Errors of one kind (escapes or overkills), paired by picture."""

    pictures: int
    """Pictures on which such an error is possible."""
    only_a: int
    """A errs, B does not."""
    only_b: int
    both: int
    p_value: float
    """McNemar's exact test, two-sided: as likely by chance if A and B were equally good."""
    rate: Difference
    """Error rates; the interval after Agresti and Min 2005, wider than 0 without a flip."""


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that two paired error rates are equal (binomial, half and half)."""
    flipped, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(flipped, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / (1 << flipped)))


def flips(name: str, error_a: NDArray[np.bool_], error_b: NDArray[np.bool_]) -> Flips:
    """Errors of A and B on the same pictures, (N,) each."""
    only_a, only_b = int((error_a & ~error_b).sum()), int((~error_a & error_b).sum())
    total = len(error_a)
    # Half a flip more each way keeps the interval honest where none was seen.
    more, fewer, size = only_b + 0.5, only_a + 0.5, total + 2
    centre = (more - fewer) / size
    spread = 1.96 * sqrt(max(0.0, more + fewer - (more - fewer) ** 2 / size)) / size
    rate = Difference(
        name,
        float(error_a.mean()),
        float(error_b.mean()),
        float(error_b.mean() - error_a.mean()),
        max(-1.0, centre - spread),
        min(1.0, centre + spread),
    )
    both = int((error_a & error_b).sum())
    return Flips(total, only_a, only_b, both, mcnemar(only_a, only_b), rate)


def overlaps(
    mine: Sequence[Answer],
    theirs: Sequence[Answer],
    classes: Sequence[str],
    seed: int,
    rounds: int,
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Dice and IoU of both, with intervals from one bootstrap over the pictures."""
    counts = [_counts(side) for side in (mine, theirs)]
    if counts[0] is None or counts[1] is None:
        return (), ()
    pair = np.stack([counts[0], counts[1]], axis=1)  # (N, 2, 3, K+1)
    number = len(pair)
    flat = pair.reshape(number, -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    drawn = [
        rng.multinomial(number, np.full(number, 1 / number), _ROUNDS_AT_ONCE) @ flat
        for _ in range(max(1, rounds // _ROUNDS_AT_ONCE))
    ]
    every = np.concatenate([flat.sum(0)[None], *drawn]).reshape(-1, *pair.shape[1:])
    hit, true, found = every[:, :, 0], every[:, :, 1], every[:, :, 2]  # (R+1, 2, K+1)
    dice = 2 * hit / np.maximum(1, true + found)
    iou = hit / np.maximum(1, true + found - hit)
    return (
        _differences(dice[:, :, 1:], list(classes)),
        _differences(iou, ["background", *classes]),
    )


def _differences(values: NDArray[np.float64], names: Sequence[str]) -> tuple[Difference, ...]:
    """Row 0 is the whole set, the others are resamplings; (R+1, 2, names)."""
    values = np.concatenate([values, values.mean(axis=2, keepdims=True)], axis=2)
    change = values[:, 1] - values[:, 0]
    low, high = np.quantile(change[1:], (0.025, 0.975), axis=0)
    return tuple(
        Difference(
            name,
            float(values[0, 0, k]),
            float(values[0, 1, k]),
            float(change[0, k]),
            float(low[k]),
            float(high[k]),
        )
        for k, name in enumerate([*names, "mean"])
    )


def _counts(side: Sequence[Answer]) -> NDArray[np.int64] | None:
    """(N, 3, K+1): pixels hit, true and found."""
    cells = [one.cells for one in side if one.cells is not None]
    if len(cells) != len(side):
        return None
    whole = np.stack(cells)
    return np.stack([np.diagonal(whole, axis1=1, axis2=2), whole.sum(2), whole.sum(1)], axis=1)


def placements(
    rank: NDArray[np.float64], bad: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each defective picture's share of sound ones below it, each sound one's of those above.

    A tie counts half. The mean of either is the area under the ROC curve.
    """
    high, low = rank[bad], rank[~bad]
    order_low, order_high = np.sort(low), np.sort(high)
    below = np.searchsorted(order_low, high, "left") + np.searchsorted(order_low, high, "right")
    under = np.searchsorted(order_high, low, "left") + np.searchsorted(order_high, low, "right")
    return below / (2 * len(low)), 1 - under / (2 * len(high))


def auc_difference(
    rank_a: NDArray[np.float64], rank_b: NDArray[np.float64], bad: NDArray[np.bool_]
) -> Difference | None:
    """Area under the ROC curve of both, paired; None with fewer than two of a kind.

    Source: DeLong, DeLong and Clarke-Pearson 1988
    """
    if min(bad.sum(), (~bad).sum()) < 2:
        return None
    (high_a, low_a), (high_b, low_b) = placements(rank_a, bad), placements(rank_b, bad)
    change = float(high_b.mean() - high_a.mean())
    variance = np.var(high_b - high_a, ddof=1) / len(high_a) + np.var(low_b - low_a, ddof=1) / len(
        low_a
    )
    spread = 1.96 * sqrt(float(variance))
    return Difference(
        "AUC", float(high_a.mean()), float(high_b.mean()), change, change - spread, change + spread
    )
