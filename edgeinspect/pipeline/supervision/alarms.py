"""Health: whether the line is inspected now, and which alarm stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from edgeinspect.domain import Clock
from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.pipeline.verdicts import VerdictCounters
from edgeinspect.system import log_events

_log = structlog.get_logger()


class AlarmEvaluator:
    """Judges the line's own state from its counters. `check` may be called from any thread."""

    def __init__(
        self,
        tally: VerdictCounters,
        captures: Sequence[CaptureThread],
        *,
        no_verdict_in_row: int,
        degraded_in_row: int,
        reject_in_row: int,
        clock: Clock,
        standing_still: Callable[[], str] = lambda: "",
        missed_challenge: Callable[[], str] = lambda: "",
        engine_alarm: Callable[[], str] = lambda: "",
        ledger_alarm: Callable[[], str] = lambda: "",
        clock_alarm: Callable[[], str] = lambda: "",
        report_alarm: Callable[[], str] = lambda: "",
        on_alarm: Callable[[str], None] = lambda alarm: None,
    ) -> None:
        self.alarm = ""
        """The alarm that stands, in words; empty for none."""
        self._counters = tally
        self._capture_threads = captures
        self._no_verdict_in_row = no_verdict_in_row
        self._degraded_in_row = degraded_in_row
        self._reject_in_row = reject_in_row
        self._clock = clock
        self._standing_still = standing_still
        self._missed_challenge = missed_challenge
        self._engine_alarm = engine_alarm
        self._ledger_alarm = ledger_alarm
        self._clock_alarm = clock_alarm
        self._report_alarm = report_alarm
        self._on_alarm = on_alarm

    def check(self) -> tuple[bool, str]:
        """(inspecting, alarm): what the heartbeat says. Logs each change of the alarm."""
        still = self._standing_still()
        alarm = self._find_alarm(still)
        if alarm != self.alarm:
            if alarm:
                _log.error(log_events.ALARM_RAISED, alarm=alarm)
            else:
                _log.info(log_events.ALARM_CLEARED, alarm=self.alarm)
            self.alarm = alarm
            self._on_alarm(alarm)
        inspecting = not still and all(
            capture.state == "live" and not capture.grab_monitor.delay
            for capture in self._capture_threads
        )
        return inspecting and self._counters.no_verdict_run < self._no_verdict_in_row, alarm

    def _find_alarm(self, still: str) -> str:
        for capture in self._capture_threads:
            if capture.state == "lost":
                return f"camera {capture.rules.camera} is lost"
            if capture.grab_monitor.delay:
                return f"camera {capture.rules.camera}: {capture.grab_monitor.delay}"
        if still:
            return still
        if missed := self._missed_challenge():
            return f"challenge part {missed} was not rejected"
        tally = self._counters
        if tally.no_verdict_run >= self._no_verdict_in_row:
            return f"at least {self._no_verdict_in_row} frames in a row without a verdict"
        if tally.degraded_run >= self._degraded_in_row:
            return f"at least {self._degraded_in_row} frames in a row judged by the gate alone"
        if tally.reject_run >= self._reject_in_row:
            return f"at least {self._reject_in_row} rejects in a row"
        for capture in self._capture_threads:
            if differs := capture.trigger_audit.check(self._clock.now_ns()):
                return f"camera {capture.rules.camera}: {differs}"
            if complaint := capture.grab_monitor.camera_alarm:
                return f"camera {capture.rules.camera}: {complaint}"
        return (
            self._engine_alarm()
            or self._ledger_alarm()
            or self._clock_alarm()
            or self._report_alarm()
        )
