"""Who may connect to a server of ours, who must make room for the next, and what goes with a
connection of ours that has ended.
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
    """One connection, or one session."""

    address: str
    """IP address of the other side, as `address_of` gives it."""
    is_established: bool
    """It has done what a real client does: a whole request, or an activated session."""
    last_received_ns: int
    """Monotonic time of its last bytes."""


P = TypeVar("P", bound=ConnectedPeer)


class AddressAllowlist:
    """Which addresses may connect."""

    def __init__(self, allow: Sequence[str]) -> None:
        """Addresses (`192.0.2.20`) and networks (`192.0.2.0/24`); none means everybody.

        Raises:
            ValueError: An entry is neither.
        """
        self._networks = [_parse_network(entry) for entry in allow]

    def allows(self, address: str) -> bool:
        """Whether a peer may stay."""
        if not self._networks:
            return True
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._networks)


def address_of(peer_name: Any) -> str:
    """The IP address of a socket's peer: IPv4 as such behind a socket for both, no zone."""
    host = str(peer_name[0]) if isinstance(peer_name, tuple) and peer_name else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def strip_brackets(host: str) -> str:
    """A host without the brackets that an IPv6 address has in an address with a port."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def format_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    host = strip_brackets(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def discard_unsent(connection: socket.socket | None) -> None:
    """Have what the network has not taken go with a connection, when it is closed.

    Else the system sends it again for minutes: an image of before a cable was pulled would
    come to the PLC behind those of the next connection.
    """
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def peer_to_close(peers: Iterable[P], new_address: str) -> P:
    """Which connection ends so that the next one fits; there is at least one.

    Of the address that would hold the most, what never proved itself, then what was silent
    longest: whoever opens hundreds of connections closes its own, not those of the PLC.

    Args:
        peers: All that are open.
        newcomer: Address of the one that wants in.
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
            f"allow: '{entry}' is no address such as 192.0.2.20 and no network such as 192.0.2.0/24"
        ) from error


def listen_error(error: Exception, where: str) -> EdgeInspectError:
    """What a server that cannot be bound raises.

    An address in use, or not there yet, may be free in a moment: systemd tries again.
    """
    number = error.errno if isinstance(error, OSError) else None
    words = os.strerror(number) if number else str(error) or type(error).__name__
    if number in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE):
        return AddressError(f"link.port: cannot be listened on: {words}", where=where)
    return ConfigError([ConfigFault("link.port", f"cannot be listened on: {words}", where)])
