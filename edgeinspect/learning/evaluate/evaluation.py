"""One evaluation from end to end: pictures through a judge, figures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate.image_source import ImageSource
from edgeinspect.learning.evaluate.metrics.calibration_curve import (
    ReliabilityCurve,
    measure_reliability,
)
from edgeinspect.learning.evaluate.metrics.cost_threshold import (
    CostThreshold,
    choose_cost_threshold,
)
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize, recall_by_size
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult, evaluate_frames
from edgeinspect.learning.evaluate.metrics.rates import DecisionMetrics, measure_decisions
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis, analyse_roc
from edgeinspect.learning.evaluate.metrics.segmentation import (
    SegmentationMetrics,
    measure_segmentation,
)
from edgeinspect.learning.evaluate.metrics.thresholds import SplitScores, choose_class_thresholds
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.worst_frames import WorstFrames
from edgeinspect.ports import Engine

SCHEMA = "edgeinspect.evaluation/1"
DEFAULT_WORST_COUNT = 8
"""Pictures of each sort that a report shows."""


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model that was evaluated."""

    kind: str
    name: str
    sha256: str
    calibration: str | None
    precision: str
    backend: str
    takes: str
    """Its frame."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Everything that one evaluation says. JSON by `to_builtins` of msgspec."""

    schema: str
    label: str
    models: tuple[EvaluatedModel, ...]
    data: str
    pictures: int
    defective: int
    sound: int
    has_masks: bool
    classes: tuple[str, ...]
    thresholds: dict[str, Any]
    """In force: of the gate, and per class."""
    notes: tuple[str, ...]
    skipped: dict[str, str]
    """Pictures that could not be used, and why."""
    decisions: DecisionMetrics
    ranked_by: str
    """What ROC and cost are drawn over."""
    ranking: RocAnalysis | None
    reliability: ReliabilityCurve | None
    """Of the gate; None without one."""
    overlap: SegmentationMetrics | None
    regions: DetectionBySize | None
    """Recall of single regions by area."""
    by_picture: DetectionBySize | None
    """Recall of pictures by their whole defect area."""
    costs: CostThreshold | None
    searched_limits: dict[str, dict[str, float]] | None
    """Score and least area per class that find most on these very pictures at 1.2 % overkill."""
    worst: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the worst pictures by sort."""


@dataclass(frozen=True, slots=True)
class ErrorCosts:
    """What the two errors cost, in one unit."""

    escape: float
    overkill: float
    prevalence_ratio: float | None = None
    """Share of defective parts on the line; the set's own when None."""


