"""A fixed-size histogram of the magnitudes of one tensor over any number of frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 4096
MIN_TOP = 2.0**-60
"""Minimum of `top`: smaller tensors are rounding noise."""
Counts = NDArray[np.int64]


@dataclass(slots=True)
class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to `top`. Not thread-safe.

    `top` is a power of two and doubles when a larger value arrives: neighbouring bins are merged,
    so the counts equal those of a single pass with the final `top`.
    """

    top: float = 0.0
    """0 until the first nonzero value."""
    low: float = float("inf")
    """Smallest signed value."""
    high: float = float("-inf")
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def max_abs(self) -> float:
        """Largest magnitude; 0 if empty."""
        return max(abs(self.low), abs(self.high)) if self.high >= self.low else 0.0

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one frame.

        Raises:
            ValueError: One is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a value is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow()
        magnitudes = np.abs(values.ravel())
        if self.top:
            # A power of two: the product is exact, so all frames are binned alike.
            magnitudes *= np.float32(BINS / self.top)
        places = np.minimum(magnitudes.astype(np.int32), BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)

    def _grow(self) -> None:
        reach = self.max_abs
        if reach == 0:
            return
        if self.top == 0:
            self.top = max(MIN_TOP, float(2.0 ** np.ceil(np.log2(reach))))
            return
        while reach > self.top:
            folded = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([folded, np.zeros(BINS // 2, np.int64)])
            self.top *= 2
