"""How old can it be, what the line has just said? Pure, on the caller's clock.

After a step of the wall clock a verdict's stamps say nothing of its age, so that counts from the
last moment at which it cannot have been sent yet: when this loop found nothing waiting. That
proves something only while the line is heard and this loop turns. A newcomer is given the last
verdict, however old; after a silence a network brings what lay in it; and after a stop of this
process the thread that reads the network may not have caught up.
"""

from __future__ import annotations

from edgeinspect.domain import STALL_NS


class VerdictAgeTracker:
    """For the gateway's loop."""

    def __init__(self, now_ns: int, silence_ns: int) -> None:
        """Nothing is heard yet; after `silence_ns` without a message the line was away."""
        self._silence_ns = silence_ns
        self._last_iteration_ns = now_ns
        self._last_message_ns: int | None = None
        self._uncertain_until_ns = now_ns
        self._empty_at_ns: int | None = None

    def record_iteration(self, now_ns: int) -> int:
        """Call before and after whatever waits; returns how long too long that was, ns."""
        late_ns = max(0, now_ns - self._last_iteration_ns - STALL_NS)
        self._last_iteration_ns = now_ns
        if late_ns:
            self._uncertain_until_ns = now_ns + STALL_NS
        return late_ns

    def record_message(self, now_ns: int) -> None:
        """Something of the line has come."""
        if self._last_message_ns is None or now_ns - self._last_message_ns > self._silence_ns:
            self._uncertain_until_ns = max(self._uncertain_until_ns, now_ns + STALL_NS)
        self._last_message_ns = now_ns

    def record_empty_poll(self, polled_at_ns: int) -> None:
        """Nothing waited; `looked_at_ns` is before the look, for a pause may follow it."""
        heard_at_ns = self._last_message_ns
        if (
            heard_at_ns is not None
            and polled_at_ns >= self._uncertain_until_ns
            and polled_at_ns - heard_at_ns <= self._silence_ns
        ):
            self._empty_at_ns = polled_at_ns

    def sent_after_ns(self, now_ns: int) -> int | None:
        """The earliest that what has come can have been sent; None if nobody knows."""
        return None if self._empty_at_ns is None else min(now_ns, self._empty_at_ns)
