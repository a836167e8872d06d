"""Estimate of the latency that one frame in a million exceeds, from a few thousand frames.

Without a miss in n frames the miss rate may still be 3/n, so the answer needs a model of the
tail: the excesses over a high threshold follow a generalised Pareto distribution, fitted here
by probability-weighted moments, with an interval by resampling. The estimate is valid only as
long as the machine stays as it was during the measurement; it does not cover rare events.

Source: Hosking and Wallis, Technometrics 29 (1987), 339; Coles, An Introduction to
Statistical Modeling of Extreme Values (2001), chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TAIL_RATIO = 0.05
_MIN_EXCESSES = 40
_RESAMPLES = 200
_SHAPE_MAX = 0.5
"""Above it the fit has no finite variance, and a few samples dominate it."""

TimesUs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TailEstimate:
    """Estimated latency that one frame in a million exceeds."""

    frames: int
    """Number of frames that the estimate is computed from."""
    latency_us: float
    upper_us: float
    """Upper limit of the 95 % interval."""


def estimate_tail(latency_us: TimesUs, one_in: int = 1_000_000, seed: int = 1) -> TailEstimate:
    """Estimate the latency that one frame in `one_in` exceeds.

    Args:
        latency_us: At least 800 frames at one rate.
        one_in: Number of frames.
        seed: Seed of the resampling.

    Raises:
        ValueError: Too few frames.
    """
    if len(latency_us) * _TAIL_RATIO < _MIN_EXCESSES:
        raise ValueError(f"{len(latency_us)} frames are too few for an estimate")
    values = latency_us.astype(np.float64)
    rng = np.random.default_rng(seed)
    resampled = [
        _extreme_quantile(rng.choice(values, len(values), replace=True), one_in)
        for _ in range(_RESAMPLES)
    ]
    return TailEstimate(
        len(values), _extreme_quantile(values, one_in), float(np.quantile(resampled, 0.95))
    )


def _extreme_quantile(values: NDArray[np.float64], one_in: int) -> float:
    """Return the quantile 1 - 1/one_in by the fitted tail, at least the largest value seen."""
    ordered = np.sort(values)
    excess_count = max(_MIN_EXCESSES, int(len(ordered) * _TAIL_RATIO))
    threshold = float(ordered[-excess_count - 1])
    scale, shape = fit_tail(ordered[-excess_count:] - threshold)
    if scale <= 0:
        return float(ordered[-1])
    expected_excesses = excess_count / len(ordered) * one_in
    growth = (
        np.log(expected_excesses) if abs(shape) < 1e-6 else (expected_excesses**shape - 1) / shape
    )
    return max(float(threshold + scale * growth), float(ordered[-1]))


def fit_tail(excess: NDArray[np.float64]) -> tuple[float, float]:
    """Return (scale, shape) of the generalised Pareto distribution of positive excesses.

    The shape is limited to 0 (an exponential tail) to 0.5: a latency has no upper bound that
    the fit could estimate.
    """
    ordered = np.sort(excess)
    count = len(ordered)
    mean = float(ordered.mean())
    rank = (np.arange(1, count + 1) - 0.35) / count
    weighted = float(((1 - rank) * ordered).mean())
    if mean <= 0 or mean <= 2 * weighted:
        return mean, 0.0
    shape = 2 - mean / (mean - 2 * weighted)
    # Hosking and Wallis write the shape with the other sign.
    shape = min(max(shape, 0.0), _SHAPE_MAX)
    return mean * (1 - shape), shape
