"""The Prometheus metrics of a line, all computed in the HMI's process.

The daemon publishes a status each second and stage times in every verdict; histograms, drift and
the rest are computed here, so metrics cost the path of a frame nothing.
Source: docs/reference/metrics.md lists every name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from edgeinspect import __version__
from edgeinspect.domain import ENGINE_ROLES, Decision, ModelRef, Verdict
from edgeinspect.services.hmi.archive_frames import ArchiveMonitor
from edgeinspect.services.hmi.drift import DriftMonitor
from edgeinspect.services.hmi.host_sensors import HostTemperatures
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.wire import Status

_SECONDS_PER_US = 1e-6
_BUCKETS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000)
_STAGES = ("queue", "gate", "segmenter", "regions")
_UNKNOWN_STAGE = "unknown"
"""Only on a line with a good-parts model."""
_CAMERA_FAULTS = ("capture_lost", "capture_error", "capture_health", "shape")
_REASONS = (*_CAMERA_FAULTS, "deadline", "overrun", "engine_error", "restart", "shutdown")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class MetricSources:
    """Where the values of the metrics come from."""

    line_state: LineState
    drift: DriftMonitor
    cameras: tuple[str, ...]
    budget_ms: float
    """A bucket of the histograms ends there, so the share of frames in time is exact."""
    read_host_state: Callable[[], HostTemperatures]
    client_count: Callable[[], int] = int
    """Returns the number of browsers connected now."""
    archive_monitor: ArchiveMonitor | None = None


class Metrics:
    """Counts verdicts and renders all metrics.

    `on_verdict` belongs to the subscriber thread; any thread may `render`.
    """

    def __init__(self, sources: MetricSources) -> None:
        line, budget_ms = sources.line_state.line, sources.budget_ms
        # Creation times would add a series to each histogram.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        edges = sorted({*_BUCKETS_MS, budget_ms})
        buckets = [edge / 1000 for edge in edges]
        self._latency = Histogram(
            "edgeinspect_latency_seconds",
            "Capture to decision, of frames that an engine inspected",
            ["line"],
            buckets=buckets,
            registry=self._registry,
        ).labels(line)
        stages = Histogram(
            "edgeinspect_stage_seconds",
            "Time in each stage, of frames in which it ran",
            ["line", "stage"],
            buckets=buckets,
            registry=self._registry,
        )
        self._stages = {name: stages.labels(line, name) for name in _STAGES}
        self._label_stage = partial(stages.labels, line)
        Gauge(
            "edgeinspect_budget_seconds",
            "The line's budget per frame",
            ["line"],
            registry=self._registry,
        ).labels(line).set(budget_ms / 1000)
        self._models: dict[str, ModelRef] = {}
        self._registry.register(_MetricsCollector(sources, self._models))

    def on_verdict(self, verdict: Verdict) -> None:
        """Count one verdict."""
        models = (verdict.gate, verdict.segmenter, verdict.unknown_model)
        for role, model in zip(ENGINE_ROLES, models, strict=True):
            if model is not None:
                self._models[role] = model
        stages = verdict.stages
        if verdict.decision is Decision.NO_VERDICT or not stages.total_us:
            return
        self._latency.observe(stages.total_us * _SECONDS_PER_US)
        for name, child in self._stages.items():
            time_us: int = getattr(stages, f"{name}_us")
            if time_us:
                child.observe(time_us * _SECONDS_PER_US)
        if stages.in_unknown_us:
            seconds = stages.in_unknown_us * _SECONDS_PER_US
            self._label_stage(_UNKNOWN_STAGE).observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


_Values = Iterable[tuple[tuple[str, ...], float]]
"""(label values besides the line, value)"""


class _MetricsCollector:
    """Reads the values of all metrics but the histograms at each scrape."""

    def __init__(self, sources: MetricSources, models: dict[str, ModelRef]) -> None:
        self._sources = sources
        self._line_state = sources.line_state
        self._models = models

    def describe(self) -> Iterator[Metric]:
        """Return nothing: called at registration, before there are values."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._state_metrics()
        status = self._line_state.latest_status
        if status is not None:
            yield from self._balance_metrics(status)
        yield from self._camera_metrics(status)
        yield from self._engine_metrics(status)
        yield from self._drift_metrics()
        yield from self._host_metrics()
        if self._sources.archive_monitor is not None:
            yield from self._archive_metrics(self._sources.archive_monitor)

    def _gauges(
        self, name: str, description: str, labels: Sequence[str], values: _Values
    ) -> Metric:
        family = GaugeMetricFamily(f"edgeinspect_{name}", description, labels=["line", *labels])
        for label_values, value in values:
            family.add_metric([self._line_state.line, *label_values], value)
        return family

    def _counters(
        self, name: str, description: str, labels: Sequence[str], values: _Values
    ) -> Metric:
        family = CounterMetricFamily(f"edgeinspect_{name}", description, labels=["line", *labels])
        for label_values, value in values:
            family.add_metric([self._line_state.line, *label_values], value)
        return family

    def _gauge(self, name: str, description: str, value: float) -> Metric:
        return self._gauges(name, description, (), [((), value)])

    def _counter(self, name: str, description: str, value: float) -> Metric:
        return self._counters(name, description, (), [((), value)])

    def _state_metrics(self) -> Iterator[Metric]:
        status = self._line_state.current_status()
        is_inspected = status.state != "not_inspected"
        has_alarm = status.state == "alarm" or bool(status.reason)
        yield self._gauge("inspected", "1 while the line is inspected now", is_inspected)
        yield self._gauge("alarm", "1 while an alarm is active", has_alarm)
        if status.silence_ms is not None:
            age_s = status.silence_ms / 1000
            yield self._gauge("heartbeat_age_seconds", "Since the daemon's last heartbeat", age_s)
        lost = self._line_state.lost_verdicts
        yield self._counter("wire_lost", "Verdicts that the HMI could not receive", lost)
        yield self._gauge("page_clients", "Browsers connected now", self._sources.client_count())

    def _archive_metrics(self, monitor: ArchiveMonitor) -> Iterator[Metric]:
        status = monitor.status
        is_up = status is not None and not monitor.alarm()
        yield self._gauge("archive_up", "1 while the archive can save frames", is_up)
        if status is not None:
            size = status.size_bytes
            yield self._gauge("archive_bytes", "Size of images and sidecars", size)
            description = "Frames saved since the archive's start"
            yield self._counter("archive_saved", description, status.saved)
            description = "Frames that should have been saved and were not"
            yield self._counter("archive_missed", description, status.missed)

    def _balance_metrics(self, status: Status) -> Iterator[Metric]:
        counts = status.counts
        description = "Frames captured since the daemon's start"
        yield self._counter("frames_captured", description, counts.captured)
        decisions = (
            (("PASS",), counts.passed),
            (("REJECT",), counts.reject),
            (("NO_VERDICT",), counts.no_verdict),
        )
        description = "Verdicts since the daemon's start"
        yield self._counters("verdicts", description, ("decision",), decisions)
        reasons = dict.fromkeys(_REASONS, 0) | counts.reasons
        by_reason = [((reason,), count) for reason, count in reasons.items()]
        description = "NO_VERDICT since the daemon's start, by reason"
        yield self._counters("no_verdicts", description, ("reason",), by_reason)
        description = "Results that came after their frame was closed"
        yield self._counter("late_results", description, counts.late)
        description = "Verdicts by the gate alone for lack of time"
        yield self._counter("degraded", description, counts.degraded)
        if isinstance(counts.review, int):
            description = "Passes that the good-parts model marked for review"
            yield self._counter("review", description, counts.review)
        if isinstance(counts.unknown_not_asked, int):
            description = "Frames without time to ask the good-parts model"
            yield self._counter("unknown_not_asked", description, counts.unknown_not_asked)
        yield self._gauge("open_frames", "Frames captured and not yet decided", counts.open)
        yield self._gauge("frame_rate_hertz", "Frames a second", status.rate_hz)
        description = "Capture to published since the daemon's start, by the daemon's own histogram"
        quantiles = (
            (("0.5",), status.latency_p50_us * _SECONDS_PER_US),
            (("0.99",), status.latency_p99_us * _SECONDS_PER_US),
        )
        yield self._gauges("published_latency_seconds", description, ("quantile",), quantiles)
        headroom = 1 - status.latency_p99_us / (self._sources.budget_ms * 1000)
        yield self._gauge("budget_headroom_ratio", "Share of the budget left at p99", headroom)
        start_s = status.epoch / 1000
        yield self._gauge("daemon_start_time_seconds", "Start time of the daemon", start_s)

    def _camera_metrics(self, status: Status | None) -> Iterator[Metric]:
        cameras = self._sources.cameras
        states = {} if status is None else {name: status.cameras.get(name) for name in cameras}
        live = [((name,), state == "live") for name, state in states.items()]
        yield self._gauges("camera_live", "1 while a camera delivers", ("camera",), live)
        received = dict(self._line_state.verdict_counts)
        totals: Counter[str] = Counter(dict.fromkeys(cameras, 0))
        for (camera, _), count in received.items():
            totals[camera] += count
        frames = [((camera,), count) for camera, count in totals.items()]
        description = "Verdicts received by the HMI, by camera"
        yield self._counters("camera_frames", description, ("camera",), frames)
        faults = [
            ((camera, reason), received.get((camera, reason), 0))
            for camera in totals
            for reason in _CAMERA_FAULTS
        ]
        description = "Of them, frames lost, unreadable, or not inspectable"
        yield self._counters("camera_faults", description, ("camera", "reason"), faults)

    def _engine_metrics(self, status: Status | None) -> Iterator[Metric]:
        line = self._line_state.line
        models = InfoMetricFamily(
            "edgeinspect_engine", "The model in use", labels=["line", "engine"]
        )
        for role, model in list(self._models.items()):
            labels = {
                "model": f"{model.name}/{model.version}",
                "sha256": model.sha256[:12],
                "calibration": model.calibration or "",
            }
            if status is not None and isinstance(status.pretrained, dict):
                labels |= {"pretrained": status.pretrained.get(role, "")}
            models.add_metric([line, role], labels)
        yield models
        config_hash = status.config_hash if status is not None else ""
        versions = InfoMetricFamily("edgeinspect_line", "Versions in use", labels=["line"])
        versions.add_metric([line], {"page_version": __version__, "config_hash": config_hash})
        yield versions

    def _drift_metrics(self) -> Iterator[Metric]:
        drift = self._sources.drift
        stats = dict(drift.image_stats)
        brightness = [((camera,), value) for camera, (value, _) in stats.items()]
        description = "Mean grey level of a sampled frame, 0 to 255"
        yield self._gauges("picture_brightness", description, ("camera",), brightness)
        sharpness = [((camera,), value) for camera, (_, value) in stats.items()]
        description = "Variance of the Laplacian of its centre"
        yield self._gauges("picture_sharpness", description, ("camera",), sharpness)
        index = drift.current_index()
        if index is not None:
            description = "Population stability index of the gate's scores"
            yield self._gauge("gate_score_psi", description, index)

    def _host_metrics(self) -> Iterator[Metric]:
        host = self._sources.read_host_state()
        name, description = "edgeinspect_temperature_celsius", "Temperatures of the PC's sensors"
        temperatures = GaugeMetricFamily(name, description, labels=["sensor"])
        for sensor, celsius in host.temperatures.items():
            temperatures.add_metric([sensor], celsius)
        yield temperatures
        if host.throttle_count is not None:
            name, description = (
                "edgeinspect_cpu_throttles",
                "How often a core was throttled by heat",
            )
            yield CounterMetricFamily(name, description, value=host.throttle_count)
        if host.min_clock_ratio is not None:
            name = "edgeinspect_cpu_speed_ratio"
            description = "Lowest ratio of a core's clock to its maximum"
            yield GaugeMetricFamily(name, description, value=host.min_clock_ratio)
