"""The line's alarm, and whether the line is inspected: what each heartbeat carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from edgeinspect.config import AlarmsConfig
from edgeinspect.domain import Alarm, AlarmCode, Clock, alarm_code
from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.pipeline.verdicts import VerdictCloser
from edgeinspect.system import log_events

_log = structlog.get_logger()
AlarmSource = Callable[[], str]
"""Returns the text of an alarm; empty for none."""


class AlarmEvaluator:
    """Finds the most urgent alarm of a line. `check` may be called from any thread.

    Args:
        closer: Of the line: its counters and the last challenge part.
        capture_threads: One per camera.
        limits: After how many frames in a row to raise an alarm.
        clock: Compares the PLC's counts of triggers.
        stall: Returns which thread is stalled; see `LivenessMonitor.problem`.
        sources: The alarms of other components, the most urgent first.
        on_change: Called with the text of each new alarm, and with an empty text at its end.
    """

    def __init__(
        self,
        closer: VerdictCloser,
        capture_threads: Sequence[CaptureThread],
        limits: AlarmsConfig,
        clock: Clock,
        *,
        stall: AlarmSource = str,
        sources: Sequence[AlarmSource] = (),
        on_change: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.active: Alarm | None = None
        """The alarm of the last check."""
        self.is_inspecting = False
        """Whether the line inspected at the last check."""
        self._closer = closer
        self._capture_threads = capture_threads
        self._limits = limits
        self._clock = clock
        self._stall = stall
        self._sources = sources
        self._on_change = on_change

    @property
    def text(self) -> str:
        """The text of the active alarm; empty for none."""
        return self.active.text if self.active is not None else ""

    def check(self) -> tuple[bool, str]:
        """Return (inspecting, alarm text) for a heartbeat; log each change of the alarm."""
        stall = self._stall()
        alarm = next(self._alarms(stall), None)
        text = alarm.text if alarm is not None else ""
        if alarm != self.active:
            if alarm is not None:
                _log.error(log_events.ALARM_RAISED, alarm=text)
            else:
                _log.info(log_events.ALARM_CLEARED, alarm=self.text)
            self.active = alarm
            self._on_change(text)
        no_verdicts = self._closer.counters.no_verdict_run >= self._limits.no_verdict_in_row
        delivering = all(
            thread.state == "live" and not thread.grab_monitor.delay
            for thread in self._capture_threads
        )
        self.is_inspecting = delivering and not stall and not no_verdicts
        return self.is_inspecting, text

    def _alarms(self, stall: str) -> Iterator[Alarm]:
        """Yield the active alarms, the most urgent first."""
        for thread in self._capture_threads:
            camera = thread.rules.camera
            if thread.state == "lost":
                yield Alarm(AlarmCode.CAMERA_LOST, f"camera {camera} is lost")
            if delay := thread.grab_monitor.delay:
                yield Alarm(AlarmCode.CAMERA_DELAYED, f"camera {camera}: {delay}")
        if stall:
            yield Alarm(AlarmCode.LINE_STALLED, stall)
        if missed := self._closer.missed_challenge:
            text = f"challenge part {missed} was not rejected"
            yield Alarm(AlarmCode.CHALLENGE_MISSED, text)
        yield from self._run_alarms()
        for thread in self._capture_threads:
            camera = thread.rules.camera
            if difference := thread.trigger_audit.check(self._clock.now_ns()):
                yield Alarm(AlarmCode.TRIGGER_COUNT, f"camera {camera}: {difference}")
            if problem := thread.grab_monitor.camera_alarm:
                yield Alarm(AlarmCode.CAMERA_ATTENTION, f"camera {camera}: {problem}")
        for source in self._sources:
            if text := source():
                yield Alarm(alarm_code(text), text)

    def _run_alarms(self) -> Iterator[Alarm]:
        counters, limits = self._closer.counters, self._limits
        for code, run, limit, text in (
            (
                AlarmCode.NO_VERDICT_RUN,
                counters.no_verdict_run,
                limits.no_verdict_in_row,
                "frames in a row without a verdict",
            ),
            (
                AlarmCode.DEGRADED_RUN,
                counters.degraded_run,
                limits.degraded_in_row,
                "frames in a row judged by the gate alone",
            ),
            (
                AlarmCode.REJECT_RUN,
                counters.reject_run,
                limits.reject_in_row,
                "rejects in a row",
            ),
        ):
            if run >= limit:
                yield Alarm(code, f"at least {limit} {text}")
