"""Rounds: the bare engines and the whole line, over the same frames, in one process.

The bare loop is what remains when everything but the models is taken away: pictures that
lie in memory, gate, segmenter where the gate suspects, regions, decision; as many workers
as the line has. What the line takes beyond it is the line's cost.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgeinspect.config import LoadedConfig
from edgeinspect.domain import NS_PER_S, Pixels, SystemClock
from edgeinspect.errors import InternalError
from edgeinspect.pipeline.factory import build_line, load_engines
from edgeinspect.pipeline.inspection import FrameInspector, make_frame_inspectors
from edgeinspect.tools.bench.memory_camera import MemoryCamera
from edgeinspect.wire import decode_verdict

_MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
_STALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a round took of the PC."""

    wall_ns: int
    cpu_ns: int
    """Processor time of the whole process, engines included."""
    context_switches: int
    """Context switches, voluntary and not."""


@dataclass(frozen=True, slots=True)
class FrameSamples:
    """The frames of one or more rounds of the line; one entry per frame, times in µs."""

    latency_us: NDArray[np.int64]
    """Captured to sent."""
    engine_us: NDArray[np.int64]
    """Inside the engines' own calls; 0 for a frame that no engine saw."""
    past_deadline_us: NDArray[np.int64]
    """Sent minus deadline; negative in time."""
    kind: NDArray[np.uint8]
    """0 pass, 1 reject, 2 no verdict."""
    segmenter_us: NDArray[np.int64]
    """Inside the segmenter's own call; 0 where it did not look."""

    @property
    def is_inspected(self) -> NDArray[np.bool_]:
        """True for frames that were decided by an engine."""
        return (self.kind < NO_VERDICT) & (self.engine_us > 0)

    @property
    def is_segmented(self) -> NDArray[np.bool_]:
        """True for frames that the segmenter looked at."""
        return self.is_inspected & (self.segmenter_us > 0)

    @property
    def overhead_us(self) -> NDArray[np.int64]:
        """What the line took beside its engines."""
        return self.latency_us - self.engine_us

    @property
    def miss_count(self) -> int:
        """Frames without a decision in time."""
        return int(np.count_nonzero((self.kind == NO_VERDICT) | (self.past_deadline_us > 0)))


PASS, REJECT, NO_VERDICT = 0, 1, 2
_KIND_OF_TOPIC = {b"pass": PASS, b"reject": REJECT, b"no_verdict": NO_VERDICT}


def concatenate(parts: Sequence[FrameSamples]) -> FrameSamples:
    """Return the samples of several rounds as one."""
    columns = (
        np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(FrameSamples)
    )
    return FrameSamples(*columns)


class ResourceMeter:
    """Measures one round: use as a context manager, then read `use`."""

    def __enter__(self) -> ResourceMeter:
        self._before = _usage()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        wall, cpu, switches = _usage()
        before = self._before
        self.usage = ResourceUsage(wall - before[0], cpu - before[1], switches - before[2])


