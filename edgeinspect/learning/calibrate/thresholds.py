"""The thresholds of an INT8 model, chosen so that it decides as its parent does.

Rounding moves all scores a little: an INT8 gate that orders the images as well as FP32 (the same
AUC) may reject others at an unchanged threshold. So each threshold is moved to where INT8 has as
many validation images above it as FP32 has above its own. Where the count is the same already,
the threshold stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import DataError
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.evaluate import (
    MIN_AREA_PX,
    SplitScores,
    summarise_outputs,
)
from edgeinspect.ports import Engine

GATE_THRESHOLDS = ("suspect", "degraded", "reject")
"""In ascending order."""
GOOD_PARTS_THRESHOLDS = ("reject",)
DEFAULT_SCORE = 0.5
"""Where a manifest proposes none, as `evaluate` assumes."""
MIN_FRAMES = 4
"""On fewer validation images a threshold is not moved."""

Thresholds = Mapping[str, Any]
"""As in a manifest: numbers of a gate, or `score` and `area_px` by class."""


@dataclass(frozen=True, slots=True)
class FrameScores:
    """What a line's rule depends on, for every readable frame of a set."""

    scores: SplitScores
    defective: NDArray[np.bool_]
    """(N,)."""

    def __len__(self) -> int:
        return len(self.defective)


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The thresholds of both models."""

    where: str
    """The validation frames; empty if there are none, and the thresholds are the parent's."""
    frames: int
    parent: Thresholds
    child: Thresholds
    note: str = ""
    """Why nothing was chosen."""

    @property
    def is_changed(self) -> bool:
        """Whether the INT8 model has thresholds of its own."""
        return self.parent != self.child


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What both models reject of the verification frames, at a threshold."""

    name: str
    """`suspect` or `degraded` of a gate; `regions` of a segmenter."""
    recall: tuple[float | None, float | None, float | None]
    """Share of the defective frames: FP32, INT8 at FP32's threshold, INT8 at its own."""
    false_rejects: tuple[float | None, float | None, float | None]
    """Share of the good frames, for the same three."""
    thresholds: tuple[float, float] | None = None
    """FP32's and INT8's; None where there is one per class."""


def manifest_thresholds(spec: ModelSpec) -> dict[str, Any]:
    """Return a model's thresholds, complete: with the defaults where its manifest has none."""
    if spec.kind is ModelKind.GATE:
        return {name: gate_threshold(spec.thresholds, name) for name in GATE_THRESHOLDS}
    if spec.is_good_parts:
        area_px = _number(spec.thresholds.get("area_px"), 0.0)
        return {"reject": gate_threshold(spec.thresholds, "reject"), "area_px": area_px}
    chosen = {}
    for name in spec.classes:
        given = spec.thresholds.get(name)
        known = given if isinstance(given, Mapping) else {}
        chosen[name] = {
            "score": _number(known.get("score"), DEFAULT_SCORE),
            "area_px": _number(known.get("area_px"), MIN_AREA_PX),
        }
    return chosen


def gate_threshold(thresholds: Thresholds, name: str) -> float:
    """Return a gate's threshold, 0.5 where there is none."""
    return _number(thresholds.get(name), DEFAULT_SCORE)


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def measure_scores(
    engine: Engine, frames: FrameSet, progress: Callable[[int], None] = lambda done: None
) -> FrameScores:
    """Run a model over labelled frames; a frame that cannot be read is left out.

    Raises:
        EngineFault: An inference failed.
    """
    assert frames.read_label is not None
    spec = engine.spec
    rows: list[SplitScores] = []
    defective: list[bool] = []
    for number in range(len(frames)):
        try:
            image, label = frames.read(number), frames.read_label(number)
        except (DataError, IndexError):  # the images' own check reports it
            continue
        outputs: Any = engine.infer(image)
        if "defect_prob" in spec.outputs:
            empty = np.zeros((1, 0))
            prob = float(outputs[spec.outputs.index("defect_prob")][0])
            rows.append(SplitScores(np.array([prob]), empty, empty))
        else:
            rows.append(summarise_outputs(np.ones(1), [outputs], spec.output_stride))
        defective.append(label.is_defective)
        progress(number + 1)
    classes = 0 if "defect_prob" in spec.outputs else len(spec.classes)
    nothing = np.zeros((0, classes))
    return FrameScores(
        SplitScores(
            np.concatenate([np.zeros(0), *(row.probs for row in rows)]),
            np.concatenate([nothing, *(row.class_scores for row in rows)]),
            np.concatenate([nothing, *(row.largest_region_px for row in rows)]),
        ),
        np.array(defective, np.bool_),
    )


