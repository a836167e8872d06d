"""Errands: what an order needs from a disk, done where the ROUTER's thread need not wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.errors import EdgeInspectError, UsageError

Read = Callable[[], Callable[[], None] | None]
"""Reads; gives what is left to do, in the ROUTER's thread, or None if nothing is."""
LIMIT_NS = 1_500 * NS_PER_MS
"""Longest wait for an errand; who asked waits 2 s for the answer."""
_WAITING_MAX = 16


@dataclass(slots=True)
class _Errand:
    read: Read
    what: str
    until_ns: int
    answer: Callable[[str], None]
    then: Callable[[], None] | None = None
    problem: str = ""
    read_through: bool = False


class Errands:
    """One thread that reads. `take` and `finish` are for the ROUTER's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: SimpleQueue[_Errand | None] = SimpleQueue()
        self._open: deque[_Errand] = deque()
        self._late: _Errand | None = None
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._open)

    def take(self, read: Read, what: str, answer: Callable[[str], None]) -> None:
        """Have something read; `answer` gets what is wrong, or an empty text, from `finish`.

        Raises:
            UsageError: An earlier one has not come back from the disk, or too many wait.
        """
        if self._late is not None and not self._late.read_through:
            raise UsageError(f"{self._late.what} is still being read: its disk does not answer")
        if len(self._open) >= _WAITING_MAX:
            raise UsageError(f"{_WAITING_MAX} orders wait for a disk already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
            self._thread.start()
        errand = _Errand(read, what, self._clock.now_ns() + LIMIT_NS, answer)
        self._open.append(errand)
        self._queue.put(errand)

    def finish(self) -> None:
        """Answer each that has been read, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._open)):
            errand = self._open.popleft()
            if errand.read_through:
                errand.answer(self._done(errand))
            elif now_ns >= errand.until_ns:
                self._late = errand
                errand.answer(f"{errand.what}: could not be read in {LIMIT_NS // NS_PER_MS} ms")
            else:
                self._open.append(errand)

    def stop(self) -> None:
        """End the thread, unless a disk holds it: then it ends with the process."""
        self._queue.put(None)

    @staticmethod
    def _done(errand: _Errand) -> str:
        if not errand.problem and errand.then is not None:
            try:
                errand.then()
            except EdgeInspectError as error:
                return str(error)
        return errand.problem

    def _run(self) -> None:
        while (errand := self._queue.get()) is not None:
            if self._clock.now_ns() < errand.until_ns:  # else it has been answered
                try:
                    errand.then = errand.read()
                except Exception as error:  # whatever a file does, the thread goes on
                    known = isinstance(error, EdgeInspectError)
                    errand.problem = str(error) if known else f"{type(error).__name__}: {error}"
            errand.read_through = True
