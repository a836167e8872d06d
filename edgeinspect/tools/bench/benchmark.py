"""The benchmark: which lines are built, and the order of their rounds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect import __version__
from edgeinspect.config import LoadedConfig, load_config
from edgeinspect.domain import Pixels
from edgeinspect.storage.model_store import ModelStore, default_root, shipped_line_config
from edgeinspect.system import describe_machine
from edgeinspect.tools.bench.measurement import (
    EngineOnlyRun,
    FrameSamples,
    FullLineRun,
    available_cores,
    concatenate,
    frame_rate_hz,
)
from edgeinspect.tools.bench.memory_camera import folder_images, synthetic_images
from edgeinspect.tools.bench.results import (
    BenchmarkResult,
    RatePoint,
    SearchResult,
    SearchStep,
    ThroughputResult,
    WorkerSetting,
    summarise,
)
from edgeinspect.tools.bench.tail_fit import estimate_tail
from edgeinspect.tools.memory_folder import temporary_memory_folder

_QUIET_RATIO = 0.5
"""Ratio of one worker's rate at which no frame waits for another."""
_STEP_RATIO = 1.02
"""Rates with a smaller ratio count as equal."""


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """Parameters of a benchmark."""

    config: Path | None = None
    """A line's configuration; None for a line with the shipped models."""
    overrides: Sequence[str] = ()
    images: Path | None = None
    """Folder of images; None for synthetic strip."""
    image_count: int = 64
    frames: int = 200
    """Frames per round."""
    rounds: int = 5
    load_ratio: float = 0.7
    """Ratio of the line's highest rate at which latency is measured."""
    budget_ms: float = 150.0
    """Budget of the shipped line; a configuration has its own."""
    backend: str = "ov"
    as_configured: bool = False
    """Use the configured workers and threads, not the fastest."""


