"""Has the camera gone silent? The line's own watch: libraries say so seconds later.

Only time that was spent waiting for the camera counts. A daemon that was itself stopped, or
not scheduled, must not take its own absence for the camera's.
"""

from __future__ import annotations

from edgeinspect.domain import NS_PER_MS, NS_PER_S

POLL_TIMEOUT_NS = 100 * NS_PER_MS
"""Longest wait in one call of the camera, so that a stop is seen soon."""
FIRST_FRAME_TIMEOUT_NS = 2 * NS_PER_S
"""Least time given to the first frame after the camera was opened."""
SILENT_PERIODS = 3
_SLACK_NS = 10 * NS_PER_MS


class CameraSilenceMonitor:
    """Watches the age of the last frame of a free-running camera. For its capture thread.

    Args:
        timeout_ns: Longest silence, or three of the camera's periods if that is longer.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._is_first_frame = True
        self.silence_ns = 0
        """How long the camera has been waited for without a frame."""
        self.delay_ns = 0
        """How long the camera itself has been waiting for one and the same thing."""
        self._waiting_for = ""

    def on_open(self) -> None:
        """The camera was opened; its first frame may take longer."""
        self._is_first_frame = True
        self.silence_ns = 0

    def on_frame(self) -> None:
        """A frame came, whole or not."""
        self._is_first_frame = False
        self.silence_ns = self.delay_ns = 0

    def on_timeout(self, requested_ns: int, took_ns: int, waiting_for: str = "") -> None:
        """The camera was waited for in vain.

        Args:
            asked_ns: How long it was to be waited for.
            took_ns: How long that took.
            waits_for: What it was itself waiting for in the end, as `reading a3.png`; then it
                is not silent, but delayed.
        """
        spent_ns = min(took_ns, requested_ns + _SLACK_NS)
        if not waiting_for:
            self.silence_ns += spent_ns
        self.delay_ns = self.delay_ns + spent_ns if waiting_for == self._waiting_for else spent_ns
        self._waiting_for = waiting_for

    def next_wait_ns(self, period_ns: int | None) -> int:
        """How long to wait for the camera in one call."""
        if period_ns is None:
            return POLL_TIMEOUT_NS
        return max(NS_PER_MS, min(POLL_TIMEOUT_NS, self._limit_ns(period_ns) - self.silence_ns))

    def is_delayed(self, period_ns: int | None) -> bool:
        """True if the camera has waited too long for what it waits for, as a picture's file."""
        return bool(self._waiting_for) and self.delay_ns >= max(self._timeout_ns, period_ns or 0)

    def is_silent(self, period_ns: int | None) -> bool:
        """True if the camera has been silent for too long; never for a triggered one."""
        return period_ns is not None and self.silence_ns >= self._limit_ns(period_ns)

    def _limit_ns(self, period_ns: int) -> int:
        limit_ns = max(self._timeout_ns, SILENT_PERIODS * period_ns)
        return max(limit_ns, FIRST_FRAME_TIMEOUT_NS) if self._is_first_frame else limit_ns
