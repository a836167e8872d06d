"""Ordered parallel decoding in threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TypeVar

from edgeinspect.system import escape_name

SLOW_READ_S = 20.0
"""A file that takes longer is reported: a server that is down would block without a message."""
_THREADS = 4
_MAX_PENDING = 32
_log = logging.getLogger(__name__)
A = TypeVar("A")
B = TypeVar("B")


def map_in_threads(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Like `map`, in threads and in order, with a bounded number of pending results.

    OpenCV releases the interpreter lock while it decodes. An item that takes longer than
    `SLOW_READ_S` is logged once as a warning; a read that never returns cannot be cancelled.
    """
    items = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [(item, pool.submit(function, item)) for item in islice(items, _MAX_PENDING)]
        while waiting:
            item, future = waiting.pop(0)
            _warn_if_slow(item, future)
            done = future.result()
            for more in islice(items, 1):
                waiting.append((more, pool.submit(function, more)))
            yield done


def _warn_if_slow(item: object, future: Future[B]) -> None:
    if not wait([future], SLOW_READ_S).not_done:
        return
    path = getattr(item, "path", item)
    name = escape_name(path) if isinstance(path, Path) else "an image"
    _log.warning("%s: not read after %.0f s. Does its disk or server answer?", name, SLOW_READ_S)
