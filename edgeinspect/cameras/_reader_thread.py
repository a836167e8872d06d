"""A thread for calls that may never return, such as reads from a network disk.

A dead file server blocks a read indefinitely, without a timeout. The capture thread submits
the call, keeps running, and reports what it waits for.
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
    """Runs calls one after the other in a separate thread.

    `submit`, `fetch_result` and `close` belong to one thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], T | None] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_CallResult[T]] = queue.SimpleQueue()
        self._pending: deque[str] = deque()
        self._thread: threading.Thread | None = None

    @property
    def pending_call(self) -> str:
        """Description of the oldest call whose result was not fetched; empty if there is none."""
        return self._pending[0] if self._pending else ""

    def submit(self, description: str, call: Callable[[], T | None]) -> None:
        """Run a call after those submitted before.

        Args:
            description: What it does, such as `reading a3.png`.
            call: Runs in the thread; `fetch_result` raises what it raises.
        """
        self._pending.append(description)
        self._calls.put(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def fetch_result(self, timeout_ns: int) -> tuple[bool, T | None]:
        """Return (True, result of the oldest call), or (False, None) if it has not ended.

        Raises:
            Exception: Raised by the call.
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
        """End the thread after its last call, whose result can still be fetched."""
        if self._thread is not None:
            self._thread = None
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                done: _CallResult[T] = _CallResult(call(), None)
            except Exception as error:  # raised by `fetch_result`
                done = _CallResult(None, error)
            self._results.put(done)