def choose_thresholds(
    spec: ModelSpec, before: FrameScores, after: FrameScores, where: str
) -> ThresholdChoice:
    """Choose the thresholds of an INT8 model.

    Args:
        spec: Of the parent.
        before: FP32's scores on the validation frames.
        after: INT8's.
        where: The validation frames, for people.
    """
    parent = manifest_thresholds(spec)
    if len(after) < MIN_FRAMES:
        return keep_thresholds(
            spec, f"{where} has {len(after)} readable images; {MIN_FRAMES} are needed"
        )
    if "defect_prob" in spec.outputs:
        child: dict[str, Any] = dict(parent)
        least = 0.0
        for name in GOOD_PARTS_THRESHOLDS if spec.is_good_parts else GATE_THRESHOLDS:
            moved = match_threshold(before.scores.probs, after.scores.probs, parent[name])
            child[name] = least = max(least, moved)
        return ThresholdChoice(where, len(after), parent, child)
    child = {}
    for index, name in enumerate(spec.classes):
        limits = parent[name]
        fp32, int8 = (
            each.scores.class_scores[:, index]
            * (each.scores.largest_region_px[:, index] >= limits["area_px"])
            for each in (before, after)
        )
        child[name] = {**limits, "score": match_threshold(fp32, int8, limits["score"])}
    return ThresholdChoice(where, len(after), parent, child)


def keep_thresholds(spec: ModelSpec, reason: str) -> ThresholdChoice:
    """Return the parent's thresholds for both."""
    own = manifest_thresholds(spec)
    return ThresholdChoice("", 0, own, own, reason)


def match_threshold(
    before: NDArray[np.float64], after: NDArray[np.float64], threshold: float
) -> float:
    """Return the threshold at which as many of `after` are reached as of `before` at theirs.

    Half way between the scores on both sides, so that rounding does not matter. A score of 0 is
    never reached: it is a frame without a region.
    """
    count = int((before >= threshold).sum())
    if int((after >= threshold).sum()) == count:
        return threshold
    ordered = np.sort(after)[::-1]
    if count == 0:
        return round(max(threshold, min(1.0, (float(ordered[0]) + 1) / 2)), 6)
    reached = float(ordered[count - 1])
    if reached <= 0:
        positive = ordered[ordered > 0]
        return round(min(threshold, float(positive[-1])), 6) if len(positive) else threshold
    missed = float(ordered[count]) if count < len(ordered) else 0.0
    middle = (reached + missed) / 2
    return round(middle, 6) if missed < round(middle, 6) <= reached else reached


def gate_operating_points(
    choice: ThresholdChoice,
    probs: tuple[NDArray[np.float64], NDArray[np.float64]],
    defective: NDArray[np.bool_],
) -> tuple[OperatingPoint, ...]:
    """Return what a gate rejects at `suspect` and `degraded`.

    Args:
        choice: The thresholds.
        probs: (N,) each, of FP32 and INT8 on the verification frames.
        defective: (N,).
    """
    points = []
    names = ("suspect", "degraded") if "suspect" in choice.parent else GOOD_PARTS_THRESHOLDS
    for name in names:
        old, new = float(choice.parent[name]), float(choice.child[name])
        rejected = (probs[0] >= old, probs[1] >= old, probs[1] >= new)
        points.append(_operating_point(name, rejected, defective, (old, new)))
    return tuple(points)


def segmenter_operating_point(
    choice: ThresholdChoice,
    rejected: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    defective: NDArray[np.bool_],
    after: SplitScores,
) -> OperatingPoint:
    """Return what a segmenter rejects.

    Args:
        choice: The thresholds.
        rejected: (N,) each, by FP32 and INT8, each at its own thresholds.
        defective: (N,).
        after: INT8's scores, for what it rejects at FP32's thresholds.
    """
    at_old: NDArray[np.bool_] = np.zeros(len(defective), np.bool_)
    for k, limits in enumerate(choice.parent.values()):
        at_old |= (after.class_scores[:, k] >= limits["score"]) & (
            after.largest_region_px[:, k] >= limits["area_px"]
        )
    return _operating_point("regions", (rejected[0], at_old, rejected[1]), defective, None)


def _operating_point(
    name: str,
    rejected: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    defective: NDArray[np.bool_],
    thresholds: tuple[float, float] | None,
) -> OperatingPoint:
    def share(each: NDArray[np.bool_], of: NDArray[np.bool_]) -> float | None:
        return float(each[of].mean()) if of.any() else None

    a, b, c = rejected
    return OperatingPoint(
        name,
        (share(a, defective), share(b, defective), share(c, defective)),
        (share(a, ~defective), share(b, ~defective), share(c, ~defective)),
        thresholds,
    )
