"""Signal handlers for the length of a block."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def signal_handlers(
    on_stop: Callable[[], object], on_reload: Callable[[], object] | None = None
) -> Iterator[None]:
    """Call `on_stop` on SIGTERM and SIGINT, `on_reload` on SIGHUP; restore the handlers after.

    Main thread only. Python runs handlers between bytecodes, so the block must not wait
    indefinitely in one call.
    """
    previous = {number: signal.signal(number, lambda *_: on_stop()) for number in STOP_SIGNALS}
    if on_reload is not None:
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: on_reload())
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
