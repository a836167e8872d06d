"""A good-parts model on a line: when it is asked, and what its verdicts say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain import Decision, Grab, Reason, UnknownState, Verdict, model_ref
from edgeinspect.imaging import decode_classes
from edgeinspect.pipeline.inspection import FrameInspector, UnknownLimits, WorkerEngines
from edgeinspect.services.archiver.config import parse_archive_config
from edgeinspect.services.archiver.retention_policy import classify
from edgeinspect.storage.archive import ArchiveCategory, verdict_label
from edgeinspect.storage.ledger.schema import verdict_columns
from edgeinspect.wire import Status, decode_mask, decode_message, encode_message
from tests.flow.line_harness import RULES, SHAPE, LineHarness

LIMITS = UnknownLimits("unknown", 3, 0.5, 3, 6, 66, True, False, 1)
REVIEW = replace(LIMITS, rejects=False)
MakeLine = Callable[[UnknownLimits], LineHarness]
ARCHIVE = parse_archive_config(
    "schema: 1\narchive: a\nfeed: {line: bench}\nfolder: /tmp/a\nmax_mib: 10\n"
)


@pytest.fixture
def make_line(tmp_path: Path) -> Iterator[MakeLine]:
    lines: list[LineHarness] = []

    def make(limits: UnknownLimits = LIMITS) -> LineHarness:
        folder = tmp_path / str(len(lines))
        folder.mkdir()
        line = LineHarness(folder, rules=replace(RULES, unknown=limits), with_unknown=True)
        lines.append(line)
        return line

    yield make
    for line in lines:
        line.close()


def image(first: int = 0, last: int = 0, unknown: int = 0) -> np.ndarray:
    """`first` is the gate's probability, `last` the good-parts model's score, both times 255."""
    pixels = np.zeros(SHAPE.dims, np.uint8)
    pixels[3, 2 : 2 + unknown] = 77
    pixels.flat[0], pixels.flat[-1] = first, last
    return pixels


def inspect(line: LineHarness, pixels: np.ndarray) -> Verdict:
    line.frame_id += 1
    frame = line.capture.accept(Grab(pixels, line.frame_id, line.clock.now_ns()))
    assert line.run_worker()
    verdict = line.verdict(frame.seq)
    assert verdict is not None
    return verdict


def test_a_frame_that_the_gate_passes_is_rejected(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    verdict = inspect(line, image(last=200, unknown=4))
    assert (verdict.decision, verdict.reason) == (Decision.REJECT, Reason.DEFECT)
    assert (verdict.severity, verdict.reject_code, verdict.kind_name) == (6, 66, "unknown")
    assert [(each.class_id, each.class_name, each.fatal) for each in verdict.regions] == [
        (3, "unknown", True)
    ]
    check = verdict.unknown_check
    assert check is not None
    assert (check.state, check.prob, check.review) == (UnknownState.ASKED, 0.78431, False)
    assert line.unknown is not None
    assert verdict.unknown_model == model_ref(line.unknown.spec)
    assert (verdict.stages.gate_us, verdict.stages.segmenter_us) == (10_000, 0)
    assert (verdict.stages.in_unknown_us, verdict.stages.regions_us) == (15_000, 0)
    assert verdict_label(verdict) == "unknown"
    columns, _provenance = verdict_columns(encode_message(verdict))
    assert "unknown" in columns
    assert classify(verdict, ARCHIVE) is ArchiveCategory.UNKNOWN
    row = verdict.seq % line.closer.timings.slots
    assert line.closer.timings.engine_ns[row] == 25_000_000


def test_a_frame_for_review_passes_and_is_marked(make_line: MakeLine) -> None:
    line = make_line(REVIEW)
    verdict = inspect(line, image(last=200, unknown=4))
    assert (verdict.decision, verdict.needs_review) == (Decision.PASS, True)
    assert (verdict.reject_code, verdict.kind_name) == (0, "")
    assert [each.fatal for each in verdict.regions] == [False]
    assert classify(verdict, ARCHIVE) is ArchiveCategory.UNKNOWN
    clean = inspect(line, image())
    assert (clean.decision, clean.reason, clean.needs_review) == (
        Decision.PASS,
        Reason.CLEAN,
        False,
    )
    assert classify(clean, ARCHIVE) is not ArchiveCategory.UNKNOWN
    counts = line.closer.counters.counts()
    assert (counts.passed, counts.review, counts.unknown_not_asked) == (2, 1, 0)


def test_a_rejected_frame_is_not_shown_to_it(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    pixels = image(first=140, last=255, unknown=4)
    pixels[5, 2:8] = 2
    verdict = inspect(line, pixels)
    check = verdict.unknown_check
    assert check is not None
    assert (verdict.reject_code, check.state, check.prob) == (12, UnknownState.NOT_NEEDED, None)
    assert line.unknown is not None
    assert line.unknown.call_count == 0
    assert verdict.stages.unknown_us == 0
    assert classify(verdict, ARCHIVE) is ArchiveCategory.REJECT


def test_it_runs_after_the_segmenter_found_nothing_fatal(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    verdict = inspect(line, image(first=140, last=200, unknown=5))
    assert verdict.segmenter is not None or line.segmenter.call_count == 1
    assert verdict.decision is Decision.REJECT
    assert verdict.stages.segmenter_us == 20_000


@pytest.mark.parametrize("required", [False, True])
def test_without_time_the_verdict_says_so(make_line: MakeLine, required: bool) -> None:
    line = make_line(replace(LIMITS, required=required))
    for _ in range(40):
        assert inspect(line, image()).unknown_check is not None
    line.gate_ms = 90
    verdict = inspect(line, image(last=255, unknown=8))
    check = verdict.unknown_check
    assert check is not None
    assert (verdict.decision, check.state) == (Decision.PASS, UnknownState.NO_TIME)
    assert verdict.degraded is required
    assert (check.prob, check.model, verdict.stages.unknown_us) == (None, None, 0)
    assert line.closer.counters.counts().unknown_not_asked == 1


def test_alone_it_is_the_lines_model(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    before = line.worker.inspector
    line.worker.inspector = FrameInspector(
        WorkerEngines(None, None, line.unknown),
        replace(RULES, gate=None, classes={}, unknown=replace(LIMITS, class_id=1)),
        before.provenance,
        line.clock,
        send_mask=True,
    )
    found = inspect(line, image(last=200, unknown=4))
    assert (found.decision, found.defect_prob) == (Decision.REJECT, None)
    assert found.regions[0].class_id == 1
    clean = inspect(line, image())
    assert (clean.decision, clean.reason) == (Decision.PASS, Reason.CLEAN)
    line.unknown_ms = 400
    for _ in range(40):
        line.worker.inspector.unknown_time.add(400_000_000)
    late = inspect(line, image())
    assert late.reason is Reason.DEADLINE
    assert "not started" in late.detail


def test_its_class_map_is_sent_with_its_own_id(make_line: MakeLine) -> None:
    line = make_line(REVIEW)
    line.worker.inspector._send_mask = True
    verdict = inspect(line, image(last=200, unknown=4))
    mask = decode_mask(line.closer.timings.masks[verdict.seq])
    cells = decode_classes(mask.runs, mask.height_px, mask.width_px)
    assert set(np.unique(cells)) == {0, 3}
    assert int((cells == 3).sum()) == 4


def test_a_nan_is_an_engine_error(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    assert line.unknown is not None
    good = line.unknown._outputs
    line.unknown._outputs = lambda pixels: (*good(pixels)[:3], np.array([np.nan], np.float32))
    assert inspect(line, image()).reason is Reason.ENGINE_ERROR


def test_untimed_and_timed_inspection_agree(make_line: MakeLine) -> None:
    rng = np.random.default_rng(5)
    for limits in (LIMITS, REVIEW):
        line = make_line(limits)
        for _ in range(60):
            pixels = image(*(int(each) for each in rng.integers(0, 256, 2)), int(rng.integers(6)))
            pixels[5, 1 : 1 + rng.integers(6)] = rng.integers(1, 3)
            untimed = line.worker.inspector.inspect_untimed(pixels)
            verdict = inspect(line, pixels)
            assert (verdict.decision, verdict.regions) == (
                untimed.assessment.decision,
                untimed.assessment.regions,
            )
            assert verdict.needs_review == untimed.assessment.review


def test_it_is_warmed_up_with_the_others(make_line: MakeLine) -> None:
    line = make_line(LIMITS)
    assert line.unknown is not None
    line.worker.inspector.warm_up(4)
    assert line.unknown.call_count == 4
    assert line.worker.inspector.unknown_time.p99_ns >= 15_000_000


def test_messages_of_a_line_without_one_do_not_mention_it(tmp_path: Path) -> None:
    line = LineHarness(tmp_path)
    body = encode_message(inspect(line, image()))
    assert b"unknown" not in body
    counts = line.closer.counters.counts()
    status = Status(
        line="a", epoch=1, utc_ns=1, counts=counts, rate_hz=0, latency_p50_us=0,
        latency_p99_us=0, budget_us=1, cameras={},
    )  # fmt: skip
    text = encode_message(status)
    assert b"unknown" not in text
    assert b"review" not in text
    assert decode_message(text) == status
    assert json.loads(body)["stages"].keys() == {
        "queue_us", "gate_us", "segmenter_us", "regions_us", "total_us"
    }  # fmt: skip
    line.close()
