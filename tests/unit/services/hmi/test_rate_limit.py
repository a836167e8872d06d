"""The rate limiter: order and refusal of waiting requests."""

from __future__ import annotations

import asyncio
import time

from edgeinspect.services.hmi.http.rate_limit import FairRateLimiter


async def gather(turns: FairRateLimiter, *keys: str) -> list[bool]:
    return list(await asyncio.gather(*(turns.acquire(key) for key in keys)))


def test_serves_a_burst_then_delays() -> None:
    begun = time.monotonic()
    assert all(asyncio.run(gather(FairRateLimiter(100), *["a"] * 60)))
    assert time.monotonic() - begun >= 0.15, "40 at once, then 10 ms each"


def test_clients_are_served_in_turn() -> None:
    """One client has 200 waiting requests; another client's one is served second at the latest."""

    async def run() -> tuple[list[bool], int]:
        turns, order = FairRateLimiter(50), []

        async def one(key: str) -> bool:
            granted = await turns.acquire(key)
            order.append(key)
            return granted

        greedy = [asyncio.create_task(one("greedy")) for _ in range(200)]
        await asyncio.sleep(0)
        before = len(order)
        assert await one("other")
        place = order.index("other") - before
        for task in greedy:
            task.cancel()
        return [task.result() for task in greedy if task.done() and not task.cancelled()], place

    granted_keys, place = asyncio.run(run())
    assert False in granted_keys, "more than half of what may wait is refused at once"
    assert place <= 75 + 2  # the refused ones, and one that was served


def test_full_queue_drops_from_the_client_with_the_most() -> None:
    async def run() -> tuple[int, list[bool]]:
        turns = FairRateLimiter(10)
        crowd = [asyncio.create_task(turns.acquire(f"{i % 3}")) for i in range(200)]
        await asyncio.sleep(0)
        late = await gather(turns, "late")
        waiting = turns._count
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert turns._count == 0, "who hangs up gives his place back"
        return waiting, late

    waiting, late = asyncio.run(run())
    assert waiting <= 50
    assert late == [True]
