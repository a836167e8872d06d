"""Runs one line; signals reload its engines and stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import structlog

from edgeinspect.config import load_config
from edgeinspect.domain import SystemClock
from edgeinspect.errors import (
    InvariantError,
)
from edgeinspect.pipeline.factory import build_line
from edgeinspect.pipeline.line import Line
from edgeinspect.services.daemon.reload import Reloader
from edgeinspect.system import WatchdogNotifier, log_events, sd_notify, signal_handlers
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
        overrides: `key.of.a.table=VALUE`; see `config.load_config`.
        on_started: Called with the line when it captures.

    Returns:
        The final counters; every frame is closed.

    Raises:
        ConfigError: The configuration is invalid.
        ModelError: A model is refused.
        CameraLostError: All attempts to reconnect a camera failed.
        InvariantError: A frame has no verdict: a bug.
    """
    loaded = load_config(path, overrides)
    _log.info(log_events.CONFIG_LOADED, where=loaded.where, config_hash=loaded.hash)
    clock = SystemClock()
    ended = threading.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        ended.set()

    line = build_line(loaded, clock, on_failure=fail, on_end=ended.set)
    reloader = Reloader(line, loaded, path, overrides)
    with signal_handlers(ended.set, reloader.request_reload), closing(line):
        line.start()
        try:
            reloader.start()
            on_started(line)
            run_watchdog(line, ended)
        finally:  # a running line is stopped before it is closed
            sd_notify("STOPPING=1")
            reloader.stop()
            counts = line.stop()
    if failures:
        raise failures[0]
    if counts.open or counts.captured != counts.passed + counts.reject + counts.no_verdict:
        raise InvariantError(f"{counts.open} frames without a verdict", where=loaded.config.line)
    return counts


def run_watchdog(line: Line, ended: threading.Event) -> None:
    """Report the status to systemd until `ended`, and notify its watchdog while no thread stalls.

    `X_INSPECTING=` is for the health check of a container (install/container); systemd ignores it.
    A stalled line is not stopped here: its other threads still give verdicts until systemd
    restarts it (`WatchdogSec=` of the unit).
    """
    watchdog = WatchdogNotifier(line.clock)
    sd_notify("READY=1")
    last_problem = ""
    last_report = ("", "")
    # A bounded wait lets Python run its signal handlers.
    while not ended.wait(min(0.5, watchdog.period_s)):
        problem = line.watchdog_liveness.problem()
        if not problem:
            watchdog.notify()
        elif problem != last_problem:
            _log.error(log_events.LINE_STALLED, line=line.config.line, problem=problem)
        last_problem = problem
        if problem:
            problem += ": the watchdog is not notified"
        status = problem or line.alarms.text or f"inspecting {line.config.line}"
        inspecting = f"X_INSPECTING={int(line.alarms.is_inspecting)}"
        if (status, inspecting) != last_report:
            sd_notify(f"STATUS={status}", inspecting)
            last_report = status, inspecting
