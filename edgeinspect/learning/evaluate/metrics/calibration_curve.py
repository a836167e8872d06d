"""Calibration of a probability: reliability curve, ECE, Brier score and Platt scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate

BIN_COUNT = 10
_MIN_PROB = 1e-6
"""Probabilities are clipped to this distance from 0 and 1 for their logit."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images whose probability is between `low` and `high`."""

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
        """Return the corrected probabilities."""
        return sigmoid(self.slope * _logit(probs) + self.offset)


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Predicted probabilities against the observed share of defective images."""

    bins: tuple[ReliabilityBin, ...]
    """Without empty ones."""
    ece: float
    """Expected calibration error over ten equal bins."""
    brier: float
    platt: PlattScaling
    ece_after_platt: float
    """On images that the scaling was not fitted on (two-fold)."""


def measure_reliability(
    probs: NDArray[np.float64], defective: NDArray[np.bool_], seed: int = 1
) -> ReliabilityCurve | None:
    """Measure the calibration; None with fewer than two good or two defective images.

    Args:
        probs: (N,), 0 to 1.
        defective: (N,).
        seed: Of the two folds for `ece_after_platt`.
    """
    if min(defective.sum(), (~defective).sum()) < 2:
        return None
    corrected = np.empty_like(probs)
    half = _stratified_half(defective, seed)
    for fold in (half, ~half):
        corrected[fold] = fit_platt_scaling(probs[~fold], defective[~fold])(probs[fold])
    return ReliabilityCurve(
        bins=_reliability_bins(probs, defective),
        ece=expected_calibration_error(probs, defective),
        brier=float(np.mean((probs - defective) ** 2)),
        platt=fit_platt_scaling(probs, defective),
        ece_after_platt=expected_calibration_error(corrected, defective),
    )


def expected_calibration_error(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
    """Return the mean distance of probability and share in the bins, weighted by their images."""
    return float(
        sum(
            each.defective.total / len(probs) * abs((each.defective.value or 0.0) - each.mean_prob)
            for each in _reliability_bins(probs, defective)
        )
    )


def fit_platt_scaling(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> PlattScaling:
    """Fit slope and offset to Platt's smoothed targets, by Newton with backtracking.

    Source: Platt 1999; Lin, Lin and Weng 2007
    """
    bad = int(defective.sum())
    good = len(defective) - bad
    target = np.where(defective, (bad + 1) / (bad + 2), 1 / (good + 2))
    columns = np.stack([_logit(probs), np.ones(len(probs))])  # (2, N)
    weights = np.array([1.0, 0.0])
    loss = _log_loss(weights @ columns, target)
    for _ in range(100):
        predicted = sigmoid(weights @ columns)
        gradient = columns @ (predicted - target)
        hessian = (columns * (predicted * (1 - predicted))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A full step overshoots where saturated probabilities make the Hessian flat.
        while (new_loss := _log_loss((weights - step) @ columns, target)) > loss:
            step /= 2
            if np.abs(step).max() < 1e-12:
                break
        else:
            weights, loss = weights - step, new_loss
        if np.abs(step).max() < 1e-9:
            break
    return PlattScaling(float(weights[0]), float(weights[1]))


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function, without overflow."""
    out: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))
    return out


def _logit(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probs, _MIN_PROB, 1 - _MIN_PROB)
    out: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return out


def _log_loss(logits: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Cross-entropy of sigmoid(logits), finite for saturated values."""
    return float(np.sum(np.logaddexp(0.0, logits) - target * logits))


def _reliability_bins(
    probs: NDArray[np.float64], defective: NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    index = np.minimum((probs * BIN_COUNT).astype(int), BIN_COUNT - 1)
    bins = []
    for number in np.unique(index).tolist():
        inside = index == number
        share = estimate_rate(int(defective[inside].sum()), int(inside.sum()))
        low, high = number / BIN_COUNT, (number + 1) / BIN_COUNT
        bins.append(ReliabilityBin(low, high, float(probs[inside].mean()), share))
    return tuple(bins)


def _stratified_half(defective: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Select half of the defective and half of the good images at random."""
    rng = np.random.default_rng(seed)
    half = np.zeros(len(defective), np.bool_)
    for kind in (defective, ~defective):
        indices = rng.permutation(np.flatnonzero(kind))
        half[indices[: len(indices) // 2]] = True
    return half
