"""Reverse proxies: who asked, under which name and prefix, when a proxy asks for somebody else.

Only a proxy that the configuration names is believed. Everything it passes on may still come
from a browser, so each value is checked here, and none is repeated in an answer unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from edgeinspect.services.hmi.http.client_address import Network, is_in_networks, parse_address

PREFIX_PATTERN = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._~-]{0,63}){1,8}")
"""What a path in front of the page's own may be: no empty or dotted part, nothing encoded."""
RESERVED_PATHS = ("api", "mask", "metrics", "picture", "static", "stream", "thumb")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?")
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_HOPS = 16
_MAX_CHARACTERS = 2_000
_FORWARDED_HEADERS = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
)


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A request as the browser made it."""

    client: str
    """The browser's address, as far as it is known."""
    scheme: str
    """`http` or `https`, of the browser's own connection."""
    is_scheme_known: bool
    """False where a proxy that is not named may stand in front with TLS."""
    host: str
    """Name with its port, as in the browser's address bar; empty if unusable."""
    is_port_known: bool
    """False if a proxy passes the name on without its port."""
    prefix: str
    """In front of the page's own paths, as `/line7`; empty for none."""
    is_proxied: bool
    """True if it came through a proxy that the configuration names."""


class TrustedProxies:
    """Those that are believed.

    Args:
        networks: Their addresses.
        prefix: The path under which they show the page, as `/line7`; empty for none.
    """

    def __init__(self, networks: Sequence[Network] = (), prefix: str = "") -> None:
        self._networks = tuple(networks)
        self._prefix = prefix

    def is_trusted(self, address: str) -> bool:
        """True for the address of a proxy."""
        return is_in_networks(address, self._networks)

    def resolve(self, scope: Scope) -> OriginalRequest:
        """What a request says, and a trusted proxy adds."""
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        host = headers.get("host", "")
        secure = scope.get("scheme") == "https"
        path: str = scope["path"]
        proxied = self.is_trusted(peer) and any(name in headers for name in _FORWARDED_HEADERS)
        if not proxied:
            prefix = self._prefix if _has_prefix(path, self._prefix) else ""
            return OriginalRequest(
                peer, "https" if secure else "http", secure, _valid_host(host), True, prefix, False
            )
        proto = _last_value(headers, "x-forwarded-proto").lower()
        named = proto in ("http", "https")
        told = _last_value(headers, "x-forwarded-host")
        outside = _valid_host(told or host)
        port = _last_value(headers, "x-forwarded-port")
        with_port = _has_port(outside)
        if not with_port and outside and _PORT.fullmatch(port):
            outside, with_port = f"{outside}:{port}", True
        prefix = _last_value(headers, "x-forwarded-prefix").rstrip("/")
        if not PREFIX_PATTERN.fullmatch(prefix):
            prefix = self._prefix
        return OriginalRequest(
            self._client(headers, peer),
            proto if named else "https" if secure else "http",
            named or secure,
            outside,
            with_port,
            prefix,
            True,
        )

    def _client(self, headers: Headers, peer: str) -> str:
        """The right-most address that is no proxy of ours: what is left of it anybody can write."""
        text = ",".join(headers.getlist("x-forwarded-for"))[-_MAX_CHARACTERS:]
        client = peer
        for hop in text.split(",")[: -_MAX_HOPS - 1 : -1]:
            found = parse_address(hop)
            if found is None:
                break
            client = str(found)
            if not self.is_trusted(client):
                break
        return client


def is_same_origin(origin: str, original: OriginalRequest) -> bool:
    """True if a browser's Origin header names the page itself, as the browser sees it."""
    scheme, mark, rest = origin.partition("://")
    if not mark or scheme not in ("http", "https") or not original.host:
        return False
    if original.is_scheme_known and scheme != original.scheme:
        return False
    name, port = _split_port(rest)
    own_name, own_port = _split_port(original.host)
    if name != own_name:
        return False
    usual = "443" if scheme == "https" else "80"
    if own_port is None and not original.is_port_known:
        return True
    return (port or usual) == (own_port or usual)


def hostname_of(host: str) -> str:
    """A Host header's name without its port, in lower case."""
    return _split_port(host)[0]


def _split_port(host: str) -> tuple[str, str | None]:
    host = host.lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":") or None
    name, _, port = host.partition(":")
    return name, port or None


def _valid_host(host: str) -> str:
    return host if _HOST.fullmatch(host) else ""


def _has_port(host: str) -> bool:
    return _split_port(host)[1] is not None


def _last_value(headers: Headers, name: str) -> str:
    """What the nearest proxy said: the last of a list."""
    return ",".join(headers.getlist(name))[-_MAX_CHARACTERS:].rpartition(",")[2].strip()


def _has_prefix(path: str, prefix: str) -> bool:
    return bool(prefix) and (path == prefix or path.startswith(f"{prefix}/"))


def strip_prefix(path: str, prefix: str) -> str:
    """The page's own path out of one with or without its prefix."""
    return path[len(prefix) :] or "/" if _has_prefix(path, prefix) else path
