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
from edgeinspect.config.loader import Loaded, load
from edgeinspect.domain.frame import Pixels
from edgeinspect.errors import UsageError
from edgeinspect.storage.model_store import Store, default_root
from edgeinspect.storage.model_store.shipped_line import strip_line
from edgeinspect.tools.bench.measurement import (
    Bare,
    Folder,
    Samples,
    WholeLine,
    cores,
    joined,
    rate_hz,
)
from edgeinspect.tools.bench.memory_camera import folder_pictures, strip_pictures
from edgeinspect.tools.bench.results import Figures, Setting, Stage, Throughput, summarize
from edgeinspect.tools.bench.tail_fit import project

_QUIET_SHARE = 0.5
"""Of the rate of one worker: no frame waits for another."""
_STEP_RATIO = 1.02
"""Two rates that are so near are one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    config: Path | None = None
    """A line's configuration; the shipped models' line without one."""
    overrides: Sequence[str] = ()
    images: Path | None = None
    """Pictures to show; synthetic strip without."""
    pictures: int = 64
    frames: int = 200
    """Of one round."""
    rounds: int = 5
    load: float = 0.7
    """Share of the line's highest rate at which latency is measured."""
    budget_ms: float = 150.0
    """Of the shipped line; a configuration has its own."""
    backend: str = "ov"
    as_configured: bool = False
    """Measure the workers and threads that are configured, not the quickest that are found."""


