"""Clocks. They are injected everywhere, so that a test runs hours of a line in seconds.

Deadlines are integers on the monotonic clock in ns; wall time (UTC) is only a label.
Source: trio's absolute deadlines and mock clock (trio/_abc.py, _core/_mock_clock.py).
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
STALL_NS = 250 * NS_PER_MS
"""A loop whose iteration takes longer was stalled. For this long afterwards messages may be older
than they seem, as the thread that reads the network was stalled as well."""

_READ_MAX_NS = NS_PER_MS
_READ_ATTEMPTS = 5


class WakeEvent(Protocol):
    """A wait until an instant that another thread can end early. Thread-safe."""

    def set(self) -> None:
        """Wake the waiting thread; without one, the next wait returns at once."""

    def wait_until(self, at_ns: int) -> bool:
        """Sleep until set, or until `at_ns` (monotonic); return True if set. Clears the event."""


class Clock(Protocol):
    """A monotonic clock to measure and sleep by, and a wall clock. Thread-safe."""

    def now_ns(self) -> int:
        """Monotonic time in ns; its zero is arbitrary."""

    def utc_ns(self) -> int:
        """Wall time in ns since 1970; may jump, never used for a deadline."""

    def sleep_until(self, at_ns: int) -> None:
        """Sleep until the monotonic instant `at_ns`; return at once if it has passed."""

    def wake_event(self) -> WakeEvent:
        """Return a new event on this clock, for one waiting thread."""


class SystemWakeEvent:
    """A wake event on the monotonic clock: a lock used as a binary semaphore.

    `Lock.acquire(timeout)` ends in sem_clockwait(CLOCK_MONOTONIC), so a change of the
    wall clock does not move a deadline, and waiting allocates nothing.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # already set
            pass

    def wait_until(self, at_ns: int) -> bool:
        left_ns = at_ns - time.monotonic_ns()
        if left_ns <= 0:
            return self._lock.acquire(blocking=False)
        return self._lock.acquire(timeout=left_ns / NS_PER_S)


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        return time.time_ns()

    def sleep_until(self, at_ns: int) -> None:
        left_ns = at_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / NS_PER_S)

    def wake_event(self) -> WakeEvent:
        return SystemWakeEvent()


def read_utc_offset_ns(clock: Clock) -> int:
    """Return UTC minus monotonic time, both of one instant.

    Use it to convert a time from one clock to the other. Two separate reads would make a pause
    between them, on a loaded PC, look like a step of the wall clock; so a slow read is repeated.
    """
    best_ns, offset_ns = 1 << 62, 0
    for _ in range(_READ_ATTEMPTS):
        before_ns = clock.now_ns()
        utc_ns = clock.utc_ns()
        took_ns = clock.now_ns() - before_ns
        if took_ns < best_ns:
            best_ns, offset_ns = took_ns, utc_ns - before_ns - took_ns // 2
        if took_ns <= _READ_MAX_NS:
            break
    return offset_ns
