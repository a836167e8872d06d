"""Finds clients that send a message without an end.

ZeroMQ limits the size of a part and the number of messages, but stores any number of parts until
the last one arrives: one client could fill the PC's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.wire.tcp_connections import receive_queue_bytes

_SUSPECT_CHECKS = 4
_UNFINISHED_AFTER_NS = 200 * NS_PER_MS
"""A client that has unread bytes at `_SUSPECT_CHECKS` checks, while no complete message of it was
received for this long, sends one without an end. Each client is read several times meanwhile."""
_PING_BYTES = 64
"""ZeroMQ's own pings are shorter, and are not messages."""


class UnfinishedMessageMonitor:
    """One socket's clients. One thread."""

    def __init__(self, clock: Clock, last_message_ns: Callable[[int], int]) -> None:
        """`last_message_ns` returns when a client's last message was received, 0 for never."""
        self.has_suspect = False
        """True if the last check found a possible one: check again soon."""
        self._clock = clock
        self._last_message_ns = last_message_ns
        self._clients: dict[int, tuple[int, int]] = {}
        """By client: checks with unread bytes, and when its last message was received."""

    def forget(self, client: int) -> None:
        """Forget a client: its descriptor is closed or reused."""
        self._clients.pop(client, None)

    def check(self, clients: Mapping[int, int]) -> list[tuple[int, str]]:
        """Return clients to disconnect with the reason; `clients` has when each connected."""
        now_ns = self._clock.now_ns()
        rejected = []
        self.has_suspect = False
        for client, connected_at_ns in clients.items():
            if receive_queue_bytes(client) <= _PING_BYTES:
                continue
            self.has_suspect = True
            message_ns = max(connected_at_ns, self._last_message_ns(client))
            checks, since_ns = self._clients.get(client, (0, message_ns))
            checks = checks + 1 if since_ns == message_ns else 1
            self._clients[client] = checks, message_ns
            if checks >= _SUSPECT_CHECKS and now_ns - message_ns >= _UNFINISHED_AFTER_NS:
                rejected.append((client, "a message without an end"))
        return rejected
