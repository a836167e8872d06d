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

from edgeinspect.services.hmi.http.client_address import counted_as, is_loopback_address

_SEND_BUFFER_BYTES = 256 << 10
_ACCEPTED_AT_ONCE = 32
_KEPT_FOR_LOOPBACK = 16
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Edgeinspect-Overload: connections\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)
_WORDS = b'{"problem": "too many connections", "overload": "connections"}'


class Accepted(socket.socket):
    """A client's socket, which is counted until it is closed."""

    left: Callable[[Accepted], None] | None = None
    """Called once, when it is closed."""
    key = ""
    """What its client is counted under."""
    peer: object = None
    """The client's address, as asyncio tells it too."""
    owes_since_s: float | None = None
    """Since when the client has owed bytes; None while it is being answered."""

    def close(self) -> None:
        """Close it, and count it no more."""
        left, self.left = self.left, None
        if left is not None:
            left(self)
        super().close()


class Gate:
    """Who may be connected. One loop.

    Args:
        most: Connections in all.
        most_each: Connections of one address; a proxy that is trusted has no limit of its own.
        trusts: True for the address of such a proxy.
        secure: True where TLS is spoken: then a refusal has no words.
    """

    def __init__(
        self, most: int, most_each: int, trusts: Callable[[str], bool], *, secure: bool = False
    ) -> None:
        self._most = most
        self._most_each = most_each
        self._trusts = trusts
        self._secure = secure
        self._held: dict[str, dict[Accepted, None]] = defaultdict(dict)
        self._by_peer: dict[object, Accepted] = {}
        self.refused = 0
        """Connections that were turned away or taken back."""

    def __len__(self) -> int:
        return len(self._by_peer)

    def admit(self, accepted: Accepted, address: str) -> bool:
        """Count a new connection, at the price of an idle one if need be; False if it is refused.

        What is refused has been answered and closed.
        """
        loopback = is_loopback_address(address)
        key = counted_as(address)
        most = self._most if loopback else self._most - _KEPT_FOR_LOOPBACK
        if len(self._held.get(key, ())) >= self._most_each and not self._trusts(address):
            fits = self._take_back(key)
        elif len(self) >= most:
            fits = self._take_back(max(self._held, key=lambda each: len(self._held[each])))
        else:
            fits = True
        if not fits:
            self.refused += 1
            self._turn_away(accepted)
            return False
        accepted.key = key
        accepted.owes_since_s = time.monotonic()
        accepted.left = self._leave
        self._held[key][accepted] = None
        self._by_peer[accepted.peer] = accepted
        return True

    def find(self, peer: object) -> Accepted | None:
        """The connection of a peer's address, as asyncio tells it."""
        return self._by_peer.get(peer)

    def _leave(self, accepted: Accepted) -> None:
        held = self._held.get(accepted.key)
        if held is not None:
            held.pop(accepted, None)
            if not held:
                del self._held[accepted.key]
        if self._by_peer.get(accepted.peer) is accepted:
            del self._by_peer[accepted.peer]

    def _take_back(self, key: str) -> bool:
        """Close the connection of an address on which it has owed us something longest."""
        idle = [each for each in self._held.get(key, ()) if each.owes_since_s is not None]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.owes_since_s or 0.0)
        oldest.left = None
        self._leave(oldest)
        self.refused += 1
        with contextlib.suppress(OSError):  # the loop hears the end, and closes it
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def _turn_away(self, accepted: Accepted) -> None:
        with contextlib.suppress(OSError):
            if not self._secure:
                accepted.send(_FULL % (len(_WORDS), _WORDS))
            accepted.shutdown(socket.SHUT_WR)
        accepted.close()


class Listener(socket.socket):
    """A listening socket whose `accept` gives out only what a gate admits.

    Args:
        bound: The socket that it takes over.
        gate: Who may be connected.
    """

    def __init__(self, bound: socket.socket, gate: Gate) -> None:
        family, kind, protocol = bound.family, bound.type, bound.proto
        super().__init__(family, kind, protocol, fileno=bound.detach())
        self._gate = gate
        self._given = 0

    def accept(self) -> tuple[socket.socket, object]:
        """The next client that is admitted.

        Raises:
            BlockingIOError: Nobody waits, or so many came at once that the loop shall first see
                to those it has.
        """
        if self._given >= _ACCEPTED_AT_ONCE:
            self._given = 0
            raise BlockingIOError
        try:
            while self._given < _ACCEPTED_AT_ONCE:
                handle, address = self._accept()  # type: ignore[attr-defined]
                self._given += 1
                accepted = Accepted(self.family, self.type, self.proto, fileno=handle)
                accepted.setblocking(False)
                accepted.peer = address
                with contextlib.suppress(OSError):  # what waits for a slow client is bounded
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                if self._gate.admit(accepted, str(address[0])):
                    return accepted, address
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._given = 0
            raise
        self._given = 0
        raise BlockingIOError
