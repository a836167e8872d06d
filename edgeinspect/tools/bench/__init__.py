"""Benchmark: what a line costs beyond its engines, on this PC."""

from edgeinspect.tools.bench.benchmark import (
    Benchmark,
    BenchmarkConfig,
    describe_host,
    realtime_variants,
)
from edgeinspect.tools.bench.measurement import FrameSamples, FullLineRun, concatenate
from edgeinspect.tools.bench.memory_camera import MemoryCamera
from edgeinspect.tools.bench.report import latency_plot
from edgeinspect.tools.bench.results import (
    BenchmarkResult,
    OptionResults,
    RateSummary,
    SearchResult,
    SearchStep,
    WorkerSetting,
    summarise,
)

__all__ = [
    # the benchmark
    "Benchmark",
    "BenchmarkConfig",
    "describe_host",
    "realtime_variants",
    # measurements
    "FrameSamples",
    "FullLineRun",
    "MemoryCamera",
    "concatenate",
    # results
    "BenchmarkResult",
    "OptionResults",
    "RateSummary",
    "SearchResult",
    "SearchStep",
    "WorkerSetting",
    "latency_plot",
    "summarise",
]
