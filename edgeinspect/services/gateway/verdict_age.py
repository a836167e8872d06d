"""Bounds the age of a verdict after a step of the wall clock. Pure; the caller passes the time.

After a step a verdict's timestamps do not give its age. It cannot be older than the last poll
that found the queue empty. That holds only while the line sends and this loop runs: a new
subscriber is sent the last verdict, however old; after a silence the network delivers what it
had buffered; and after a stop of this process the thread that reads the network may lag.
"""

from __future__ import annotations

from edgeinspect.domain import STALL_NS


class VerdictAgeTracker:
    """The polls and messages of the gateway's loop. For that thread."""

    def __init__(self, now_ns: int, silence_ns: int) -> None:
        """Start without a message; after `silence_ns` without one the line counts as offline."""
        self._silence_ns = silence_ns
        self._last_iteration_ns = now_ns
        self._last_message_ns: int | None = None
        self._uncertain_until_ns = now_ns
        self._empty_at_ns: int | None = None

    def record_iteration(self, now_ns: int) -> int:
        """Record one pass of the loop; call before and after anything that waits.

        Returns:
            By how many ns it exceeded `STALL_NS`; 0 if it did not.
        """
        late_ns = max(0, now_ns - self._last_iteration_ns - STALL_NS)
        self._last_iteration_ns = now_ns
        if late_ns:
            self._uncertain_until_ns = now_ns + STALL_NS
        return late_ns

    def record_message(self, now_ns: int) -> None:
        """Record that a message of the line was received."""
        if self._last_message_ns is None or now_ns - self._last_message_ns > self._silence_ns:
            self._uncertain_until_ns = max(self._uncertain_until_ns, now_ns + STALL_NS)
        self._last_message_ns = now_ns

    def record_empty_poll(self, polled_at_ns: int) -> None:
        """Record an empty poll that began at `polled_at_ns`."""
        last_message_ns = self._last_message_ns
        if (
            last_message_ns is not None
            and polled_at_ns >= self._uncertain_until_ns
            and polled_at_ns - last_message_ns <= self._silence_ns
        ):
            self._empty_at_ns = polled_at_ns

    def sent_after_ns(self, now_ns: int) -> int | None:
        """Return the earliest time at which a received verdict was sent; None if not known."""
        return None if self._empty_at_ns is None else min(now_ns, self._empty_at_ns)
