"""Measurements: the engines alone and the full line, on the same frames in one process.

The engine loop is what remains of a line without everything but the models: images in memory,
the gate, the segmenter where the gate suspects, regions, the decision; as many workers as the
line has. What the line takes beyond it is the line's overhead.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
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

_STALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Resources that a round used."""

    wall_ns: int
    cpu_ns: int
    """Processor time of the whole process, engines included."""
    context_switches: int
    """Context switches, voluntary and involuntary."""


@dataclass(frozen=True, slots=True)
class FrameSamples:
    """Frames of one or more rounds; one entry per frame, times in µs."""

    latency_us: NDArray[np.int64]
    """Capture to sent."""
    engine_us: NDArray[np.int64]
    """Inside the engines' calls; 0 for a frame without inference."""
    past_deadline_us: NDArray[np.int64]
    """Sent minus deadline; negative if in time."""
    kind: NDArray[np.uint8]
    """0 pass, 1 reject, 2 no verdict."""
    segmenter_us: NDArray[np.int64]
    """Inside the segmenter's call; 0 if it did not run."""

    @property
    def is_inspected(self) -> NDArray[np.bool_]:
        """True for frames decided by an engine."""
        return (self.kind < NO_VERDICT) & (self.engine_us > 0)

    @property
    def is_segmented(self) -> NDArray[np.bool_]:
        """True for frames on which the segmenter ran."""
        return self.is_inspected & (self.segmenter_us > 0)

    @property
    def overhead_us(self) -> NDArray[np.int64]:
        """Latency without the engines' time."""
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
    """Context manager that measures one round; read `usage` afterwards."""

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
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic_ns(), time.process_time_ns(), usage.ru_nvcsw + usage.ru_nivcsw


class EngineOnlyRun:
    """The engines alone, in a loop per worker."""

    def __init__(self, loaded: LoadedConfig, images: Sequence[Pixels]) -> None:
        clock = SystemClock()
        self._workers = load_engines(loaded, clock)
        self._inspectors = make_frame_inspectors(
            loaded.config, loaded.hash, ("bare",), self._workers, clock
        )
        self._images = images
        for inspector in self._inspectors:
            inspector.warm_up(3)

    def run(self, first: int, count: int) -> ResourceUsage:
        """Inspect `count` images as fast as possible."""
        image_numbers = iter(range(first, first + count))
        lock = threading.Lock()

        def work(inspector: FrameInspector) -> None:
            while True:
                with lock:
                    number = next(image_numbers, None)
                if number is None:
                    return
                inspector.inspect_untimed(self._images[number % len(self._images)])

        threads = [
            threading.Thread(target=work, args=(inspector,)) for inspector in self._inspectors
        ]
        with ResourceMeter() as meter:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return meter.usage

    def close(self) -> None:
        """Close the engines."""
        for engines in self._workers:
            engines.close()


class FullLineRun:
    """A complete line with a camera that plays images from memory."""

    def __init__(self, loaded: LoadedConfig, images: Sequence[Pixels]) -> None:
        """Build and start the line.

        Args:
            loaded: Its spool has a slot for each frame of a round; its cameras are not used.
            images: Of the models' size.
        """
        self._clock = SystemClock()
        self._failures: list[BaseException] = []
        self.camera = MemoryCamera(images, self._clock)
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
        """Play `count` images and wait for their verdicts.

        Args:
            first: Number of the first image.
            count: At most the spool's slots.
            rate_hz: 0 for as fast as the line accepts them.
        """
        spool = self.line.spool
        seq_before = spool.last_seq
        last_seq = seq_before + count
        give_up_at = time.monotonic() + _STALL_TIMEOUT_S + (count / rate_hz if rate_hz else count)
        with ResourceMeter() as meter:
            self.camera.play(first, count, rate_hz)
            while spool.published_seq < last_seq:
                time.sleep(0.02)  # rarely: polling takes processor time from the measurement
                if self._failures:
                    raise self._failures[0]
                if time.monotonic() > give_up_at:
                    raise InternalError("the line makes no progress", where="bench")
        samples = self._read(seq_before + 1, last_seq)
        # Until the last verdict was sent, not until the main thread polled.
        timings = self.line.closer.timings
        started_ns = timings.captured_ns[(seq_before + 1) % timings.slots]
        wall_ns = timings.sent_ns[last_seq % timings.slots] - started_ns
        return samples, ResourceUsage(wall_ns, meter.usage.cpu_ns, meter.usage.context_switches)

    def _read(self, first: int, last: int) -> FrameSamples:
        timings = self.line.closer.timings
        rows = np.arange(first, last + 1) % timings.slots
        captured, sent, deadline, engine = (
            np.frombuffer(column, np.int64)[rows]
            for column in (
                timings.captured_ns,
                timings.sent_ns,
                timings.deadline_ns,
                timings.engine_ns,
            )
        )
        topics = [timings.topics[row] for row in rows]
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
        """Stop the line."""
        try:
            self.line.stop()
        finally:
            self.line.close()


def available_cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def frame_rate_hz(count: int, use: ResourceUsage) -> float:
    """Return the frames a second of a round."""
    return count * NS_PER_S / use.wall_ns
