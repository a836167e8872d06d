"""Errands: what an order needs from a disk, done where the ROUTER's thread need not wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.errors import EdgeInspectError, UsageError

ReadTask = Callable[[], Callable[[], None] | None]
"""Reads; gives what is left to do, in the ROUTER's thread, or None if nothing is."""
READ_TIMEOUT_NS = 1_500 * NS_PER_MS
"""Longest wait for an errand; who asked waits 2 s for the answer."""
_PENDING_MAX = 16


@dataclass(slots=True)
class _DiskTask:
    read: ReadTask
    name: str
    deadline_ns: int
    answer: Callable[[str], None]
    on_read: Callable[[], None] | None = None
    problem: str = ""
    is_read: bool = False


class DiskTasks:
    """One thread that reads. `take` and `finish` are for the ROUTER's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: SimpleQueue[_DiskTask | None] = SimpleQueue()
        self._pending: deque[_DiskTask] = deque()
        self._timed_out: _DiskTask | None = None
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, read: ReadTask, name: str, answer: Callable[[str], None]) -> None:
        """Have something read; `answer` gets what is wrong, or an empty text, from `finish`.

        Raises:
            UsageError: An earlier one has not come back from the disk, or too many wait.
        """
        if self._timed_out is not None and not self._timed_out.is_read:
            raise UsageError(
                f"{self._timed_out.name} is still being read: its disk does not answer"
            )
        if len(self._pending) >= _PENDING_MAX:
            raise UsageError(f"{_PENDING_MAX} orders wait for a disk already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
            self._thread.start()
        errand = _DiskTask(read, name, self._clock.now_ns() + READ_TIMEOUT_NS, answer)
        self._pending.append(errand)
        self._queue.put(errand)

    def answer_finished(self) -> None:
        """Answer each that has been read, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._pending)):
            errand = self._pending.popleft()
            if errand.is_read:
                errand.answer(self._complete(errand))
            elif now_ns >= errand.deadline_ns:
                self._timed_out = errand
                errand.answer(
                    f"{errand.name}: could not be read in {READ_TIMEOUT_NS // NS_PER_MS} ms"
                )
            else:
                self._pending.append(errand)

    def stop(self) -> None:
        """End the thread, unless a disk holds it: then it ends with the process."""
        self._queue.put(None)

    @staticmethod
    def _complete(task: _DiskTask) -> str:
        if not task.problem and task.on_read is not None:
            try:
                task.on_read()
            except EdgeInspectError as error:
                return str(error)
        return task.problem

    def _run(self) -> None:
        while (errand := self._queue.get()) is not None:
            if self._clock.now_ns() < errand.deadline_ns:  # else it has been answered
                try:
                    errand.on_read = errand.read()
                except Exception as error:  # whatever a file does, the thread goes on
                    known = isinstance(error, EdgeInspectError)
                    errand.problem = str(error) if known else f"{type(error).__name__}: {error}"
            errand.is_read = True
