"""Limits requests per second, fairly between clients."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

_BURST = 40
"""Requests without delay: a browser that opens the HMI sends about twenty."""
_MAX_WAIT_S = 5.0


class FairRateLimiter:
    """Grants requests round-robin between clients. One event loop.

    At most five seconds' worth of requests wait, half of that from one client; more are refused.
    When the queue is full, the client with the most waiting requests loses one.

    Args:
        requests_per_s: Limit of all clients together.
    """

    def __init__(self, requests_per_s: float) -> None:
        self._period_s = 1 / requests_per_s
        self._max_waiting = max(2, int(_MAX_WAIT_S * requests_per_s))
        self._next_grant_s = float("-inf")
        self._waiting: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, key: str) -> bool:
        """Wait for a slot; return False if the request is refused."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if not self._count:
            at_s = max(self._next_grant_s, now_s - _BURST * self._period_s)
            if at_s <= now_s:
                self._next_grant_s = at_s + self._period_s
                return True
        if not self._make_room(key):
            return False
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.setdefault(key, deque()).append(future)
        self._count += 1
        if self._timer is None:
            self._timer = loop.call_later(max(0.0, self._next_grant_s - now_s), self._grant_next)
        try:
            return await future
        except asyncio.CancelledError:
            self._remove(key, future)
            raise

    def _make_room(self, key: str) -> bool:
        if len(self._waiting.get(key, ())) >= self._max_waiting // 2:
            return False
        if self._count < self._max_waiting:
            return True
        longest = max(self._waiting, key=lambda each: len(self._waiting[each]))
        if longest == key or len(self._waiting[longest]) < 2:
            return False
        last = self._waiting[longest].pop()
        self._count -= 1
        if not last.done():
            last.set_result(False)
        return True

    def _grant_next(self) -> None:
        """Grant the next waiting request."""
        self._timer = None
        if not self._count:
            return
        key, queue = next(iter(self._waiting.items()))
        future = queue.popleft()
        self._count -= 1
        if queue:
            self._waiting.move_to_end(key)
        else:
            del self._waiting[key]
        loop = future.get_loop()
        now_s = loop.time()
        self._next_grant_s = max(self._next_grant_s, now_s - self._period_s) + self._period_s
        if not future.done():
            future.set_result(True)
        if self._count:
            self._timer = loop.call_later(max(0.0, self._next_grant_s - now_s), self._grant_next)

    def _remove(self, key: str, future: asyncio.Future[bool]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and future in queue:
            queue.remove(future)
            self._count -= 1
            if not queue:
                del self._waiting[key]
