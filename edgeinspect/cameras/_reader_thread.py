"""A thread that does what may never return: it reads from disks that others look after.

A dead file server lets a read stand still for ever, and no time-out reaches it. The capture
thread asks, goes on turning, and says meanwhile what is being waited for.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeinspect.domain import NS_PER_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _CallResult(Generic[T]):
    value: T | None
    error: Exception | None


class ReaderThread(Generic[T]):
    """Makes calls one after the other in a thread of its own.

    `start`, `take` and `close` belong to one thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], T | None] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_CallResult[T]] = queue.SimpleQueue()
        self._pending: deque[str] = deque()
        self._thread: threading.Thread | None = None

    @property
    def pending_call(self) -> str:
        """What the oldest call does that has not been taken yet; empty if there is none."""
        return self._pending[0] if self._pending else ""

    def submit(self, description: str, call: Callable[[], T | None]) -> None:
        """Make one call after those that were asked for before.

        Args:
            what: What it does, as `reading a3.png`.
            call: Runs in the thread; what it raises, `take` raises.
        """
        self._pending.append(description)
        self._calls.put(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def fetch_result(self, timeout_ns: int) -> tuple[bool, T | None]:
        """(True, what the oldest call gave), or (False, None) while it is still at it.

        Raises:
            Exception: What the call raised.
        """
        if not self._pending:
            return False, None
        try:
            done = self._results.get(timeout=max(0, timeout_ns) / NS_PER_S)
        except queue.Empty:
            return False, None
        self._pending.popleft()
        if done.error is not None:
            raise done.error
        return True, done.value

    def close(self) -> None:
        """Let the thread end after its last call. What it gave can still be taken."""
        if self._thread is not None:
            self._thread = None
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                done: _CallResult[T] = _CallResult(call(), None)
            except Exception as error:  # it belongs to whoever asked
                done = _CallResult(None, error)
            self._results.put(done)
