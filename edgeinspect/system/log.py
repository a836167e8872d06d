"""Logging: structlog to a terminal, to JSON lines or to journald, never blocking a caller.

The daemon must not stop inspecting because its log is not read. Lines for a stream go
through a bounded queue to a separate thread; journald gets datagrams without waiting. What
does not fit is dropped and counted.

Source: Klipper's queue logger; systemd's native journal protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import BindableLogger, Processor

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.system.untrusted_text import escape_line, escape_lines

MODES = ("auto", "console", "json", "journal")
"""Modes that `configure` accepts."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""Level names to the numbers of the standard library."""

JOURNAL_SOCKET = "/run/systemd/journal/socket"

_QUEUE_LINES = 10_000
_SEND_BUFFER_BYTES = 8 << 20
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


class Sink(Protocol):
    """Output of rendered events."""

    dropped: int
    """Events lost because the reader was too slow."""

    def close(self) -> None:
        """Write what is queued, for at most one second."""


class StreamSink:
    """Writes lines to a stream in a separate thread. Thread-safe; callers never block.

    structlog calls the method named after the level, so every level is `_put`.
    """

    def __init__(self, stream: TextIO, limit: int = _QUEUE_LINES) -> None:
        self.dropped = 0
        self._stream = stream
        self._limit = limit
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def _put(self, line: str) -> None:
        if self._lines.qsize() >= self._limit:
            self.dropped += 1
        else:
            self._lines.put(line)

    msg = debug = info = warning = error = critical = exception = fatal = _put

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # the reader is gone, and with it the place to report it
                self.dropped += 1

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join(timeout=1.0)


class JournalSink:
    """Sends events to journald with their fields searchable as `EI_*`. Thread-safe.

    An event that does not fit into the journal's buffer is dropped and counted.
    """

    def __init__(self, address: str = JOURNAL_SOCKET, identifier: str = "edgeinspect") -> None:
        self.dropped = 0
        self._identifier = identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def _put(self, **fields: Any) -> None:
        try:
            self._socket.send(_datagram(self._identifier, fields))
        except OSError:  # full, too large, or journald restarts
            self.dropped += 1

    msg = debug = info = warning = error = critical = exception = fatal = _put

    def close(self) -> None:
        self._socket.close()


def _datagram(identifier: str, event: MutableMapping[str, Any]) -> bytes:
    """Encode one event in journald's native protocol."""
    level = event.pop("level", "info")
    message = str(event.pop("event", ""))
    if trace := event.get("exception"):
        message += f"\n{trace}"
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES.get(level, 6)),
        "SYSLOG_IDENTIFIER": identifier,
    }
    for key, value in event.items():
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in key).upper()
        fields[f"EI_{name}"[:64]] = (
            value if isinstance(value, str) else json.dumps(value, default=str)
        )
    parts = bytearray()
    for key, value in fields.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:  # a length keeps a value's line feeds from starting new fields
            parts += key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            parts += key.encode() + b"=" + data + b"\n"
    return bytes(parts)


_lock = threading.Lock()
_sink: Sink | None = None


def configure(mode: str = "auto", level: str = "info", stream: TextIO | None = None) -> Sink:
    """Set up logging for the process; may be called again.

    Args:
        mode: `console` for people, `json` for a collector, `journal` for systemd; `auto`
            selects the journal under systemd, the console on a terminal, otherwise JSON.
        level: Minimum level: a key of `LEVELS`.
        stream: Instead of stderr.

    Returns:
        The sink, whose `dropped` counts the lines that were not read in time.

    Raises:
        ValueError: No such mode or level.
        OSError: `journal` was requested and journald is not running.
    """
    global _sink
    if mode not in MODES or level not in LEVELS:
        raise ValueError(f"no such log mode or level: {mode}, {level}")
    stream = stream or sys.stderr
    chosen = _select_mode(stream) if mode == "auto" else mode
    made: Sink
    if chosen == "journal":
        made = JournalSink()
    else:
        made = StreamSink(stream)
    structlog.configure(
        processors=_processors(chosen, stream),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_args: made,
        cache_logger_on_first_use=False,
    )
    with _lock:
        before, _sink = _sink, made
    if before is not None:
        before.close()
    return made


def close() -> None:
    """Write what is queued and reset logging; for the end of a process, and for tests."""
    global _sink
    with _lock:
        before, _sink = _sink, None
    if before is not None:
        before.close()
        structlog.reset_defaults()


atexit.register(close)


def _select_mode(stream: TextIO) -> str:
    if _is_journal(stream) and os.path.exists(JOURNAL_SOCKET):
        return "journal"
    return "console" if stream.isatty() else "json"


def _is_journal(stream: TextIO) -> bool:
    """True if systemd connected this stream to the journal.

    Terminals of a desktop session inherit the variable, so device and inode of the stream
    are compared (systemd.exec(5), $JOURNAL_STREAM).
    """
    journal_stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # an in-memory stream has no descriptor
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _processors(mode: str, stream: TextIO) -> list[Processor]:
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    if mode == "journal":  # journald adds the time itself
        return [*shared, structlog.processors.format_exc_info, _as_keywords]
    if mode == "json":
        return [
            *shared,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    return [
        *shared,
        _stamp_local,
        structlog.processors.format_exc_info,
        _escape_untrusted,
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=18,
        ),
    ]


def _stamp_local(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the local time with its UTC offset."""
    event["timestamp"] = datetime.now().astimezone().timetz().isoformat("seconds")
    return event


def _escape_untrusted(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape control characters and line ends of untrusted text."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = escape_lines(value) if key == "exception" else escape_line(value)
    return event


def _as_keywords(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> tuple[tuple[()], dict[str, Any]]:
    return (), dict(event)


class RateLimitedLogger:
    """Logs each event at most once per interval, with the number suppressed. Thread-safe.

    Args:
        logger: Any structlog logger.
        clock: Its monotonic time is used.
        interval_ns: Minimum time between two lines of one event.
    """

    def __init__(
        self, logger: BindableLogger | Any, clock: Clock, interval_ns: int = NS_PER_S
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._interval_ns = interval_ns
        self._lock = threading.Lock()
        self._next_ns: dict[str, int] = {}
        self._suppressed: dict[str, int] = {}

    def info(self, event: str, **fields: Any) -> None:
        """Log at info, or suppress."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log at warning, or suppress."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log at error, or suppress."""
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            if now_ns < self._next_ns.get(event, now_ns):
                self._suppressed[event] = self._suppressed.get(event, 0) + 1
                return
            self._next_ns[event] = now_ns + self._interval_ns
            suppressed = self._suppressed.pop(event, 0)
        if suppressed:
            fields["suppressed"] = suppressed
        getattr(self._logger, level)(event, **fields)
