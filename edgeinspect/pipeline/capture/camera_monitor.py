"""Has the camera gone silent? The line's own watch: libraries say so seconds later.

Only time that was spent waiting for the camera counts. A daemon that was itself stopped, or
not scheduled, must not take its own absence for the camera's.
"""

from __future__ import annotations

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S

TURN_NS = 100 * NS_PER_MS
"""Longest wait in one call of the camera, so that a stop is seen soon."""
FIRST_FRAME_NS = 2 * NS_PER_S
"""Least time given to the first frame after the camera was opened."""
PERIODS = 3
_SLACK_NS = 10 * NS_PER_MS


class Watchdog:
    """Watches the age of the last frame of a free-running camera. For its capture thread.

    Args:
        timeout_ns: Longest silence, or three of the camera's periods if that is longer.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._first = True
        self.quiet_ns = 0
        """How long the camera has been waited for without a frame."""
        self.delayed_ns = 0
        """How long the camera itself has been waiting for one and the same thing."""
        self._waits_for = ""

    def opened(self) -> None:
        """The camera was opened; its first frame may take longer."""
        self._first = True
        self.quiet_ns = 0

    def heard(self) -> None:
        """A frame came, whole or not."""
        self._first = False
        self.quiet_ns = self.delayed_ns = 0

    def waited(self, asked_ns: int, took_ns: int, waits_for: str = "") -> None:
        """The camera was waited for in vain.

        Args:
            asked_ns: How long it was to be waited for.
            took_ns: How long that took.
            waits_for: What it was itself waiting for in the end, as `reading a3.png`; then it
                is not silent, but delayed.
        """
        spent_ns = min(took_ns, asked_ns + _SLACK_NS)
        if not waits_for:
            self.quiet_ns += spent_ns
        self.delayed_ns = self.delayed_ns + spent_ns if waits_for == self._waits_for else spent_ns
        self._waits_for = waits_for

    def wait_ns(self, period_ns: int | None) -> int:
        """How long to wait for the camera in one call."""
        if period_ns is None:
            return TURN_NS
        return max(NS_PER_MS, min(TURN_NS, self._limit_ns(period_ns) - self.quiet_ns))

    def delayed(self, period_ns: int | None) -> bool:
        """True if the camera has waited too long for what it waits for, as a picture's file."""
        return bool(self._waits_for) and self.delayed_ns >= max(self._timeout_ns, period_ns or 0)

    def silent(self, period_ns: int | None) -> bool:
        """True if the camera has been silent for too long; never for a triggered one."""
        return period_ns is not None and self.quiet_ns >= self._limit_ns(period_ns)

    def _limit_ns(self, period_ns: int) -> int:
        limit_ns = max(self._timeout_ns, PERIODS * period_ns)
        return max(limit_ns, FIRST_FRAME_NS) if self._first else limit_ns
