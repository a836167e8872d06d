"""Maps the camera's clock to the PC's clock by a line below all arrival times.

Delays of network and scheduler only ever add to the arrival time. The true relation
`host = offset + rate * device + least delay` therefore lies below every pair (device time
stamp, arrival) and touches the fastest ones. Of all lines below the points the best is the edge
of their lower convex hull at the mean timestamp; its slope is the drift between the two quartz
clocks (tens of ppm).

The least delay itself (readout and the first packet) cannot be observed: mapped instants are
late by that constant, but not by scheduling delays.

Source: Zhang, Liu, Xia, "Clock synchronization algorithms for network measurements",
IEEE INFOCOM 2002 (the convex hull approach).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

BIN_NS = 250_000_000
BIN_COUNT = 240
"""One minute of fastest arrivals, one per quarter of a second."""
DRIFT_MAX = 500e-6
"""Quartz clocks are within 100 ppm; a larger slope is noise and is not used."""
JUMP_NS = 1_000_000_000
"""A timestamp this far from the line means that the camera's clock was set or restarted."""

ClockSample = tuple[int, int]
"""(device time, host minus device time), both relative to the first pair, in ns."""


class ClockSynchronizer:
    """Maps the timestamps of one camera. For its capture thread.

    `map_timestamp` takes a few microseconds; the hull is recomputed when a bin is complete.
    """

    def __init__(self) -> None:
        self.reset_count = 0
        """Number of detected jumps of the camera's clock."""
        self._bins: deque[ClockSample] = deque(maxlen=BIN_COUNT)
        self._origin: tuple[int, int] | None = None
        self._bin_number = -1
        self._rate = 0.0
        self._offset_ns = 0.0
        self._last_x = 0
        self._last_ns = 0

    @property
    def drift_ppm(self) -> float:
        """Return by how much the PC's clock is faster than the camera's."""
        return self._rate * 1e6

    def map_timestamp(self, device_ns: int, arrived_ns: int) -> int:
        """Add one pair of times and map the timestamp.

        Returns:
            Monotonic instant: not after `arrived_ns`, not before the instant returned last.
        """
        if self._origin is None:
            self._reset(device_ns, arrived_ns)
        assert self._origin is not None
        x = device_ns - self._origin[0]
        y = arrived_ns - self._origin[1] - x
        if x < self._last_x or abs(y - self._line_at(x)) > JUMP_NS:
            self.reset_count += 1
            self._reset(device_ns, arrived_ns)
            x = y = 0
        self._last_x = x
        self._add_sample(x, y)
        mapped_ns = self._origin[1] + x + int(self._line_at(x))
        self._last_ns = max(self._last_ns, min(mapped_ns, arrived_ns))
        return self._last_ns

    def _reset(self, device_ns: int, arrived_ns: int) -> None:
        self._origin = (device_ns, arrived_ns)
        self._bins.clear()
        self._bin_number = -1
        self._rate = self._offset_ns = 0.0
        self._last_x = 0

    def _line_at(self, x: int) -> float:
        return self._offset_ns + self._rate * x

    def _add_sample(self, x: int, y: int) -> None:
        number = x // BIN_NS
        if number != self._bin_number:
            self._bin_number = number
            self._bins.append((x, y))
            self._fit_line()
        elif y < self._bins[-1][1]:
            self._bins[-1] = (x, y)
        if y < self._line_at(x):  # the fastest so far: lower the line at once
            self._offset_ns = y - self._rate * x

    def _fit_line(self) -> None:
        points = list(self._bins)
        hull = lower_hull(points)
        rate = 0.0
        if len(points) >= 4:
            middle = sum(x for x, _ in points) / len(points)
            for (x0, y0), (x1, y1) in pairwise(hull):
                if x1 >= middle:
                    rate = (y1 - y0) / (x1 - x0)
                    break
        self._rate = rate if abs(rate) <= DRIFT_MAX else 0.0
        self._offset_ns = min(y - self._rate * x for x, y in points)


def lower_hull(points: list[ClockSample]) -> list[ClockSample]:
    """Return the lower convex hull of points sorted by x (Andrew's monotone chain)."""
    hull: list[ClockSample] = []
    for x, y in points:
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull
