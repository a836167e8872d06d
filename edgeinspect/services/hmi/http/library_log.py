"""What the libraries under the page have to say, in the page's own log and never too often.

uvicorn and asyncio log by the standard library, a line for each request that cannot be read and
a traceback for some clients that hang up: so anybody could fill the disk.
"""

from __future__ import annotations

import logging

from edgeinspect.system import RateLimitedLogger, log_events

_LOGGER_NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")
_MAX_CHARACTERS = 300


class _ThrottledHandler(logging.Handler):
    def __init__(self, throttled_log: RateLimitedLogger) -> None:
        super().__init__(logging.WARNING)
        self._throttled_log = throttled_log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        words = record.getMessage().partition("\n")[0][:_MAX_CHARACTERS]
        cause = f"{type(error).__name__}: {error}"[:_MAX_CHARACTERS] if error else ""
        self._throttled_log.warning(
            log_events.LIBRARY_WARNED, library=record.name, words=words, cause=cause
        )


def redirect_library_logs(throttled_log: RateLimitedLogger) -> None:
    """Have the libraries' warnings written by us, at most one a second, without tracebacks."""
    handler = _ThrottledHandler(throttled_log)
    for name in _LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if "." not in name else []
        logger.propagate = "." in name
