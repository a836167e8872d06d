"""Acceptance of INT8 models of contract 2: kinds of a gate, and good-parts models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeinspect.domain import Decides, FrameShape, LearnedFrom, ModelKind, ModelSpec
from edgeinspect.learning.calibrate.acceptance import evaluate_acceptance
from edgeinspect.learning.calibrate.acceptance_checks import AcceptanceLimits
from edgeinspect.learning.calibrate.distance import distance_from_labels, distance_from_reference
from edgeinspect.learning.calibrate.frames import FrameLabel, FrameSet
from edgeinspect.learning.calibrate.sampling import defect_score
from edgeinspect.learning.evaluate import ImageTruth
from edgeinspect.testing import ScriptedEngine
from edgeinspect.testing.doubles import model_spec

SHAPE = FrameShape(4, 4, 1)
KINDS = ("pit", "burr", "stain")


def gate(decides: Decides = Decides.DEFECTS) -> ModelSpec:
    limits = {"suspect": 0.5, "degraded": 0.5, "reject": 0.9}
    spec = model_spec(ModelKind.GATE, SHAPE, KINDS, contract="2", decides=decides)
    object.__setattr__(spec, "thresholds", limits)
    return spec


def good_parts() -> ModelSpec:
    spec = model_spec(
        ModelKind.SEGMENTER, SHAPE, ("unknown",), contract="2", learned_from=LearnedFrom.GOOD
    )
    object.__setattr__(spec, "thresholds", {"reject": 0.5})
    return spec


def kinds_engine(spec: ModelSpec, rows: Sequence[Sequence[float]]) -> ScriptedEngine:
    """The first pixel is the number of the row of probabilities."""

    def outputs(image: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
        probs = np.array([rows[image.flat[0]]], np.float32)
        total = np.ones(1, np.float32) if spec.decides is Decides.KINDS else probs.sum(axis=1)
        return total, probs

    return ScriptedEngine(spec, outputs)


def unknown_engine(scores: Sequence[float]) -> ScriptedEngine:
    def outputs(image: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
        prob = np.array([scores[image.flat[0]]], np.float32)
        return np.zeros((1, 4, 4), np.uint8), np.zeros((1, 1), np.float32), prob[None] * 0, prob

    return ScriptedEngine(good_parts(), outputs)


def frames(count: int, kinds: Sequence[str] | None = None, labelled: bool = True) -> FrameSet:
    """Frame i has the pixel i; with kinds, those that are empty are good."""
    names = [f"{index}.png" for index in range(count)]
    kinds = kinds or [""] * count

    def read(index: int) -> NDArray[np.uint8]:
        return np.full(SHAPE.dims, index, np.uint8)

    return FrameSet(
        "set",
        names,
        read,
        str,
        (lambda index: FrameLabel(bool(kinds[index]), None)) if labelled else None,
        truth={
            name: ImageTruth("test", (kind,))
            for name, kind in zip(names, kinds, strict=True)
            if kind and labelled
        },
    )


def row(kind: int, prob: float = 0.9) -> list[float]:
    return [prob if index == kind else 0.01 for index in range(3)]


def accept(parent: ScriptedEngine, child: ScriptedEngine, these: FrameSet) -> Any:
    return evaluate_acceptance(parent, child, these, AcceptanceLimits())


GOOD_ROW = [0.02, 0.02, 0.02]
ROWS = [row(index % 3) for index in range(30)] + [GOOD_ROW] * 30
LABELS = [KINDS[index % 3] for index in range(30)] + [""] * 30


def test_a_gate_that_keeps_its_kinds_is_accepted() -> None:
    found = accept(kinds_engine(gate(), ROWS), kinds_engine(gate(), ROWS), frames(60, LABELS))
    assert found.is_accepted
    assert any(check.name == "kinds not recognised" for check in found.checks)


@pytest.mark.parametrize("decides", list(Decides))
@pytest.mark.parametrize("labelled", [True, False])
def test_a_gate_that_confuses_its_kinds_is_not(decides: Decides, labelled: bool) -> None:
    """Good and defective remain as they were: only the kinds change."""
    confused = [row(0) if index < 30 else GOOD_ROW for index in range(60)]
    spec = gate(decides)
    found = accept(
        kinds_engine(spec, ROWS), kinds_engine(spec, confused), frames(60, LABELS, labelled)
    )
    failed = [check.name for check in found.checks if not check.passed]
    assert failed == ["kinds not recognised" if labelled else "most probable kinds that agree"]
    assert found.changed_frames, "frames whose kinds changed are in the report"


def test_a_model_of_kinds_needs_no_good_frames() -> None:
    spec, rows = gate(Decides.KINDS), ROWS[:30]
    found = accept(kinds_engine(spec, rows), kinds_engine(spec, rows), frames(30, labelled=False))
    assert found.is_accepted
    assert not any("suspect" in check.name for check in found.checks)


GOOD_CHECKS = {
    "good frames to compare",
    "rank correlation of good frames",
    "change of the scores of good frames",
}


def test_a_good_parts_model_is_accepted_on_good_frames_alone() -> None:
    scores = [0.1 + index / 200 for index in range(40)]
    found = accept(unknown_engine(scores), unknown_engine(scores), frames(40, labelled=False))
    assert found.is_accepted
    assert {check.name for check in found.checks} == GOOD_CHECKS
    turned = accept(
        unknown_engine(scores), unknown_engine(scores[::-1]), frames(40, labelled=False)
    )
    failed = {check.name for check in turned.checks if not check.passed}
    assert failed == GOOD_CHECKS - {"good frames to compare"}


def test_a_good_parts_model_is_verified_by_its_auc_with_labels() -> None:
    labels = ["pit"] * 20 + [""] * 40
    good = [0.1 + index / 200 for index in range(40)]
    scores = [0.9] * 20 + good
    kept = accept(unknown_engine(scores), unknown_engine(scores), frames(60, labels))
    assert kept.is_accepted
    names = {check.name for check in kept.checks}
    assert names == {*GOOD_CHECKS, "AUC", "defective frames in which anything is found"}
    worse = [0.9] * 18 + [0.05] * 2 + good
    lost = accept(unknown_engine(scores), unknown_engine(worse), frames(60, labels))
    assert [check.name for check in lost.checks if not check.passed] == ["AUC"]


def test_distances_respond_to_the_added_outputs() -> None:
    spec = gate()
    one = (np.array([0.9]), np.array([[0.8, 0.1, 0.0]]))
    other = (np.array([0.9]), np.array([[0.1, 0.8, 0.0]]))
    assert distance_from_reference(spec, [one], [one]).total == 0
    assert distance_from_reference(spec, [other], [one]).total == pytest.approx(1.4 / 4)
    unknown = good_parts()
    empty = (np.zeros((1, 4, 4), np.uint8), np.zeros((1, 1)), np.zeros((1, 1)))
    low, high = ((*empty, np.array([prob])) for prob in (0.2, 0.7))
    assert distance_from_reference(unknown, [low], [low]).total == 0
    assert distance_from_reference(unknown, [high], [low]).total == pytest.approx(0.5)
    bad = [FrameLabel(True, None)]
    assert (
        distance_from_labels(unknown, [high], bad).total
        < distance_from_labels(unknown, [low], bad).total
    )


def test_frames_are_grouped_by_the_score_that_varies() -> None:
    image = np.zeros(SHAPE.dims, np.uint8)
    assert defect_score(kinds_engine(gate(), [row(1)]), image) == pytest.approx(0.92)
    kinds = kinds_engine(gate(Decides.KINDS), [row(1)])
    assert defect_score(kinds, image) == pytest.approx(0.9)
    assert defect_score(unknown_engine([0.3]), image) == pytest.approx(0.3)
