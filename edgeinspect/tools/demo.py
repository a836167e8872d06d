"""The demonstration: the whole line on synthetic strip, watched over its own wire."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeinspect.cameras import synthetic
from edgeinspect.client import Subscriber
from edgeinspect.domain import Decision, SystemClock, Verdict
from edgeinspect.errors import InvariantError
from edgeinspect.pipeline.factory import build_line
from edgeinspect.storage.model_store import shipped_line_config
from edgeinspect.wire import VerdictCounts

_MAX_IMAGES = 500
_MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(slots=True)
class DemoProgress:
    """What a person who waits wants to see. Written by the demo, read by the terminal."""

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
    """What the demonstration showed."""

    counts: VerdictCounts
    received: int
    """Verdicts that came over the wire to the demo's own subscriber."""
    truth: Mapping[str, int]
    measurements: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `--report`."""
        counts = self.counts
        return {
            "captured": counts.captured,
            "pass": counts.passed,
            "reject": counts.reject,
            "no_verdict": counts.no_verdict,
            "late": counts.late,
            "dropped": counts.reasons.get("overrun", 0),
            "degraded": counts.degraded,
            "reasons": counts.reasons,
            "received": self.received,
            "truth": dict(self.truth),
            **self.measurements,
        }


def run_demo(
    *,
    frames: int,
    rate_hz: float,
    budget_ms: float,
    backend: str,
    progress: DemoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> DemoResult:
    """Run the line for a number of frames.

    Args:
        frames: Frames to capture; up to 500 different pictures, then the same again.
        rate_hz: Frames a second.
        budget_ms: Budget per frame.
        backend: A backend's name, or `none-found` errors come from the registry.
        progress: Filled while it runs.
        stopped: Asked now and then; True ends the line early.

    Returns:
        The report.

    Raises:
        LawError: A frame has no verdict, or a published verdict did not arrive.
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

    with tempfile.TemporaryDirectory(prefix="edgeinspect-demo-", dir=_MEMORY_FOLDER) as folder:
        loaded = shipped_line_config(folder, budget_ms=budget_ms, backend=backend)
        line = build_line(loaded, clock, on_failure=fail, on_end=ended.set, cameras={"top": camera})
        try:
            watcher = _VerdictChecker(line.publisher.address, camera.ground_truth, progress)
            watcher.start()
            line.start()
            progress.stage = "inspecting"
            while not ended.wait(0.1) and not should_stop():
                progress.done = line.closer.counters.counts().captured
                progress.latency_p50_us = line.publisher.latency.quantile_us(0.5)
            counts = line.stop()
            progress.done = counts.captured
            watcher.finish(line.spool.published_seq)
        finally:
            line.close()
        figures = {
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
    report = DemoResult(counts, watcher.received, watcher.truth, figures)
    _check_invariant(report, watcher.gaps)
    return report


def _check_invariant(report: DemoResult, gaps: int) -> None:
    counts = report.counts
    if counts.captured != counts.passed + counts.reject + counts.no_verdict:
        raise InvariantError(f"{counts.open} of {counts.captured} frames have no verdict")
    if report.received != counts.captured or gaps:
        raise InvariantError(
            f"{counts.captured} verdicts were published and {report.received} arrived"
        )


class _VerdictChecker(threading.Thread):
    """A subscriber of the demo's own, which holds the verdicts against the ground truth."""

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
            got = self._listener.receive(50)
            if got is None or not isinstance(got.message, Verdict):
                if self._last_seq is not None and last_seq >= self._last_seq:
                    break
                continue
            verdict = got.message
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
            names = {region.class_name for region in verdict.regions if region.fatal}
            self._progress.last_reject = (
                f"frame {verdict.seq}: {', '.join(sorted(names)) or 'gate'}"
            )

    def finish(self, last_seq: int) -> None:
        """Wait until the last verdict is in, 5 s at most."""
        self._last_seq = last_seq
        self._deadline_s = time.monotonic() + 5.0
        self.join(6.0)
