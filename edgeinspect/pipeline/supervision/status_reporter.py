"""The report: once a second, one status on the wire and one line in the log."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence

import structlog

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import CameraLostError
from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.pipeline.publishing import Publisher
from edgeinspect.pipeline.supervision.alarms import AlarmEvaluator
from edgeinspect.pipeline.supervision.image_log import ImageLog
from edgeinspect.pipeline.verdicts import VerdictCloser
from edgeinspect.system import log_events
from edgeinspect.wire import Status, VerdictCounts

_log = structlog.get_logger()
_TEMPERATURE_PERIODS = 10
_STALL_ALARM_NS = 10 * NS_PER_S
"""Longest stay at one duty before an alarm says so."""


class StatusReporter:
    """Sums the line up. `run` is its thread; `status` may be called from any."""

    def __init__(
        self,
        *,
        closer: VerdictCloser,
        publisher: Publisher,
        capture_threads: Sequence[CaptureThread],
        alarms: AlarmEvaluator,
        clock: Clock,
        epoch: int,
        period_s: float,
        on_period: Callable[[], None] = lambda: None,
    ) -> None:
        self._closer = closer
        self._publisher = publisher
        self._capture_threads = capture_threads
        self._alarms = alarms
        self._clock = clock
        self._epoch = epoch
        self._period_s = period_s
        self._on_period = on_period
        self._image_log = ImageLog(closer.spool, capture_threads)
        self._stop = threading.Event()
        self._busy_since_ns = 0

    def run(self) -> None:
        """The thread, until `stop`."""
        before = self._closer.counters.counts()
        turns = 0
        while not self._wait_period():
            self._busy_since_ns = self._clock.now_ns()
            counts = self._closer.counters.counts()
            rate_hz = round((counts.captured - before.captured) / self._period_s, 1)
            self._publisher.queue_status(self.status(rate_hz))
            if counts.captured != before.captured:
                _log.info(log_events.LINE_SUMMARY, rate_hz=rate_hz, **log_fields(counts))
            if counts.late != before.late:
                _log.warning(log_events.VERDICT_LATE, late=counts.late)
            before = counts
            self._image_log.log_closed()
            if turns % _TEMPERATURE_PERIODS == 0:
                self._read_temperatures()
            turns += 1
            if turns % 60 == 0:  # a line that never idles must forget its exceptions too
                gc.collect(1)
            self._busy_since_ns = 0
        self._image_log.log_closed(1 << 62)  # all: nobody will come again

    def _read_temperatures(self) -> None:
        """Of the cameras that offer one; here, since a camera may take long to answer."""
        for capture in self._capture_threads:
            read = getattr(capture.camera, "read_temperature", None)
            if read is not None and capture.state == "live":
                try:
                    read()
                except CameraLostError:
                    pass  # its own thread finds out

    def _wait_period(self) -> bool:
        """Wait one period, with the small duties at least once a second; True to stop."""
        left_s = self._period_s
        while left_s > 0:
            if self._stop.wait(min(left_s, 1.0)):
                return True
            left_s -= 1.0
            self._busy_since_ns = self._clock.now_ns()
            self._on_period()
            self._busy_since_ns = 0
        return self._stop.is_set()

    @property
    def alarm(self) -> str:
        """That the thread stands still at a duty, as the folder of keys; empty if it does not."""
        since_ns = self._busy_since_ns
        hangs = since_ns and self._clock.now_ns() - since_ns > _STALL_ALARM_NS
        return "report stands still: status and keys are not up to date" if hangs else ""

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop.set()

    def status(self, rate_hz: float = 0.0) -> Status:
        """The summary of this moment."""
        causes = self._closer.provenance
        latency = self._publisher.latency
        gate, segmenter = causes.gate, causes.segmenter
        return Status(
            line=causes.line,
            epoch=self._epoch,
            utc_ns=self._clock.utc_ns(),
            counts=self._closer.counters.counts(),
            rate_hz=rate_hz,
            latency_p50_us=latency.quantile_us(0.5),
            latency_p99_us=latency.quantile_us(0.99),
            budget_us=causes.budget_us,
            cameras={capture.rules.camera: capture.state for capture in self._capture_threads},
            camera_counts={
                capture.rules.camera: capture.counts for capture in self._capture_threads
            },
            gate=f"{gate.name}/{gate.version}" if gate else None,
            segmenter=f"{segmenter.name}/{segmenter.version}" if segmenter else None,
            config_hash=causes.config_hash,
            alarm=self._alarms.alarm,
        )


def log_fields(counts: VerdictCounts) -> dict[str, object]:
    """The counters as fields of a log event."""
    names = ("captured", "passed", "reject", "no_verdict", "open", "late", "degraded")
    fields: dict[str, object] = {name: getattr(counts, name) for name in names}
    return fields | counts.reasons
