"""HTTP/1.1 on one connection, with timeouts for everything the client has to send or read.

uvicorn's own protocol has a timeout between two requests only: a client could hold a connection
with half a head, a body that never comes, or a response that it never reads.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter, CountedSocket

HEAD_TIMEOUT_S = 10.0
"""For a whole head, from the start of the connection or the end of the last response."""
BODY_TIMEOUT_S = 10.0
"""For a whole body, of at most 4 KiB."""
DRAIN_TIMEOUT_S = 10.0
"""For the client to read what was written."""
KEEP_ALIVE_S = 10
_TIMEOUT_RESPONSE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_BAD_REQUEST_RESPONSE = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class TimedProtocol(H11Protocol):
    """One connection. Event loop thread."""

    limiter: ClassVar[ConnectionLimiter]
    """Counts the connection; set by `protocol_for`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._socket: CountedSocket | None = None
        self._receive_timer: asyncio.TimerHandle | None = None
        self._awaited = ""
        self._drain_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handle a new connection, after the TLS handshake."""
        super().connection_made(transport)
        self._socket = self.limiter.find(transport.get_extra_info("peername"))
        if self._socket is None:  # closed as idle meanwhile
            transport.abort()
            return
        self._await_from_client("head", HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        self._await_from_client("", 0)
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        try:
            super().data_received(data)
        except (ValueError, h11.ProtocolError):  # such as a number of 5,000 digits in a head
            self._respond_and_close(_BAD_REQUEST_RESPONSE)
            return
        if not self.transport.is_closing():
            self._update_receive_timer()

    def on_response_complete(self) -> None:
        """Handle the end of a response."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_drain_timer()
        else:
            self._update_receive_timer()

    def pause_writing(self) -> None:
        """Handle a full write buffer."""
        super().pause_writing()
        self._start_drain_timer()

    def resume_writing(self) -> None:
        """Handle a drained write buffer."""
        super().resume_writing()
        if self._drain_timer is not None and not self.transport.is_closing():
            self._drain_timer.cancel()
            self._drain_timer = None

    def _start_drain_timer(self) -> None:
        """Abort the connection unless the client reads in time."""
        if self._drain_timer is None:
            self._drain_timer = self.loop.call_later(DRAIN_TIMEOUT_S, self.transport.abort)

    def _update_receive_timer(self) -> None:
        """Start the timeout for what the client must send now."""
        cycle: Any = self.cycle  # None before the first request, against its type
        is_responding = cycle is not None and not cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY:
            self._await_from_client("body", BODY_TIMEOUT_S)
        elif self.conn.their_state is h11.IDLE and not is_responding:
            self._await_from_client(
                "head", HEAD_TIMEOUT_S + (KEEP_ALIVE_S if cycle is not None else 0)
            )
        else:
            self._await_from_client("", 0)

    def _await_from_client(self, what: str, timeout_s: float) -> None:
        """Start a timeout; further bytes of the same part do not restart it."""
        if what == self._awaited:
            return
        self._awaited = what
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None
        if what:
            self._receive_timer = self.loop.call_later(timeout_s, self._on_receive_timeout)
        if self._socket is not None:
            self._socket.idle_since_s = time.monotonic() if what else None

    def _on_receive_timeout(self) -> None:
        """Close the connection after a timeout."""
        self._receive_timer = None
        cycle: Any = self.cycle
        has_started = cycle is not None and cycle.response_started
        is_silent = self._awaited == "head" and not self.conn.trailing_data[0]
        self._respond_and_close(
            b"" if is_silent or (has_started and self._awaited == "body") else _TIMEOUT_RESPONSE
        )

    def _respond_and_close(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)
            self.transport.close()
            self._start_drain_timer()


def protocol_for(limiter: ConnectionLimiter) -> type[TimedProtocol]:
    """Return the protocol class for connections counted by a limiter."""
    return type("LimitedProtocol", (TimedProtocol,), {"limiter": limiter})
