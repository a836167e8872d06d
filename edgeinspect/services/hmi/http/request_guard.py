"""The fence: what every request must pass before it reaches a route, and every answer carries.

Who asks and under which name (`proxies.py`), method, size of the body, for actions the origin
and the kind of the body (against other sites' forms), and whose turn it is. No request gets a
traceback, and none writes one into the log more than once a second.
Source: OWASP's cheat sheets on CSRF prevention and HTTP headers; the CSP is level 3.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeinspect.domain.clock import Clock, SystemClock
from edgeinspect.services.hmi.http.client_address import counted_as
from edgeinspect.services.hmi.http.rate_limit import Turns
from edgeinspect.services.hmi.http.reverse_proxy import (
    Asked,
    Proxies,
    inside,
    is_same_origin,
    name_of,
)
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited

_log = structlog.get_logger()
MOST_BODY_BYTES = 4096
_METHODS = {"GET", "HEAD", "POST"}
_FOR_PROGRAMS = {"/metrics", "/api/state"}
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
_HSTS = "max-age=15552000"
"""Half a year; of this name alone, for others of the plant may speak no TLS."""
_OVERLOAD = "Edgeinspect-Overload"
_PROXY_REMEDY = (
    "If a reverse proxy stands in front of the page, let it pass the browser's own Host and scheme "
    "(nginx: proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;) and "
    "name it under `proxies` in the page's file: docs/page.md, Behind a reverse proxy"
)


class BodyTooLargeError(Exception):
    """A body went on after its limit. Raised where it is read, so that the app answers it."""


def overload(what: str, words: str, wait_s: int) -> Response:
    """The answer to too much: 429, never the 503 of a line that is not inspected."""
    return JSONResponse(
        {"problem": words, "overload": what},
        429,
        {"Retry-After": str(wait_s), _OVERLOAD: what},
    )


class Fence:
    """ASGI middleware. One loop.

    Args:
        app: What is behind it.
        hosts: Names by which it may be asked, lower case, without a port.
        requests_per_s: More than these wait for their turn: what the page can cost the PC
            is bounded, whoever asks.
        proxies: Those that are believed.
        clock: For the log's rate.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        requests_per_s: float = 1_000_000,
        proxies: Proxies | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._turns = Turns(requests_per_s)
        self._hosts = frozenset(hosts)
        self._proxies = proxies or Proxies()
        self._limited = RateLimited(_log, clock or SystemClock())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        asked = self._proxies.read(scope)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if asked.scheme == "https" and asked.scheme_known:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        scope = self._seen(scope, asked)
        try:
            refused = self._refuse(scope, asked) or await self._wait(scope, asked)
            await (refused or self._app)(scope, _limited(receive), answer)
        except ClientDisconnect:  # nobody is there any more to be answered
            pass
        except Exception as error:
            self._limited.error(
                log_events.REQUEST_FAILED,
                path=scope["path"][:200],
                address=asked.client,
                exc_info=error,
            )
            if not begun:
                await _no(500, "the page failed; its log says how")(scope, receive, answer)

    def _seen(self, scope: Scope, asked: Asked) -> Scope:
        """The scope with the browser's own address and scheme, and the prefix as ASGI has it."""
        port = scope["client"][1] if scope.get("client") else 0
        path = inside(scope["path"], asked.prefix)
        return {
            **scope,
            "client": (asked.client, port),
            "scheme": asked.scheme,
            "root_path": asked.prefix,
            "path": asked.prefix + path,
            "asked_path": scope["path"],
        }

    async def _wait(self, scope: Scope, asked: Asked) -> Response | None:
        """The request's turn; refused when that is too far away.

        A program that looks after the page has a turn of its own beside the browsers of its
        address.
        """
        kind = " program" if inside(scope["path"], asked.prefix) in _FOR_PROGRAMS else ""
        if await self._turns.take(counted_as(asked.client) + kind):
            return None
        return overload("requests", "too many requests; try again", 5)

    def _known(self, name: str) -> bool:
        """A number cannot be rebound by a foreign name server; a name must be ours."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _refuse(self, scope: Scope, asked: Asked) -> Response | None:
        headers = Headers(scope=scope)
        if not self._known(name_of(asked.host)):
            return _no(421, "this page is not known under that name; see `hosts` in docs/page.md")
        if scope["method"] not in _METHODS:
            return _no(405, "only GET and POST")
        if "transfer-encoding" in headers and "content-length" in headers:
            # Two programs may take another of them for the body's end (RFC 9112, 6.3).
            refused = _no(400, "a body has one length")
            refused.headers["Connection"] = "close"
            return refused
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length[:18]) > MOST_BODY_BYTES:
            return _no(413, "the body is too large")
        if scope["method"] == "POST":
            return _refuse_action(headers, asked)
        if asked.prefix and scope["asked_path"] == asked.prefix:
            return RedirectResponse(f"{asked.prefix}/", 308)
        return None


def _refuse_action(headers: Headers, asked: Asked) -> Response | None:
    """An action comes from our own page, as JSON: no form of another site can send that."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _no(403, "actions come from this page alone")
    origin = headers.get("origin")
    if origin is not None and not is_same_origin(origin, asked):
        words = f"actions come from this page alone: it was asked for as {asked.host}"
        if asked.scheme_known:
            words += f" by {asked.scheme}"
        return _no(403, f"{words}, which is not the browser's origin. {_PROXY_REMEDY}")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
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


def _no(status: int, words: str) -> PlainTextResponse:
    return PlainTextResponse(f"{words}\n", status)
