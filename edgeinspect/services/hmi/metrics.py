"""Measures: what Prometheus is told of a line, all of it reckoned in the page's process.

The daemon publishes a status each second and times in every verdict; histograms, drift and
the rest are made here, so that counting costs the frame's path nothing.
Source: docs/metrics.md lists every name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

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
from edgeinspect.domain import Decision, ModelRef, Verdict
from edgeinspect.services.hmi.archive_frames import ArchiveMonitor
from edgeinspect.services.hmi.drift import DriftMonitor
from edgeinspect.services.hmi.host_sensors import HostState
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.wire import Status

_SECONDS_PER_US = 1e-6
_BUCKETS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000)
_STAGES = ("queue", "gate", "segmenter", "regions")
_CAMERA_FAULTS = ("capture_lost", "capture_error", "capture_health", "shape")
_REASONS = (*_CAMERA_FAULTS, "deadline", "overrun", "engine_error", "restart", "shutdown")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts verdicts and renders everything. `take` is the follower's; `render` any's.

    Args:
        board: What the line says of itself.
        drift: Pictures and scores.
        cameras: Their names.
        budget_ms: The line's budget; a bucket ends there, so the share in time is exact.
        read_host: The PC's state.
        clients: Browsers that watch now.
        archive: How the line's archive is, if there is one.
    """

    def __init__(
        self,
        line_state: LineState,
        drift: DriftMonitor,
        *,
        cameras: tuple[str, ...],
        budget_ms: float,
        read_host_state: Callable[[], HostState],
        client_count: Callable[[], int] = lambda: 0,
        archive_monitor: ArchiveMonitor | None = None,
    ) -> None:
        # A second series for each histogram, that nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        edges = sorted({*_BUCKETS_MS, budget_ms})
        buckets = [edge / 1000 for edge in edges]
        self._latency = Histogram(
            "edgeinspect_latency_seconds",
            "Capture to decision, of frames an engine judged",
            ["line"],
            buckets=buckets,
            registry=self._registry,
        ).labels(line_state.line)
        stages = Histogram(
            "edgeinspect_stage_seconds",
            "Time in each stage, of frames in which it ran",
            ["line", "stage"],
            buckets=buckets,
            registry=self._registry,
        )
        self._stages = {name: stages.labels(line_state.line, name) for name in _STAGES}
        Gauge(
            "edgeinspect_budget_seconds",
            "The line's budget per frame",
            ["line"],
            registry=self._registry,
        ).labels(line_state.line).set(budget_ms / 1000)
        self._models: dict[str, ModelRef] = {}
        self._registry.register(
            _MetricsCollector(
                line_state,
                drift,
                cameras,
                budget_ms,
                read_host_state,
                client_count,
                archive_monitor,
                self._models,
            )
        )

    def on_verdict(self, verdict: Verdict) -> None:
        """One verdict."""
        for role, model in (("gate", verdict.gate), ("segmenter", verdict.segmenter)):
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

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _MetricsCollector:
    """What is read off board, drift and host at the moment of the question."""

    def __init__(
        self,
        line_state: LineState,
        drift: DriftMonitor,
        cameras: tuple[str, ...],
        budget_ms: float,
        read_host_state: Callable[[], HostState],
        client_count: Callable[[], int],
        archive_monitor: ArchiveMonitor | None,
        models: dict[str, ModelRef],
    ) -> None:
        self._line_state = line_state
        self._drift = drift
        self._cameras = cameras
        self._budget_us = budget_ms * 1000
        self._read_host_state = read_host_state
        self._client_count = client_count
        self._archive_monitor = archive_monitor
        self._models = models

    def describe(self) -> Iterator[Metric]:
        """Nothing: asked at registration, before there is anything to tell."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield from self._state_metrics()
        status = self._line_state.latest_status
        if status is not None:
            yield from self._balance_metrics(status)
        yield from self._camera_metrics(status)
        yield from self._engine_metrics(status)
        yield from self._drift_metrics()
        yield from self._host_metrics()
        if self._archive_monitor is not None:
            yield from self._archive_metrics(self._archive_monitor)

    def _gauge(self, name: str, description: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"edgeinspect_{name}", description, labels=["line"])
        family.add_metric([self._line_state.line], value)
        return family

    def _state_metrics(self) -> Iterator[Metric]:
        standing = self._line_state.current_status()
        inspected = standing.state != "not_inspected"
        yield self._gauge("inspected", "1 while the line is inspected now", inspected)
        yield self._gauge(
            "alarm", "1 while an alarm stands", standing.state == "alarm" or bool(standing.reason)
        )
        if standing.silence_ms is not None:
            yield self._gauge(
                "heartbeat_age_seconds",
                "Since the daemon's last sign of life",
                standing.silence_ms / 1000,
            )
        lost = CounterMetricFamily(
            "edgeinspect_wire_lost", "Verdicts that this page could not get", labels=["line"]
        )
        lost.add_metric([self._line_state.line], self._line_state.lost_verdicts)
        yield lost
        yield self._gauge("page_clients", "Browsers that watch now", self._client_count())

    def _archive_metrics(self, archive: ArchiveMonitor) -> Iterator[Metric]:
        state = archive.status
        yield self._gauge(
            "archive_up",
            "1 while the archive can save pictures",
            state is not None and not archive.alarm(),
        )
        if state is None:
            return
        yield self._gauge("archive_bytes", "Pictures and sidecars held", state.size_bytes)
        for name, words, value in (
            ("saved", "Frames saved since the archive's start", state.saved),
            ("missed", "Frames that should have been saved and were not", state.missed),
        ):
            family = CounterMetricFamily(f"edgeinspect_archive_{name}", words, labels=["line"])
            family.add_metric([self._line_state.line], value)
            yield family

    def _balance_metrics(self, status: Status) -> Iterator[Metric]:
        line, counts = self._line_state.line, status.counts
        captured = CounterMetricFamily(
            "edgeinspect_frames_captured",
            "Frames captured since the daemon's start",
            labels=["line"],
        )
        captured.add_metric([line], counts.captured)
        yield captured
        verdicts = CounterMetricFamily(
            "edgeinspect_verdicts",
            "Verdicts since the daemon's start",
            labels=["line", "decision"],
        )
        for decision, count in (
            ("PASS", counts.passed),
            ("REJECT", counts.reject),
            ("NO_VERDICT", counts.no_verdict),
        ):
            verdicts.add_metric([line, decision], count)
        yield verdicts
        reasons = CounterMetricFamily(
            "edgeinspect_no_verdicts",
            "NO_VERDICT since the daemon's start, by reason",
            labels=["line", "reason"],
        )
        for reason, count in (dict.fromkeys(_REASONS, 0) | counts.reasons).items():
            reasons.add_metric([line, reason], count)
        yield reasons
        for name, words, value in (
            ("late_results", "Results that came after their frame was closed", counts.late),
            ("degraded", "Verdicts by the gate alone for lack of time", counts.degraded),
        ):
            family = CounterMetricFamily(f"edgeinspect_{name}", words, labels=["line"])
            family.add_metric([line], value)
            yield family
        yield self._gauge("open_frames", "Frames captured and not yet decided", counts.open)
        yield self._gauge("frame_rate_hertz", "Frames a second", status.rate_hz)
        published = GaugeMetricFamily(
            "edgeinspect_published_latency_seconds",
            "Capture to published since the daemon's start, by the daemon's own histogram",
            labels=["line", "quantile"],
        )
        published.add_metric([line, "0.5"], status.latency_p50_us * _SECONDS_PER_US)
        published.add_metric([line, "0.99"], status.latency_p99_us * _SECONDS_PER_US)
        yield published
        headroom = 1 - status.latency_p99_us / self._budget_us
        yield self._gauge("budget_headroom_ratio", "Share of the budget left at p99", headroom)
        yield self._gauge("daemon_start_time_seconds", "The epoch", status.epoch / 1000)

    def _camera_metrics(self, status: Status | None) -> Iterator[Metric]:
        line = self._line_state.line
        live = GaugeMetricFamily(
            "edgeinspect_camera_live", "1 while a camera delivers", labels=["line", "camera"]
        )
        for camera in self._cameras:
            if status is not None:
                live.add_metric([line, camera], status.cameras.get(camera) == "live")
        yield live
        frames = CounterMetricFamily(
            "edgeinspect_camera_frames",
            "Verdicts heard by this page, by camera",
            labels=["line", "camera"],
        )
        faults = CounterMetricFamily(
            "edgeinspect_camera_faults",
            "Of them, frames lost, unreadable, or unfit to be judged",
            labels=["line", "camera", "reason"],
        )
        heard = dict(self._line_state.verdict_counts)
        total: Counter[str] = Counter(dict.fromkeys(self._cameras, 0))
        for (camera, _), count in heard.items():
            total[camera] += count
        for camera, count in total.items():
            frames.add_metric([line, camera], count)
            for reason in _CAMERA_FAULTS:
                faults.add_metric([line, camera, reason], heard.get((camera, reason), 0))
        yield frames
        yield faults

    def _engine_metrics(self, status: Status | None) -> Iterator[Metric]:
        info = InfoMetricFamily(
            "edgeinspect_engine", "The model that judges", labels=["line", "engine"]
        )
        for role, model in list(self._models.items()):
            told = {
                "model": f"{model.name}/{model.version}",
                "sha256": model.sha256[:12],
                "calibration": model.calibration or "",
            }
            info.add_metric([self._line_state.line, role], told)
        yield info
        software = InfoMetricFamily("edgeinspect_line", "What runs", labels=["line"])
        hash_ = status.config_hash if status is not None else ""
        software.add_metric(
            [self._line_state.line], {"page_version": __version__, "config_hash": hash_}
        )
        yield software

    def _drift_metrics(self) -> Iterator[Metric]:
        line, drift = self._line_state.line, self._drift
        bright = GaugeMetricFamily(
            "edgeinspect_picture_brightness",
            "Mean grey level of a sampled picture, 0 to 255",
            labels=["line", "camera"],
        )
        sharp = GaugeMetricFamily(
            "edgeinspect_picture_sharpness",
            "Variance of the Laplacian of its middle",
            labels=["line", "camera"],
        )
        for camera, (brightness, sharpness) in dict(drift.image_stats).items():
            bright.add_metric([line, camera], brightness)
            sharp.add_metric([line, camera], sharpness)
        yield bright
        yield sharp
        index = drift.current_index()
        if index is not None:
            yield self._gauge(
                "gate_score_psi", "Population stability index of the gate's scores", index
            )

    def _host_metrics(self) -> Iterator[Metric]:
        host = self._read_host_state()
        heat = GaugeMetricFamily(
            "edgeinspect_temperature_celsius", "Of the PC's sensors", labels=["sensor"]
        )
        for sensor, celsius in host.temperatures.items():
            heat.add_metric([sensor], celsius)
        yield heat
        if host.throttle_count is not None:
            yield CounterMetricFamily(
                "edgeinspect_cpu_throttles",
                "Times a core was slowed for its heat",
                value=host.throttle_count,
            )
        if host.min_clock_ratio is not None:
            yield GaugeMetricFamily(
                "edgeinspect_cpu_speed_ratio",
                "Lowest core clock over its highest",
                value=host.min_clock_ratio,
            )
