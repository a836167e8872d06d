"""Limits the connections of each client, from the moment they are accepted.

Silent sockets and unfinished TLS handshakes count too. A client beyond its limit loses its
longest idle connection; a connection with a request in progress is never closed. So many idle
sockets of one client affect no other client.
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
    """A client's socket, counted until it is closed."""

    on_close: Callable[[CountedSocket], None] | None = None
    """Called once, at close."""
    client_key = ""
    """Key of its client; see `client_address.client_key`."""
    peer: object = None
    """The client's address, as asyncio reports it."""
    idle_since_s: float | None = None
    """Since when the server waits for the client; None during a request."""

    def close(self) -> None:
        """Close the socket, and stop counting it."""
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close(self)
        super().close()


class ConnectionLimiter:
    """Admits connections within limits. One event loop.

    Args:
        max_connections: Limit of all connections.
        max_per_client: Limit for one client; trusted proxies have none.
        is_trusted_proxy: Returns True for the address of a trusted proxy.
        is_tls: With TLS, refused connections get no response.
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
        """Connections that were refused or closed as idle."""

    def __len__(self) -> int:
        return len(self._by_peer)

    def admit(self, accepted: CountedSocket, address: str) -> bool:
        """Count a new connection, closing an idle one if needed; return False if refused.

        A refused connection has been answered and closed.
        """
        limit = self._max_connections
        if not is_loopback_address(address):
            limit -= _RESERVED_FOR_LOOPBACK
        key = client_key(address)
        if len(self._by_client.get(key, ())) >= self._max_per_client and not self._is_trusted_proxy(
            address
        ):
            is_admitted = self._close_longest_idle(key)
        elif len(self) >= limit:
            is_admitted = self._close_longest_idle(
                max(self._by_client, key=lambda each: len(self._by_client[each]))
            )
        else:
            is_admitted = True
        if not is_admitted:
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
        """Return the connection of a peer address."""
        return self._by_peer.get(peer)

    def _release(self, accepted: CountedSocket) -> None:
        sockets = self._by_client.get(accepted.client_key)
        if sockets is not None:
            sockets.pop(accepted, None)
            if not sockets:
                del self._by_client[accepted.client_key]
        if self._by_peer.get(accepted.peer) is accepted:
            del self._by_peer[accepted.peer]

    def _close_longest_idle(self, key: str) -> bool:
        """Close the connection of a client that has been idle longest; False if none is idle."""
        idle = [each for each in self._by_client.get(key, ()) if each.idle_since_s is not None]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.idle_since_s or 0.0)
        oldest.on_close = None
        self._release(oldest)
        self.refused_count += 1
        with contextlib.suppress(OSError):  # asyncio sees the end, and closes it
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def _refuse(self, accepted: CountedSocket) -> None:
        with contextlib.suppress(OSError):
            if not self._is_tls:
                accepted.send(_REFUSED_RESPONSE % (len(_REFUSED_BODY), _REFUSED_BODY))
            accepted.shutdown(socket.SHUT_WR)
        accepted.close()


class LimitedListener(socket.socket):
    """A listening socket whose `accept` returns only admitted connections.

    Args:
        bound: The bound socket to take over.
        limiter: Decides which connections are admitted.
    """

    def __init__(self, bound: socket.socket, limiter: ConnectionLimiter) -> None:
        family, kind, protocol = bound.family, bound.type, bound.proto
        super().__init__(family, kind, protocol, fileno=bound.detach())
        self._limiter = limiter
        self._accepted_in_batch = 0

    def accept(self) -> tuple[socket.socket, object]:
        """Return the next admitted connection.

        Raises:
            BlockingIOError: No connection is pending, or the batch is full: the event loop
                handles the accepted ones first.
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
                with contextlib.suppress(OSError):  # bounds the data queued for a slow client
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                if self._limiter.admit(accepted, str(address[0])):
                    return accepted, address
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._accepted_in_batch = 0
            raise
        self._accepted_in_batch = 0
        raise BlockingIOError
