"""Recall as a function of the defect's area (probability of detection)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.calibration_curve import sigmoid
from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate

TARGET_RECALL = 0.9
"""Recall that counts as reliable."""
MIN_DEFECTS = 20
"""Fewer do not support a statement on sizes."""
_BOOTSTRAP_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class SizeBin:
    """Recall of the defects in a range of areas; each range is twice as wide as the one before."""

    low_px: int
    high_px: int
    """Exclusive."""
    recall: Rate


@dataclass(frozen=True, slots=True)
class DetectionBySize:
    """Probability of detection as a function of area.

    Source: MIL-HDBK-1823A (logistic model in the logarithm of size, a90); the interval is a
    bootstrap over images, since the regions of one image are not independent.
    """

    what: str
    """What is counted: `regions` or `pictures`."""
    bins: tuple[SizeBin, ...]
    a90_px: float | None
    """Area found with 90 % probability by the fitted curve; None where the curve does not
    reach 90 % within the sizes of this set."""
    a90_low_px: float | None
    a90_high_px: float | None
    """95 % interval; None where resamplings do not reach 90 %."""
    below_all: bool
    """True if even the smallest size of this set is found with 90 %; `a90_px` is then that size."""
    curve: tuple[tuple[float, float], ...]
    """(area px, probability) along the fitted curve."""


def recall_by_size(
    areas_px: Sequence[int], found: Sequence[bool], groups: Sequence[int], what: str, seed: int = 1
) -> DetectionBySize | None:
    """Compute the recall by area; None with fewer than `MIN_DEFECTS`.

    Args:
        areas_px: (N,), at least 1 each.
        found: (N,).
        groups: (N,): the image of each.
        what: See `DetectionBySize.what`.
        seed: Of the bootstrap.
    """
    if len(areas_px) < MIN_DEFECTS:
        return None
    area, hit = np.asarray(areas_px, np.int64), np.asarray(found, np.bool_)
    x = np.log2(area.astype(np.float64))
    lines = _fit_logistic(x, hit, _bootstrap_weights(np.asarray(groups), seed))
    log2_a90 = _log2_a90(lines, x)
    middle = float(log2_a90[0])
    resampled = np.sort(log2_a90[1:])
    low = float(resampled[int(0.025 * len(resampled))])
    high = float(resampled[min(len(resampled) - 1, int(0.975 * len(resampled)))])
    grid = np.linspace(x.min(), x.max(), 60)
    fitted = sigmoid(lines[0, 0] + lines[0, 1] * (grid - x.mean()))
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
    powers = np.floor(np.log2(area)).astype(int)
    bins = []
    for power in np.unique(powers).tolist():
        inside = hit[powers == power]
        recall = estimate_rate(int(inside.sum()), len(inside))
        bins.append(SizeBin(2**power, 2 ** (power + 1), recall))
    return tuple(bins)


def _bootstrap_weights(groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return (rounds + 1, N): row 0 is the set itself, the others draw whole images."""
    _names, group_index = np.unique(groups, return_inverse=True)
    count = int(group_index.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), _BOOTSTRAP_ROUNDS)[:, group_index]
    return np.concatenate([np.ones((1, len(groups))), drawn])


def _fit_logistic(
    x: NDArray[np.float64], hit: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit (rounds, 2): offset and slope of a logistic line over x minus its mean, by Newton.

    A weak L2 penalty keeps the fit of a separable set finite.
    """
    u = x - x.mean()
    lines = np.zeros((len(weights), 2))
    penalty = 0.01
    for _ in range(40):
        prob = sigmoid(lines[:, :1] + lines[:, 1:] * u)
        error = weights * (prob - hit)
        curvature = weights * prob * (1 - prob)
        g0, g1 = error.sum(1) + penalty * lines[:, 0], error @ u + penalty * lines[:, 1]
        h00, h01 = curvature.sum(1) + penalty, curvature @ u
        h11 = curvature @ (u * u) + penalty
        determinant = h00 * h11 - h01 * h01
        step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / determinant[:, None]
        step *= np.minimum(1.0, 2.0 / np.maximum(1e-12, np.abs(step).max(1)))[:, None]
        lines -= step
        if np.abs(step).max() < 1e-8:
            break
    return lines


def _log2_a90(lines: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (rounds,) log2 of the area at which each line reaches the target; inf if never."""
    logit = np.log(TARGET_RECALL / (1 - TARGET_RECALL))
    offset, slope = lines[:, 0], lines[:, 1]
    is_rising = slope > 1e-6
    at = np.where(is_rising, (logit - offset) / np.where(is_rising, slope, 1.0) + x.mean(), np.inf)
    at = np.where(~is_rising & (offset >= logit), x.min(), at)
    at = np.where(at > x.max(), np.inf, at)
    out: NDArray[np.float64] = np.maximum(at, x.min())
    return out
