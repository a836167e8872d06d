"""When a trigger that arrived at the ROUTER expires.

Parts move on: a frame that is taken late shows another part under the name of the one before.
So each trigger expires at an instant on this process's monotonic clock. The client sets it; in
any case a message cannot be older than the last moment at which the queue was empty. A line that
was stopped refuses the triggers that waited in its queue, since their clients have given up.

Source: docs/reference/wire.md, "Request: trigger"
"""

from __future__ import annotations

from edgeinspect.domain import NS_PER_MS, STALL_NS, Clock, read_utc_offset_ns
from edgeinspect.system import boot_id
from edgeinspect.wire import TriggerRequest

QUEUE_AGE_MAX_NS = 500 * NS_PER_MS
"""A trigger that may have waited longer at the ROUTER is refused."""


class TriggerExpiry:
    """Computes how old a message of the ROUTER can be. Used by the ROUTER's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._boot_id = boot_id.boot_id()
        self._polled_at_ns = self._empty_at_ns = clock.now_ns()
        self._uncertain_until_ns = 0

    def begin_poll(self) -> int:
        """Call before each poll of the queue; return the instant for `record_empty`."""
        now_ns = self._clock.now_ns()
        if now_ns - self._polled_at_ns > STALL_NS:
            self._uncertain_until_ns = now_ns + STALL_NS
        self._polled_at_ns = now_ns
        return now_ns

    def record_empty(self, at_ns: int) -> None:
        """Record that the queue was empty at `at_ns`, which is before the poll."""
        self._empty_at_ns = at_ns

    def expires_at_ns(self, request: TriggerRequest) -> int:
        """Return when a trigger that was just received expires, monotonic."""
        now_ns = self._clock.now_ns()
        latest_ns = self._empty_at_ns + QUEUE_AGE_MAX_NS
        if request.expires_monotonic_ns is not None and self._same_clock(request):
            return min(request.expires_monotonic_ns, latest_ns)
        if now_ns < self._uncertain_until_ns:
            return now_ns
        if request.expires_utc_ns is not None:
            latest_ns = min(latest_ns, request.expires_utc_ns - read_utc_offset_ns(self._clock))
        return latest_ns

    def _same_clock(self, request: TriggerRequest) -> bool:
        return request.boot_id is not None and request.boot_id == self._boot_id
