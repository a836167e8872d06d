"""Evaluates an inspector on labelled images: one `EvaluationResult` with every metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import KINDS_ONLY, Decides
from edgeinspect.errors import DataError
from edgeinspect.learning.evaluate.explain.anomaly_map import AnomalyMapReader, open_anomaly_map
from edgeinspect.learning.evaluate.image_source import ImageSource
from edgeinspect.learning.evaluate.metrics.calibration_curve import (
    ReliabilityCurve,
    measure_reliability,
)
from edgeinspect.learning.evaluate.metrics.clusters import (
    Clusters,
    count_clusters,
    find_clusters,
)
from edgeinspect.learning.evaluate.metrics.cost_threshold import (
    CostThreshold,
    choose_cost_threshold,
)
from edgeinspect.learning.evaluate.metrics.decisions import DecisionMetrics, measure_decisions
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize, recall_by_size
from edgeinspect.learning.evaluate.metrics.frame_results import (
    FrameResult,
    FrameSample,
    evaluate_frames,
)
from edgeinspect.learning.evaluate.metrics.grouped_metrics import (
    OverlapInterval,
    overlap_interval,
    regroup_decisions,
    regroup_roc,
)
from edgeinspect.learning.evaluate.metrics.kinds import Classification, measure_kinds
from edgeinspect.learning.evaluate.metrics.pixel_ranking import PixelRanking, PixelRankingResult
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis, analyse_roc
from edgeinspect.learning.evaluate.metrics.segmentation import (
    SegmentationMetrics,
    measure_segmentation,
)
from edgeinspect.learning.evaluate.metrics.thresholds import SplitScores, choose_class_thresholds
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.worst_frames import CATEGORIES, WorstFrames
from edgeinspect.ports import Engine
from edgeinspect.registry import is_installed

SCHEMA = "edgeinspect.evaluation/1"
DEFAULT_WORST_COUNT = 8
"""Images of each category in a report."""


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """Identity of a model in an evaluation."""

    kind: str
    name: str
    sha256: str
    calibration: str | None
    precision: str
    backend: str
    takes: str
    """Shape and colours of its frame."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Every metric of one evaluation; encoded as JSON field by field."""

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
    """Unusable images, and why."""
    decisions: DecisionMetrics | None
    """None for a gate that cannot tell good from defective (`decides` is `kinds`)."""
    ranked_by: str
    """The score of ROC and cost curves."""
    ranking: RocAnalysis | None
    reliability: ReliabilityCurve | None
    """Of the gate; None without one."""
    overlap: SegmentationMetrics | None
    regions: DetectionBySize | None
    """Recall of single regions by area."""
    by_picture: DetectionBySize | None
    """Recall of images by their total defect area."""
    costs: CostThreshold | None
    searched_limits: dict[str, dict[str, float]] | None
    """Score and minimum area per class with the highest recall on these images within
    `MAX_OVERKILL_RATIO`."""
    training_images: int | None = None
    """How many of the images a model was trained on; None if that is not known."""
    groups: int | None = None
    """Number of groups of images that the intervals are over; None if they are over images."""
    overlap_interval: OverlapInterval | None = None
    """Of mean IoU and mean Dice."""
    decides: Decides = Decides.DEFECTS
    """`kinds`: the model was trained without good parts, and only `classification` is measured."""
    classification: Classification | None = None
    """Of a gate that tells kinds apart, if the data set names them."""
    worst: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the worst images by category."""
    pixels: PixelRankingResult | None = None
    """Of a good-parts model's anomaly map; None without one, or without masks."""


@dataclass(frozen=True, slots=True)
class ErrorCosts:
    """Costs of the two kinds of error, in one unit."""

    escape: float
    overkill: float
    prevalence_ratio: float | None = None
    """Share of defective parts on the line; the data set's own when None."""


