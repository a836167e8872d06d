"""The ASGI application: routes behind the request guard, and background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgeinspect.services.hmi.action_routes import ActionRoutes, ApiError
from edgeinspect.services.hmi.event_stream import EventStream
from edgeinspect.services.hmi.http.request_guard import (
    BodyTooLargeError,
    RequestGuard,
    body_too_large_response,
)
from edgeinspect.services.hmi.http.reverse_proxy import TrustedProxies
from edgeinspect.services.hmi.http.tls import RenewableCertificate
from edgeinspect.services.hmi.read_routes import ReadRoutes


def make_app(
    routes: ReadRoutes,
    actions: ActionRoutes,
    stream: EventStream,
    hosts: Sequence[str],
    requests_per_s: float,
    proxies: TrustedProxies | None = None,
    certificate: RenewableCertificate | None = None,
) -> ASGIApp:
    """Build the application.

    Args:
        routes: The GET routes.
        actions: The POST routes.
        stream: Runs as a task while the server runs.
        hosts: Host names that requests may use.
        requests_per_s: More requests wait.
        proxies: Trusted reverse proxies.
        certificate: Checked for renewal while the server runs.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(stream.run())]
        if certificate is not None:
            tasks.append(asyncio.create_task(certificate.run()))
        try:
            yield
        finally:
            stream.close()
            for task in tasks:
                task.cancel()

    def get(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, handler, methods=["GET"])

    def post(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, handler, methods=["POST"])

    app = Starlette(
        routes=[
            get("/", routes.index),
            get("/static/{name}", routes.static),
            get("/stream", routes.stream),
            get("/metrics", routes.metrics),
            get("/api/state", routes.state),
            get("/api/trend", routes.trend),
            get("/api/search", routes.search),
            get("/api/verdict/{seq}", routes.verdict),
            get("/api/engines", routes.engines),
            get("/api/events", routes.events),
            get("/api/session", actions.whoami),
            get("/picture/{seq}.jpg", routes.image),
            get("/thumb/{seq}.jpg", routes.thumbnail),
            get("/mask/{seq}.png", routes.mask),
            post("/api/login", actions.login),
            post("/api/logout", actions.logout),
            post("/api/acknowledge", actions.acknowledge),
            post("/api/challenge", actions.challenge),
            post("/api/promote", actions.promote),
        ],
        exception_handlers={
            ApiError: _api_error_response,
            BodyTooLargeError: body_too_large_response,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would reflect the client's Host header
    return RequestGuard(app, hosts, requests_per_s, proxies)


async def _api_error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    return JSONResponse({"problem": str(error)}, error.status, headers)
