"""From the camera's clock to the PC's: a straight line under all arrivals.

A frame arrives after it was exposed, never before, and by chance: the delays of network and
scheduler are only ever added. So the true relation `host = offset + rate * device + least
delay` lies *under* every pair (device stamp, arrival), and touches the quickest ones. Of all
lines under the points, the best is the edge of their lower convex hull that stands over the
mean of the stamps. The drift between two quartz clocks (tens of ppm) is the edge's slope.

What no fit can see is the least delay itself (readout and the first packet), so mapped
instants are late by that constant, never by the scheduler.

Source: Zhang, Liu, Xia, "Clock synchronization algorithms for network measurements",
IEEE INFOCOM 2002 (the convex hull approach).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

BIN_NS = 250_000_000
BIN_COUNT = 240
"""A minute of quickest arrivals, one in a quarter of a second."""
DRIFT_MAX = 500e-6
"""Quartz is within 100 ppm; a slope beyond this is chance, and is not used."""
JUMP_NS = 1_000_000_000
"""A stamp so far from the fit means that the camera's clock was set, or began anew."""

ClockSample = tuple[int, int]
"""(device stamp, host minus device), both from the first pair, in ns."""


class ClockSynchronizer:
    """Maps the stamps of one camera. For its capture thread.

    `add` costs a few microseconds; the hull is made anew when a bin is complete.
    """

    def __init__(self) -> None:
        self.reset_count = 0
        """How often the camera's clock was found to have jumped."""
        self._bins: deque[ClockSample] = deque(maxlen=BIN_COUNT)
        self._origin: tuple[int, int] | None = None
        self._bin_number = -1
        self._rate = 0.0
        self._offset_ns = 0.0
        self._last_x = 0
        self._last_ns = 0

    @property
    def drift_ppm(self) -> float:
        """How much faster the PC's clock runs than the camera's."""
        return self._rate * 1e6

    def map_timestamp(self, device_ns: int, arrived_ns: int) -> int:
        """Take one pair in and map its stamp.

        Returns:
            Monotonic instant of the stamp: not after `arrived_ns`, never before the
            instant returned last.
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
        if y < self._line_at(x):  # a quicker one than ever: the line goes under it at once
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
    """The lower convex hull of points in the order of x (Andrew's monotone chain)."""
    hull: list[ClockSample] = []
    for x, y in points:
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull
