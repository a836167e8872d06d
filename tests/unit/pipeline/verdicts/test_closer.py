"""The closer: the first verdict of a frame wins, and the counters always balance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import Part
from edgeinspect.domain.verdict import (
    Assessment,
    Box,
    Decision,
    ModelRef,
    Reason,
    Region,
    StageTimes,
)
from edgeinspect.pipeline.verdicts.closer import Measurements, restart_verdict
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.spool.format import PAYLOAD_BYTES
from edgeinspect.wire.messages import encode_message
from tests.flow.line_harness import LineHarness

PASS = Assessment(Decision.PASS, Reason.CLEAN)
REJECT = Assessment(Decision.REJECT, Reason.GATE, reject_code=99)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[LineHarness]:
    made = LineHarness(tmp_path)
    yield made
    made.close()


def open_frame(harness: LineHarness, part: Part | None = None) -> OpenFrame:
    grab = harness.grab()
    return harness.capture.accept(replace(grab, part=part) if part else grab)


def test_the_first_close_wins_and_the_second_is_late(harness: LineHarness) -> None:
    frame = open_frame(harness)
    assert harness.closer.close(frame, PASS)
    assert not harness.closer.close(frame, REJECT)
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert verdict.decision is Decision.PASS
    assert [late.decision for late in harness.closer.late_verdicts] == [Decision.REJECT]
    assert harness.publish_calls == 1, "a late verdict is not published"
    counts = harness.closer.counters.counts()
    assert (counts.captured, counts.passed, counts.reject, counts.late) == (1, 1, 0, 1)


def test_the_counters_balance_with_every_close(harness: LineHarness) -> None:
    frames = [open_frame(harness) for _ in range(4)]
    for closed, frame in enumerate(frames):
        counts = harness.closer.counters.counts()
        assert (counts.captured, counts.open) == (4, 4 - closed)
        assert counts.captured == counts.passed + counts.reject + counts.no_verdict + counts.open
        harness.closer.close_as_no_verdict(frame, Reason.DEADLINE if closed else Reason.SHAPE)
    assert harness.closer.counters.counts().reasons == {"shape": 1, "deadline": 3}


def test_runs_end_with_another_decision(harness: LineHarness) -> None:
    counters = harness.closer.counters
    degraded = replace(REJECT, degraded=True)
    no_verdict = Assessment(Decision.NO_VERDICT, Reason.OVERRUN)
    runs = []
    for assessment in (degraded, degraded, no_verdict, no_verdict, PASS):
        harness.closer.close(open_frame(harness), assessment)
        runs.append((counters.reject_run, counters.degraded_run, counters.no_verdict_run))
        harness.worker.inspect(harness.frame_queue.pop_earliest())  # type: ignore[arg-type]
    assert runs == [(1, 1, 0), (2, 2, 0), (0, 0, 1), (0, 0, 2), (0, 0, 0)]


def test_a_verdict_has_the_measurements_and_its_own_times(harness: LineHarness) -> None:
    frame = open_frame(harness, Part("plate-7", encoder_count=50))
    harness.clock.advance(30 * NS_PER_MS)
    other = ModelRef("gate", 2, "0" * 64)
    provenance = replace(harness.closer.provenance, config_hash="other", gate=other)
    measurements = Measurements(
        defect_prob=0.25,
        stages=StageTimes(queue_us=1, gate_us=2, segmenter_us=3, regions_us=4),
        engine_ns=5_000,
        detail="checked",
        gate_ran=True,
        provenance=provenance,
    )
    harness.closer.close(frame, PASS, measurements, mask=b"mask")
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert verdict.stages == StageTimes(1, 2, 3, 4, total_us=30_000)
    assert (verdict.gate, verdict.segmenter, verdict.config_hash) == (other, None, "other")
    assert (verdict.defect_prob, verdict.detail) == (0.25, "checked")
    assert (verdict.part_id, verdict.encoder_count, verdict.act_by_encoder) == ("plate-7", 50, 1050)
    timings, row = harness.closer.timings, frame.seq % harness.closer.timings.slots
    assert timings.captured_ns[row] == frame.captured_at_ns
    assert timings.deadline_ns[row] == frame.deadline_ns
    assert timings.engine_ns[row] == 5_000
    assert timings.topics[row] == b"verdict.bench.top.pass"
    assert timings.masks == {frame.seq: b"mask"}


def test_a_verdict_that_does_not_fit_a_slot_is_truncated(harness: LineHarness) -> None:
    region = Region(1, "dark" * 60, 0.5, 4, 1.0, Box(0, 0, 2, 2), (0.0, 0.0), (0.0, 0.0), True)
    assessment = replace(REJECT, regions=(region,) * 40, regions_total=40)
    frame = open_frame(harness)
    assert harness.closer.close(frame, assessment, Measurements(detail="x" * 5_000))
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (len(verdict.regions), verdict.regions_total, len(verdict.detail)) == (1, 40, 200)
    assert len(encode_message(verdict)) <= PAYLOAD_BYTES


@pytest.mark.parametrize(("assessment", "missed"), [(PASS, "challenge:pit"), (REJECT, "")])
def test_a_challenge_part_must_be_rejected(
    harness: LineHarness, assessment: Assessment, missed: str
) -> None:
    harness.closer.missed_challenge = "the one before"
    harness.closer.close(open_frame(harness), PASS)
    assert harness.closer.missed_challenge == "the one before", "an ordinary part changes nothing"
    part = Part("challenge:pit", simulated=True)
    harness.closer.close(open_frame(harness, part), assessment)
    assert harness.closer.missed_challenge == missed


@pytest.mark.parametrize("is_damaged", [False, True])
def test_the_verdict_after_a_restart_keeps_the_epoch_of_the_frame(
    harness: LineHarness, is_damaged: bool
) -> None:
    record = None if is_damaged else open_frame(harness, Part("plate-8")).record
    verdict = restart_verdict(harness.closer.provenance, 5, 77, record, now_utc_ns=123)
    assert (verdict.seq, verdict.epoch, verdict.reason) == (5, 77, Reason.RESTART)
    assert verdict.decision is Decision.NO_VERDICT
    if is_damaged:
        assert (verdict.camera, verdict.captured_at_utc_ns) == ("unknown", 123)
        assert "damaged" in verdict.detail
    else:
        assert (verdict.camera, verdict.part_id, verdict.detail) == ("top", "plate-8", "")
