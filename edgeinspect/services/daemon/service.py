"""The daemon: a configuration becomes a running line; signals reload its engines and end it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import structlog

from edgeinspect.config import load_config
from edgeinspect.domain import SystemClock
from edgeinspect.errors import (
    InvariantError,
)
from edgeinspect.pipeline.factory import build_line
from edgeinspect.pipeline.line import Line
from edgeinspect.services.daemon.reload import Reloader
from edgeinspect.system import WatchdogNotifier, log_events, sd_notify
from edgeinspect.wire import VerdictCounts

_log = structlog.get_logger()


def run_daemon(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    on_started: Callable[[Line], None] = lambda line: None,
) -> VerdictCounts:
    """Run the line of a configuration file until a signal, the last frame, or a failure.

    Args:
        path: The configuration.
        overrides: `key.of.a.table=VALUE`; see `config.load.load_arrays`.
        announce: Called with the line once it captures.

    Returns:
        The final counters; every frame is closed.

    Raises:
        ConfigError: The configuration cannot be used.
        ModelError: A model is refused.
        CameraLostError: A camera stayed away through all its retries.
        LawError: A frame has no verdict: a bug.
    """
    loaded = load_config(path, overrides)
    _log.info(log_events.CONFIG_LOADED, where=loaded.where, config_hash=loaded.hash)
    clock = SystemClock()
    ended = threading.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        ended.set()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    line = build_line(loaded, clock, on_failure=fail, on_end=ended.set)
    reloader = Reloader(line, loaded, path, overrides)

    def on_reload(_number: int, _frame: FrameType | None) -> None:
        reloader.request_reload()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, on_reload)
    try:
        line.start()
        try:
            reloader.start()
            on_started(line)
            run_watchdog(line, ended)
        finally:  # whatever happens: a line that runs is stopped before it is taken apart
            sd_notify("STOPPING=1")
            reloader.stop()
            counts = line.stop()
    finally:
        line.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    if counts.open or counts.captured != counts.passed + counts.reject + counts.no_verdict:
        raise InvariantError(f"{counts.open} frames without a verdict", where=loaded.config.line)
    return counts


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_watchdog(line: Line, ended: threading.Event) -> None:
    """Tell systemd how the line is until `ended`; its watchdog is fed while the line gets on.

    A line that stands still is not told to end: what of it works goes on giving verdicts
    until systemd ends it and starts it anew (`WatchdogSec=` of the unit).
    """
    pulse = WatchdogNotifier(line.clock)
    sd_notify("READY=1")
    said = stood = ""
    # A bounded wait lets Python run its signal handlers.
    while not ended.wait(min(0.5, pulse.period_s)):
        problem = line.watchdog_liveness.problem()
        if not problem:
            pulse.notify()
        elif problem != stood:
            _log.error(log_events.LINE_STALLED, line=line.config.line, problem=problem)
        stood = problem
        if problem:
            problem += ": the watchdog is not fed"
        words = problem or line.alarms.text or f"inspecting {line.config.line}"
        if words != said:
            sd_notify(f"STATUS={words}")
            said = words
