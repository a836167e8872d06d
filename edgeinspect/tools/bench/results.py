"""Results of a benchmark; encoded as the JSON of `edgeinspect bench --json`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import LatencyEstimate
from edgeinspect.tools.bench.measurement import REJECT, FrameSamples


@dataclass(frozen=True, slots=True)
class WorkerSetting:
    """Number of workers, and of threads for each."""

    workers: int
    threads: int | None = None
    """None: as configured, or the library's default."""

    def overrides(self, engines: Collection[str]) -> list[str]:
        """Return the configuration overrides for a line with these engines."""
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
    """The full line compared with the engines alone, round by round."""

    setting: WorkerSetting
    bare_hz: list[float]
    line_hz: list[float]
    ratio: list[float]
    extra_cpu_us: float
    """Processor time per frame beyond the engines'."""
    switches: float
    """Context switches per frame, engines included."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles over frames, in µs."""

    frames: int
    p50: int
    p90: int
    p99: int
    p999: int
    max: int


class RateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of the line at one rate."""

    frames: int
    misses: int
    """Frames without a decision in time."""
    latency: Quantiles = msgspec.field(name="latency_us")
    overhead_clean: Quantiles = msgspec.field(name="overhead_clean_us")
    """Capture to sent, without the engines' time: frames that the gate passed."""
    overhead_segmented: Quantiles = msgspec.field(name="overhead_segmented_us")
    """The same for frames on which the segmenter ran."""
    overhead_reject: Quantiles = msgspec.field(name="overhead_reject_us")
    latency_clean: Quantiles = msgspec.field(name="latency_clean_us")
    latency_segmented: Quantiles = msgspec.field(name="latency_segmented_us")
    underestimated: int
    """Frames whose segmenter took longer than the p99 predicted before it started, out of
    `latency_segmented.frames`; one in a hundred is expected."""


@dataclass(frozen=True, slots=True)
class RatePoint:
    """A rate and its statistics."""

    rate_hz: float
    summary: RateSummary


class BenchmarkResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.bench/1"
):
    """All results of one benchmark."""

    machine: dict[str, Any]
    version: str
    frame: str
    budget_us: int
    settings: list[tuple[str, float]]
    """(setting, frames a second of the engines alone), fastest first."""
    throughput: ThroughputResult
    quiet: RatePoint
    """At a rate at which no frame waits for another: the line's own overhead."""
    busy: RatePoint
    """At a ratio of the highest rate, as on a real line."""
    copied_bytes: int
    """Pixels copied per frame between the camera's buffer and the engine's input."""


class SearchStep(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of a search."""

    rate_hz: float
    frames: int
    misses: int
    one_in_a_million_us: int
    """Latency that one frame in a million exceeds, by a fitted tail."""
    upper_us: int
    """Upper limit of its 95 % interval."""
    holds: bool
    """The budget is kept at this rate."""


class SearchResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.bench_search/1"
):
    """The search for the highest rate that keeps the budget."""

    budget_us: int
    steps: list[SearchStep]

    @property
    def highest_rate_hz(self) -> float | None:
        """The highest rate that holds."""
        return max((step.rate_hz for step in self.steps if step.holds), default=None)


class OptionResults(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.bench_options/1"
):
    """The effect of each real-time option."""

    options: dict[str, list[BenchmarkResult]]
    """Option to the result of each round."""
    rejected: dict[str, str]
    """Options that this PC does not allow, and why."""


def quantiles(values: NDArray[np.int64]) -> Quantiles:
    """Return the quantiles of values; zeros if there are none."""
    if not len(values):
        return Quantiles(0, 0, 0, 0, 0, 0)
    values_at = np.quantile(values, [0.5, 0.9, 0.99, 0.999], method="higher")
    p50, p90, p99, p999 = (int(each) for each in values_at)
    return Quantiles(len(values), p50, p90, p99, p999, int(values.max()))


def summarise(samples: FrameSamples) -> RateSummary:
    """Return the statistics of the line at one rate."""
    overhead, inspected = samples.overhead_us, samples.is_inspected
    segmented = samples.is_segmented
    clean = inspected & ~segmented
    return RateSummary(
        frames=len(samples.kind),
        misses=samples.miss_count,
        latency=quantiles(samples.latency_us[inspected]),
        overhead_clean=quantiles(overhead[clean]),
        overhead_segmented=quantiles(overhead[segmented]),
        overhead_reject=quantiles(overhead[inspected & (samples.kind == REJECT)]),
        latency_clean=quantiles(samples.latency_us[clean]),
        latency_segmented=quantiles(samples.latency_us[segmented]),
        underestimated=count_underestimated(samples.segmenter_us[segmented]),
    )


def count_underestimated(times_us: NDArray[np.int64]) -> int:
    """Return how many of these times, in their order, exceed the line's prediction.

    Uses the line's own estimate, which decides whether the segmenter still fits into the rest
    of a frame's budget.
    """
    estimate, exceeded = LatencyEstimate(), 0
    for value in times_us.tolist():
        exceeded += bool(estimate.p99_ns) and value * 1000 > estimate.p99_ns
        estimate.add(value * 1000)
    return exceeded
