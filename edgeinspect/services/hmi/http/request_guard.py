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

from edgeinspect.domain import Clock, SystemClock
from edgeinspect.services.hmi.http.client_address import client_key
from edgeinspect.services.hmi.http.rate_limit import FairRateLimiter
from edgeinspect.services.hmi.http.reverse_proxy import (
    OriginalRequest,
    TrustedProxies,
    hostname_of,
    is_same_origin,
    strip_prefix,
)
from edgeinspect.system import RateLimitedLogger, log_events

_log = structlog.get_logger()
MAX_BODY_BYTES = 4096
_METHODS = {"GET", "HEAD", "POST"}
_PROGRAM_PATHS = {"/metrics", "/api/state"}
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "manifest-src 'self'"
)
RESPONSE_HEADERS: dict[str, str] = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
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
_OVERLOAD_HEADER = "Edgeinspect-Overload"
_PROXY_REMEDY = (
    "If a reverse proxy stands in front of the page, let it pass the browser's own Host and scheme "
    "(nginx: proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;) and "
    "name it under `proxies` in the page's file: docs/hmi.md, Behind a reverse proxy"
)


class BodyTooLargeError(Exception):
    """A body went on after its limit. Raised where it is read, so that the app answers it."""


def overload_response(what: str, message: str, retry_after_s: int) -> Response:
    """The answer to too much: 429, never the 503 of a line that is not inspected."""
    return JSONResponse(
        {"problem": message, "overload": what},
        429,
        {"Retry-After": str(retry_after_s), _OVERLOAD_HEADER: what},
    )


class RequestGuard:
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
        proxies: TrustedProxies | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._rate_limiter = FairRateLimiter(requests_per_s)
        self._hosts = frozenset(hosts)
        self._proxies = proxies or TrustedProxies()
        self._throttled_log = RateLimitedLogger(_log, clock or SystemClock())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        asked = self._proxies.resolve(scope)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in RESPONSE_HEADERS.items():
                    headers.setdefault(name, value)
                if asked.scheme == "https" and asked.is_scheme_known:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        scope = self._rewrite_scope(scope, asked)
        try:
            refused = self._check_request(scope, asked) or await self._wait_for_slot(scope, asked)
            await (refused or self._app)(scope, _count_body(receive), answer)
        except ClientDisconnect:  # nobody is there any more to be answered
            pass
        except Exception as error:
            self._throttled_log.error(
                log_events.REQUEST_FAILED,
                path=scope["path"][:200],
                address=asked.client,
                exc_info=error,
            )
            if not begun:
                await _error_response(500, "the page failed; its log says how")(
                    scope, receive, answer
                )

    def _rewrite_scope(self, scope: Scope, original: OriginalRequest) -> Scope:
        """The scope with the browser's own address and scheme, and the prefix as ASGI has it."""
        port = scope["client"][1] if scope.get("client") else 0
        path = strip_prefix(scope["path"], original.prefix)
        return {
            **scope,
            "client": (original.client, port),
            "scheme": original.scheme,
            "root_path": original.prefix,
            "path": original.prefix + path,
            "asked_path": scope["path"],
        }

    async def _wait_for_slot(self, scope: Scope, original: OriginalRequest) -> Response | None:
        """The request's turn; refused when that is too far away.

        A program that looks after the page has a turn of its own beside the browsers of its
        address.
        """
        kind = " program" if strip_prefix(scope["path"], original.prefix) in _PROGRAM_PATHS else ""
        if await self._rate_limiter.acquire(client_key(original.client) + kind):
            return None
        return overload_response("requests", "too many requests; try again", 5)

    def _is_own_host(self, name: str) -> bool:
        """A number cannot be rebound by a foreign name server; a name must be ours."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _check_request(self, scope: Scope, original: OriginalRequest) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_own_host(hostname_of(original.host)):
            return _error_response(
                421, "this page is not known under that name; see `hosts` in docs/hmi.md"
            )
        if scope["method"] not in _METHODS:
            return _error_response(405, "only GET and POST")
        if "transfer-encoding" in headers and "content-length" in headers:
            # Two programs may take another of them for the body's end (RFC 9112, 6.3).
            refused = _error_response(400, "a body has one length")
            refused.headers["Connection"] = "close"
            return refused
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length[:18]) > MAX_BODY_BYTES:
            return _error_response(413, "the body is too large")
        if scope["method"] == "POST":
            return _check_action(headers, original)
        if original.prefix and scope["asked_path"] == original.prefix:
            return RedirectResponse(f"{original.prefix}/", 308)
        return None


def _check_action(headers: Headers, original: OriginalRequest) -> Response | None:
    """An action comes from our own page, as JSON: no form of another site can send that."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _error_response(403, "actions come from this page alone")
    origin = headers.get("origin")
    if origin is not None and not is_same_origin(origin, original):
        words = f"actions come from this page alone: it was asked for as {original.host}"
        if original.is_scheme_known:
            words += f" by {original.scheme}"
        return _error_response(403, f"{words}, which is not the browser's origin. {_PROXY_REMEDY}")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _error_response(415, "an action is JSON")
    return None


def _count_body(receive: Receive) -> Receive:
    """A chunked body says no length: it is counted as it comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise BodyTooLargeError
        return message

    return counted


async def body_too_large_response(_request: Request, _error: Exception) -> Response:
    """The answer to a `BodyTooLargeError`."""
    return _error_response(413, "the body is too large")


def _error_response(status: int, message: str) -> PlainTextResponse:
    return PlainTextResponse(f"{message}\n", status)
