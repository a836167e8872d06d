"""The HTTP server under the page: uvicorn, with our own protocol and TLS."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter
from edgeinspect.services.hmi.http.protocol import KEEP_ALIVE_S, protocol_for
from edgeinspect.services.hmi.http.request_guard import MAX_BODY_BYTES
from edgeinspect.services.hmi.http.tls import RenewableCertificate


def make_server(
    app: ASGIApp,
    limiter: ConnectionLimiter,
    certificate: RenewableCertificate | None,
    host: str = "",
    port: int = 0,
) -> uvicorn.Server:
    """A server that is to be run with a `connections.Listener` of the same gate.

    Args:
        app: What answers.
        gate: Where connections are counted.
        certificate: For TLS; None for plain HTTP.
        host: For `config.bind_socket`.
        port: As `host`.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol_for(limiter),
        ws="none",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # ours are believed by `proxies.py` alone
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=4 * MAX_BODY_BYTES,
    )
    config.load()
    config.ssl = certificate.context if certificate is not None else None
    return uvicorn.Server(config)
