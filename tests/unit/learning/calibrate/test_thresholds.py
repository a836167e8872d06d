"""The thresholds of INT8: chosen on validation frames, compared each at its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import needs

needs.library("onnxruntime")

from edgeinspect.cli.main import main
from edgeinspect.domain import FrameShape, LearnedFrom, ModelKind, Pixels
from edgeinspect.learning.calibrate import AcceptanceLimits, AcceptanceResult, evaluate_acceptance
from edgeinspect.learning.calibrate.frames import FrameLabel, FrameSet
from edgeinspect.learning.calibrate.thresholds import (
    ThresholdChoice,
    choose_thresholds,
    match_threshold,
    measure_scores,
)
from edgeinspect.learning.evaluate import build_inspector
from edgeinspect.testing.doubles import ScriptedEngine, model_spec
from tests.unit.learning.calibrate import networks

SHAPE = FrameShape(4, 4, 1)
THRESHOLDS = MappingProxyType({"suspect": 0.5, "degraded": 0.6, "reject": 0.95})


def frames(name: str, seed: int, count: int = 80) -> FrameSet:
    """Frames whose first pixel is 40 to 110 in a good one, 160 to 240 in a defective one."""
    rng = np.random.default_rng(seed)
    defective = np.arange(count) % 2 == 1
    levels = np.where(defective, rng.integers(160, 240, count), rng.integers(40, 110, count))

    def read(number: int) -> Pixels:
        return np.full((4, 4, 1), levels[number], np.uint8)

    def label(number: int) -> FrameLabel:
        return FrameLabel(bool(defective[number]), None)

    names = [f"{name}-{number}" for number in range(count)]
    return FrameSet(name, names, read, str, label)


def gate(curve: Callable[[float], float], thresholds: object = THRESHOLDS) -> ScriptedEngine:
    spec = replace(model_spec(ModelKind.GATE, SHAPE), thresholds=thresholds)

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        return (np.array([curve(image.flat[0] / 255)], np.float32),)

    return ScriptedEngine(spec, outputs, lambda: None)


def lowered(value: float) -> float:
    """A monotone change: the order of the frames, and so the AUC, stays."""
    return 0.6 * value


def accept(child: ScriptedEngine, choice: ThresholdChoice | None) -> AcceptanceResult:
    parent = gate(lambda value: value)
    return evaluate_acceptance(
        parent, child, frames("test", 2), AcceptanceLimits(), thresholds=choice
    )


def choose(curve: Callable[[float], float]) -> ThresholdChoice:
    validation = frames("parts#val", 1)
    parent, child = gate(lambda value: value), gate(curve)
    before, after = (measure_scores(engine, validation) for engine in (parent, child))
    return choose_thresholds(parent.spec, before, after, validation.where)


def test_a_gate_that_orders_as_before_is_accepted_at_its_own_thresholds() -> None:
    assert not accept(gate(lowered), None).is_accepted, "at unchanged thresholds it misses most"
    choice = choose(lowered)
    assert choice.is_changed
    assert 0.6 * 110 / 255 < choice.child["suspect"] < 0.6 * 160 / 255
    assert choice.child["suspect"] <= choice.child["degraded"] <= choice.child["reject"]
    result = accept(gate(lowered, MappingProxyType(dict(choice.child))), choice)
    assert result.is_accepted, result.reason
    assert result.comparison.auc is not None
    assert result.comparison.auc.a == result.comparison.auc.b == 1
    (suspect, _degraded) = result.operating_points
    assert suspect.thresholds == (0.5, choice.child["suspect"])
    fp32, unchanged, own = suspect.recall
    assert fp32 == own == 1
    assert unchanged is not None
    assert unchanged < 0.5
    assert suspect.false_rejects == (0, 0, 0)


def good_parts(curve: Callable[[float], float], thresholds: object) -> ScriptedEngine:
    spec = replace(
        model_spec(ModelKind.SEGMENTER, SHAPE, ("unknown",)),
        thresholds=thresholds,
        contract="2",
        learned_from=LearnedFrom.GOOD,
    )

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        prob = np.array([curve(image.flat[0] / 255)], np.float32)
        cells = np.full((1, 4, 4), prob[0] >= 0.5, np.uint8)
        area = np.array([[cells.sum()]], np.float32)
        return cells, area, prob[None] * (area > 0), prob

    return ScriptedEngine(spec, outputs, lambda: None)


def test_a_good_parts_model_keeps_its_own_kind_of_thresholds() -> None:
    own = MappingProxyType({"reject": 0.5, "area_px": 0.0})
    parent, child = good_parts(lambda value: value, own), good_parts(lowered, own)
    validation = frames("parts#val", 1)
    before, after = (measure_scores(engine, validation) for engine in (parent, child))
    choice = choose_thresholds(parent.spec, before, after, validation.where)
    assert choice.parent == own
    assert set(choice.child) == {"reject", "area_px"}
    assert 0.6 * 110 / 255 < choice.child["reject"] < 0.6 * 160 / 255
    moved = good_parts(lowered, MappingProxyType(dict(choice.child)))
    result = evaluate_acceptance(
        parent, moved, frames("test", 2), AcceptanceLimits(), thresholds=choice
    )
    (point,) = result.operating_points
    assert (point.name, point.thresholds) == ("reject", (0.5, choice.child["reject"]))
    assert point.recall[0] == point.recall[2] == 1
    assert point.recall[1] is not None
    assert point.recall[1] < 0.5
    assert build_inspector(parent).specs == (parent.spec,)


def test_a_gate_that_confuses_frames_is_refused_at_any_threshold() -> None:
    def folded(value: float) -> float:
        return abs(value - 0.55)

    choice = choose(folded)
    result = accept(gate(folded, MappingProxyType(dict(choice.child))), choice)
    assert not result.is_accepted
    assert "at `suspect` (0.5, INT8" in result.reason


@pytest.mark.parametrize("value", [0.3, 0.7])
def test_a_constant_output_is_refused(value: float) -> None:
    child = gate(lambda _value: value)
    constant = evaluate_acceptance(child, child, frames("test", 2), AcceptanceLimits())
    assert not constant.is_accepted
    assert "its output is the same for every frame" in constant.reason


def test_a_gate_that_finds_no_defect_is_refused_although_both_agree() -> None:
    blind = gate(lambda value: 0.1 * value)
    result = evaluate_acceptance(blind, blind, frames("test", 2), AcceptanceLimits())
    assert result.reason.startswith("defective frames in which anything is found: 0 of 40")
    assert "0 by INT8, at their thresholds; a model that finds nothing" in result.reason
    assert "lower its thresholds" in result.remedy
    rates = {check.name: check for check in result.checks if check.name.startswith("escape")}
    assert len(rates) == 2
    assert all((rate.int8, rate.passed) == (1.0, True) for rate in rates.values())


def test_a_segmenter_whose_regions_are_below_its_thresholds_finds_nothing() -> None:
    """Its class map has regions, and rejects nothing: no reason to accept, nor to blame INT8."""

    def segmenter(score: float) -> ScriptedEngine:
        spec = replace(
            model_spec(ModelKind.SEGMENTER, SHAPE, ("pit",)),
            thresholds=MappingProxyType({"pit": {"score": score, "area_px": 4.0}}),
        )

        def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
            level = np.float32(image.flat[0] / 255)
            cells = np.full((1, 4, 4), level >= 0.5, np.uint8)
            return cells, np.array([[cells.sum()]], np.float32), level * (cells[:, 0, :1] > 0)

        return ScriptedEngine(spec, outputs, lambda: None)

    blind, seeing = segmenter(0.99), segmenter(0.5)
    result = evaluate_acceptance(blind, blind, frames("test", 2), AcceptanceLimits())
    assert not result.is_accepted
    assert result.reason.startswith("defective frames in which anything is found: 0 of")
    assert "escape rate" not in result.reason
    assert result.remedy
    result = evaluate_acceptance(seeing, seeing, frames("test", 2), AcceptanceLimits())
    assert result.is_accepted, result.reason


def test_on_few_images_the_thresholds_stay() -> None:
    few = frames("parts#val", 1, count=3)
    parent = gate(lambda value: value)
    scores = measure_scores(parent, few)
    choice = choose_thresholds(parent.spec, scores, scores, few.where)
    assert not choice.is_changed
    assert "has 3 readable images; 4 are needed" in choice.note


SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40, unique=True)


@given(SCORES, st.floats(0.01, 1))
def test_as_many_are_reached_as_before(scores: list[float], threshold: float) -> None:
    before = np.array(scores)
    after = np.sqrt(before / 2)  # another scale, the same order
    found = match_threshold(before, after, threshold)
    count = int((before >= threshold).sum())
    reached = int((after >= found).sum())
    # Scores of 0 are frames without a region, and close ones may not be separable.
    assert reached == count or np.min(np.diff(np.sort(after)), initial=1) < 1e-5


def test_a_threshold_that_still_fits_is_not_moved() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert match_threshold(scores, scores + 0.05, 0.5) == 0.5
    assert match_threshold(scores, np.zeros(4), 0.5) == 0.5, "nothing is found at any score"
    assert match_threshold(scores, np.array([0, 0, 0, 0.3]), 0.5) == 0.3


@pytest.mark.slow
def test_calibrate_writes_the_chosen_thresholds_and_reports_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.library("openvino")
    data = networks.write_dataset(tmp_path / "data", 90)
    (data / "index.csv").write_text(
        (data / "index.csv").read_text().replace("train", "").replace("test", "")
    )
    split = tmp_path / "split.json"
    assert main(["data", "split", str(data), "--out", str(split)]) == 0
    networks.make_store(tmp_path / "models", networks.segmenter())
    run = ["calibrate", str(tmp_path / "models/patches/1"), "--store", str(tmp_path / "store")]
    run += ["--images", f"{data}#train", "--data", f"{data}#test", "--split-file", str(split)]
    run += ["--sensitivity-frames", "0", "--work", str(tmp_path / "work")]
    capsys.readouterr()
    assert main([*run, "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    found = outcome["thresholds"]
    assert found["chosen_on"].endswith("data#val")
    assert found["frames"] >= 8
    manifest = yaml.safe_load((tmp_path / "store/patches/1/manifest.yaml").read_text())
    assert manifest["thresholds"] == found["int8"]
    assert manifest["accuracy"]["against_fp32"]["scores"] == outcome["scores"]
    assert outcome["scores"]["mean_iou"]["fp32"] > 0.7
    assert found["rejects"]["regions"]["recall"].keys() == {
        "fp32",
        "int8_at_fp32_thresholds",
        "int8",
    }
    assert main(run) == 0
    out = capsys.readouterr().out
    assert "mean IoU: FP32 0.7" in out
    assert "thresholds of INT8, chosen on the" in out
