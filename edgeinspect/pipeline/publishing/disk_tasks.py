"""Reads that commands need from a disk, in a thread of their own: the ROUTER's cannot wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.errors import EdgeInspectError, UsageError

ReadTask = Callable[[], Callable[[], None] | None]
"""Reads from a disk; returns what is to be called in the ROUTER's thread afterwards, or None."""
READ_TIMEOUT_NS = 1_500 * NS_PER_MS
"""Longest wait for one task; the client waits 2 s for the reply."""
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
    """One thread that reads. All methods are called by the ROUTER's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: SimpleQueue[_DiskTask | None] = SimpleQueue()
        self._pending: deque[_DiskTask] = deque()
        self._timed_out: _DiskTask | None = None
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, read: ReadTask, name: str, answer: Callable[[str], None]) -> None:
        """Have something read; `answer_finished` then calls `answer`.

        Args:
            read: Called in the other thread.
            name: Of what is read, for messages.
            answer: Called with the problem, or with an empty text.

        Raises:
            UsageError: An earlier task still waits for its disk, or too many tasks wait.
        """
        if self._timed_out is not None and not self._timed_out.is_read:
            raise UsageError(
                f"{self._timed_out.name} is still being read: its disk does not answer"
            )
        if len(self._pending) >= _PENDING_MAX:
            raise UsageError(f"{_PENDING_MAX} commands wait for a disk already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="disk-tasks", daemon=True)
            self._thread.start()
        task = _DiskTask(read, name, self._clock.now_ns() + READ_TIMEOUT_NS, answer)
        self._pending.append(task)
        self._queue.put(task)

    def answer_finished(self) -> None:
        """Answer each task that has been read, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._pending)):
            task = self._pending.popleft()
            if task.is_read:
                task.answer(self._complete(task))
            elif now_ns >= task.deadline_ns:
                self._timed_out = task
                task.answer(f"{task.name}: could not be read in {READ_TIMEOUT_NS // NS_PER_MS} ms")
            else:
                self._pending.append(task)

    def stop(self) -> None:
        """End the thread; one that waits for a disk ends with the process."""
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
        while (task := self._queue.get()) is not None:
            if self._clock.now_ns() < task.deadline_ns:  # else it was answered already
                try:
                    task.on_read = task.read()
                except Exception as error:  # any error of a file, so that the thread goes on
                    is_ours = isinstance(error, EdgeInspectError)
                    task.problem = str(error) if is_ours else f"{type(error).__name__}: {error}"
            task.is_read = True
