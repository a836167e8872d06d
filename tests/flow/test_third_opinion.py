"""A whole line from its file: a gate with kinds, a segmenter and a good-parts model, as ONNX."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.config import parse_config
from edgeinspect.domain import NS_PER_S, Decision, SystemClock, UnknownState, Verdict
from edgeinspect.errors import ModelError
from edgeinspect.pipeline.factory import build_line, load_engines
from edgeinspect.pipeline.inspection import make_frame_inspectors
from edgeinspect.pipeline.shadow import find_candidates, make_plan
from edgeinspect.pipeline.shadow.child import make_inspector
from edgeinspect.pipeline.shadow.process import ShadowPlan
from edgeinspect.pipeline.verdicts import OpenFrame, VerdictCloser
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import decode_json
from edgeinspect.wire import (
    HeatMap,
    decode_mask,
    decode_message,
    decode_verdict,
    encode_message,
)
from tests import graphs, needs

needs.library("onnxruntime")
LINE = """\
schema: 1
line: third
budget_ms: 5000
store: {root}/store
cameras: {{top: {{type: folder, path: {root}/images}}}}
capture: {{overload: block, health: {{dark_level: 0, bright_level: 255, frozen_frames: 0}}}}
engines: {{{engines}}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide:
{decide}
spool: {{folder: {root}/spool}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*", mask: true}}
"""
UNKNOWN = (
    "unknown: {type: ort, model: tiny-unknown}",
    "  unknown: {reject_at: 0.9, area_px: 40, action: reject, severity: 6, reject_code: 66}\n",
)
GATE = (
    "gate: {type: ort, model: tiny-kinds}",
    "  gate:\n"
    "    suspect_at: 0.4\n    reject_at: 0.9\n    degraded_reject_at: 0.5\n    reject_code: 1\n"
    "    classes:\n"
    "      dark: {severity: 2, reject_code: 21}\n"
    "      bright: {severity: 4, reject_code: 22}\n"
    "      other: {severity: 3, reject_code: 23}\n",
)


def line_text(root: Path, *parts: tuple[str, str]) -> str:
    engines = ", ".join(engine for engine, _rule in parts)
    return LINE.format(root=root, engines=engines, decide="".join(rule for _e, rule in parts))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    graphs.install_good_parts(
        tmp_path / "store", pretrained="lite0-imagenet", pretrained_sha256="ab" * 32
    )
    graphs.install_kinds_gate(tmp_path / "store")
    (tmp_path / "images").mkdir()
    images = {name: np.full((32, 48), 20, np.uint8) for name in "abc"}
    images["b"][4:12, 4:12] = 240
    images["c"][:] = 140
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), image)
    return tmp_path


def run(root: Path, *parts: tuple[str, str]) -> list[Verdict]:
    ended = threading.Event()
    failures: list[BaseException] = []
    line = build_line(
        parse_config(line_text(root, *parts)),
        SystemClock(),
        on_failure=failures.append,
        on_end=ended.set,
    )
    try:
        line.start()
        assert ended.wait(30)
        line.stop()
        verdicts = [decode_verdict(body) for seq in (1, 2, 3) if (body := line.spool.read(seq))]
        status = line.reporter.status()
    finally:
        line.close()
    assert not failures
    assert status.unknown == "tiny-unknown/1"
    assert status.pretrained == {"unknown": f"lite0-imagenet {'ab' * 32}"}
    assert decode_message(encode_message(status)) == status
    return verdicts


def test_the_three_opinions_on_three_parts(root: Path) -> None:
    good, odd, stain = run(root, GATE, UNKNOWN)
    assert (good.decision, good.unknown_check and good.unknown_check.state) == (
        Decision.PASS,
        UnknownState.ASKED,
    )
    assert (odd.reject_code, odd.severity, odd.reject_classes) == (66, 6, ("unknown",))
    assert odd.gate is not None
    assert odd.unknown_model is not None
    assert odd.unknown_model.name == "tiny-unknown"
    assert odd.regions[0].area_px == 64
    assert (stain.reject_code, stain.severity, stain.kind_name) == (22, 4, "bright")
    assert stain.unknown_check is not None
    assert stain.unknown_check.state is UnknownState.NOT_NEEDED


def test_its_heat_map_goes_with_the_mask(root: Path) -> None:
    graphs.install_good_parts(root / "store", version=2, with_heat_map=True)
    ModelStore(root / "store").model_versions("tiny-unknown").promote(2, "test")
    loaded = parse_config(line_text(root, UNKNOWN))
    engines = load_engines(loaded, SystemClock())
    inspector = make_frame_inspectors(loaded.config, loaded.hash, ("top",), engines, SystemClock())[
        0
    ]
    sent: list[bytes | None] = []
    closer = SimpleNamespace(close=lambda *arguments: sent.append(arguments[3]) or True)
    for value in (20, 240):
        image = np.full(graphs.SHAPE.dims, 20, np.uint8)
        image[4:12, 4:12] = value
        now_ns = SystemClock().now_ns()
        frame = SimpleNamespace(
            seq=7, pixels=image, captured_at_ns=now_ns, deadline_ns=now_ns + NS_PER_S
        )
        inspector.inspect(cast(OpenFrame, frame), cast(VerdictCloser, closer))
    assert sent[0] is None
    mask = decode_mask(sent[1] or b"")
    assert isinstance(mask.heat, HeatMap)
    assert (mask.heat.height, mask.heat.width) == (2, 3)
    assert mask.heat.reject_level == round(255 * 0.9)
    assert list(mask.heat.levels) == [240, 20, 20, 20, 20, 20]
    for each in engines:
        each.close()


def test_a_good_parts_model_alone(root: Path) -> None:
    good, odd, _stain = run(root, UNKNOWN)
    assert (good.decision, odd.decision) == (Decision.PASS, Decision.REJECT)
    assert odd.defect_prob is None
    assert odd.unknown_check is not None
    assert odd.unknown_check.prob == pytest.approx(240 / 255, abs=1e-4)


def test_a_candidate_of_it_runs_in_shadow(root: Path) -> None:
    graphs.install_good_parts(root / "store", version=2)
    store = ModelStore(root / "store")
    versions = store.model_versions("tiny-unknown")
    versions.promote(1, "test")
    versions.set_shadow(2)
    loaded = parse_config(line_text(root, GATE, UNKNOWN))
    candidates = find_candidates(loaded, store)
    assert list(candidates) == ["unknown"]
    engines = load_engines(loaded, SystemClock())
    inspector = make_frame_inspectors(loaded.config, loaded.hash, ("top",), engines, SystemClock())[
        0
    ]
    plan = make_plan(loaded, store, inspector, candidates, root / "box", root / "record")
    assert list(plan.engines) == ["gate", "unknown"]
    sent = decode_json(msgspec.json.encode(plan), ShadowPlan)
    child = make_inspector(sent, SystemClock())
    image = np.full(graphs.SHAPE.dims, 20, np.uint8)
    image[4:12, 4:12] = 240
    assert child.inspect_untimed(image).assessment == inspector.inspect_untimed(image).assessment
    assert child.inspect_untimed(image).assessment.reject_code == 66
    for each in engines:
        each.close()
    child.engines.close()


def test_models_of_two_workers_must_be_the_same(root: Path) -> None:
    loaded = parse_config(line_text(root, GATE, UNKNOWN))
    first = load_engines(loaded, SystemClock())
    graphs.install_good_parts(root / "store", version=2, created="2026-11-30")
    second = load_engines(loaded, SystemClock())
    with pytest.raises(ModelError, match="another version was promoted"):
        make_frame_inspectors(
            loaded.config, loaded.hash, ("top",), [*first, *second], SystemClock()
        )
    for each in (*first, *second):
        each.close()
