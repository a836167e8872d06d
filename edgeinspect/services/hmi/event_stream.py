"""Server-sent events: encoded once, sent to all browsers."""

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
    """Encode one server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + _encode(payload) + b"\n\n"


class EventStream:
    """Sends heartbeats five times a second, the state once a second. One event loop.

    Args:
        heartbeat_payload: Returns the payload of `beat` events.
        state_payload: Returns the payload of `board` events, also sent to a new subscriber.
        live_payload: Returns the payload of `live` events, sent when it changes.
        max_subscribers: Limit of all subscribers.
        max_per_client: Limit for one client; `max_subscribers` when absent.
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
        """Returns True when the server stops; it waits for open streams."""
        self._subscribers: dict[asyncio.Queue[bytes | None], str] = {}

    @property
    def subscriber_count(self) -> int:
        """Browsers connected now."""
        return len(self._subscribers)

    def is_full(self, address: str) -> bool:
        """Return True if a client may not subscribe. A few places are reserved for this PC."""
        limit = self._max_subscribers
        if not is_loopback_address(address):
            limit = max(1, limit - _RESERVED_FOR_LOOPBACK)
        of_client = list(self._subscribers.values()).count(client_key(address))
        return len(self._subscribers) >= limit or of_client >= self._max_per_client

    async def run(self) -> None:
        """Send events until cancelled."""
        iteration, last_live = 0, None
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if self.is_server_stopping():
                self.close()
                return
            if not self._subscribers:
                self._heartbeat_payload()  # updates the alarm log
                continue
            self._broadcast(format_event("beat", self._heartbeat_payload()))
            live = self._live_payload()
            if live != last_live:
                last_live = live
                self._broadcast(format_event("live", live))
            iteration += 1
            if iteration % _STATE_EVERY == 0:
                self._broadcast(format_event("board", self._state_payload()))

    def _broadcast(self, event: bytes) -> None:
        for queue in list(self._subscribers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # too slow: it is disconnected, and reconnects by itself
                self._subscribers.pop(queue, None)
                queue.get_nowait()
                queue.put_nowait(None)

    async def subscribe(self, address: str) -> AsyncIterator[bytes]:
        """Yield events for one browser until it disconnects or is too slow."""
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
        """End all streams."""
        for queue in self._subscribers:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
