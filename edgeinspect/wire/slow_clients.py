"""Clients that do not take what they are sent: what is queued for them is memory.

ZeroMQ bounds it in messages for each client, and does not tell it. The kernel tells what it
holds itself: as long as that is little, nothing can be queued before it. So a client is behind
by what was sent since then, at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.wire.tcp_connections import send_queue_bytes
from edgeinspect.wire.unfinished_messages import UnfinishedMessageMonitor

READ_TIMEOUT_NS = 15 * NS_PER_S
"""Who takes nothing of what waits for it for so long is let go. It comes again, and asks for
what it missed."""
BACKLOG_BYTES_MAX = 64 << 20
"""What may wait for all clients of a socket together; beyond, who is furthest behind goes."""
CHECK_INTERVAL_NS = 250 * NS_PER_MS
_CAUGHT_UP_BYTES = 16 << 10
"""In the kernel: who has no more than that is not behind."""
_DISCONNECTS_PER_CHECK = 8


@dataclass(slots=True)
class _ClientBacklog:
    size: int
    """Bytes in the kernel that it has not taken."""
    since_ns: int
    """Since when they are so many."""
    from_bytes: int
    from_messages: int
    """What had been sent when it was last not behind."""


class SlowClientMonitor:
    """One socket's clients. One thread."""

    def __init__(
        self, clock: Clock, sent: Callable[[], tuple[int, int]], messages_max: int
    ) -> None:
        """`sent` gives (bytes, messages) sent so far; `messages_max` may be queued for one."""
        self._clock = clock
        self._sent = sent
        self._messages_max = messages_max
        self._clients: dict[int, _ClientBacklog] = {}
        self._checked_at_ns = clock.now_ns()

    def forget(self, client: int) -> None:
        """The descriptor is another client's now, or nobody's."""
        self._clients.pop(client, None)

    def check(self, clients: Iterable[int]) -> list[tuple[int, str]]:
        """Who has to go, and why; some at a time. Does nothing if it looked just now."""
        now_ns = self._clock.now_ns()
        gone_ns = now_ns - self._checked_at_ns
        if gone_ns < CHECK_INTERVAL_NS:
            return []
        self._checked_at_ns = now_ns
        if gone_ns > 5 * NS_PER_S:  # it was we who stood still
            self._clients.clear()
        sent_bytes, sent_messages = self._sent()
        let_go: dict[int, str] = {}
        behind: dict[int, float] = {}
        for client in clients:
            size = send_queue_bytes(client)
            known = self._clients.get(client)
            if known is None:
                known = _ClientBacklog(size, now_ns, sent_bytes, sent_messages)
                self._clients[client] = known
            if known.size != size:
                known.size, known.since_ns = size, now_ns
            elif size and now_ns - known.since_ns >= READ_TIMEOUT_NS:
                let_go[client] = "takes nothing"
            if size <= _CAUGHT_UP_BYTES:
                known.from_bytes, known.from_messages = sent_bytes, sent_messages
            lag_bytes, lag = sent_bytes - known.from_bytes, sent_messages - known.from_messages
            behind[client] = size + lag_bytes * min(1.0, self._messages_max / max(1, lag))
        over = sum(behind.values()) - BACKLOG_BYTES_MAX
        for client in sorted(behind, key=behind.__getitem__, reverse=True):
            if over <= 0:
                break
            over -= behind[client]
            let_go.setdefault(client, "too much waits for all clients, the most for this one")
        few = list(let_go.items())[:_DISCONNECTS_PER_CHECK]
        for client, _why in few:
            self.forget(client)
        return few


@dataclass(frozen=True, slots=True)
class ClientMonitors:
    """What is looked for at each client of a socket that was let in. One thread."""

    slow_clients: SlowClientMonitor
    unfinished_messages: UnfinishedMessageMonitor
    on_forget: Callable[[int], None]
    """Told, too, of a descriptor that is another client's now. Thread-safe."""

    def forget(self, client: int) -> None:
        """The descriptor is another client's now, or nobody's."""
        self.on_forget(client)
        self.slow_clients.forget(client)
        self.unfinished_messages.forget(client)

    def check(self, clients: Mapping[int, int]) -> list[tuple[int, str]]:
        """Who has to go, and why. `clients` has when each came."""
        return [*self.unfinished_messages.check(clients), *self.slow_clients.check(clients)]
