"""Limits on the connections of a PLC link: allowed addresses, which connection closes when there
are too many, and the errors and addresses of its sockets.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from edgeinspect.errors import AddressError, ConfigError, ConfigFault, EdgeInspectError


class ConnectedPeer(Protocol):
    """One open connection, or one session."""

    address: str
    """IP address of the remote side, as returned by `address_of`."""
    is_established: bool
    """True after what only a real client does: a complete request, or an activated session."""
    last_received_ns: int
    """Monotonic time at which its last bytes were received."""


P = TypeVar("P", bound=ConnectedPeer)


class AddressAllowlist:
    """The addresses that may connect."""

    def __init__(self, allow: Sequence[str]) -> None:
        """Allow addresses (`192.0.2.20`) and networks (`192.0.2.0/24`); all if there are none.

        Raises:
            ValueError: An entry is neither.
        """
        self._networks = [_parse_network(entry) for entry in allow]

    def allows(self, address: str) -> bool:
        """Whether this address may connect."""
        if not self._networks:
            return True
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._networks)


def address_of(peer_name: Any) -> str:
    """Return the IP address of a socket's peer, without zone; a mapped IPv4 address as IPv4."""
    host = str(peer_name[0]) if isinstance(peer_name, tuple) and peer_name else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def strip_brackets(host: str) -> str:
    """Return a host without the brackets of an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def format_address(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    host = strip_brackets(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def discard_unsent(connection: socket.socket | None) -> None:
    """Discard unsent data when the connection is closed.

    Otherwise the system retransmits it for minutes: an image from before a cable was pulled
    would reach the PLC after those of the next connection.
    """
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def peer_to_close(peers: Iterable[P], new_address: str) -> P:
    """Return the connection to close for a new one.

    Of the address with the most connections, first one that is not established, then the one
    that was silent longest: a client that opens hundreds of connections closes its own, not
    those of the PLC.

    Args:
        peers: All that are open; at least one.
        new_address: Address of the new connection.
    """
    every = list(peers)
    held = Counter(peer.address for peer in every)
    held[new_address] += 1
    return min(
        every, key=lambda peer: (-held[peer.address], peer.is_established, peer.last_received_ns)
    )


def _parse_network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(strip_brackets(entry))
    except ValueError as error:
        raise ValueError(
            f"allow: '{entry}' is not an address such as 192.0.2.20, nor a network such as "
            "192.0.2.0/24"
        ) from error


def listen_error(error: Exception, where: str) -> EdgeInspectError:
    """Return the error to raise if a server cannot listen.

    An address in use, or not assigned yet, may become available: systemd restarts the unit.
    """
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else str(error) or type(error).__name__
    if number in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE):
        return AddressError(f"link.port: cannot listen: {reason}", where=where)
    return ConfigError([ConfigFault("link.port", f"cannot listen: {reason}", where)])
