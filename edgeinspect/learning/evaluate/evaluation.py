"""One evaluation from end to end: pictures through a judge, figures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.arrays import Pictures
from edgeinspect.learning.evaluate.batches import Source
from edgeinspect.learning.evaluate.metrics.calibration_curve import Reliability, reliability
from edgeinspect.learning.evaluate.metrics.cost_threshold import CostChoice, choose_by_cost
from edgeinspect.learning.evaluate.metrics.detection_by_size import Sizes, by_size
from edgeinspect.learning.evaluate.metrics.frame_results import Answer, answers
from edgeinspect.learning.evaluate.metrics.rates import Decisions, decisions
from edgeinspect.learning.evaluate.metrics.roc import Ranking, ranking
from edgeinspect.learning.evaluate.metrics.segmentation import Overlap, overlap
from edgeinspect.learning.evaluate.metrics.thresholds import Evidence, class_limits
from edgeinspect.learning.evaluate.offline_judge import Judge
from edgeinspect.learning.evaluate.worst_frames import Worst
from edgeinspect.ports import Engine

SCHEMA = "edgeinspect.evaluation/1"
WORST = 8
"""Pictures of each sort that a report shows."""


@dataclass(frozen=True, slots=True)
class ModelNote:
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
class Scorecard:
    """Everything that one evaluation says. JSON by `to_builtins` of msgspec."""

    schema: str
    label: str
    models: tuple[ModelNote, ...]
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
    decisions: Decisions
    ranked_by: str
    """What ROC and cost are drawn over."""
    ranking: Ranking | None
    reliability: Reliability | None
    """Of the gate; None without one."""
    overlap: Overlap | None
    regions: Sizes | None
    """Recall of single regions by area."""
    by_picture: Sizes | None
    """Recall of pictures by their whole defect area."""
    costs: CostChoice | None
    searched_limits: dict[str, dict[str, float]] | None
    """Score and least area per class that find most on these very pictures at 1.2 % overkill."""
    worst: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the worst pictures by sort."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the two errors cost, in one unit."""

    escape: float
    overkill: float
    prevalence_ratio: float | None = None
    """Share of defective parts on the line; the set's own when None."""


def evaluate(
    judge: Judge,
    source: Source,
    *,
    costs: Costs | None = None,
    seed: int = 1,
    worst: int = WORST,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Scorecard, Worst]:
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
    keeper = Worst(worst, stride=judge.stride, has_masks=source.has_masks)
    found: list[Answer] = []
    for seen in answers(judge, source, progress):
        keeper.see(seen)
        found.append(seen.answer)
    if not found:
        raise DataError("has no picture to evaluate on", where=source.where)
    card = summarise(judge, source, found, costs=costs, seed=seed)
    for sort in ("escapes", "overkills", "overlap"):
        card.worst[sort] = tuple(kept.answer.name for kept in keeper.of(sort))
    return card, keeper


def summarise(
    judge: Judge,
    source: Source,
    found: Sequence[Answer],
    *,
    costs: Costs | None = None,
    seed: int = 1,
) -> Scorecard:
    """The figures, from all pictures' answers.

    Raises:
        DataError: A gate alone saw only one kind of pictures.
    """
    bad = np.array([one.defective for one in found], np.bool_)
    rank = np.array([one.rank for one in found], np.float64)
    if judge.segmenter is None and (bad.all() or not bad.any()):
        raise DataError(
            f"all {len(found)} pictures are {'defective' if bad.any() else 'sound'}",
            where=source.where,
            remedy="A gate is judged by both kinds: add the other, or name another split",
        )
    choice = None
    if costs is not None:
        choice = choose_by_cost(
            rank,
            bad,
            escape_cost=costs.escape,
            overkill_cost=costs.overkill,
            prevalence_ratio=costs.prevalence_ratio,
            rejected=np.array([one.rejected for one in found], np.bool_),
            seed=seed,
        )
    probs = np.array([one.prob for one in found if one.prob is not None])
    return Scorecard(
        schema=SCHEMA,
        label=judge.label,
        models=tuple(_note(engine) for engine in (judge.gate, judge.segmenter) if engine),
        data=source.where,
        pictures=len(found),
        defective=int(bad.sum()),
        sound=int((~bad).sum()),
        has_masks=source.has_masks,
        classes=judge.classes,
        thresholds=_thresholds(judge),
        notes=(*judge.notes, *source.notes),
        skipped=dict(source.skipped),
        decisions=decisions(found),
        ranked_by="the gate's probability"
        if judge.gate
        else "the best class score whose region is large enough",
        ranking=ranking(rank, bad),
        reliability=reliability(probs, bad, seed) if judge.gate else None,
        overlap=overlap(found, judge.classes),
        regions=_regions(found, seed),
        by_picture=_by_picture(found, seed),
        costs=choice,
        searched_limits=_search(judge, found, bad),
    )


def _note(engine: Engine) -> ModelNote:
    spec = engine.spec
    return ModelNote(
        kind=spec.kind.value,
        name=str(spec.id),
        sha256=spec.id.sha256,
        calibration=spec.id.calibration,
        precision=spec.precision.value,
        backend=type(engine).__module__.rpartition(".")[2],
        takes=f"{spec.shape} {spec.color}",
    )


def _thresholds(judge: Judge) -> dict[str, Any]:
    out: dict[str, Any] = {}
    gate = judge.rules.gate
    if gate is not None and judge.segmenter is not None:
        out["gate"] = {"suspect_at": gate.suspect_at, "reject_at": gate.reject_at}
    elif gate is not None:
        out["gate"] = {"reject_at": gate.reject_at}
    if judge.rules.classes:
        out["classes"] = {
            limits.name: {"score": limits.score, "area_px": limits.area_px}
            for limits in judge.rules.classes.values()
        }
    return out


def _regions(found: Sequence[Answer], seed: int) -> Sizes | None:
    each = [(one, group) for group, answer in enumerate(found) for one in answer.defects]
    return by_size(
        [one.area_px for one, _group in each],
        [one.found for one, _group in each],
        [group for _one, group in each],
        "regions",
        seed,
    )


def _by_picture(found: Sequence[Answer], seed: int) -> Sizes | None:
    mine = [(group, one) for group, one in enumerate(found) if one.defect_px]
    return by_size(
        [one.defect_px for _group, one in mine],
        [one.rejected for _group, one in mine],
        [group for group, _one in mine],
        "pictures",
        seed,
    )


def _search(
    judge: Judge, found: Sequence[Answer], bad: NDArray[np.bool_]
) -> dict[str, dict[str, float]] | None:
    """Thresholds per class, searched on these pictures; needs sound ones to weigh against."""
    if judge.segmenter is None or bad.all() or not bad.any():
        return None
    number = len(found)
    evidence = Evidence(
        np.array([0.0 if one.prob is None else one.prob for one in found]),
        np.stack([one.score for one in found if one.score is not None]),
        np.stack([one.largest_px for one in found if one.largest_px is not None]),
    )
    gate = judge.rules.gate
    rule = {
        "suspect": gate.suspect_at if gate else 0.0,
        "reject": gate.reject_at if gate else 2.0,  # never by itself
    }
    nothing = np.empty((number, 0, 0), np.uint8)
    labels = Pictures(nothing[..., None], nothing, bad, [one.name for one in found], judge.classes)
    return class_limits(evidence, labels, rule)