@dataclass(slots=True)
class Progress:
    """What it does now, for whoever waits."""

    stage: str = "starting"
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class Bench:
    """One bench. `pictures` are read once."""

    plan: Plan
    progress: Progress = field(default_factory=Progress)
    pictures: list[Pixels] = field(default_factory=list)
    budget_us: int = 0
    threaded: list[str] = field(default_factory=list)
    """Engines whose threads can be set."""
    configured: Setting = field(default_factory=lambda: Setting(1))

    # -- lines ----------------------------------------------------------------------

    def load(self, folder: str, *more: str) -> Loaded:
        """The configuration with everything that would touch a running line turned away."""
        plan = self.plan
        own = [
            f"spool.folder={folder}",
            f"spool.slots={max(4096, plan.frames + 64)}",
            "publish.verdicts=tcp://127.0.0.1:*",
            "publish.replay=tcp://127.0.0.1:*",
        ]
        if plan.config is None:
            return strip_line(
                folder,
                budget_ms=plan.budget_ms,
                backend=plan.backend,
                line="bench",
                overrides=[*own, *more, *plan.overrides],
            )
        return load(plan.config, [*own, *more, *plan.overrides])

    def show(self) -> None:
        """Read or render the pictures, and learn what the line is made of; once."""
        if self.pictures:
            return
        with Folder() as folder:
            loaded = self.load(folder)
        self.budget_us = round(loaded.config.budget_ms * 1000)
        self.threaded = [
            name for name, each in loaded.engines.items() if hasattr(each.options, "threads")
        ]
        self.configured = Setting(loaded.config.inspect.workers)
        store = Store(Path(loaded.config.store) if loaded.config.store else default_root())
        choice = next(iter(loaded.engines.values()))
        spec = store.resolve(choice.options.model)
        plan = self.plan
        self.progress.stage, self.progress.total = "pictures", plan.pictures
        if plan.images is not None:
            self.pictures = folder_pictures(plan.images, plan.pictures, spec.shape, spec.color)
        else:
            self.pictures = strip_pictures(plan.pictures, spec.shape, self._done)

    def _done(self, done: int) -> None:
        self.progress.done = done

    def _turns(self, stage: str, total: int) -> range:
        self.progress.stage, self.progress.done, self.progress.total = stage, 0, total
        return range(total)

    # -- measurements ---------------------------------------------------------------

    def settings(self) -> list[tuple[Setting, float]]:
        """The bare engines' frames a second under each setting, quickest first."""
        self.show()
        wanted = self._candidates()
        with Folder() as folder:
            loops = [
                Bare(self.load(folder, *each.overrides(self.threaded)), self.pictures)
                for each in wanted
            ]
            try:
                rates: list[list[float]] = [[] for _ in wanted]
                count = max(20, self.plan.frames // 3)
                for turn in self._turns("workers and threads", 3):
                    for index, loop in enumerate(loops):
                        rates[index].append(rate_hz(count, loop.run(0, count)))
                    self._done(turn + 1)
            finally:
                for loop in loops:
                    loop.close()
        found = [(each, statistics.median(rate)) for each, rate in zip(wanted, rates, strict=True)]
        return sorted(found, key=lambda entry: -entry[1])

    def throughput(self, setting: Setting) -> Throughput:
        """Whole line against bare engines, both as fast as they go."""
        self.show()
        count = self.plan.frames
        ratios, bare_hz, line_hz, extra_us, switches = [], [], [], [], []
        with Folder() as folder:
            loaded = self.load(
                folder,
                *setting.overrides(self.threaded),
                "capture.overload=block",
                "inspect.keep_warm_ms=0",
            )
            bare = Bare(loaded, self.pictures)
            line = WholeLine(loaded, self.pictures)
            try:
                bare.run(0, 10)
                line.run(0, 10)
                for turn in self._turns("throughput", self.plan.rounds):
                    first = turn * count
                    alone = bare.run(first, count)
                    _samples, whole = line.run(first, count)
                    bare_hz.append(rate_hz(count, alone))
                    line_hz.append(rate_hz(count, whole))
                    ratios.append(line_hz[-1] / bare_hz[-1])
                    extra_us.append((whole.cpu_ns - alone.cpu_ns) / count / 1000)
                    switches.append(whole.switches / count)
                    self._done(turn + 1)
            finally:
                line.close()
                bare.close()
        return Throughput(
            setting=setting,
            bare_hz=bare_hz,
            line_hz=line_hz,
            ratio=ratios,
            extra_cpu_us=statistics.median(extra_us),
            switches=statistics.median(switches),
        )

    def paced(self, rates: Sequence[float], setting: Setting) -> list[Samples]:
        """The line at each of some rates, in turns; one entry per rate."""
        self.show()
        count = self.plan.frames
        samples: list[list[Samples]] = [[] for _ in rates]
        with Folder() as folder:
            loaded = self.load(folder, *setting.overrides(self.threaded))
            line = WholeLine(loaded, self.pictures)
            try:
                line.run(0, 10, rates[0])
                for turn in self._turns("latency", self.plan.rounds):
                    for index, rate in enumerate(rates):
                        samples[index].append(line.run(turn * count, count, rate)[0])
                    self._done(turn + 1)
            finally:
                line.close()
        return [joined(each) for each in samples]

    def run(self) -> Figures:
        """Everything but the search."""
        settings = self.settings()
        bare = dict(settings)
        setting = self.configured if self.plan.as_configured else settings[0][0]
        throughput = self.throughput(setting)
        alone_hz = bare.get(setting, statistics.median(throughput.bare_hz)) / setting.workers
        rates = [
            alone_hz * _QUIET_SHARE,
            statistics.median(throughput.line_hz) * self.plan.load,
        ]
        quiet, busy = self.paced(rates, setting)
        return Figures(
            machine=machine(),
            version=__version__,
            frame="x".join(map(str, self.pictures[0].shape)),
            budget_us=self.budget_us,
            settings=[(str(each), hz) for each, hz in settings],
            throughput=throughput,
            quiet=Stage(rates[0], summarize(quiet)),
            busy=Stage(rates[1], summarize(busy)),
            copied_bytes=int(np.prod(self.pictures[0].shape)),
        )

    def choose(self) -> Setting:
        """The setting that is measured: as configured, or the quickest."""
        self.show()
        return self.configured if self.plan.as_configured else self.settings()[0][0]

    def _candidates(self) -> list[Setting]:
        """What is worth a try: all processors for one frame, or a frame for each processor."""
        if len(self.threaded) and cores() > 1:
            out = [Setting(1, 0), Setting(cores(), 1)]
        else:
            out = [Setting(1), Setting(2)]
        return out

    def search(self, setting: Setting) -> list[dict[str, Any]]:
        """Look for the highest rate whose projection over a million frames misses nothing.

        Halves the interval between a rate that holds and one that does not, six times.
        """
        self.show()
        budget_us = self.budget_us
        throughput = self.throughput(setting)
        low, high = 0.0, statistics.median(throughput.line_hz)
        tried: list[dict[str, Any]] = []
        rate = high * 0.7
        for _ in range(6):
            (samples,) = self.paced([rate], setting)
            found = project(samples.latency_us)
            holds = samples.misses == 0 and found.upper_us <= budget_us
            tried.append(
                {
                    "rate_hz": round(rate, 2),
                    "frames": found.frames,
                    "misses": samples.misses,
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


def machine() -> dict[str, Any]:
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
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def variants(options: Sequence[str]) -> list[tuple[str, list[str]]]:
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


def encode(figures: Figures) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n"
