"""The demo: a complete line on synthetic strip, checked over its own wire."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeinspect.cameras import synthetic
from edgeinspect.client import Subscriber
from edgeinspect.domain import Decision, SystemClock, Verdict
from edgeinspect.errors import InvariantError
from edgeinspect.pipeline.factory import build_line
from edgeinspect.storage.model_store import shipped_line_config
from edgeinspect.tools.memory_folder import temporary_memory_folder
from edgeinspect.wire import VerdictCounts

_MAX_IMAGES = 500


@dataclass(slots=True)
class DemoProgress:
    """Progress of a demo. Written by the demo's thread, read by the terminal's."""

    stage: str = "starting"
    done: int = 0
    total: int = 0
    received: int = 0
    decisions: dict[str, int] = field(
        default_factory=lambda: {decision.value: 0 for decision in Decision}
    )
    latency_p50_us: int = 0
    last_reject: str = ""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Result of a demo."""

    counts: VerdictCounts
    received: int
    """Verdicts that the demo's own subscriber received."""
    truth: Mapping[str, int]
    measurements: Mapping[str, Any]


def run_demo(
    *,
    frames: int,
    rate_hz: float,
    budget_ms: float,
    backend: str,
    progress: DemoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> DemoResult:
    """Run a line for a number of frames.

    Args:
        frames: Frames to capture; up to 500 different images, then they repeat.
        rate_hz: Frames a second.
        budget_ms: Budget per frame.
        backend: Name of a backend.
        progress: Updated while the demo runs.
        should_stop: Polled; True ends the demo early.

    Raises:
        InvariantError: A frame has no verdict, or a published verdict did not arrive.
    """
    clock = SystemClock()
    camera = synthetic.build(
        synthetic.Options(frames=frames, rate_hz=rate_hz, pictures=min(frames, _MAX_IMAGES)),
        clock,
    )
    progress.stage, progress.total = "rendering steel", min(frames, _MAX_IMAGES)

    def rendered(done: int) -> None:
        progress.done = done

    camera.render_images(rendered)
    progress.stage, progress.done, progress.total = "loading models", 0, frames
    ended = threading.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        ended.set()

    with temporary_memory_folder("demo") as folder:
        loaded = shipped_line_config(folder, budget_ms=budget_ms, backend=backend)
        line = build_line(loaded, clock, on_failure=fail, on_end=ended.set, cameras={"top": camera})
        try:
            checker = _VerdictChecker(line.publisher.address, camera.ground_truth, progress)
            checker.start()
            line.start()
            progress.stage = "inspecting"
            while not ended.wait(0.1) and not should_stop():
                progress.done = line.closer.counters.counts().captured
                progress.latency_p50_us = line.publisher.latency.quantile_us(0.5)
            counts = line.stop()
            progress.done = counts.captured
            checker.finish(line.spool.published_seq)
        finally:
            line.close()
        measurements = {
            "latency_us": line.publisher.latency.summary(),
            "engine_us": line.publisher.engine.summary(),
            "overhead_us": line.publisher.overhead.summary(),
            "past_deadline_us": line.publisher.past_deadline.summary(),
            "budget_ms": budget_ms,
            "rate_hz": rate_hz,
            "backend": backend,
        }
    if failures:
        raise failures[0]
    result = DemoResult(counts, checker.received, checker.truth, measurements)
    _check_invariant(result, checker.gaps)
    return result


def _check_invariant(result: DemoResult, gaps: int) -> None:
    counts = result.counts
    if counts.captured != counts.passed + counts.reject + counts.no_verdict:
        raise InvariantError(f"{counts.open} of {counts.captured} frames have no verdict")
    if result.received != counts.captured or gaps:
        raise InvariantError(
            f"{counts.captured} verdicts were published and {result.received} arrived"
        )


class _VerdictChecker(threading.Thread):
    """Subscribes to the line and compares its verdicts with the ground truth."""

    def __init__(self, address: str, defective: Any, progress: DemoProgress) -> None:
        super().__init__(name="watch", daemon=True)
        self.received = 0
        self.gaps = 0
        self.truth = {
            "defective": 0,
            "clean": 0,
            "escapes": 0,
            "overkills": 0,
            "defective_without_verdict": 0,
        }
        self._listener = Subscriber(address, topics=("verdict",))
        self._defective = defective
        self._progress = progress
        self._last_seq: int | None = None
        self._deadline_s = float("inf")

    def run(self) -> None:
        last_seq = 0
        while time.monotonic() < self._deadline_s:
            received = self._listener.receive(50)
            if received is None or not isinstance(received.message, Verdict):
                if self._last_seq is not None and last_seq >= self._last_seq:
                    break
                continue
            verdict = received.message
            if last_seq and verdict.seq != last_seq + 1:
                self.gaps += 1
            last_seq = verdict.seq
            self._count(verdict)
        self._listener.close()

    def _count(self, verdict: Verdict) -> None:
        self.received += 1
        self._progress.received += 1
        self._progress.decisions[verdict.decision.value] += 1
        defective = self._defective[(verdict.camera_frame_id - 1) % len(self._defective)]
        truth = self.truth
        truth["defective" if defective else "clean"] += 1
        if defective and verdict.decision is Decision.PASS:
            truth["escapes"] += 1
        if defective and verdict.decision is Decision.NO_VERDICT:
            truth["defective_without_verdict"] += 1
        if not defective and verdict.decision is Decision.REJECT:
            truth["overkills"] += 1
        if verdict.decision is Decision.REJECT:
            names = ", ".join(verdict.reject_classes) or "gate"
            self._progress.last_reject = f"frame {verdict.seq}: {names}"

    def finish(self, last_seq: int) -> None:
        """Wait for the last verdict, at most 5 s."""
        self._last_seq = last_seq
        self._deadline_s = time.monotonic() + 5.0
        self.join(6.0)
