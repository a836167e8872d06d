"""The stream: what all browsers are told, made once and sent to each (server-sent events)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from edgeinspect.services.hmi.http.client_address import client_key, is_loopback_address

_HEARTBEAT_S = 0.2
_STATE_EVERY = 5
_QUEUE_SIZE = 16
_RESERVED_FOR_LOOPBACK = 4
_encode = msgspec.json.Encoder().encode


def format_event(name: str, payload: Any) -> bytes:
    """One server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + _encode(payload) + b"\n\n"


class EventStream:
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
        heartbeat_payload: Callable[[], Any],
        state_payload: Callable[[], Any],
        live_payload: Callable[[], Any],
        max_subscribers: int,
        max_per_client: int | None = None,
    ) -> None:
        self._heartbeat_payload = heartbeat_payload
        self._state_payload = state_payload
        self._live_payload = live_payload
        self._max_subscribers = max_subscribers
        self._max_per_client = max_subscribers if max_per_client is None else max_per_client
        self.is_server_stopping: Callable[[], bool] = lambda: False
        """True once the server is told to end: it waits for those who listen."""
        self._subscribers: dict[asyncio.Queue[bytes | None], str] = {}

    @property
    def subscriber_count(self) -> int:
        """Browsers that watch now."""
        return len(self._subscribers)

    def is_full(self, address: str) -> bool:
        """True if one more of an address is too many. A few places are this machine's own."""
        own = is_loopback_address(address)
        most = (
            self._max_subscribers if own else max(1, self._max_subscribers - _RESERVED_FOR_LOOPBACK)
        )
        of_it = list(self._subscribers.values()).count(client_key(address))
        return len(self._subscribers) >= most or of_it >= self._max_per_client

    async def run(self) -> None:
        """The task, until cancelled."""
        turn, before = 0, None
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if self.is_server_stopping():
                self.close()
                return
            if not self._subscribers:
                self._heartbeat_payload()  # alarms are kept, whether anybody watches or not
                continue
            self._broadcast(format_event("beat", self._heartbeat_payload()))
            live = self._live_payload()
            if live != before:
                before = live
                self._broadcast(format_event("live", live))
            turn += 1
            if turn % _STATE_EVERY == 0:
                self._broadcast(format_event("board", self._state_payload()))

    def _broadcast(self, event: bytes) -> None:
        for queue in list(self._subscribers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # too slow: it is let go, and connects again by itself
                self._subscribers.pop(queue, None)
                queue.get_nowait()
                queue.put_nowait(None)

    async def subscribe(self, address: str) -> AsyncIterator[bytes]:
        """Events for one browser, until it goes or cannot follow."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE_SIZE)
        self._subscribers[queue] = client_key(address)
        try:
            yield b"retry: 500\n\n" + format_event("beat", self._heartbeat_payload())
            yield format_event("board", self._state_payload())
            yield format_event("live", self._live_payload())
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._subscribers.pop(queue, None)

    def close(self) -> None:
        """Let everybody go."""
        for queue in self._subscribers:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
