"""Recall against the defect's area: from which size on are defects found?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate

TARGET_RECALL = 0.9
"""Recall that counts as reliable."""
MIN_DEFECTS = 20
"""Fewer say nothing about sizes."""
_BOOTSTRAP_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class SizeBin:
    """Defects of one range of areas, each twice as wide as the one before."""

    low_px: int
    high_px: int
    """Not included."""
    recall: Rate


@dataclass(frozen=True, slots=True)
class DetectionBySize:
    """Probability of detection over the area.

    Source: the logistic model in the logarithm of size, and a90, are those of
    MIL-HDBK-1823A; the interval is a bootstrap over pictures, since the regions of one
    picture share its fate.
    """

    what: str
    """What is counted: `regions` or `pictures`."""
    bins: tuple[SizeBin, ...]
    a90_px: float | None
    """Area found with 90 % probability by the fitted curve; None where it never gets there
    within the sizes of this set."""
    a90_low_px: float | None
    a90_high_px: float | None
    """95 % interval; None at the top where some resamplings never get there."""
    below_all: bool
    """True if even the smallest size of this set is found with 90 %; `a90_px` is then that size."""
    curve: tuple[tuple[float, float], ...]
    """(area px, probability) along the fitted curve."""


def recall_by_size(
    areas_px: Sequence[int], found: Sequence[bool], groups: Sequence[int], what: str, seed: int = 1
) -> DetectionBySize | None:
    """Recall by area.

    Args:
        areas_px: (N,), at least 1 each.
        found: (N,).
        groups: (N,): the picture each belongs to.
        what: For the report.
        seed: Of the bootstrap.

    Returns:
        None with fewer than `LEAST_DEFECTS`.
    """
    if len(areas_px) < MIN_DEFECTS:
        return None
    area, hit = np.asarray(areas_px, np.int64), np.asarray(found, np.bool_)
    x = np.log2(area.astype(np.float64))
    weights = _bootstrap_weights(np.asarray(groups), seed)
    lines = _fit_logistic(x, hit, weights)
    spread = _log2_a90(lines, x)
    middle = float(spread[0])
    ordered = np.sort(spread[1:])
    low = float(ordered[int(0.025 * len(ordered))])
    high = float(ordered[min(len(ordered) - 1, int(0.975 * len(ordered)))])
    grid = np.linspace(x.min(), x.max(), 60)
    fitted = _sigmoid(lines[0, 0] + lines[0, 1] * (grid - x.mean()))
    return DetectionBySize(
        what=what,
        bins=_bins(area, hit),
        a90_px=None if np.isinf(middle) else float(2**middle),
        a90_low_px=None if np.isinf(low) else float(2**low),
        a90_high_px=None if np.isinf(high) else float(2**high),
        below_all=bool(middle <= x.min()),
        curve=tuple((float(2**u), float(p)) for u, p in zip(grid, fitted, strict=True)),
    )


def _bins(area: NDArray[np.int64], hit: NDArray[np.bool_]) -> tuple[SizeBin, ...]:
    power = np.floor(np.log2(area)).astype(int)
    return tuple(
        SizeBin(
            2 ** int(each),
            2 ** (int(each) + 1),
            estimate_rate(int(hit[power == each].sum()), int(total)),
        )
        for each, total in zip(*np.unique(power, return_counts=True), strict=True)
    )


def _bootstrap_weights(groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """(rounds + 1, N): row 0 is the set itself, the others draw whole pictures."""
    _names, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), _BOOTSTRAP_ROUNDS)[:, place]
    return np.concatenate([np.ones((1, len(groups))), drawn])


def _fit_logistic(
    x: NDArray[np.float64], hit: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(rounds, 2): offset and slope of a logistic line over x less its mean, by Newton.

    A weak pull to zero keeps a set without a miss, or cleanly divided, finite.
    """
    u = x - x.mean()
    lines = np.zeros((len(weights), 2))
    pull = 0.01
    for _ in range(40):
        guess = _sigmoid(lines[:, :1] + lines[:, 1:] * u)
        error = weights * (guess - hit)
        curved = weights * guess * (1 - guess)
        g0, g1 = error.sum(1) + pull * lines[:, 0], error @ u + pull * lines[:, 1]
        h00, h01, h11 = curved.sum(1) + pull, curved @ u, curved @ (u * u) + pull
        under = h00 * h11 - h01 * h01
        step = np.stack([(h11 * g0 - h01 * g1) / under, (h00 * g1 - h01 * g0) / under], axis=1)
        step *= np.minimum(1.0, 2.0 / np.maximum(1e-12, np.abs(step).max(1)))[:, None]
        lines -= step
        if np.abs(step).max() < 1e-8:
            break
    return lines


def _log2_a90(lines: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rounds,) log2 of the area at which each line reaches `WANTED`; infinite if never."""
    logit = np.log(TARGET_RECALL / (1 - TARGET_RECALL))
    offset, slope = lines[:, 0], lines[:, 1]
    rising = slope > 1e-6
    at = np.where(rising, (logit - offset) / np.where(rising, slope, 1.0) + x.mean(), np.inf)
    at = np.where(~rising & (offset >= logit), x.min(), at)
    at = np.where(at > x.max(), np.inf, at)
    out: NDArray[np.float64] = np.maximum(at, x.min())
    return out


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))
    return out