def evaluate(
    inspector: OfflineInspector,
    source: ImageSource,
    *,
    costs: ErrorCosts | None = None,
    seed: int = 1,
    worst_count: int = DEFAULT_WORST_COUNT,
    progress: Callable[[int], None] = lambda done: None,
    on_result: Callable[[FrameResult], None] = lambda result: None,
) -> tuple[EvaluationResult, WorstFrames]:
    """Inspect all images of a source and compute the metrics.

    Holds counts of every image, and pixels of `worst_count` images per category.

    Args:
        inspector: Engines and thresholds.
        source: Its masks have the inspector's class ids (`with_model_classes`).
        costs: Chooses a threshold by cost; none is chosen when absent.
        seed: Of every resampling.
        worst_count: Images per category.
        progress: Called with the number of images done.
        on_result: Called with the result of each image.

    Raises:
        DataError: No image, for a gate alone only good or only defective images, or for one
            that only tells kinds apart no image of a known kind.
        EngineFault: An inference failed.
    """
    worst = WorstFrames(worst_count, stride=inspector.stride, has_masks=source.has_masks)
    results: list[FrameResult] = []
    read_map, pixels = _anomaly_map_of(inspector, source), PixelRanking()
    for sample in evaluate_frames(inspector, source, progress):
        worst.add(sample)
        results.append(sample.result)
        on_result(sample.result)
        if read_map is not None and _has_pixel_labels(sample):
            pixels.add(read_map(sample.image)[0], sample.mask)
    if not results:
        raise DataError("has no image to evaluate on", where=source.where)
    evaluation = summarise_results(inspector, source, results, costs=costs, seed=seed)
    for category in CATEGORIES:
        names = (snapshot.result.name for snapshot in worst.top(category))
        evaluation.worst[category] = tuple(names)
    return replace(evaluation, pixels=pixels.result()), worst


def _anomaly_map_of(inspector: OfflineInspector, source: ImageSource) -> AnomalyMapReader | None:
    """Return the map of a good-parts model where masks can measure it."""
    engine = inspector.unknown
    if engine is None or not source.has_masks:
        return None
    path = engine.spec.path
    if path.suffix != ".onnx" or not is_installed("onnx"):
        return None
    return open_anomaly_map(path)


def _has_pixel_labels(sample: FrameSample) -> bool:
    """Whether it is known of each pixel what it is: a defective image may lack its mask."""
    return not sample.result.is_defective or bool(sample.result.defect_px)


def summarise_results(
    inspector: OfflineInspector,
    source: ImageSource,
    results: Sequence[FrameResult],
    *,
    costs: ErrorCosts | None = None,
    seed: int = 1,
) -> EvaluationResult:
    """Compute the metrics from the results of all images.

    Raises:
        DataError: A gate alone has only good or only defective images, or no known kind.
    """
    bad = np.array([one.is_defective for one in results], np.bool_)
    scores = np.array([one.score for one in results], np.float64)
    kinds_only = inspector.decides is Decides.KINDS
    classification = measure_kinds(results, inspector.kinds, inspector.decides, seed)
    if kinds_only and classification is None:
        raise DataError(
            f"names no kind of defect that the model has: {', '.join(inspector.kinds)}",
            where=source.where,
            remedy="Name the folders or classes of the data set as the model's kinds",
        )
    if not kinds_only and inspector.segmenter is None and (bad.all() or not bad.any()):
        raise DataError(
            f"all {len(results)} images are {'defective' if bad.any() else 'good'}",
            where=source.where,
            remedy="A gate or a good-parts model needs good and defective images: add some, or "
            "name another split",
        )
    cost_threshold = None
    if costs is not None and not kinds_only:
        cost_threshold = choose_cost_threshold(
            scores,
            bad,
            escape_cost=costs.escape,
            overkill_cost=costs.overkill,
            prevalence_ratio=costs.prevalence_ratio,
            rejected=np.array([one.is_rejected for one in results], np.bool_),
            seed=seed,
        )
    probs = np.array([one.prob for one in results if one.prob is not None])
    decisions, ranking = measure_decisions(results), analyse_roc(scores, bad, seed=seed)
    clusters = find_clusters([one.name for one in results], source.groups)
    if clusters is not None:
        decisions = regroup_decisions(decisions, results, clusters)
        ranking = regroup_roc(ranking, scores, bad, clusters)
    engines = (inspector.gate, inspector.segmenter, inspector.unknown)
    return EvaluationResult(
        schema=SCHEMA,
        label=inspector.label,
        models=tuple(_describe_model(engine) for engine in engines if engine),
        data=source.where,
        pictures=len(results),
        defective=int(bad.sum()),
        sound=int((~bad).sum()),
        has_masks=source.has_masks,
        classes=inspector.classes,
        thresholds=_active_thresholds(inspector),
        notes=(*inspector.notes, *source.notes, *_kind_notes(inspector, classification)),
        skipped=dict(source.skipped),
        decisions=None if kinds_only else decisions,
        ranked_by=_ranked_by(inspector),
        ranking=None if kinds_only else ranking,
        reliability=measure_reliability(probs, bad, seed)
        if inspector.gate and not kinds_only
        else None,
        overlap=measure_segmentation([one.confusion for one in results], inspector.classes),
        regions=_recall_by_region_size(results, seed, clusters),
        by_picture=_recall_by_frame_defect_size(results, seed, clusters),
        costs=cost_threshold,
        searched_limits=_search_thresholds(inspector, results, bad),
        training_images=source.training_images,
        groups=None if clusters is None else count_clusters(clusters),
        overlap_interval=overlap_interval(results, clusters, seed),
        decides=inspector.decides,
        classification=classification,
    )


