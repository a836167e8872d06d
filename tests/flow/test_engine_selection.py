"""Which inspector a frame gets, and which results a shadow gets; on a manual clock."""

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
def harness(tmp_path: Path) -> Iterator[LineHarness]:
    line = LineHarness(tmp_path)
    yield line
    line.close()


@pytest.fixture
def shown(harness: LineHarness) -> list[tuple[int, int, UntimedResult]]:
    """(seq, first pixel, opinion) of each frame that was shown."""
    frames: list[tuple[int, int, UntimedResult]] = []

    def show(frame: OpenFrame, result: UntimedResult) -> None:
        frames.append((frame.seq, int(frame.pixels.flat[0]), result))

    harness.worker.on_inspected = show
    return frames


def test_a_frame_is_shown_only_if_no_other_waits(
    harness: LineHarness, shown: list[tuple[int, int, UntimedResult]]
) -> None:
    for level in (10, 11, 12):
        harness.capture.accept(harness.grab(level))
    for _ in range(3):
        assert harness.run_worker()
    assert [(seq, level) for seq, level, _ in shown] == [(3, 12)]
    result = shown[0][2]
    assert result.assessment.decision is Decision.PASS
    assert result.defect_prob == pytest.approx(12 / 255)
    assert harness.ring.free_slots == harness.ring.slots


def test_degraded_and_late_results_are_not_submitted(
    harness: LineHarness, shown: list[tuple[int, int, UntimedResult]]
) -> None:
    harness.worker.inspector.segmenter_time.add(95 * NS_PER_MS)
    degraded = harness.capture.accept(harness.grab(180))
    harness.run_worker()
    verdict = harness.verdict(degraded.seq)
    assert verdict is not None
    assert verdict.degraded
    late = harness.capture.accept(harness.grab(10))
    original = harness.gate._take_time

    def hang() -> None:
        original()
        harness.clock.advance(500 * NS_PER_MS)
        harness.guard.close_due()

    harness.gate._take_time = hang
    harness.run_worker()
    assert harness.closer.counters.counts().late == 1
    verdict = harness.verdict(late.seq)
    assert verdict is not None
    assert verdict.decision is Decision.NO_VERDICT
    assert shown == []


def test_a_verdict_names_the_inspector_that_gave_it(harness: LineHarness) -> None:
    """Each frame that waits during the swap is inspected by one of the two, as its verdict says."""
    ref = ModelRef("other", 7, "f" * 64)
    causes = dataclasses.replace(harness.closer.provenance, config_hash="new", gate=ref)
    judge = FrameInspector(
        WorkerEngines(brightness_gate(SHAPE), None), RULES, causes, harness.clock
    )
    first = harness.capture.accept(harness.grab(10))
    harness.run_worker()
    harness.worker.set_next_inspector(judge)
    assert not harness.worker.wait_switched(0)
    second = harness.capture.accept(harness.grab(10))
    worker = threading.Thread(target=harness.worker.run)
    worker.start()
    assert harness.worker.wait_switched(10)
    harness.worker.stop()
    harness.frame_queue.wake_workers(1)
    worker.join(10)
    before, after = harness.verdict(first.seq), harness.verdict(second.seq)
    assert before is not None
    assert after is not None
    assert (before.config_hash, before.gate) == ("hash", None)
    assert (after.config_hash, after.gate) == ("new", ref)
    assert harness.worker.inspector is judge
