"""The status reporter: once per period, one status on the wire and one line in the log."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence

import structlog
from msgspec import UNSET

from edgeinspect.domain import NS_PER_S, Clock, model_name
from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.pipeline.publishing import Publisher
from edgeinspect.pipeline.supervision.alarms import AlarmEvaluator
from edgeinspect.pipeline.supervision.image_log import ImageLog
from edgeinspect.pipeline.verdicts import VerdictCloser
from edgeinspect.system import log_events
from edgeinspect.wire import Status, VerdictCounts

_log = structlog.get_logger()
_TEMPERATURE_PERIODS = 10
_COLLECT_PERIODS = 60
_STALL_ALARM_NS = 10 * NS_PER_S
"""An alarm is raised when one task takes longer."""


class StatusReporter:
    """Publishes the status of a line. `run` is its thread; `status` may be called from any.

    Args:
        closer: For the counters and the spool.
        publisher: Sends the status.
        capture_threads: One per camera.
        alarms: For the active alarm.
        clock: For timestamps, and for the alarm about this thread itself.
        period_s: Between two statuses.
        on_tick: Called once per period, and at least once per second.
    """

    def __init__(
        self,
        *,
        closer: VerdictCloser,
        publisher: Publisher,
        capture_threads: Sequence[CaptureThread],
        alarms: AlarmEvaluator,
        clock: Clock,
        period_s: float,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._closer = closer
        self._publisher = publisher
        self._capture_threads = capture_threads
        self._alarms = alarms
        self._clock = clock
        self._period_s = period_s
        self._on_tick = on_tick
        self._image_log = ImageLog(closer.spool, capture_threads)
        self._stop = threading.Event()
        self._busy_since_ns = 0

    def run(self) -> None:
        """The thread, until `stop`."""
        before = self._closer.counters.counts()
        periods = 0
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
            if periods % _TEMPERATURE_PERIODS == 0:
                for thread in self._capture_threads:  # here, since a camera may be slow to answer
                    thread.read_temperature()
            periods += 1
            if periods % _COLLECT_PERIODS == 0:  # a line that is never idle collects garbage too
                gc.collect(1)
            self._busy_since_ns = 0
        self._image_log.log_closed(1 << 62)  # all of them: this is the last call

    def _wait_period(self) -> bool:
        """Wait one period, with a tick at least once per second; return True to stop."""
        left_s = self._period_s
        while left_s > 0:
            if self._stop.wait(min(left_s, 1.0)):
                return True
            left_s -= 1.0
            self._busy_since_ns = self._clock.now_ns()
            self._on_tick()
            self._busy_since_ns = 0
        return self._stop.is_set()

    @property
    def alarm(self) -> str:
        """That this thread is stalled in a task, such as reading client keys; empty if not."""
        since_ns = self._busy_since_ns
        is_stalled = since_ns and self._clock.now_ns() - since_ns > _STALL_ALARM_NS
        return "report stands still: status and keys are not up to date" if is_stalled else ""

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop.set()

    def status(self, rate_hz: float = 0.0) -> Status:
        """Return the status of this moment."""
        provenance = self._closer.provenance
        latency, threads = self._publisher.latency, self._capture_threads
        return Status(
            line=provenance.line,
            epoch=self._closer.spool.epoch,
            utc_ns=self._clock.utc_ns(),
            counts=self._closer.counters.counts(),
            rate_hz=rate_hz,
            latency_p50_us=latency.quantile_us(0.5),
            latency_p99_us=latency.quantile_us(0.99),
            budget_us=provenance.budget_us,
            cameras={thread.rules.camera: thread.state for thread in threads},
            camera_counts={thread.rules.camera: thread.counts for thread in threads},
            gate=model_name(provenance.gate),
            segmenter=model_name(provenance.segmenter),
            unknown=model_name(provenance.unknown) or UNSET,
            pretrained=dict(provenance.pretrained) or UNSET,
            config_hash=provenance.config_hash,
            alarm=self._alarms.text,
        )


def log_fields(counts: VerdictCounts) -> dict[str, object]:
    """Return the counters as fields of a log event."""
    names = ("captured", "passed", "reject", "no_verdict", "open", "late", "degraded")
    fields: dict[str, object] = {name: getattr(counts, name) for name in names}
    if isinstance(counts.review, int):
        fields |= {"review": counts.review, "unknown_not_asked": counts.unknown_not_asked}
    return fields | counts.reasons
