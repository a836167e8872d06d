"""Latency histograms and running estimates: fixed memory, no allocation per sample."""

from __future__ import annotations

from array import array


class LatencyHistogram:
    """A log-linear histogram of µs values, exact to 1 part in 64 (HDR style).

    One thread records; others may read at any time.
    Source: Gil Tene's HdrHistogram, with 6 sub-bucket bits.
    """

    __slots__ = ("_counts", "count", "max_us", "min_us", "total_us")

    _SUB_BITS = 6
    _SUB = 1 << _SUB_BITS

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * self._SUB * 40))
        self.clear()

    def clear(self) -> None:
        """Remove all values."""
        for index in range(len(self._counts)):
            self._counts[index] = 0
        self.count = 0
        self.total_us = 0
        self.min_us = 0
        self.max_us = 0

    def record(self, value_us: int) -> None:
        """Add one value; a negative one counts as zero."""
        value_us = max(0, value_us)
        shift = max(0, value_us.bit_length() - self._SUB_BITS - 1)
        index = (shift << self._SUB_BITS) + (value_us >> shift)
        counts = self._counts
        counts[index if index < len(counts) else -1] += 1
        if not self.count or value_us < self.min_us:
            self.min_us = value_us
        if value_us > self.max_us:
            self.max_us = value_us
        self.count += 1
        self.total_us += value_us

    def quantile_us(self, ratio: float) -> int:
        """Return the value that `ratio` of the samples do not exceed; 0 without samples."""
        if not self.count:
            return 0
        rank = max(1, -(-int(ratio * self.count * 1_000_000) // 1_000_000))
        below = 0
        for index, count in enumerate(self._counts):
            below += count
            if count and below >= rank:
                return min(self._highest(index), self.max_us)
        return self.max_us

    def _highest(self, index: int) -> int:
        """Return the highest value of a bucket."""
        if index < 2 * self._SUB:
            return index
        shift = (index >> self._SUB_BITS) - 1
        return ((index - (shift << self._SUB_BITS)) << shift) + (1 << shift) - 1

    def summary(self) -> dict[str, int]:
        """Return `p50`, `p99`, `p999` and `max`, in µs."""
        return {
            "p50": self.quantile_us(0.50),
            "p99": self.quantile_us(0.99),
            "p999": self.quantile_us(0.999),
            "max": self.max_us,
        }


class LatencyEstimate:
    """Median and p99 of the recent times of a stage, to predict whether it fits the budget.

    A single outlier never counts: an engine that hung once is not slow. Not thread-safe; each
    worker has its own.
    """

    __slots__ = ("_added_count", "_recent", "p50_ns", "p99_ns")

    _WINDOW = 128
    _UPDATE_EVERY = 16

    def __init__(self) -> None:
        self._recent = array("q")
        self._added_count = 0
        self.p50_ns = 0
        """0 before the first measurement."""
        self.p99_ns = 0

    def add(self, value_ns: int) -> None:
        """Add one measured time."""
        recent = self._recent
        if len(recent) < self._WINDOW:
            recent.append(value_ns)
        else:
            recent[self._added_count % self._WINDOW] = value_ns
        self._added_count += 1
        if self._added_count % self._UPDATE_EVERY == 0 or len(recent) < self._UPDATE_EVERY:
            self._update()

    def decay(self) -> None:
        """Lower the estimate by a tenth, so that a stage that is always skipped is tried again."""
        recent = self._recent
        median = self.p50_ns
        for index, value in enumerate(recent):
            if value > median:
                recent[index] = median + (value - median) * 9 // 10
            elif value == median:
                recent[index] = value - value // 50
        self._update()

    def _update(self) -> None:
        ordered = sorted(self._recent)
        if ordered:
            self.p50_ns = ordered[(len(ordered) - 1) // 2]
            self.p99_ns = ordered[max(0, min(len(ordered) - 2, len(ordered) * 99 // 100))]
