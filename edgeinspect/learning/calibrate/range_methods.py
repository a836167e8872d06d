"""Clip values from histograms of magnitudes, by four methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.calibrate.histogram import BINS, Histogram

METHODS = ("minmax", "percentile", "entropy", "mse")
PERCENTILE = 99.99
LEVELS = 128
"""Distinct magnitudes of symmetric int8, including 0."""
_MAX_CANDIDATES = 160
_MIN_CLIP_RATIO = 0.02
"""Minimum ratio of a clip value to the largest magnitude."""


def clip_value(histogram: Histogram, method: str) -> float:
    """Return the magnitude that 127 represents; 0 for a tensor of zeros.

    Args:
        histogram: Histogram of one tensor.
        method: `minmax`: the largest magnitude. `percentile`: 99.99 % of the values. `entropy`:
            the clip whose 128 levels diverge least from the distribution (Kullback-Leibler, as
            in TensorRT's calibrator). `mse`: the clip with the smallest squared error.
    """
    seen = histogram.max_abs
    if seen == 0 or histogram.total == 0:
        return 0.0
    if method == "minmax":
        return seen
    chosen = {"percentile": _percentile_clip, "entropy": _entropy_clip, "mse": _mse_clip}[method](
        histogram
    )
    return float(min(seen, max(chosen, seen * _MIN_CLIP_RATIO)))


def _percentile_clip(histogram: Histogram) -> float:
    share = np.cumsum(histogram.counts) / histogram.total
    place = int(np.searchsorted(share, PERCENTILE / 100))
    return (place + 1) * histogram.top / BINS


def _used_bins(histogram: Histogram) -> int:
    """Return the number of bins up to the largest value."""
    return int(np.flatnonzero(histogram.counts)[-1]) + 1


def _clip_candidates(histogram: Histogram, min_bins: int) -> NDArray[np.int64]:
    """Return clip candidates in bins, ascending to the last used bin."""
    used = _used_bins(histogram)
    first = min(used, max(min_bins, int(used * _MIN_CLIP_RATIO)))
    return np.unique(np.linspace(first, used, _MAX_CANDIDATES).round().astype(np.int64))


def _mse_clip(histogram: Histogram) -> float:
    width = histogram.top / BINS
    centres = (np.arange(BINS) + 0.5) * width
    weights = histogram.counts.astype(np.float64)
    best, chosen = np.inf, histogram.max_abs
    for bins in _clip_candidates(histogram, 1)[::-1]:
        limit = min(histogram.max_abs, float(bins) * width)
        step = limit / (LEVELS - 1)
        rounded = np.minimum(np.rint(centres / step), LEVELS - 1) * step
        error = float(weights @ (centres - rounded) ** 2)
        if error < best:  # of equal ones the widest, which is first
            best, chosen = error, limit
    return chosen


def _entropy_clip(histogram: Histogram) -> float:
    counts = histogram.counts.astype(np.float64)
    # The first bin has the exact zeros of ReLUs, which any scale represents: ignore them.
    counts[0] = counts[1]
    total = counts.sum()
    if total == 0:
        return histogram.max_abs
    best, chosen = np.inf, histogram.max_abs
    for bins in _clip_candidates(histogram, LEVELS)[::-1]:
        divergence = _divergence(counts, int(bins))
        if divergence < best:
            best, chosen = divergence, float(bins) * histogram.top / BINS
    return chosen


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """Return the divergence of the clipped distribution from its 128-level quantization."""
    true = counts[:bins].copy()
    true[-1] += counts[bins:].sum()
    group = np.minimum(np.arange(bins) * LEVELS // bins, LEVELS - 1)
    filled = (counts[:bins] > 0).astype(np.float64)
    mass = np.bincount(group, counts[:bins], LEVELS)
    size = np.bincount(group, filled, LEVELS)
    image = np.where(filled > 0, (mass / np.maximum(size, 1))[group], 0.0)
    if not image.sum():
        return float("inf")
    true, image = true / true.sum(), image / image.sum()
    # Mass clipped into an empty bin costs a bounded amount instead of infinity.
    image = np.maximum(image, 1e-12)
    held = true > 0
    return float((true[held] * np.log(true[held] / image[held])).sum())
