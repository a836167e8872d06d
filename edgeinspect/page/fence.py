"""The fence: what every request must pass before it reaches a route, and every answer carries.

Host (against DNS rebinding), method, size of the body, and for actions the origin and the
kind of the body (against other sites' forms).
Source: OWASP's cheat sheets on CSRF prevention and HTTP headers; the CSP is level 3.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 4096
_BURST = 40
"""Requests at once before any waits: a browser that opens the page asks for some twenty."""
_LONGEST_S = 5.0
_METHODS = {"GET", "HEAD", "POST"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "manifest-src 'self'"
)
HEADERS: dict[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""On every answer."""


class BodyTooLargeError(Exception):
    """A body went on after its limit. Raised where it is read, so that the app answers it."""


class Fence:
    """ASGI middleware. One loop.

    Args:
        app: What is behind it.
        hosts: Names by which it may be asked, lower case, without a port.
        requests_per_s: More than these wait for their turn: what the page can cost the PC
            is bounded, whoever asks.
    """

    def __init__(
        self, app: ASGIApp, hosts: Sequence[str], requests_per_s: float = 1_000_000
    ) -> None:
        self._app = app
        self._period_s = 1 / requests_per_s
        self._next_s = 0.0
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refuse(scope) or await self._wait()
        if refused is not None:
            await refused(scope, receive, answer)
            return
        await self._app(scope, _limited(receive), answer)

    async def _wait(self) -> PlainTextResponse | None:
        """The request's turn; refused when that is too far away."""
        now_s = time.monotonic()
        at_s = max(self._next_s, now_s - _BURST * self._period_s)
        if at_s - now_s > _LONGEST_S:
            return _no(503, "too many requests")
        self._next_s = at_s + self._period_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)
        return None

    def _known(self, name: str) -> bool:
        """A number cannot be rebound by a foreign name server; a name must be ours."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(_name_of(host)):
            return _no(421, "this page is not known under that name; see `hosts` in docs/page.md")
        if scope["method"] not in _METHODS:
            return _no(405, "only GET and POST")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:18]) > MOST_BODY_BYTES:
            return _no(413, "the body is too large")
        if scope["method"] == "POST":
            return _refuse_action(headers, host)
        return None


def _refuse_action(headers: Headers, host: str) -> PlainTextResponse | None:
    """An action comes from our own page, as JSON: no form of another site can send that."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _no(403, "actions come from this page alone")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return _no(403, "actions come from this page alone")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _no(415, "an action is JSON")
    return None


def _limited(receive: Receive) -> Receive:
    """A chunked body says no length: it is counted as it comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MOST_BODY_BYTES:
                raise BodyTooLargeError
        return message

    return counted


async def too_large(_request: Request, _error: Exception) -> Response:
    """The answer to a `BodyTooLargeError`."""
    return _no(413, "the body is too large")


def _name_of(host: str) -> str:
    """A Host header's name without its port."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0]


def _no(status: int, words: str) -> PlainTextResponse:
    return PlainTextResponse(f"{words}\n", status)
