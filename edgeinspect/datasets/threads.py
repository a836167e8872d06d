"""Decoding in threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_THREADS = 4
_AHEAD = 32
A = TypeVar("A")
B = TypeVar("B")


def in_threads(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` in threads, in order, with a bounded number of results waiting.

    OpenCV lets the interpreter lock go while it decodes.
    """
    items = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [pool.submit(work, item) for item in islice(items, _AHEAD)]
        while waiting:
            done = waiting.pop(0).result()
            for item in islice(items, 1):
                waiting.append(pool.submit(work, item))
            yield done
