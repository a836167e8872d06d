"""Parses client addresses and maps them to the key under which a client is counted."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAX_CHARACTERS = 64


def parse_address(text: str) -> _Address | None:
    """Parse `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]:5`; return None for anything else.

    IPv4 mapped into IPv6 becomes IPv4; a zone is dropped.
    """
    text = text.strip().strip('"')
    if len(text) > _MAX_CHARACTERS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def client_key(address: str) -> str:
    """Return the key of a client: its IPv4 address, or its IPv6 /64 network."""
    parsed = parse_address(address)
    if parsed is None:
        return address[:_MAX_CHARACTERS]
    if parsed.version == 6 and not parsed.is_loopback:
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def is_loopback_address(address: str) -> bool:
    """Return True for a client on this PC."""
    parsed = parse_address(address)
    return parsed is not None and parsed.is_loopback


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse addresses and networks such as `10.0.0.7`, `10.0.0.0/24`, `fd00::/8`.

    Raises:
        ValueError: A text is neither an address nor a network.
    """
    return tuple(ipaddress.ip_network(text.strip(), strict=True) for text in texts)


def is_in_networks(address: str, networks: Sequence[Network]) -> bool:
    """Return True if a client's address is in one of the networks."""
    parsed = parse_address(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in networks
    )