def _usage() -> tuple[int, int, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic_ns(), time.process_time_ns(), used.ru_nvcsw + used.ru_nivcsw


class EngineOnlyRun:
    """The engines alone, in a plain loop per worker."""

    def __init__(self, loaded: LoadedConfig, pictures: Sequence[Pixels]) -> None:
        clock = SystemClock()
        self._workers = load_engines(loaded, clock)
        self._judges = make_frame_inspectors(
            loaded.config, loaded.hash, ("bare",), self._workers, clock
        )
        self._pictures = pictures
        for judge in self._judges:
            judge.warm_up(3)

    def run(self, first: int, count: int) -> ResourceUsage:
        """Judge `count` pictures, as fast as it goes."""
        numbers = iter(range(first, first + count))
        lock = threading.Lock()

        def work(judge: FrameInspector) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                judge.inspect_untimed(self._pictures[number % len(self._pictures)])

        threads = [threading.Thread(target=work, args=(judge,)) for judge in self._judges]
        with ResourceMeter() as meter:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return meter.usage

    def close(self) -> None:
        """Free the engines."""
        for engines in self._workers:
            engines.close()


class FullLineRun:
    """A line of its own, whose camera shows what it is told."""

    def __init__(self, loaded: LoadedConfig, pictures: Sequence[Pixels]) -> None:
        """Build and start it.

        Args:
            loaded: Its spool has a slot for each frame of a round, its cameras are not used.
            pictures: Of the models' size.
        """
        self._clock = SystemClock()
        self._failures: list[BaseException] = []
        self.camera = MemoryCamera(pictures, self._clock)
        self.line = build_line(
            loaded,
            self._clock,
            on_failure=self._failures.append,
            on_end=lambda: None,
            cameras={"bench": self.camera},
        )
        self.line.start()

    def run(
        self, first: int, count: int, rate_hz: float = 0.0
    ) -> tuple[FrameSamples, ResourceUsage]:
        """Show `count` pictures and wait for their verdicts.

        Args:
            first: Number of the first picture.
            count: At most the spool's slots.
            rate_hz: 0 for as fast as the line takes them.
        """
        spool = self.line.spool
        after = spool.last_seq
        until = after + count
        give_up_at = time.monotonic() + _STALL_TIMEOUT_S + (count / rate_hz if rate_hz else count)
        with ResourceMeter() as meter:
            self.camera.play(first, count, rate_hz)
            while spool.published_seq < until:
                time.sleep(0.02)  # seldom: to look takes a processor from what is measured
                if self._failures:
                    raise self._failures[0]
                if time.monotonic() > give_up_at:
                    raise InternalError("the line stands still", where="bench")
        samples = self._read(after + 1, until)
        # Not until the main thread looked, but until the last verdict was sent.
        began_ns = self._captured_ns(after + 1)
        wall_ns = self._sent_ns(until) - began_ns
        return samples, ResourceUsage(wall_ns, meter.usage.cpu_ns, meter.usage.context_switches)

    def _captured_ns(self, seq: int) -> int:
        traces = self.line.closer.timings
        return traces.captured_ns[seq % traces.slots]

    def _sent_ns(self, seq: int) -> int:
        traces = self.line.closer.timings
        return traces.sent_ns[seq % traces.slots]

    def _read(self, first: int, last: int) -> FrameSamples:
        traces = self.line.closer.timings
        rows = np.arange(first, last + 1) % traces.slots
        captured, sent, deadline, engine = (
            np.frombuffer(column, np.int64)[rows]
            for column in (
                traces.captured_ns,
                traces.sent_ns,
                traces.deadline_ns,
                traces.engine_ns,
            )
        )
        topics = [traces.topics[row] for row in rows]
        kind = np.array([_KIND_OF_TOPIC[topic.rsplit(b".", 1)[1]] for topic in topics], np.uint8)
        bodies = (self.line.spool.read(seq) for seq in range(first, last + 1))
        segmenter = [decode_verdict(body).stages.segmenter_us if body else 0 for body in bodies]
        return FrameSamples(
            latency_us=(sent - captured) // 1000,
            engine_us=engine // 1000,
            past_deadline_us=(sent - deadline) // 1000,
            kind=kind,
            segmenter_us=np.array(segmenter, np.int64),
        )

    def close(self) -> None:
        """Stop it."""
        try:
            self.line.stop()
        finally:
            self.line.close()


class TemporaryMemoryFolder:
    """A folder in memory for a line's spool and ring; removed at the end."""

    def __enter__(self) -> str:
        self.path = tempfile.mkdtemp(prefix="edgeinspect-bench-", dir=_MEMORY_FOLDER)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def available_cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def frame_rate_hz(count: int, use: ResourceUsage) -> float:
    """Frames a second of a round."""
    return count * NS_PER_S / use.wall_ns
