"""A clock that advances only when its caller advances it, for tests and replays."""

from __future__ import annotations

import threading

from edgeinspect.domain.clock import WakeEvent

EPOCH_UTC_NS = 1_700_000_000_000_000_000


class ManualClock:
    """A clock that advances by `advance`. Thread-safe.

    `sleep_until` advances the clock itself, so that single-threaded code that waits returns at
    once; with `auto=False`, for tests with threads, it waits for another thread to advance it.
    """

    def __init__(self, now_ns: int = 1_000_000_000, *, auto: bool = True) -> None:
        self._now_ns = now_ns
        self._auto = auto
        self._moved = threading.Condition()
        self.utc_offset_ns = EPOCH_UTC_NS

    def now_ns(self) -> int:
        return self._now_ns

    def utc_ns(self) -> int:
        return self._now_ns + self.utc_offset_ns

    def advance(self, ns: int) -> None:
        """Advance the clock, and wake the threads whose instant has come."""
        with self._moved:
            self._now_ns += ns
            self._moved.notify_all()

    def sleep_until(self, at_ns: int) -> None:
        if self._auto:
            self.advance(max(0, at_ns - self._now_ns))
            return
        with self._moved:
            self._moved.wait_for(lambda: self._now_ns >= at_ns, timeout=30)

    def wake_event(self) -> WakeEvent:
        return _ManualWakeEvent(self._moved, self)


class _ManualWakeEvent:
    def __init__(self, moved: threading.Condition, clock: ManualClock) -> None:
        self._moved = moved
        self._clock = clock
        self._is_set = False

    def set(self) -> None:
        with self._moved:
            self._is_set = True
            self._moved.notify_all()

    def wait_until(self, at_ns: int) -> bool:
        with self._moved:
            self._moved.wait_for(lambda: self._is_set or self._clock.now_ns() >= at_ns, timeout=30)
            rung, self._is_set = self._is_set, False
            return rung