@dataclass(slots=True)
class BenchmarkProgress:
    """Current stage, for display."""

    stage: str = "starting"
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class Benchmark:
    """One benchmark. The images are read once."""

    config: BenchmarkConfig
    progress: BenchmarkProgress = field(default_factory=BenchmarkProgress)
    images: list[Pixels] = field(default_factory=list)
    budget_us: int = 0
    threaded_engines: list[str] = field(default_factory=list)
    """Engines with an option for threads."""
    configured: WorkerSetting = field(default_factory=lambda: WorkerSetting(1))

    def load_config(self, folder: str, *overrides: str) -> LoadedConfig:
        """Load the configuration, with overrides that keep it apart from a running line."""
        config = self.config
        isolation = [
            f"spool.folder={folder}",
            f"spool.slots={max(4096, config.frames + 64)}",
            "publish.verdicts=tcp://127.0.0.1:*",
            "publish.replay=tcp://127.0.0.1:*",
        ]
        words = [*isolation, *overrides, *config.overrides]
        if config.config is None:
            return shipped_line_config(
                folder,
                budget_ms=config.budget_ms,
                backend=config.backend,
                line="bench",
                overrides=words,
            )
        loaded = load_config(config.config, words)
        if loaded.config.ledger is None:
            return loaded
        # One of its own, since a ledger is part of the load; the line's is evidence.
        return load_config(config.config, [*words, f"ledger.folder={folder}"])

    def prepare(self) -> None:
        """Read or render the images, and read the line's properties; once."""
        if self.images:
            return
        with temporary_memory_folder("bench") as folder:
            loaded = self.load_config(folder)
        self.budget_us = round(loaded.config.budget_ms * 1000)
        self.threaded_engines = [
            name for name, each in loaded.engines.items() if hasattr(each.options, "threads")
        ]
        self.configured = WorkerSetting(loaded.config.inspect.workers)
        store = ModelStore(Path(loaded.config.store) if loaded.config.store else default_root())
        choice = next(iter(loaded.engines.values()))
        spec = store.resolve(choice.options.model)
        config = self.config
        self.progress.stage, self.progress.total = "images", config.image_count
        if config.images is not None:
            self.images = folder_images(config.images, config.image_count, spec.shape, spec.color)
        else:
            self.images = synthetic_images(config.image_count, spec.shape, self._report_done)

    def _report_done(self, done: int) -> None:
        self.progress.done = done

    def _interleaved_rounds(self, stage: str, total: int) -> range:
        self.progress.stage, self.progress.done, self.progress.total = stage, 0, total
        return range(total)

    def rank_settings(self) -> list[tuple[WorkerSetting, float]]:
        """Return the engines' frames a second for each setting, fastest first."""
        self.prepare()
        settings = self._candidates()
        with temporary_memory_folder("bench") as folder:
            engine_runs = [
                EngineOnlyRun(
                    self.load_config(folder, *each.overrides(self.threaded_engines)), self.images
                )
                for each in settings
            ]
            try:
                rates: list[list[float]] = [[] for _ in settings]
                count = max(20, self.config.frames // 3)
                for round_index in self._interleaved_rounds("workers and threads", 3):
                    for index, engine_run in enumerate(engine_runs):
                        rates[index].append(frame_rate_hz(count, engine_run.run(0, count)))
                    self._report_done(round_index + 1)
            finally:
                for engine_run in engine_runs:
                    engine_run.close()
        medians = map(statistics.median, rates)
        return sorted(zip(settings, medians, strict=True), key=lambda entry: -entry[1])

    def measure_throughput(self, setting: WorkerSetting) -> ThroughputResult:
        """Measure the full line and the engines alone, both as fast as possible."""
        self.prepare()
        count = self.config.frames
        ratios, bare_hz, line_hz, extra_us, switches = [], [], [], [], []
        with temporary_memory_folder("bench") as folder:
            loaded = self.load_config(
                folder,
                *setting.overrides(self.threaded_engines),
                "capture.overload=block",
                "inspect.keep_warm_ms=0",
            )
            engines_only = EngineOnlyRun(loaded, self.images)
            line = FullLineRun(loaded, self.images)
            try:
                engines_only.run(0, 10)
                line.run(0, 10)
                for round_index in self._interleaved_rounds("throughput", self.config.rounds):
                    first = round_index * count
                    engine_usage = engines_only.run(first, count)
                    _samples, line_usage = line.run(first, count)
                    bare_hz.append(frame_rate_hz(count, engine_usage))
                    line_hz.append(frame_rate_hz(count, line_usage))
                    ratios.append(line_hz[-1] / bare_hz[-1])
                    extra_us.append((line_usage.cpu_ns - engine_usage.cpu_ns) / count / 1000)
                    switches.append(line_usage.context_switches / count)
                    self._report_done(round_index + 1)
            finally:
                line.close()
                engines_only.close()
        return ThroughputResult(
            setting=setting,
            bare_hz=bare_hz,
            line_hz=line_hz,
            ratio=ratios,
            extra_cpu_us=statistics.median(extra_us),
            switches=statistics.median(switches),
        )

    def measure_latency(self, rates: Sequence[float], setting: WorkerSetting) -> list[FrameSamples]:
        """Measure the line at several rates, interleaved; return one entry per rate."""
        self.prepare()
        count = self.config.frames
        samples: list[list[FrameSamples]] = [[] for _ in rates]
        with temporary_memory_folder("bench") as folder:
            loaded = self.load_config(folder, *setting.overrides(self.threaded_engines))
            line = FullLineRun(loaded, self.images)
            try:
                line.run(0, 10, rates[0])
                for round_index in self._interleaved_rounds("latency", self.config.rounds):
                    for index, rate in enumerate(rates):
                        samples[index].append(line.run(round_index * count, count, rate)[0])
                    self._report_done(round_index + 1)
            finally:
                line.close()
        return [concatenate(each) for each in samples]

    def run(self) -> BenchmarkResult:
        """Run everything but the search for the highest rate."""
        settings = self.rank_settings()
        engine_rates_hz = dict(settings)
        setting = self.configured if self.config.as_configured else settings[0][0]
        throughput = self.measure_throughput(setting)
        alone_hz = (
            engine_rates_hz.get(setting, statistics.median(throughput.bare_hz)) / setting.workers
        )
        rates = [
            alone_hz * _QUIET_RATIO,
            statistics.median(throughput.line_hz) * self.config.load_ratio,
        ]
        quiet, busy = self.measure_latency(rates, setting)
        return BenchmarkResult(
            machine=describe_host(),
            version=__version__,
            frame="x".join(map(str, self.images[0].shape)),
            budget_us=self.budget_us,
            settings=[(str(each), hz) for each, hz in settings],
            throughput=throughput,
            quiet=RatePoint(rates[0], summarise(quiet)),
            busy=RatePoint(rates[1], summarise(busy)),
            copied_bytes=int(np.prod(self.images[0].shape)),
        )

    def choose_setting(self) -> WorkerSetting:
        """Return the setting to measure: the configured one, or the fastest."""
        self.prepare()
        return self.configured if self.config.as_configured else self.rank_settings()[0][0]

    def _candidates(self) -> list[WorkerSetting]:
        """Return the settings to try: all processors for one frame, or a frame per processor."""
        if self.threaded_engines and available_cores() > 1:
            return [WorkerSetting(1, 0), WorkerSetting(available_cores(), 1)]
        return [WorkerSetting(1), WorkerSetting(2)]

    def search_rate(self, setting: WorkerSetting) -> SearchResult:
        """Search for the highest rate with an estimated miss of less than one frame in a million.

        Bisects the interval between a rate that holds and one that does not, six times.
        """
        self.prepare()
        budget_us = self.budget_us
        throughput = self.measure_throughput(setting)
        low, high = 0.0, statistics.median(throughput.line_hz)
        steps: list[SearchStep] = []
        rate = high * 0.7
        for _ in range(6):
            (samples,) = self.measure_latency([rate], setting)
            estimate = estimate_tail(samples.latency_us)
            holds = samples.miss_count == 0 and estimate.upper_us <= budget_us
            steps.append(
                SearchStep(
                    rate_hz=round(rate, 2),
                    frames=estimate.frames,
                    misses=samples.miss_count,
                    one_in_a_million_us=round(estimate.latency_us),
                    upper_us=round(estimate.upper_us),
                    holds=holds,
                )
            )
            low, high = (rate, high) if holds else (low, rate)
            if low and high / low < _STEP_RATIO:
                break
            rate = (low + high) / 2
        return SearchResult(budget_us=budget_us, steps=steps)


def describe_host() -> dict[str, Any]:
    """Return the properties of this PC, and its load by other processes."""
    return {
        "processor": describe_machine()["processor"],
        "cores": available_cores(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def realtime_variants() -> dict[str, list[str]]:
    """Return the real-time options and all of them together: name to overrides."""
    fifo, memory = "real_time.fifo_priority=50", "real_time.lock_memory=true"
    return {
        "none": [],
        "fifo": [fifo],
        "memory": [memory],
        "affinity": [f"real_time.cpus=[{max(os.sched_getaffinity(0))}]"],
        "all": [fifo, memory],
    }
