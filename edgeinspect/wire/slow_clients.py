"""Finds clients that do not read what they are sent, which is queued for them in memory.

ZeroMQ limits that queue in messages per client and does not report its length. The kernel reports
the length of its own send queue: as long as that is short, nothing waits in ZeroMQ's queue. So a
client's backlog is at most what was sent since then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.wire.tcp_connections import send_queue_bytes
from edgeinspect.wire.unfinished_messages import UnfinishedMessageMonitor

READ_TIMEOUT_NS = 15 * NS_PER_S
"""A client that reads nothing of its backlog for this long is disconnected. It reconnects, and
requests what it missed."""
BACKLOG_BYTES_MAX = 64 << 20
"""Largest backlog of all clients of a socket; beyond it those with the most are disconnected."""
CHECK_INTERVAL_NS = 250 * NS_PER_MS
_CAUGHT_UP_BYTES = 16 << 10
"""A client with at most this much in the kernel has no backlog."""
_DISCONNECTS_PER_CHECK = 8


@dataclass(slots=True)
class _ClientBacklog:
    size: int
    """Bytes in the kernel's send queue."""
    since_ns: int
    """Since when the size is the same."""
    from_bytes: int
    from_messages: int
    """What had been sent when it last had no backlog."""


class SlowClientMonitor:
    """One socket's clients. One thread."""

    def __init__(
        self, clock: Clock, sent: Callable[[], tuple[int, int]], messages_max: int
    ) -> None:
        """`sent` returns (bytes, messages) sent so far; `messages_max` are queued per client."""
        self._clock = clock
        self._sent = sent
        self._messages_max = messages_max
        self._clients: dict[int, _ClientBacklog] = {}
        self._checked_at_ns = clock.now_ns()

    def forget(self, client: int) -> None:
        """Forget a client: its descriptor is closed or reused."""
        self._clients.pop(client, None)

    def check(self, clients: Iterable[int]) -> list[tuple[int, str]]:
        """Return clients to disconnect with the reason, a few at a time, if a check is due."""
        now_ns = self._clock.now_ns()
        elapsed_ns = now_ns - self._checked_at_ns
        if elapsed_ns < CHECK_INTERVAL_NS:
            return []
        self._checked_at_ns = now_ns
        if elapsed_ns > 5 * NS_PER_S:  # this process was stopped
            self._clients.clear()
        sent_bytes, sent_messages = self._sent()
        rejected: dict[int, str] = {}
        behind: dict[int, float] = {}
        for client in clients:
            size = send_queue_bytes(client)
            backlog = self._clients.get(client)
            if backlog is None:
                backlog = _ClientBacklog(size, now_ns, sent_bytes, sent_messages)
                self._clients[client] = backlog
            if backlog.size != size:
                backlog.size, backlog.since_ns = size, now_ns
            elif size and now_ns - backlog.since_ns >= READ_TIMEOUT_NS:
                rejected[client] = "does not read"
            if size <= _CAUGHT_UP_BYTES:
                backlog.from_bytes, backlog.from_messages = sent_bytes, sent_messages
            lag_bytes, lag = sent_bytes - backlog.from_bytes, sent_messages - backlog.from_messages
            behind[client] = size + lag_bytes * min(1.0, self._messages_max / max(1, lag))
        over = sum(behind.values()) - BACKLOG_BYTES_MAX
        for client in sorted(behind, key=behind.__getitem__, reverse=True):
            if over <= 0:
                break
            over -= behind[client]
            rejected.setdefault(client, "too much is unread by all clients, most by this one")
        chosen = list(rejected.items())[:_DISCONNECTS_PER_CHECK]
        for client, _reason in chosen:
            self.forget(client)
        return chosen


@dataclass(frozen=True, slots=True)
class ClientMonitors:
    """The checks of each admitted client of a socket. One thread."""

    slow_clients: SlowClientMonitor
    unfinished_messages: UnfinishedMessageMonitor
    on_forget: Callable[[int], None]
    """Called with each descriptor that is forgotten. Thread-safe."""

    def forget(self, client: int) -> None:
        """Forget a client: its descriptor is closed or reused."""
        self.on_forget(client)
        self.slow_clients.forget(client)
        self.unfinished_messages.forget(client)

    def check(self, clients: Mapping[int, int]) -> list[tuple[int, str]]:
        """Return clients to disconnect with the reason; `clients` has when each connected."""
        return [*self.unfinished_messages.check(clients), *self.slow_clients.check(clients)]