def _ranked_by(inspector: OfflineInspector) -> str:
    if inspector.gate:
        return "the gate's probability"
    if inspector.segmenter:
        return "the best class score whose region is large enough"
    return "the good-parts model's score"


def _kind_notes(
    inspector: OfflineInspector, classification: Classification | None
) -> tuple[str, ...]:
    """Return what a reader must know of the classification; none without kinds."""
    if not inspector.kinds:
        return ()
    if classification is None:
        return ("the data set names none of the gate's kinds: only good or defective is measured",)
    notes = []
    if inspector.decides is Decides.KINDS:
        notes.append(f"{inspector.spec.id} {KINDS_ONLY.removeprefix('it ')}: only its kinds count")
    for count, why in (
        (classification.several_kinds, "have defects of several kinds"),
        (classification.unknown_kind, "are defective of a kind that the data set does not tell"),
        (classification.good_left_out, "are good, which this model cannot tell"),
    ):
        if count:
            notes.append(f"{count} images {why}: they are not in the confusion matrix")
    return tuple(notes)


def _describe_model(engine: Engine) -> EvaluatedModel:
    spec = engine.spec
    return EvaluatedModel(
        kind=spec.role,
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
    if (unknown := inspector.rules.unknown) is not None:
        out["unknown"] = {"reject_at": unknown.reject_at, "area_px": unknown.area_px}
    return out


def _recall_by_region_size(
    results: Sequence[FrameResult], seed: int, clusters: Clusters | None
) -> DetectionBySize | None:
    group = np.arange(len(results)) if clusters is None else clusters
    regions = [(each, i) for i, one in enumerate(results) for each in one.labelled_regions]
    return recall_by_size(
        [region.area_px for region, _image in regions],
        [region.is_found for region, _image in regions],
        [int(group[image]) for _region, image in regions],
        "regions",
        seed,
    )


def _recall_by_frame_defect_size(
    results: Sequence[FrameResult], seed: int, clusters: Clusters | None
) -> DetectionBySize | None:
    group = np.arange(len(results)) if clusters is None else clusters
    labelled = [(one, int(each)) for one, each in zip(results, group, strict=True) if one.defect_px]
    return recall_by_size(
        [one.defect_px for one, _group in labelled],
        [one.is_rejected for one, _group in labelled],
        [each for _one, each in labelled],
        "pictures",
        seed,
    )


def _search_thresholds(
    inspector: OfflineInspector, results: Sequence[FrameResult], bad: NDArray[np.bool_]
) -> dict[str, dict[str, float]] | None:
    """Search thresholds per class on these images; needs good and defective ones."""
    if inspector.segmenter is None or bad.all() or not bad.any():
        return None
    scores = SplitScores(
        np.array([0.0 if one.prob is None else one.prob for one in results]),
        np.stack([one.class_scores for one in results if one.class_scores is not None]),
        np.stack([one.largest_region_px for one in results if one.largest_region_px is not None]),
    )
    gate = inspector.rules.gate
    limits = {
        "suspect": gate.suspect_at if gate else 0.0,
        "reject": gate.reject_at if gate else 2.0,  # unreachable: no gate rejects
    }
    return choose_class_thresholds(scores, bad, inspector.classes, limits)
