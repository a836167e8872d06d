"""Who judges, and who is shown what was judged; step by step on a manual clock."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.verdict import Decision, ModelRef
from edgeinspect.pipeline.inspection.frame_inspector import (
    FrameInspector,
    UntimedResult,
    WorkerEngines,
)
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.testing.doubles import brightness_gate
from tests.flow.line_harness import RULES, SHAPE, LineHarness


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LineHarness]:
    line = LineHarness(tmp_path)
    yield line
    line.close()


@pytest.fixture
def shown(bench: LineHarness) -> list[tuple[int, int, UntimedResult]]:
    """(seq, first pixel, opinion) of each frame that was shown."""
    frames: list[tuple[int, int, UntimedResult]] = []

    def show(frame: OpenFrame, opinion: UntimedResult) -> None:
        frames.append((frame.seq, int(frame.pixels.flat[0]), opinion))

    bench.worker.on_inspected = show
    return frames


def test_a_frame_is_shown_only_if_no_other_waits(
    bench: LineHarness, shown: list[tuple[int, int, UntimedResult]]
) -> None:
    for level in (10, 11, 12):
        bench.capture.accept(bench.grab(level))
    for _ in range(3):
        assert bench.run_worker()
    assert [(seq, level) for seq, level, _ in shown] == [(3, 12)]
    opinion = shown[0][2]
    assert opinion.assessment.decision is Decision.PASS
    assert opinion.defect_prob == pytest.approx(12 / 255)
    assert bench.ring.free_slots == bench.ring.slots


def test_what_was_judged_in_haste_or_late_is_not_shown(
    bench: LineHarness, shown: list[tuple[int, int, UntimedResult]]
) -> None:
    bench.worker.inspector.segmenter_time.add(95 * NS_PER_MS)
    degraded = bench.capture.accept(bench.grab(180))
    bench.run_worker()
    verdict = bench.verdict(degraded.seq)
    assert verdict is not None
    assert verdict.degraded
    late = bench.capture.accept(bench.grab(10))
    original = bench.gate._take_time

    def hang() -> None:
        original()
        bench.clock.advance(500 * NS_PER_MS)
        bench.guard.close_due()

    bench.gate._take_time = hang
    bench.run_worker()
    assert bench.closer.counters.counts().late == 1
    verdict = bench.verdict(late.seq)
    assert verdict is not None
    assert verdict.decision is Decision.NO_VERDICT
    assert shown == []


def test_a_verdict_names_the_judge_that_gave_it(bench: LineHarness) -> None:
    """Each frame that waits at the exchange is judged by one of the two, and says by which."""
    ref = ModelRef("other", 7, "f" * 64)
    causes = dataclasses.replace(bench.closer.provenance, config_hash="new", gate=ref)
    judge = FrameInspector(WorkerEngines(brightness_gate(SHAPE), None), RULES, causes, bench.clock)
    first = bench.capture.accept(bench.grab(10))
    bench.run_worker()
    bench.worker.set_next_inspector(judge)
    assert not bench.worker.wait_switched(0)
    second = bench.capture.accept(bench.grab(10))
    worker = threading.Thread(target=bench.worker.run)
    worker.start()
    assert bench.worker.wait_switched(10)
    bench.worker.stop()
    bench.frame_queue.wake_workers(1)
    worker.join(10)
    before, after = bench.verdict(first.seq), bench.verdict(second.seq)
    assert before is not None
    assert after is not None
    assert (before.config_hash, before.gate) == ("hash", None)
    assert (after.config_hash, after.gate) == ("new", ref)
    assert bench.worker.inspector is judge
