"""The threads of a running line."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeinspect.system import set_thread_realtime


class LineThreads:
    """Starts threads by name, and joins them. Used by one thread.

    Args:
        fifo_priority: SCHED_FIFO priority of real-time threads; None for none.
        on_failure: Called in a thread with the error that ended it.
    """

    def __init__(
        self, fifo_priority: int | None, on_failure: Callable[[BaseException], None]
    ) -> None:
        self._fifo_priority = fifo_priority
        self._on_failure = on_failure
        self._threads: list[threading.Thread] = []

    def start(self, name: str, target: Callable[[], None], *, realtime: bool = False) -> None:
        """Run `target` in a thread."""

        def run() -> None:
            try:
                if realtime:
                    set_thread_realtime(self._fifo_priority)
                target()
            except BaseException as error:  # a dead thread must end the daemon
                self._on_failure(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, prefix: str, timeout_s: float = 5.0) -> None:
        """Wait for the threads whose names start with `prefix`, each at most `timeout_s`."""
        for thread in self._threads:
            if thread.name.startswith(prefix) and thread is not threading.current_thread():
                thread.join(timeout_s)

    @property
    def are_running(self) -> bool:
        """True while any thread runs."""
        return any(thread.is_alive() for thread in self._threads)
