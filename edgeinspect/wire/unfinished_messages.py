"""Clients that send a message without an end.

ZeroMQ bounds messages, by size of a part and by number, and keeps any number of parts until
the last one comes: one client could fill the PC's memory with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.wire.tcp_connections import receive_queue_bytes

_SUSPECT_CHECKS = 4
_UNFINISHED_AFTER_NS = 200 * NS_PER_MS
"""A client that has more in the kernel at so many looks, and no whole message was heard of it
for so long, sends one without an end. Each client is heard some times in it, in its turn."""
_PING_BYTES = 64
"""ZeroMQ's own pings are shorter, and no message."""


class UnfinishedMessageMonitor:
    """One socket's clients. One thread."""

    def __init__(self, clock: Clock, last_message_ns: Callable[[int], int]) -> None:
        """`whole_at_ns`: when the last whole message of a client was heard, 0 for never."""
        self.has_suspect = False
        """True if the last look saw a client that may be one: look again soon."""
        self._clock = clock
        self._last_message_ns = last_message_ns
        self._clients: dict[int, tuple[int, int]] = {}
        """At how many looks it had more, since which whole message."""

    def forget(self, client: int) -> None:
        """The descriptor is another client's now, or nobody's."""
        self._clients.pop(client, None)

    def check(self, clients: Mapping[int, int]) -> list[tuple[int, str]]:
        """Who has to go, and why. `clients` has when each came."""
        now_ns = self._clock.now_ns()
        let_go = []
        self.has_suspect = False
        for client, came_at_ns in clients.items():
            if receive_queue_bytes(client) <= _PING_BYTES:
                continue
            self.has_suspect = True
            whole_ns = max(came_at_ns, self._last_message_ns(client))
            looks, since_ns = self._clients.get(client, (0, whole_ns))
            looks = looks + 1 if since_ns == whole_ns else 1
            self._clients[client] = looks, whole_ns
            if looks >= _SUSPECT_CHECKS and now_ns - whole_ns >= _UNFINISHED_AFTER_NS:
                let_go.append((client, "a message without an end"))
        return let_go
