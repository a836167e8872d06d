"""The bench as a whole: which lines are built, in which order their rounds run."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeinspect import __version__
from edgeinspect.config import LoadedConfig, load_config
from edgeinspect.domain import Pixels
from edgeinspect.errors import UsageError
from edgeinspect.storage.model_store import ModelStore, default_root, shipped_line_config
from edgeinspect.tools.bench.measurement import (
    EngineOnlyRun,
    FrameSamples,
    FullLineRun,
    TemporaryMemoryFolder,
    available_cores,
    concatenate,
    frame_rate_hz,
)
from edgeinspect.tools.bench.memory_camera import folder_images, synthetic_images
from edgeinspect.tools.bench.results import (
    BenchmarkResult,
    RatePoint,
    ThroughputResult,
    WorkerSetting,
    summarise,
)
from edgeinspect.tools.bench.tail_fit import estimate_tail

_QUIET_RATIO = 0.5
"""Of the rate of one worker: no frame waits for another."""
_STEP_RATIO = 1.02
"""Two rates that are so near are one."""


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """What to measure."""

    config: Path | None = None
    """A line's configuration; the shipped models' line without one."""
    overrides: Sequence[str] = ()
    images: Path | None = None
    """Pictures to show; synthetic strip without."""
    image_count: int = 64
    frames: int = 200
    """Of one round."""
    rounds: int = 5
    load_ratio: float = 0.7
    """Share of the line's highest rate at which latency is measured."""
    budget_ms: float = 150.0
    """Of the shipped line; a configuration has its own."""
    backend: str = "ov"
    as_configured: bool = False
    """Measure the workers and threads that are configured, not the quickest that are found."""


