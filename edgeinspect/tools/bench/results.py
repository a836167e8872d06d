"""What a bench found, as plain values; the JSON of `edgeinspect bench --json`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import LatencyEstimate
from edgeinspect.tools.bench.measurement import REJECT, FrameSamples


@dataclass(frozen=True, slots=True)
class WorkerSetting:
    """How many frames at a time, and how many threads for each."""

    workers: int
    threads: int | None = None
    """None leaves it to the configuration, or to the library."""

    def overrides(self, engines: Collection[str]) -> list[str]:
        """As the configuration of a line with these engines says it."""
        out = [f"inspect.workers={self.workers}"]
        if self.threads is not None:
            out += [f"engines.{name}.threads={self.threads}" for name in engines]
        return out

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        if self.threads is None:
            return workers
        return f"{workers} of {self.threads or 'all'} thread{'s' if self.threads != 1 else ''}"


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """The line against the bare engines, round by round."""

    setting: WorkerSetting
    bare_hz: list[float]
    line_hz: list[float]
    ratio: list[float]
    extra_cpu_us: float
    """Processor time per frame beside the engines'."""
    switches: float
    """Context switches per frame, engines included."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of some frames, in µs."""

    frames: int
    p50: int
    p90: int
    p99: int
    p999: int
    max: int


@dataclass(frozen=True, slots=True)
class RateSummary:
    """One stage of the bench: the line at one rate."""

    frames: int
    misses: int
    """Frames without a decision in time."""
    latency: Quantiles
    overhead_clean: Quantiles
    """Captured to sent, less the engines' own time: frames that the gate passed."""
    overhead_segmented: Quantiles
    """The same, where the segmenter looked too."""
    overhead_reject: Quantiles
    latency_clean: Quantiles
    latency_segmented: Quantiles
    underestimated: int
    """Frames whose segmenter took longer than the p99 that was predicted before it began,
    out of `latency_segmented.frames`; one in a hundred is what a p99 means."""


@dataclass(frozen=True, slots=True)
class RatePoint:
    """A rate, and what it gave."""

    rate_hz: float
    summary: RateSummary


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Everything one bench found."""

    machine: dict[str, Any]
    version: str
    frame: str
    budget_us: int
    settings: list[tuple[str, float]]
    """(setting, bare frames a second), quickest first."""
    throughput: ThroughputResult
    quiet: RatePoint
    """So slow that no frame waits for another: what the line itself takes."""
    busy: RatePoint
    """At a share of the highest rate: what a real line sees."""
    copied_bytes: int
    """Pixels copied per frame between the camera's buffer and the engine's input."""


def quantiles(values: NDArray[np.int64]) -> Quantiles:
    """The quantiles of some values; zeros without any."""
    if not len(values):
        return Quantiles(0, 0, 0, 0, 0, 0)
    wanted = np.quantile(values, [0.5, 0.9, 0.99, 0.999], method="higher")
    p50, p90, p99, p999 = (int(each) for each in wanted)
    return Quantiles(len(values), p50, p90, p99, p999, int(values.max()))


def summarise(samples: FrameSamples) -> RateSummary:
    """The quantiles of one stage."""
    overhead, judged = samples.overhead_us, samples.is_inspected
    segmented = samples.is_segmented
    clean = judged & ~segmented
    return RateSummary(
        frames=len(samples.kind),
        misses=samples.miss_count,
        latency=quantiles(samples.latency_us[judged]),
        overhead_clean=quantiles(overhead[clean]),
        overhead_segmented=quantiles(overhead[segmented]),
        overhead_reject=quantiles(overhead[judged & (samples.kind == REJECT)]),
        latency_clean=quantiles(samples.latency_us[clean]),
        latency_segmented=quantiles(samples.latency_us[segmented]),
        underestimated=count_underestimated(samples.segmenter_us[segmented]),
    )


def count_underestimated(times_us: NDArray[np.int64]) -> int:
    """How many of these times, in their order, exceed what the line would have predicted.

    The line's own estimate, fed as the line feeds it: it decides whether the segmenter still
    fits the rest of a frame's budget.
    """
    estimate, wrong = LatencyEstimate(), 0
    for value in times_us.tolist():
        wrong += bool(estimate.p99_ns) and value * 1000 > estimate.p99_ns
        estimate.add(value * 1000)
    return wrong
