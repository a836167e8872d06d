"""Builds the uvicorn server, with the HMI's protocol, TLS and log."""

from __future__ import annotations

import logging

import uvicorn
from starlette.types import ASGIApp

from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter
from edgeinspect.services.hmi.http.protocol import KEEP_ALIVE_S, protocol_for
from edgeinspect.services.hmi.http.request_guard import MAX_BODY_BYTES
from edgeinspect.services.hmi.http.tls import RenewableCertificate
from edgeinspect.system import RateLimitedLogger, log_events


def make_server(
    app: ASGIApp,
    limiter: ConnectionLimiter,
    certificate: RenewableCertificate | None,
    host: str = "",
    port: int = 0,
) -> uvicorn.Server:
    """Build a server, to be run with a `LimitedListener` of the same limiter.

    Args:
        app: The application.
        limiter: Counts connections.
        certificate: For TLS; None for plain HTTP.
        host: For `config.bind_socket`.
        port: For `config.bind_socket`.
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
        proxy_headers=False,  # `reverse_proxy` handles them
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=4 * MAX_BODY_BYTES,
    )
    config.load()
    config.ssl = certificate.context if certificate is not None else None
    return uvicorn.Server(config)


_LOGGER_NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
_MAX_CHARACTERS = 300


class _ThrottledHandler(logging.Handler):
    def __init__(self, throttled_log: RateLimitedLogger) -> None:
        super().__init__(logging.WARNING)
        self._throttled_log = throttled_log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        message = record.getMessage().partition("\n")[0][:_MAX_CHARACTERS]
        cause = f"{type(error).__name__}: {error}"[:_MAX_CHARACTERS] if error else ""
        self._throttled_log.warning(
            log_events.LIBRARY_WARNED, library=record.name, words=message, cause=cause
        )


def redirect_library_logs(throttled_log: RateLimitedLogger) -> None:
    """Write warnings of uvicorn and asyncio to the HMI's log, throttled and without tracebacks.

    They log a line for each malformed request and a traceback for some disconnects: any client
    could fill the disk.
    """
    handler = _ThrottledHandler(throttled_log)
    for name in _LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if "." not in name else []
        logger.propagate = "." in name