@dataclass(slots=True)
class BenchmarkProgress:
    """What it does now, for whoever waits."""

    stage: str = "starting"
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class Benchmark:
    """One bench. `pictures` are read once."""

    config: BenchmarkConfig
    progress: BenchmarkProgress = field(default_factory=BenchmarkProgress)
    images: list[Pixels] = field(default_factory=list)
    budget_us: int = 0
    threaded_engines: list[str] = field(default_factory=list)
    """Engines whose threads can be set."""
    configured: WorkerSetting = field(default_factory=lambda: WorkerSetting(1))

    # -- lines ----------------------------------------------------------------------

    def load_config(self, folder: str, *more: str) -> LoadedConfig:
        """The configuration with everything that would touch a running line turned away."""
        plan = self.config
        own = [
            f"spool.folder={folder}",
            f"spool.slots={max(4096, plan.frames + 64)}",
            "publish.verdicts=tcp://127.0.0.1:*",
            "publish.replay=tcp://127.0.0.1:*",
        ]
        if plan.config is None:
            return shipped_line_config(
                folder,
                budget_ms=plan.budget_ms,
                backend=plan.backend,
                line="bench",
                overrides=[*own, *more, *plan.overrides],
            )
        return load_config(plan.config, [*own, *more, *plan.overrides])

    def prepare(self) -> None:
        """Read or render the pictures, and learn what the line is made of; once."""
        if self.images:
            return
        with TemporaryMemoryFolder() as folder:
            loaded = self.load_config(folder)
        self.budget_us = round(loaded.config.budget_ms * 1000)
        self.threaded_engines = [
            name for name, each in loaded.engines.items() if hasattr(each.options, "threads")
        ]
        self.configured = WorkerSetting(loaded.config.inspect.workers)
        store = ModelStore(Path(loaded.config.store) if loaded.config.store else default_root())
        choice = next(iter(loaded.engines.values()))
        spec = store.resolve(choice.options.model)
        plan = self.config
        self.progress.stage, self.progress.total = "pictures", plan.image_count
        if plan.images is not None:
            self.images = folder_images(plan.images, plan.image_count, spec.shape, spec.color)
        else:
            self.images = synthetic_images(plan.image_count, spec.shape, self._report_done)

    def _report_done(self, done: int) -> None:
        self.progress.done = done

    def _interleaved_rounds(self, stage: str, total: int) -> range:
        self.progress.stage, self.progress.done, self.progress.total = stage, 0, total
        return range(total)

    # -- measurements ---------------------------------------------------------------

    def rank_settings(self) -> list[tuple[WorkerSetting, float]]:
        """The bare engines' frames a second under each setting, quickest first."""
        self.prepare()
        wanted = self._candidates()
        with TemporaryMemoryFolder() as folder:
            loops = [
                EngineOnlyRun(
                    self.load_config(folder, *each.overrides(self.threaded_engines)), self.images
                )
                for each in wanted
            ]
            try:
                rates: list[list[float]] = [[] for _ in wanted]
                count = max(20, self.config.frames // 3)
                for turn in self._interleaved_rounds("workers and threads", 3):
                    for index, loop in enumerate(loops):
                        rates[index].append(frame_rate_hz(count, loop.run(0, count)))
                    self._report_done(turn + 1)
            finally:
                for loop in loops:
                    loop.close()
        found = [(each, statistics.median(rate)) for each, rate in zip(wanted, rates, strict=True)]
        return sorted(found, key=lambda entry: -entry[1])

    def measure_throughput(self, setting: WorkerSetting) -> ThroughputResult:
        """Whole line against bare engines, both as fast as they go."""
        self.prepare()
        count = self.config.frames
        ratios, bare_hz, line_hz, extra_us, switches = [], [], [], [], []
        with TemporaryMemoryFolder() as folder:
            loaded = self.load_config(
                folder,
                *setting.overrides(self.threaded_engines),
                "capture.overload=block",
                "inspect.keep_warm_ms=0",
            )
            bare = EngineOnlyRun(loaded, self.images)
            line = FullLineRun(loaded, self.images)
            try:
                bare.run(0, 10)
                line.run(0, 10)
                for turn in self._interleaved_rounds("throughput", self.config.rounds):
                    first = turn * count
                    alone = bare.run(first, count)
                    _samples, whole = line.run(first, count)
                    bare_hz.append(frame_rate_hz(count, alone))
                    line_hz.append(frame_rate_hz(count, whole))
                    ratios.append(line_hz[-1] / bare_hz[-1])
                    extra_us.append((whole.cpu_ns - alone.cpu_ns) / count / 1000)
                    switches.append(whole.context_switches / count)
                    self._report_done(turn + 1)
            finally:
                line.close()
                bare.close()
        return ThroughputResult(
            setting=setting,
            bare_hz=bare_hz,
            line_hz=line_hz,
            ratio=ratios,
            extra_cpu_us=statistics.median(extra_us),
            switches=statistics.median(switches),
        )

    def measure_latency(self, rates: Sequence[float], setting: WorkerSetting) -> list[FrameSamples]:
        """The line at each of some rates, in turns; one entry per rate."""
        self.prepare()
        count = self.config.frames
        samples: list[list[FrameSamples]] = [[] for _ in rates]
        with TemporaryMemoryFolder() as folder:
            loaded = self.load_config(folder, *setting.overrides(self.threaded_engines))
            line = FullLineRun(loaded, self.images)
            try:
                line.run(0, 10, rates[0])
                for turn in self._interleaved_rounds("latency", self.config.rounds):
                    for index, rate in enumerate(rates):
                        samples[index].append(line.run(turn * count, count, rate)[0])
                    self._report_done(turn + 1)
            finally:
                line.close()
        return [concatenate(each) for each in samples]

    def run(self) -> BenchmarkResult:
        """Everything but the search."""
        settings = self.rank_settings()
        bare = dict(settings)
        setting = self.configured if self.config.as_configured else settings[0][0]
        throughput = self.measure_throughput(setting)
        alone_hz = bare.get(setting, statistics.median(throughput.bare_hz)) / setting.workers
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
        """The setting that is measured: as configured, or the quickest."""
        self.prepare()
        return self.configured if self.config.as_configured else self.rank_settings()[0][0]

    def _candidates(self) -> list[WorkerSetting]:
        """What is worth a try: all processors for one frame, or a frame for each processor."""
        if len(self.threaded_engines) and available_cores() > 1:
            out = [WorkerSetting(1, 0), WorkerSetting(available_cores(), 1)]
        else:
            out = [WorkerSetting(1), WorkerSetting(2)]
        return out

    def search_rate(self, setting: WorkerSetting) -> list[dict[str, Any]]:
        """Look for the highest rate whose projection over a million frames misses nothing.

        Halves the interval between a rate that holds and one that does not, six times.
        """
        self.prepare()
        budget_us = self.budget_us
        throughput = self.measure_throughput(setting)
        low, high = 0.0, statistics.median(throughput.line_hz)
        tried: list[dict[str, Any]] = []
        rate = high * 0.7
        for _ in range(6):
            (samples,) = self.measure_latency([rate], setting)
            found = estimate_tail(samples.latency_us)
            holds = samples.miss_count == 0 and found.upper_us <= budget_us
            tried.append(
                {
                    "rate_hz": round(rate, 2),
                    "frames": found.frames,
                    "misses": samples.miss_count,
                    "one_in_a_million_us": round(found.latency_us),
                    "upper_us": round(found.upper_us),
                    "holds": holds,
                }
            )
            low, high = (rate, high) if holds else (low, rate)
            if low and high / low < _STEP_RATIO:
                break
            rate = (low + high) / 2
        return tried


def describe_host() -> dict[str, Any]:
    """The PC in words, and how busy others keep it."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cores": available_cores(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def realtime_variants(options: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The real-time options one by one: (name, overrides)."""
    known = {
        "none": [],
        "fifo": ["real_time.fifo_priority=50"],
        "memory": ["real_time.lock_memory=true"],
        "affinity": [f"real_time.cpus=[{max(os.sched_getaffinity(0))}]"],
        "all": ["real_time.fifo_priority=50", "real_time.lock_memory=true"],
    }
    wrong = [name for name in options if name not in known]
    if wrong:
        raise UsageError(f"no such option: {', '.join(wrong)}", remedy=f"One of {', '.join(known)}")
    return [(name, known[name]) for name in (options or known)]


def encode_result(figures: BenchmarkResult) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n"
