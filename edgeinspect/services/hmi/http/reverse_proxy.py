"""Resolves client address, scheme, host and prefix of requests that come through a proxy.

Only proxies named in the configuration are trusted. Their headers may still contain what a
browser sent, so each value is validated, and none is reflected unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from edgeinspect.services.hmi.http.client_address import Network, is_in_networks, parse_address

PREFIX_PATTERN = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._~-]{0,63}){1,8}")
"""A valid path prefix: no empty or dotted part, nothing encoded."""
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
    """Properties of a request as the browser sent it."""

    client: str
    """The browser's address, if known; else the peer's."""
    scheme: str
    """`http` or `https`, of the browser's connection."""
    is_scheme_known: bool
    """False if an unnamed proxy with TLS may be in front."""
    host: str
    """Host with port, as in the browser's address bar; empty if invalid."""
    is_port_known: bool
    """False if a proxy forwards the host without its port."""
    prefix: str
    """Path prefix, such as `/line7`; empty for none."""
    is_proxied: bool
    """True if it came through a trusted proxy."""


class TrustedProxies:
    """The trusted reverse proxies.

    Args:
        networks: Their addresses.
        prefix: Path under which they publish the HMI, such as `/line7`; empty for none.
    """

    def __init__(self, networks: Sequence[Network] = (), prefix: str = "") -> None:
        self._networks = tuple(networks)
        self._prefix = prefix

    def is_trusted(self, address: str) -> bool:
        """Return True for the address of a trusted proxy."""
        return is_in_networks(address, self._networks)

    def resolve(self, scope: Scope) -> OriginalRequest:
        """Return the properties of a request, with a trusted proxy's headers."""
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        host = headers.get("host", "")
        is_tls = scope.get("scheme") == "https"
        path: str = scope["path"]
        is_proxied = self.is_trusted(peer) and any(name in headers for name in _FORWARDED_HEADERS)
        if not is_proxied:
            prefix = self._prefix if _has_prefix(path, self._prefix) else ""
            return OriginalRequest(
                peer, "https" if is_tls else "http", is_tls, _valid_host(host), True, prefix, False
            )
        proto = _last_value(headers, "x-forwarded-proto").lower()
        has_proto = proto in ("http", "https")
        original_host = _valid_host(_last_value(headers, "x-forwarded-host") or host)
        port = _last_value(headers, "x-forwarded-port")
        has_port = _has_port(original_host)
        if not has_port and original_host and _PORT.fullmatch(port):
            original_host, has_port = f"{original_host}:{port}", True
        prefix = _last_value(headers, "x-forwarded-prefix").rstrip("/")
        if not PREFIX_PATTERN.fullmatch(prefix):
            prefix = self._prefix
        return OriginalRequest(
            self._client(headers, peer),
            proto if has_proto else "https" if is_tls else "http",
            has_proto or is_tls,
            original_host,
            has_port,
            prefix,
            True,
        )

    def _client(self, headers: Headers, peer: str) -> str:
        """Return the right-most untrusted address; clients can forge those to its left."""
        text = ",".join(headers.getlist("x-forwarded-for"))[-_MAX_CHARACTERS:]
        client = peer
        for hop in text.split(",")[: -_MAX_HOPS - 1 : -1]:
            address = parse_address(hop)
            if address is None:
                break
            client = str(address)
            if not self.is_trusted(client):
                break
        return client


def is_same_origin(origin: str, original: OriginalRequest) -> bool:
    """Return True if an Origin header matches the request as the browser sent it."""
    scheme, mark, rest = origin.partition("://")
    if not mark or scheme not in ("http", "https") or not original.host:
        return False
    if original.is_scheme_known and scheme != original.scheme:
        return False
    name, port = _split_port(rest)
    own_name, own_port = _split_port(original.host)
    if name != own_name:
        return False
    default_port = "443" if scheme == "https" else "80"
    if own_port is None and not original.is_port_known:
        return True
    return (port or default_port) == (own_port or default_port)


def hostname_of(host: str) -> str:
    """Return a Host header's name without its port, in lower case."""
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
    """Return the last value of a list: the nearest proxy's."""
    return ",".join(headers.getlist(name))[-_MAX_CHARACTERS:].rpartition(",")[2].strip()


def _has_prefix(path: str, prefix: str) -> bool:
    return bool(prefix) and (path == prefix or path.startswith(f"{prefix}/"))


def strip_prefix(path: str, prefix: str) -> str:
    """Return a path without its prefix, if it has one."""
    return path[len(prefix) :] or "/" if _has_prefix(path, prefix) else path
