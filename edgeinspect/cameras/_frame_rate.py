"""Pacing for cameras that are not hardware: at a rate, on a trigger, or as fast as it goes."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal

from edgeinspect.domain import NO_PART, NS_PER_S, TRIGGER_EXPIRED, Clock, Part
from edgeinspect.errors import UsageError

PaceMode = Literal["rate", "max", "trigger"]


class FramePacer:
    """Says when the next frame is due. `wait` belongs to one thread; `trigger` to any."""

    def __init__(self, mode: PaceMode, rate_hz: float, clock: Clock) -> None:
        self.mode = mode
        self._clock = clock
        self._period_ns = round(NS_PER_S / rate_hz)
        self._due_ns = 0
        self._triggers: deque[tuple[int, Part]] = deque(maxlen=10_000)
        self._pending = threading.Semaphore(0)

    @property
    def period_ns(self) -> int | None:
        """Time from frame to frame; None if frames are triggered."""
        return None if self.mode == "trigger" else self._period_ns

    def start(self) -> None:
        """Begin: the first frame is due one period from now."""
        self._due_ns = self._clock.now_ns() + self._period_ns

    def delay_until(self, earliest_ns: int) -> None:
        """The next frame is not due before `now_ns`: its picture was not there yet.

        A frame that was triggered keeps the instant of its trigger.
        """
        self._due_ns = max(self._due_ns, earliest_ns)

    def trigger(self, part: Part) -> None:
        """Ask for one frame of `part`. Thread-safe.

        Raises:
            UsageError: The camera is not in trigger mode, or the trigger has expired.
        """
        if self.mode != "trigger":
            raise UsageError(
                "this camera runs free and takes no trigger",
                remedy="Set its `pace: trigger`",
            )
        now_ns = self._clock.now_ns()  # the exposure, whenever it is fetched
        if part.is_expired(now_ns):
            raise UsageError(TRIGGER_EXPIRED)
        self._triggers.append((now_ns, part))
        self._pending.release()

    def wait(self, timeout_ns: int) -> tuple[int, Part] | None:
        """Wait for the next frame's instant; None if it does not come in `timeout_ns`.

        Returns:
            (instant of exposure on the monotonic clock, the part). A frame that was fetched
            late keeps the instant it was due at, as a real sensor's would.
        """
        now_ns = self._clock.now_ns()
        if self.mode == "max":
            return now_ns, NO_PART
        if self.mode == "trigger":
            if not self._pending.acquire(timeout=timeout_ns / NS_PER_S):
                return None
            return self._triggers.popleft()
        if self._due_ns > now_ns + timeout_ns:
            self._clock.sleep_until(now_ns + timeout_ns)
            return None
        self._clock.sleep_until(self._due_ns)
        due_ns = self._due_ns
        self._due_ns += self._period_ns
        if now_ns - due_ns > NS_PER_S:  # the process was stopped; do not make up for it
            self._due_ns = now_ns + self._period_ns
        return due_ns, NO_PART
