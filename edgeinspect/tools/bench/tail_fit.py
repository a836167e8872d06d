"""How often would a million frames miss the budget, after a few thousand were seen?

What was seen cannot answer: with no miss in n frames the rate of misses may still be 3/n.
The answer takes a model of the tail: the excesses over a high threshold follow a
generalised Pareto distribution, fitted here by probability-weighted moments; its spread
comes from resampling. It holds as long as the machine stays as it was while it was
measured, and says nothing of what happens once a night.

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
"""Above it the fit has no finite variance, and a few samples decide everything."""

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TailEstimate:
    """The latency that one frame in a million exceeds, as projected from fewer."""

    frames: int
    """Frames it is reckoned from."""
    latency_us: float
    upper_us: float
    """95 of 100 such measurements would put it below this."""


def estimate_tail(latency_us: Times, one_in: int = 1_000_000, seed: int = 1) -> TailEstimate:
    """Project the latency that one frame in `one_in` exceeds.

    Args:
        latency_us: At least 800 frames, of one load.
        one_in: Frames.
        seed: Of the resampling.

    Raises:
        ValueError: Too few frames.
    """
    if len(latency_us) * _TAIL_RATIO < _MIN_EXCESSES:
        raise ValueError(f"{len(latency_us)} frames are too few to project from")
    values = latency_us.astype(np.float64)
    rng = np.random.default_rng(seed)
    again = [
        _extreme_quantile(rng.choice(values, len(values), replace=True), one_in)
        for _ in range(_RESAMPLES)
    ]
    return TailEstimate(
        len(values), _extreme_quantile(values, one_in), float(np.quantile(again, 0.95))
    )


def _extreme_quantile(values: NDArray[np.float64], one_in: int) -> float:
    """The quantile 1 - 1/one_in by the fitted tail, never below what was seen."""
    ordered = np.sort(values)
    over = max(_MIN_EXCESSES, int(len(ordered) * _TAIL_RATIO))
    threshold = float(ordered[-over - 1])
    scale, shape = fit_tail(ordered[-over:] - threshold)
    if scale <= 0:
        return float(ordered[-1])
    share = over / len(ordered) * one_in
    grown = np.log(share) if abs(shape) < 1e-6 else (share**shape - 1) / shape
    return max(float(threshold + scale * grown), float(ordered[-1]))


def fit_tail(excess: NDArray[np.float64]) -> tuple[float, float]:
    """(scale, shape) of the generalised Pareto distribution of positive excesses.

    The shape is kept from 0, an exponential tail, to 0.5: a latency is not bounded above by
    anything that the fit could know of.
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