def evaluate(
    inspector: OfflineInspector,
    source: ImageSource,
    *,
    costs: ErrorCosts | None = None,
    seed: int = 1,
    worst_count: int = DEFAULT_WORST_COUNT,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[EvaluationResult, WorstFrames]:
    """Judge all pictures of a source and sum up. Keeps counts, and `worst` pictures of a sort.

    Args:
        judge: Engines and thresholds.
        source: Its masks carry the judge's class ids (`source.for_classes`).
        costs: To choose a threshold by; none is chosen when absent.
        seed: Of every resampling.
        worst: Pictures kept of each sort.
        progress: Told how many are done.

    Raises:
        DataError: No picture, or for a gate alone only one kind of pictures.
        EngineFault: An inference failed.
    """
    keeper = WorstFrames(worst_count, stride=inspector.stride, has_masks=source.has_masks)
    found: list[FrameResult] = []
    for seen in evaluate_frames(inspector, source, progress):
        keeper.add(seen)
        found.append(seen.result)
    if not found:
        raise DataError("has no picture to evaluate on", where=source.where)
    card = summarise_results(inspector, source, found, costs=costs, seed=seed)
    for sort in ("escapes", "overkills", "overlap"):
        card.worst[sort] = tuple(kept.result.name for kept in keeper.top(sort))
    return card, keeper


def summarise_results(
    inspector: OfflineInspector,
    source: ImageSource,
    results: Sequence[FrameResult],
    *,
    costs: ErrorCosts | None = None,
    seed: int = 1,
) -> EvaluationResult:
    """The figures, from all pictures' answers.

    Raises:
        DataError: A gate alone saw only one kind of pictures.
    """
    bad = np.array([one.is_defective for one in results], np.bool_)
    rank = np.array([one.score for one in results], np.float64)
    if inspector.segmenter is None and (bad.all() or not bad.any()):
        raise DataError(
            f"all {len(results)} pictures are {'defective' if bad.any() else 'sound'}",
            where=source.where,
            remedy="A gate is judged by both kinds: add the other, or name another split",
        )
    choice = None
    if costs is not None:
        choice = choose_cost_threshold(
            rank,
            bad,
            escape_cost=costs.escape,
            overkill_cost=costs.overkill,
            prevalence_ratio=costs.prevalence_ratio,
            rejected=np.array([one.is_rejected for one in results], np.bool_),
            seed=seed,
        )
    probs = np.array([one.prob for one in results if one.prob is not None])
    return EvaluationResult(
        schema=SCHEMA,
        label=inspector.label,
        models=tuple(
            _describe_model(engine) for engine in (inspector.gate, inspector.segmenter) if engine
        ),
        data=source.where,
        pictures=len(results),
        defective=int(bad.sum()),
        sound=int((~bad).sum()),
        has_masks=source.has_masks,
        classes=inspector.classes,
        thresholds=_active_thresholds(inspector),
        notes=(*inspector.notes, *source.notes),
        skipped=dict(source.skipped),
        decisions=measure_decisions(results),
        ranked_by="the gate's probability"
        if inspector.gate
        else "the best class score whose region is large enough",
        ranking=analyse_roc(rank, bad),
        reliability=measure_reliability(probs, bad, seed) if inspector.gate else None,
        overlap=measure_segmentation(results, inspector.classes),
        regions=_recall_by_region_size(results, seed),
        by_picture=_recall_by_frame_defect_size(results, seed),
        costs=choice,
        searched_limits=_search_thresholds(inspector, results, bad),
    )


def _describe_model(engine: Engine) -> EvaluatedModel:
    spec = engine.spec
    return EvaluatedModel(
        kind=spec.kind.value,
        name=str(spec.id),
        sha256=spec.id.sha256,
        calibration=spec.id.calibration,
        precision=spec.precision.value,
        backend=type(engine).__module__.rpartition(".")[2],
        takes=f"{spec.shape} {spec.color}",
    )


def _active_thresholds(inspector: OfflineInspector) -> dict[str, Any]:
    out: dict[str, Any] = {}
    gate = inspector.rules.gate
    if gate is not None and inspector.segmenter is not None:
        out["gate"] = {"suspect_at": gate.suspect_at, "reject_at": gate.reject_at}
    elif gate is not None:
        out["gate"] = {"reject_at": gate.reject_at}
    if inspector.rules.classes:
        out["classes"] = {
            limits.name: {"score": limits.score, "area_px": limits.area_px}
            for limits in inspector.rules.classes.values()
        }
    return out


def _recall_by_region_size(results: Sequence[FrameResult], seed: int) -> DetectionBySize | None:
    each = [(one, group) for group, answer in enumerate(results) for one in answer.labelled_regions]
    return recall_by_size(
        [one.area_px for one, _group in each],
        [one.is_found for one, _group in each],
        [group for _one, group in each],
        "regions",
        seed,
    )


def _recall_by_frame_defect_size(
    results: Sequence[FrameResult], seed: int
) -> DetectionBySize | None:
    mine = [(group, one) for group, one in enumerate(results) if one.defect_px]
    return recall_by_size(
        [one.defect_px for _group, one in mine],
        [one.is_rejected for _group, one in mine],
        [group for group, _one in mine],
        "pictures",
        seed,
    )


def _search_thresholds(
    inspector: OfflineInspector, results: Sequence[FrameResult], bad: NDArray[np.bool_]
) -> dict[str, dict[str, float]] | None:
    """Thresholds per class, searched on these pictures; needs sound ones to weigh against."""
    if inspector.segmenter is None or bad.all() or not bad.any():
        return None
    number = len(results)
    evidence = SplitScores(
        np.array([0.0 if one.prob is None else one.prob for one in results]),
        np.stack([one.class_scores for one in results if one.class_scores is not None]),
        np.stack([one.largest_region_px for one in results if one.largest_region_px is not None]),
    )
    gate = inspector.rules.gate
    rule = {
        "suspect": gate.suspect_at if gate else 0.0,
        "reject": gate.reject_at if gate else 2.0,  # never by itself
    }
    nothing = np.empty((number, 0, 0), np.uint8)
    labels = ImageArrays(
        nothing[..., None], nothing, bad, [one.name for one in results], inspector.classes
    )
    return choose_class_thresholds(evidence, labels, rule)
