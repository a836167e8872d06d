"""Frame pacing for cameras without hardware: by rate, by trigger, or as fast as possible."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal

from edgeinspect.domain import NO_PART, NS_PER_S, TRIGGER_EXPIRED, Clock, Part
from edgeinspect.errors import UsageError

PaceMode = Literal["rate", "max", "trigger"]


class FramePacer:
    """Determines when the next frame is due. Only `trigger` is thread-safe."""

    def __init__(self, mode: PaceMode, rate_hz: float, clock: Clock) -> None:
        self.mode = mode
        self._clock = clock
        self._period_ns = round(NS_PER_S / rate_hz)
        self._due_ns = 0
        self._triggers: deque[tuple[int, Part]] = deque(maxlen=10_000)
        self._pending = threading.Semaphore(0)

    @property
    def period_ns(self) -> int | None:
        """Return the time from frame to frame; None if frames are triggered."""
        return None if self.mode == "trigger" else self._period_ns

    def start(self) -> None:
        """Start: the first frame is due after one period."""
        self._due_ns = self._clock.now_ns() + self._period_ns

    def delay_until(self, earliest_ns: int) -> None:
        """Delay the next frame until `earliest_ns`, when its image became available.

        A triggered frame keeps the instant of its trigger.
        """
        self._due_ns = max(self._due_ns, earliest_ns)

    def trigger(self, part: Part) -> None:
        """Request one frame of `part`. Thread-safe.

        Raises:
            UsageError: The camera is not in trigger mode, or the part has expired.
        """
        if self.mode != "trigger":
            raise UsageError(
                "this camera is free-running and accepts no trigger",
                remedy="Set its `pace: trigger`",
            )
        now_ns = self._clock.now_ns()  # the instant of exposure
        if part.is_expired(now_ns):
            raise UsageError(TRIGGER_EXPIRED)
        self._triggers.append((now_ns, part))
        self._pending.release()

    def wait(self, timeout_ns: int) -> tuple[int, Part] | None:
        """Wait until the next frame is due; return None after `timeout_ns`.

        Returns:
            (monotonic instant of exposure, the part). A frame that is fetched late keeps the
            instant at which it was due, as on a real sensor.
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
        if now_ns - due_ns > NS_PER_S:  # after a stop of the process, do not catch up
            self._due_ns = now_ns + self._period_ns
        return due_ns, NO_PART
