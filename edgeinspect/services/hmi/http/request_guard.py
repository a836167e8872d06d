"""Middleware: checks every request before it reaches a route, and adds security headers.

Checks host name, method, body size and rate; for actions also origin and content type, against
forms of other sites. A failure is answered without a traceback and logged at most once a second.
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
"""On every response."""
_HSTS = "max-age=15552000"
"""Half a year, without subdomains: other hosts of the plant may have no TLS."""
_OVERLOAD_HEADER = "Edgeinspect-Overload"
_PROXY_REMEDY = (
    "If a reverse proxy is in front of the HMI, let it forward the browser's Host and scheme "
    "(nginx: proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;) and "
    "name it under `proxies` in the HMI's file: docs/howto/hmi.md, Behind a reverse proxy"
)


class BodyTooLargeError(Exception):
    """A chunked body exceeds the limit. Raised where the application reads it."""


def overload_response(what: str, message: str, retry_after_s: int) -> Response:
    """Return a 429 response; 503 is reserved for a line that is not inspected."""
    return JSONResponse(
        {"problem": message, "overload": what},
        429,
        {"Retry-After": str(retry_after_s), _OVERLOAD_HEADER: what},
    )


class RequestGuard:
    """ASGI middleware. One event loop.

    Args:
        app: The application.
        hosts: Host names that requests may use, lower case, without port.
        requests_per_s: More requests wait: bounds the load on the PC.
        proxies: Trusted reverse proxies.
        clock: Throttles the log.
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
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        original = self._proxies.resolve(scope)
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in RESPONSE_HEADERS.items():
                    headers.setdefault(name, value)
                if original.scheme == "https" and original.is_scheme_known:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        scope = self._rewrite_scope(scope, original)
        try:
            refusal = self._check_request(scope, original)
            refusal = refusal or await self._wait_for_slot(scope, original)
            await (refusal or self._app)(scope, _count_body(receive), send_with_headers)
        except ClientDisconnect:  # the client is gone
            pass
        except Exception as error:
            self._throttled_log.error(
                log_events.REQUEST_FAILED,
                path=scope["path"][:200],
                address=original.client,
                exc_info=error,
            )
            if not has_started:
                response = _error_response(500, "internal error; see the HMI's log")
                await response(scope, receive, send_with_headers)

    def _rewrite_scope(self, scope: Scope, original: OriginalRequest) -> Scope:
        """Return the scope with the browser's address and scheme, and the prefix as `root_path`."""
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
        """Wait for the rate limiter; return the response if it refuses.

        Monitoring programs are counted apart from the browsers at their address.
        """
        kind = " program" if strip_prefix(scope["path"], original.prefix) in _PROGRAM_PATHS else ""
        if await self._rate_limiter.acquire(client_key(original.client) + kind):
            return None
        return overload_response("requests", "too many requests; try again", 5)

    def _is_own_host(self, name: str) -> bool:
        """Return True for an IP address or a configured name, against DNS rebinding."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _check_request(self, scope: Scope, original: OriginalRequest) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_own_host(hostname_of(original.host)):
            return _error_response(421, "unknown host name; see `hosts` in docs/reference/hmi.md")
        if scope["method"] not in _METHODS:
            return _error_response(405, "only GET and POST are allowed")
        if "transfer-encoding" in headers and "content-length" in headers:
            # Proxies may disagree on the end of the body (RFC 9112, 6.3).
            refusal = _error_response(400, "a body has one length")
            refusal.headers["Connection"] = "close"
            return refusal
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length[:18]) > MAX_BODY_BYTES:
            return _error_response(413, "the body is too large")
        if scope["method"] == "POST":
            return _check_action(headers, original)
        if original.prefix and scope["asked_path"] == original.prefix:
            return RedirectResponse(f"{original.prefix}/", 308)
        return None


def _check_action(headers: Headers, original: OriginalRequest) -> Response | None:
    """Refuse an action unless it is JSON from the same origin, which other sites cannot send."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _error_response(403, "actions are accepted from the HMI's own origin only")
    origin = headers.get("origin")
    if origin is not None and not is_same_origin(origin, original):
        problem = f"actions are accepted from the HMI's own origin only: {original.host}"
        if original.is_scheme_known:
            problem += f" by {original.scheme}"
        problem += f", which is not the browser's origin. {_PROXY_REMEDY}"
        return _error_response(403, problem)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _error_response(415, "an action must be JSON")
    return None


def _count_body(receive: Receive) -> Receive:
    """Limit a chunked body, which has no length header."""
    received_bytes = 0

    async def counted() -> Message:
        nonlocal received_bytes
        message = await receive()
        if message["type"] == "http.request":
            received_bytes += len(message.get("body", b""))
            if received_bytes > MAX_BODY_BYTES:
                raise BodyTooLargeError
        return message

    return counted


async def body_too_large_response(_request: Request, _error: Exception) -> Response:
    """Return the response to a `BodyTooLargeError`."""
    return _error_response(413, "the body is too large")


def _error_response(status: int, message: str) -> PlainTextResponse:
    return PlainTextResponse(f"{message}\n", status)
