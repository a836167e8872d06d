"""A frame on a line whose gate tells kinds apart: verdict, ledger and wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain import Decision, Grab, Reason, Verdict
from edgeinspect.pipeline.inspection import KindLimits
from edgeinspect.storage.archive import verdict_label
from edgeinspect.storage.ledger.schema import verdict_columns
from edgeinspect.testing import kinds_gate
from edgeinspect.wire import decode_verdict, encode_message
from tests.flow.line_harness import RULES, SHAPE, LineHarness

assert RULES.gate is not None
KINDS = (KindLimits("pit", 0.4, 3, 21), KindLimits("scratch", None, 7, 22))
KINDS_RULES = replace(RULES, gate=replace(RULES.gate, kinds=KINDS), classes={})


@pytest.fixture
def line(tmp_path: Path) -> Iterator[LineHarness]:
    harness = LineHarness(tmp_path, gate=kinds_gate(SHAPE), rules=KINDS_RULES)
    yield harness
    harness.close()


def inspect(line: LineHarness, *pixels: int) -> Verdict:
    image = np.zeros(SHAPE.dims, np.uint8)
    image.reshape(-1)[: len(pixels)] = pixels
    line.frame_id += 1
    frame = line.capture.accept(Grab(image, line.frame_id, line.clock.now_ns()))
    assert line.run_worker()
    verdict = line.verdict(frame.seq)
    assert verdict is not None
    return verdict


def test_the_verdict_names_the_kind_and_the_probabilities(line: LineHarness) -> None:
    verdict = inspect(line, 115, 13)
    assert (verdict.decision, verdict.reason, verdict.kind_name) == (
        Decision.REJECT,
        Reason.GATE,
        "pit",
    )
    assert (verdict.reject_code, verdict.severity) == (21, 3)
    assert [(one.name, one.prob) for one in verdict.kind_probs] == [
        ("pit", 0.45098),
        ("scratch", 0.05098),
    ]
    assert verdict_label(verdict) == "pit"
    columns, _provenance = verdict_columns(encode_message(verdict))
    assert "pit" in columns
    decoded = json.loads(encode_message(verdict))
    assert decoded["kind"] == "pit"
    assert decoded["kinds"][0] == {"name": "pit", "prob": 0.45098}


def test_a_clean_frame_has_an_empty_list_and_no_kind(line: LineHarness) -> None:
    verdict = inspect(line, 1, 1)
    assert (verdict.decision, verdict.kinds) == (Decision.PASS, ())
    assert "kind" not in json.loads(encode_message(verdict))


def test_a_nan_among_the_kinds_is_an_engine_error(tmp_path: Path) -> None:
    gate = kinds_gate(SHAPE)
    outputs = (np.array([0.5], np.float32), np.array([[0.5, np.nan]], np.float32))
    gate._outputs = lambda image: outputs
    harness = LineHarness(tmp_path, gate=gate, rules=KINDS_RULES)
    assert inspect(harness, 1).reason is Reason.ENGINE_ERROR
    harness.close()


def test_without_kinds_the_message_is_as_it_was(tmp_path: Path) -> None:
    harness = LineHarness(tmp_path)
    body = json.loads(encode_message(inspect(harness, 255)))
    assert list(body) == [
        "schema", "line", "camera", "epoch", "seq", "frame", "camera_frame_id", "label",
        "part_id", "encoder_count", "captured_at_utc_ns", "clock_source", "deadline_utc_ns",
        "act_by_utc_ns", "clock_stepped", "act_by_encoder", "decision", "reason", "detail",
        "degraded", "simulated", "defect_prob", "regions", "regions_total", "severity",
        "reject_code", "letterbox", "gate", "segmenter", "config_hash", "stages", "budget_us",
    ]  # fmt: skip
    assert list(body["stages"]) == [
        "queue_us", "gate_us", "segmenter_us", "regions_us", "total_us"
    ]  # fmt: skip
    harness.close()


def test_old_and_long_messages_are_read(line: LineHarness) -> None:
    body = json.loads(encode_message(inspect(line, 115, 13)))
    del body["kind"], body["kinds"]
    old = decode_verdict(json.dumps(body).encode())
    assert (old.kind_name, old.kind_probs, old.reject_classes) == ("", (), ())
    many = tuple(f"kind-{index}-{'x' * 50}" for index in range(40))
    limits = tuple(KindLimits(name, None, 1, 1) for name in many)
    assert KINDS_RULES.gate is not None
    rules = replace(KINDS_RULES, gate=replace(KINDS_RULES.gate, kinds=limits))
    inspector = line.worker.inspector
    line.worker.inspector = type(inspector)(
        replace(inspector.engines, gate=kinds_gate(SHAPE, many)),
        rules,
        inspector.provenance,
        line.clock,
    )
    verdict = inspect(line, *range(10, 50))
    assert len(verdict.kind_probs) == 8
    assert verdict.kind_name == verdict.kind_probs[0].name == many[-1]
