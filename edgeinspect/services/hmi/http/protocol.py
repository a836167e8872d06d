"""HTTP on one connection, with a time for everything that the client owes us.

uvicorn's own protocol has a time-out between two requests alone: a client could keep a
connection with half a header, a body that never comes, or an answer that it never reads.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter, CountedSocket

HEAD_TIMEOUT_S = 10.0
"""For a whole head, from the connection's begin or the end of the answer before."""
BODY_TIMEOUT_S = 10.0
"""For a whole body, of at most 4 KiB."""
DRAIN_TIMEOUT_S = 10.0
"""For a client to take what has been written."""
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
    """One connection. The loop's thread."""

    gate: ClassVar[ConnectionLimiter]
    """Where it is counted; set by `protocol_for`."""

    def __init__(self, *arguments: Any, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self._socket: CountedSocket | None = None
        self._receive_timer: asyncio.TimerHandle | None = None
        self._awaited = ""
        self._drain_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection stands, and TLS with it."""
        super().connection_made(transport)
        self._socket = self.gate.find(transport.get_extra_info("peername"))
        if self._socket is None:  # taken back meanwhile
            transport.abort()
            return
        self._await_from_client("head", HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._await_from_client("", 0)
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        try:
            super().data_received(data)
        except (ValueError, h11.ProtocolError):  # a number of 5,000 digits in a head
            self._respond_and_close(_BAD_REQUEST_RESPONSE)
            return
        if not self.transport.is_closing():
            self._update_receive_timer()

    def on_response_complete(self) -> None:
        """An answer has been written whole."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_drain_timer()
        else:
            self._update_receive_timer()

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        super().pause_writing()
        self._start_drain_timer()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._drain_timer is not None and not self.transport.is_closing():
            self._drain_timer.cancel()
            self._drain_timer = None

    def _start_drain_timer(self) -> None:
        """What is written is taken in time, or given up."""
        if self._drain_timer is None:
            self._drain_timer = self.loop.call_later(DRAIN_TIMEOUT_S, self.transport.abort)

    def _update_receive_timer(self) -> None:
        """What does the client owe by now?"""
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        answering = cycle is not None and not cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY:
            self._await_from_client("body", BODY_TIMEOUT_S)
        elif self.conn.their_state is h11.IDLE and not answering:
            self._await_from_client(
                "head", HEAD_TIMEOUT_S + (KEEP_ALIVE_S if cycle is not None else 0)
            )
        else:
            self._await_from_client("", 0)

    def _await_from_client(self, what: str, within_s: float) -> None:
        """Begin to count; bytes that come one by one do not begin it anew."""
        if what == self._awaited:
            return
        self._awaited = what
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None
        if what:
            self._receive_timer = self.loop.call_later(within_s, self._on_receive_timeout)
        if self._socket is not None:
            self._socket.idle_since_s = time.monotonic() if what else None

    def _on_receive_timeout(self) -> None:
        """The client had its time."""
        self._receive_timer = None
        cycle: Any = self.cycle
        begun = cycle is not None and cycle.response_started
        silent = self._awaited == "head" and not self.conn.trailing_data[0]
        self._respond_and_close(
            b"" if silent or (begun and self._awaited == "body") else _TIMEOUT_RESPONSE
        )

    def _respond_and_close(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)
            self.transport.close()
            self._start_drain_timer()


def protocol_for(gate: ConnectionLimiter) -> type[TimedProtocol]:
    """The protocol of connections that a gate counts."""
    return type("GatedProtocol", (TimedProtocol,), {"gate": gate})
