"""Magnitudes of one tensor over any number of frames, in a histogram of fixed size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 4096
MIN_TOP = 2.0**-60
"""Below this all is one bin: a tensor so small is nothing but rounding."""
Counts = NDArray[np.int64]


@dataclass(slots=True)
class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to `top`. Not thread-safe.

    `top` is a power of two and doubles when a larger value comes: neighbouring bins are
    then added, so the counts are those that one pass with the final top would give, and no
    second pass is needed.
    """

    top: float = 0.0
    """0 until the first value above 0."""
    low: float = float("inf")
    """Smallest value, with its sign."""
    high: float = float("-inf")
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def max_abs(self) -> float:
        """Largest magnitude seen; 0 if nothing was."""
        return max(abs(self.low), abs(self.high)) if self.high >= self.low else 0.0

    @property
    def total(self) -> int:
        """How many values were counted."""
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
            # A power of two: the product is exact, so every frame is binned alike.
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
