"""Turns: how many requests a second are answered, and whose is the next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

_BURST = 40
"""Requests at once before any waits: a browser that opens the page asks for some twenty."""
_MAX_WAIT_S = 5.0


class FairRateLimiter:
    """Gives each request its turn, one address after the other, so that none can take them all.

    One loop. At most five seconds' worth of requests wait, and of one address half of that: what
    is beyond is refused, and where all places are taken the address with the most gives one up.

    Args:
        requests_per_s: What all addresses together get.
    """

    def __init__(self, requests_per_s: float) -> None:
        self._period_s = 1 / requests_per_s
        self._max_waiting = max(2, int(_MAX_WAIT_S * requests_per_s))
        self._next_grant_s = float("-inf")
        self._waiting: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, key: str) -> bool:
        """Wait for a turn; False if there is none within five seconds."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if not self._count:
            at_s = max(self._next_grant_s, now_s - _BURST * self._period_s)
            if at_s <= now_s:
                self._next_grant_s = at_s + self._period_s
                return True
        if not self._make_room(key):
            return False
        mine: asyncio.Future[bool] = loop.create_future()
        self._waiting.setdefault(key, deque()).append(mine)
        self._count += 1
        if self._timer is None:
            self._timer = loop.call_later(max(0.0, self._next_grant_s - now_s), self._grant_next)
        try:
            return await mine
        except asyncio.CancelledError:
            self._remove(key, mine)
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
        """One turn, to the address whose turn it is."""
        self._timer = None
        if not self._count:
            return
        key, queue = next(iter(self._waiting.items()))
        mine = queue.popleft()
        self._count -= 1
        if queue:
            self._waiting.move_to_end(key)
        else:
            del self._waiting[key]
        loop = mine.get_loop()
        now_s = loop.time()
        self._next_grant_s = max(self._next_grant_s, now_s - self._period_s) + self._period_s
        if not mine.done():
            mine.set_result(True)
        if self._count:
            self._timer = loop.call_later(max(0.0, self._next_grant_s - now_s), self._grant_next)

    def _remove(self, key: str, mine: asyncio.Future[bool]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and mine in queue:
            queue.remove(mine)
            self._count -= 1
            if not queue:
                del self._waiting[key]
