"""Whether a probability means what it says: reliability curve, ECE, and Platt's correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate

BIN_COUNT = 10
_MIN_PROB = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pictures whose probability lies in one tenth."""

    low: float
    high: float
    mean_prob: float
    defective: Rate


@dataclass(frozen=True, slots=True)
class PlattScaling:
    """logit of the corrected probability = `slope` * logit + `offset`. Source: Platt 1999."""

    slope: float
    offset: float

    def __call__(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corrected probabilities."""
        return _sigmoid(self.slope * _logit(probs) + self.offset)


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """How probabilities compare with what came true, at this set's share of defective ones."""

    bins: tuple[ReliabilityBin, ...]
    """Without the empty ones."""
    ece: float
    """Expected calibration error over ten equal bins."""
    brier: float
    platt: PlattScaling
    ece_after_platt: float
    """On the half of the pictures that the correction was not fitted on, both ways round."""


def measure_reliability(
    probs: NDArray[np.float64], defective: NDArray[np.bool_], seed: int = 1
) -> ReliabilityCurve | None:
    """Calibration of the gate's probabilities; None unless both kinds are there.

    Args:
        probs: (N,), 0 to 1.
        defective: (N,).
        seed: Divides the pictures in two for `ece_after_platt`.
    """
    if min(defective.sum(), (~defective).sum()) < 2:
        return None
    corrected = np.empty_like(probs)
    half = _stratified_half(defective, seed)
    for mine in (half, ~half):
        corrected[mine] = fit_platt_scaling(probs[~mine], defective[~mine])(probs[mine])
    return ReliabilityCurve(
        bins=_reliability_bins(probs, defective),
        ece=expected_calibration_error(probs, defective),
        brier=float(np.mean((probs - defective) ** 2)),
        platt=fit_platt_scaling(probs, defective),
        ece_after_platt=expected_calibration_error(corrected, defective),
    )


def expected_calibration_error(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
    """ECE: the bins' distance between mean probability and share, weighted by their pictures."""
    return float(
        sum(
            each.defective.total / len(probs) * abs((each.defective.value or 0.0) - each.mean_prob)
            for each in _reliability_bins(probs, defective)
        )
    )


def fit_platt_scaling(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> PlattScaling:
    """Slope and offset by Newton's method with halved steps, on Platt's smoothed targets.

    Source: Platt 1999; Lin, Lin and Weng 2007
    """
    bad = int(defective.sum())
    good = len(defective) - bad
    target = np.where(defective, (bad + 1) / (bad + 2), 1 / (good + 2))
    columns = np.stack([_logit(probs), np.ones(len(probs))])  # (2, N)
    weights = np.array([1.0, 0.0])
    loss = _log_loss(weights @ columns, target)
    for _ in range(100):
        guess = _sigmoid(weights @ columns)
        slope = columns @ (guess - target)
        bend = (columns * (guess * (1 - guess))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        # Newton leaps past the minimum where saturated probabilities make the bend flat.
        while (now := _log_loss((weights - step) @ columns, target)) > loss:
            step /= 2
            if np.abs(step).max() < 1e-12:
                break
        else:
            weights, loss = weights - step, now
        if np.abs(step).max() < 1e-9:
            break
    return PlattScaling(float(weights[0]), float(weights[1]))


def _log_loss(values: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Of sigmoid(values), without ever taking the logarithm of 0."""
    return float(np.sum(np.logaddexp(0.0, values) - target * values))


def _reliability_bins(
    probs: NDArray[np.float64], defective: NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    index = np.minimum((probs * BIN_COUNT).astype(int), BIN_COUNT - 1)
    found = []
    for number in range(BIN_COUNT):
        mine = index == number
        if mine.any():
            share = estimate_rate(int(defective[mine].sum()), int(mine.sum()))
            mean = float(probs[mine].mean())
            found.append(ReliabilityBin(number / BIN_COUNT, (number + 1) / BIN_COUNT, mean, share))
    return tuple(found)


def _stratified_half(defective: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Half of the defective and half of the sound ones, drawn by seed."""
    rng = np.random.default_rng(seed)
    half = np.zeros(len(defective), np.bool_)
    for kind in (defective, ~defective):
        places = rng.permutation(np.flatnonzero(kind))
        half[places[: len(places) // 2]] = True
    return half


def _logit(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probs, _MIN_PROB, 1 - _MIN_PROB)
    out: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return out


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))
    return out
