"""Addresses of clients, as they are counted: a network for a client that owns a whole network."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAX_CHARACTERS = 64


def parse_address(text: str) -> _Address | None:
    """An address out of `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]:5`; None for anything else.

    IPv4 mapped into IPv6 is IPv4, and a zone is left out.
    """
    text = text.strip().strip('"')
    if len(text) > _MAX_CHARACTERS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def client_key(address: str) -> str:
    """What a client is counted under: its address, or the /64 that an IPv6 client has to itself."""
    found = parse_address(address)
    if found is None:
        return address[:_MAX_CHARACTERS]
    if found.version == 6 and not found.is_loopback:
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def is_loopback_address(address: str) -> bool:
    """True for a client on this machine."""
    found = parse_address(address)
    return found is not None and found.is_loopback


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks out of `10.0.0.7`, `10.0.0.0/24`, `fd00::/8`.

    Raises:
        ValueError: One is neither an address nor a network.
    """
    return tuple(ipaddress.ip_network(text.strip(), strict=True) for text in texts)


def is_in_networks(address: str, networks: Sequence[Network]) -> bool:
    """True if a client's address lies in one of them."""
    found = parse_address(address)
    return found is not None and any(
        found.version == network.version and found in network for network in networks
    )
