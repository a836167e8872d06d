"""The stream: what all browsers are told, made once and sent to each (server-sent events)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from edgeinspect.services.hmi.http.client_address import counted_as, is_loopback_address

_BEAT_S = 0.2
_BOARD_EVERY = 5
_WAITING = 16
_KEPT_FOR_LOOPBACK = 4
_encode = msgspec.json.Encoder().encode


def as_event(name: str, told: Any) -> bytes:
    """One server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + _encode(told) + b"\n\n"


class Stream:
    """Tells every listener a beat five times a second, and the board once. One loop.

    Args:
        beat: What is told at every beat.
        board: What is told once a second, and to a newcomer at once.
        live: What is told when it is another than before.
        most: Listeners at once.
        most_each: Listeners of one address at once; as many as in all when absent.
    """

    def __init__(
        self,
        beat: Callable[[], Any],
        board: Callable[[], Any],
        live: Callable[[], Any],
        most: int,
        most_each: int | None = None,
    ) -> None:
        self._beat = beat
        self._board = board
        self._live = live
        self._most = most
        self._most_each = most if most_each is None else most_each
        self.ended: Callable[[], bool] = lambda: False
        """True once the server is told to end: it waits for those who listen."""
        self._listeners: dict[asyncio.Queue[bytes | None], str] = {}

    @property
    def listeners(self) -> int:
        """Browsers that watch now."""
        return len(self._listeners)

    def is_full(self, address: str) -> bool:
        """True if one more of an address is too many. A few places are this machine's own."""
        own = is_loopback_address(address)
        most = self._most if own else max(1, self._most - _KEPT_FOR_LOOPBACK)
        of_it = list(self._listeners.values()).count(counted_as(address))
        return len(self._listeners) >= most or of_it >= self._most_each

    async def run(self) -> None:
        """The task, until cancelled."""
        turn, before = 0, None
        while True:
            await asyncio.sleep(_BEAT_S)
            if self.ended():
                self.close()
                return
            if not self._listeners:
                self._beat()  # alarms are kept, whether anybody watches or not
                continue
            self._tell(as_event("beat", self._beat()))
            live = self._live()
            if live != before:
                before = live
                self._tell(as_event("live", live))
            turn += 1
            if turn % _BOARD_EVERY == 0:
                self._tell(as_event("board", self._board()))

    def _tell(self, event: bytes) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # too slow: it is let go, and connects again by itself
                self._listeners.pop(queue, None)
                queue.get_nowait()
                queue.put_nowait(None)

    async def listen(self, address: str) -> AsyncIterator[bytes]:
        """Events for one browser, until it goes or cannot follow."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._listeners[queue] = counted_as(address)
        try:
            yield b"retry: 500\n\n" + as_event("beat", self._beat())
            yield as_event("board", self._board())
            yield as_event("live", self._live())
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.pop(queue, None)

    def close(self) -> None:
        """Let everybody go."""
        for queue in self._listeners:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
