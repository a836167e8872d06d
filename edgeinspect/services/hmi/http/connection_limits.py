"""Connections: how many a client may hold, from the moment the kernel gives them out.

Counted where they are accepted, so that a socket on which nobody ever speaks, or whose TLS
handshake never ends, counts like any other. Who has too many loses the one on which the client
has owed something longest; one that is being answered is never taken away. So a client that
holds many idle sockets costs nobody else anything, and not even itself.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import Callable

from edgeinspect.services.hmi.http.client_address import client_key, is_loopback_address

_SEND_BUFFER_BYTES = 256 << 10
_ACCEPT_BATCH_SIZE = 32
_RESERVED_FOR_LOOPBACK = 16
_REFUSED_RESPONSE = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Edgeinspect-Overload: connections\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)
_REFUSED_BODY = b'{"problem": "too many connections", "overload": "connections"}'


class CountedSocket(socket.socket):
    """A client's socket, which is counted until it is closed."""

    on_close: Callable[[CountedSocket], None] | None = None
    """Called once, when it is closed."""
    client_key = ""
    """What its client is counted under."""
    peer: object = None
    """The client's address, as asyncio tells it too."""
    idle_since_s: float | None = None
    """Since when the client has owed bytes; None while it is being answered."""

    def close(self) -> None:
        """Close it, and count it no more."""
        left, self.on_close = self.on_close, None
        if left is not None:
            left(self)
        super().close()


class ConnectionLimiter:
    """Who may be connected. One loop.

    Args:
        most: Connections in all.
        most_each: Connections of one address; a proxy that is trusted has no limit of its own.
        trusts: True for the address of such a proxy.
        secure: True where TLS is spoken: then a refusal has no words.
    """

    def __init__(
        self,
        max_connections: int,
        max_per_client: int,
        is_trusted_proxy: Callable[[str], bool],
        *,
        is_tls: bool = False,
    ) -> None:
        self._max_connections = max_connections
        self._max_per_client = max_per_client
        self._is_trusted_proxy = is_trusted_proxy
        self._is_tls = is_tls
        self._by_client: dict[str, dict[CountedSocket, None]] = defaultdict(dict)
        self._by_peer: dict[object, CountedSocket] = {}
        self.refused_count = 0
        """Connections that were turned away or taken back."""

    def __len__(self) -> int:
        return len(self._by_peer)

    def admit(self, accepted: CountedSocket, address: str) -> bool:
        """Count a new connection, at the price of an idle one if need be; False if it is refused.

        What is refused has been answered and closed.
        """
        loopback = is_loopback_address(address)
        key = client_key(address)
        most = self._max_connections if loopback else self._max_connections - _RESERVED_FOR_LOOPBACK
        if len(self._by_client.get(key, ())) >= self._max_per_client and not self._is_trusted_proxy(
            address
        ):
            fits = self._close_longest_idle(key)
        elif len(self) >= most:
            fits = self._close_longest_idle(
                max(self._by_client, key=lambda each: len(self._by_client[each]))
            )
        else:
            fits = True
        if not fits:
            self.refused_count += 1
            self._refuse(accepted)
            return False
        accepted.client_key = key
        accepted.idle_since_s = time.monotonic()
        accepted.on_close = self._release
        self._by_client[key][accepted] = None
        self._by_peer[accepted.peer] = accepted
        return True

    def find(self, peer: object) -> CountedSocket | None:
        """The connection of a peer's address, as asyncio tells it."""
        return self._by_peer.get(peer)

    def _release(self, accepted: CountedSocket) -> None:
        held = self._by_client.get(accepted.client_key)
        if held is not None:
            held.pop(accepted, None)
            if not held:
                del self._by_client[accepted.client_key]
        if self._by_peer.get(accepted.peer) is accepted:
            del self._by_peer[accepted.peer]

    def _close_longest_idle(self, key: str) -> bool:
        """Close the connection of an address on which it has owed us something longest."""
        idle = [each for each in self._by_client.get(key, ()) if each.idle_since_s is not None]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.idle_since_s or 0.0)
        oldest.on_close = None
        self._release(oldest)
        self.refused_count += 1
        with contextlib.suppress(OSError):  # the loop hears the end, and closes it
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def _refuse(self, accepted: CountedSocket) -> None:
        with contextlib.suppress(OSError):
            if not self._is_tls:
                accepted.send(_REFUSED_RESPONSE % (len(_REFUSED_BODY), _REFUSED_BODY))
            accepted.shutdown(socket.SHUT_WR)
        accepted.close()


class LimitedListener(socket.socket):
    """A listening socket whose `accept` gives out only what a gate admits.

    Args:
        bound: The socket that it takes over.
        gate: Who may be connected.
    """

    def __init__(self, bound: socket.socket, limiter: ConnectionLimiter) -> None:
        family, kind, protocol = bound.family, bound.type, bound.proto
        super().__init__(family, kind, protocol, fileno=bound.detach())
        self._limiter = limiter
        self._accepted_in_batch = 0

    def accept(self) -> tuple[socket.socket, object]:
        """The next client that is admitted.

        Raises:
            BlockingIOError: Nobody waits, or so many came at once that the loop shall first see
                to those it has.
        """
        if self._accepted_in_batch >= _ACCEPT_BATCH_SIZE:
            self._accepted_in_batch = 0
            raise BlockingIOError
        try:
            while self._accepted_in_batch < _ACCEPT_BATCH_SIZE:
                handle, address = self._accept()  # type: ignore[attr-defined]
                self._accepted_in_batch += 1
                accepted = CountedSocket(self.family, self.type, self.proto, fileno=handle)
                accepted.setblocking(False)
                accepted.peer = address
                with contextlib.suppress(OSError):  # what waits for a slow client is bounded
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                if self._limiter.admit(accepted, str(address[0])):
                    return accepted, address
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._accepted_in_batch = 0
            raise
        self._accepted_in_batch = 0
        raise BlockingIOError
