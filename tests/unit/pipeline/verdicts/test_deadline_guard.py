"""The deadline guard: every frame has a verdict at its deadline, whatever the engines do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Assessment, Decision, Reason
from edgeinspect.pipeline.verdicts.closer import VerdictCloser
from edgeinspect.pipeline.verdicts.deadline_guard import DeadlineGuard
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame, SlotOwner
from tests.flow.line_harness import LineHarness

BUDGET_NS = 100 * NS_PER_MS


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[LineHarness]:
    made = LineHarness(tmp_path)
    yield made
    made.close()


def reason_of(harness: LineHarness, frame: OpenFrame) -> Reason | None:
    verdict = harness.verdict(frame.seq)
    return None if verdict is None else verdict.reason


def test_a_frame_is_closed_at_its_deadline_and_not_before(harness: LineHarness) -> None:
    frame = harness.capture.accept(harness.grab())
    assert harness.guard.close_due() == frame.deadline_ns
    harness.clock.advance(BUDGET_NS - 1)
    assert harness.guard.close_due() == frame.deadline_ns
    assert (reason_of(harness, frame), harness.guard.overdue_ns) == (None, 0)
    harness.clock.advance(1)
    harness.guard.close_due()
    assert reason_of(harness, frame) is Reason.DEADLINE


def test_the_slot_of_a_waiting_frame_is_released_and_that_of_a_worker_is_not(
    harness: LineHarness,
) -> None:
    first = harness.capture.accept(harness.grab())
    second = harness.capture.accept(harness.grab())
    assert harness.frame_queue.pop_earliest() is first
    free_slots = harness.ring.free_slots
    harness.clock.advance(BUDGET_NS)
    harness.guard.close_due()
    assert (first.slot_owner, second.slot_owner) == (SlotOwner.WORKER, SlotOwner.RELEASED)
    assert harness.ring.free_slots == free_slots + 1
    assert harness.frame_queue.pop_earliest() is None
    harness.worker.inspect(first)
    assert harness.ring.free_slots == harness.ring.slots
    assert harness.gate.call_count == 0, "a closed frame is not inspected"


def test_a_closed_frame_is_skipped(harness: LineHarness) -> None:
    first = harness.capture.accept(harness.grab())
    harness.clock.advance(NS_PER_MS)
    second = harness.capture.accept(harness.grab())
    harness.closer.close(first, Assessment(Decision.PASS, Reason.CLEAN))
    assert harness.guard.close_due() == second.deadline_ns
    harness.clock.advance(BUDGET_NS)
    harness.guard.close_due()
    assert reason_of(harness, first) is Reason.CLEAN
    assert not harness.closer.late_verdicts
    assert harness.guard.close_due() > harness.clock.now_ns(), "no frame is left"


def test_a_frame_that_comes_late_may_have_the_earlier_deadline(harness: LineHarness) -> None:
    later = harness.capture.accept(harness.grab())
    grab = replace(harness.grab(), captured_at_ns=later.captured_at_ns - 50 * NS_PER_MS)
    earlier = harness.capture.accept(grab)
    assert harness.guard.close_due() == earlier.deadline_ns
    harness.clock.advance(50 * NS_PER_MS)
    assert harness.guard.close_due() == later.deadline_ns
    assert reason_of(harness, earlier) is Reason.DEADLINE
    assert reason_of(harness, later) is None


def test_overdue_is_the_time_since_the_earliest_deadline(harness: LineHarness) -> None:
    assert harness.guard.overdue_ns == 0
    frame = harness.capture.accept(harness.grab())
    harness.clock.advance(BUDGET_NS + 7)
    assert harness.guard.overdue_ns == 7
    harness.closer.close_as_no_verdict(frame, Reason.ENGINE_ERROR)
    assert harness.guard.overdue_ns == 0


def test_the_shutdown_closes_what_is_open(harness: LineHarness) -> None:
    frames = [harness.capture.accept(harness.grab()) for _ in range(3)]
    harness.closer.close_as_no_verdict(frames[1], Reason.ENGINE_ERROR)
    assert harness.guard.close_all(Reason.SHUTDOWN) == 2
    reasons = [reason_of(harness, frame) for frame in frames]
    assert reasons == [Reason.SHUTDOWN, Reason.ENGINE_ERROR, Reason.SHUTDOWN]
    assert harness.guard.close_all(Reason.SHUTDOWN) == 0
    assert harness.closer.counters.counts().open == 0


def test_only_the_oldest_frames_are_closed_for_a_full_spool(harness: LineHarness) -> None:
    frames = [harness.capture.accept(harness.grab()) for _ in range(3)]
    harness.guard.close_oldest(frames[1].seq)
    reasons = [reason_of(harness, frame) for frame in frames]
    assert reasons == [Reason.OVERRUN, Reason.OVERRUN, None]
    verdict = harness.verdict(frames[0].seq)
    assert verdict is not None
    assert verdict.detail == "the spool is full"
    assert len(harness.frame_queue) == 1


def test_the_thread_wakes_for_a_deadline_and_for_a_stop(harness: LineHarness) -> None:
    clock = ManualClock(auto=False)
    closed = threading.Event()
    closer = VerdictCloser(harness.spool, clock, harness.closer.provenance, closed.set)
    guard = DeadlineGuard(harness.frame_queue, closer, clock)
    record = harness.capture.accept(harness.grab()).record
    closer.counters.count_captured()
    seq = harness.spool.open(record)
    thread = threading.Thread(target=guard.run)
    thread.start()
    guard.watch(OpenFrame(seq, 0, record, clock.now_ns(), clock.now_ns() + NS_PER_MS, "host"))
    clock.advance(NS_PER_MS)
    assert closed.wait(20)
    guard.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert guard.progress_count > 0
