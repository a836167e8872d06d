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

from edgeinspect.services.hmi.http.connection_limits import Accepted, Gate

HEAD_S = 10.0
"""For a whole head, from the connection's begin or the end of the answer before."""
BODY_S = 10.0
"""For a whole body, of at most 4 KiB."""
READ_S = 10.0
"""For a client to take what has been written."""
KEEP_ALIVE_S = 10
_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_BAD = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class TimedProtocol(H11Protocol):
    """One connection. The loop's thread."""

    gate: ClassVar[Gate]
    """Where it is counted; set by `protocol_for`."""

    def __init__(self, *arguments: Any, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self._place: Accepted | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._owed = ""
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection stands, and TLS with it."""
        super().connection_made(transport)
        self._place = self.gate.find(transport.get_extra_info("peername"))
        if self._place is None:  # taken back meanwhile
            transport.abort()
            return
        self._owe("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._owe("", 0)
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        try:
            super().data_received(data)
        except (ValueError, h11.ProtocolError):  # a number of 5,000 digits in a head
            self._end(_BAD)
            return
        if not self.transport.is_closing():
            self._look()

    def on_response_complete(self) -> None:
        """An answer has been written whole."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._be_read()
        else:
            self._look()

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        super().pause_writing()
        self._be_read()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._stuck is not None and not self.transport.is_closing():
            self._stuck.cancel()
            self._stuck = None

    def _be_read(self) -> None:
        """What is written is taken in time, or given up."""
        if self._stuck is None:
            self._stuck = self.loop.call_later(READ_S, self.transport.abort)

    def _look(self) -> None:
        """What does the client owe by now?"""
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        answering = cycle is not None and not cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY:
            self._owe("body", BODY_S)
        elif self.conn.their_state is h11.IDLE and not answering:
            self._owe("head", HEAD_S + (KEEP_ALIVE_S if cycle is not None else 0))
        else:
            self._owe("", 0)

    def _owe(self, what: str, within_s: float) -> None:
        """Begin to count; bytes that come one by one do not begin it anew."""
        if what == self._owed:
            return
        self._owed = what
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if what:
            self._deadline = self.loop.call_later(within_s, self._give_up)
        if self._place is not None:
            self._place.owes_since_s = time.monotonic() if what else None

    def _give_up(self) -> None:
        """The client had its time."""
        self._deadline = None
        cycle: Any = self.cycle
        begun = cycle is not None and cycle.response_started
        silent = self._owed == "head" and not self.conn.trailing_data[0]
        self._end(b"" if silent or (begun and self._owed == "body") else _LATE)

    def _end(self, words: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(words)
            self.transport.close()
            self._be_read()


def protocol_for(gate: Gate) -> type[TimedProtocol]:
    """The protocol of connections that a gate counts."""
    return type("GatedProtocol", (TimedProtocol,), {"gate": gate})
