"""Compares two inspectors on the same images: what changed, and whether it is significant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate.image_source import (
    NO_TRUTH,
    ImageSource,
    kind_ids,
    source_in_memory,
    with_model_classes,
)
from edgeinspect.learning.evaluate.metrics.clusters import (
    Clusters,
    count_clusters,
    find_clusters,
)
from edgeinspect.learning.evaluate.metrics.frame_results import (
    FrameResult,
    FrameSample,
    evaluate_frames,
    inspect_labelled,
)
from edgeinspect.learning.evaluate.metrics.paired_tests import (
    DiscordantPairs,
    PairedDifference,
    compare_auc,
    compare_errors,
    compare_overlap,
)
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector

NOISE_TOLERANCE = 5e-4
"""Runs of one graph on two machines differ by less, in probability and in share of pixels."""

COMPARISON_SCHEMA = "edgeinspect.comparison/1"


@dataclass(frozen=True, slots=True)
class DifferingFrame:
    """One image with different results of A and B."""

    name: str
    defective: bool
    a_rejected: bool
    b_rejected: bool
    a_prob: float | None
    b_prob: float | None
    a_dice: float | None
    b_dice: float | None
    differing_ratio: float | None
    """Share of the frame whose class differs; None without two segmenters."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The result of `compare_inspectors`. Differences are B minus A."""

    a: str
    b: str
    pictures: int
    defective: int
    escapes: DiscordantPairs | None
    """None without a defective image."""
    overkills: DiscordantPairs | None
    """None without a good image."""
    dice: tuple[PairedDifference, ...]
    """Per class over all pixels, then `mean`; empty without two segmenters and masks."""
    iou: tuple[PairedDifference, ...]
    """As `dice`, with the background first."""
    auc: PairedDifference | None
    """After DeLong 1988, paired; None unless there are good and defective images."""
    agreement_ratio: float
    """Share of images with the same decision."""
    pixel_agreement_ratio: float | None
    """Share of frame pixels with the same class."""
    largest_prob_difference: float | None
    differing: tuple[DifferingFrame, ...]
    """Changed decisions first, then by the change of class map or probability."""
    seed: int
    rounds: int
    groups: int | None = None
    """Number of groups of images that the intervals are over; None if they are over images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonDocument(PairedComparison):
    """A comparison with what it was measured on; the JSON of `compare`."""

    schema: str
    data: str
    notes: tuple[str, ...]
    training_images: int | None = None
    """How many of the images a model was trained on; None if that is not known."""

    @classmethod
    def from_comparison(
        cls,
        comparison: PairedComparison,
        data: str,
        notes: Sequence[str],
        training_images: int | None = None,
    ) -> ComparisonDocument:
        """Add data set and notes to a comparison."""
        values = {each.name: getattr(comparison, each.name) for each in fields(comparison)}
        return cls(
            **values,
            schema=COMPARISON_SCHEMA,
            data=data,
            notes=tuple(notes),
            training_images=training_images,
        )


def compare_inspectors(
    a: OfflineInspector,
    b: OfflineInspector,
    images: ImageArrays | ImageSource,
    *,
    seed: int = 1,
    rounds: int = 2000,
    max_differing: int = 200,
    progress: Callable[[int], None] = lambda done: None,
    on_pair: Callable[[FrameSample, FrameSample, float | None], None] = lambda a, b, ratio: None,
) -> PairedComparison:
    """Inspect the same images with both, one image at a time.

    Args:
        a: The reference, as the FP32 graph.
        b: The candidate, as the INT8 graph. Must have A's frame and A's classes.
        images: In memory, or a source that is read once.
        seed: Of the bootstrap.
        rounds: Resamplings of the bootstrap over images.
        max_differing: Limits `PairedComparison.differing`.
        progress: Called with the number of images done.
        on_pair: Called with both samples of each image and the share of differing pixels.

    Raises:
        DataError: There is no image, or the two cannot be compared.
        EngineFault: An inference failed.
    """
    if (a.spec.shape, a.spec.color) != (b.spec.shape, b.spec.color):
        raise DataError(
            f"{a.label} takes {a.spec.shape} {a.spec.color}, {b.label} takes "
            f"{b.spec.shape} {b.spec.color}",
            remedy="Compare two models of the same frame",
        )
    if a.mapper and b.mapper and a.classes != b.classes:
        raise DataError(
            f"{a.label} has the classes {', '.join(a.classes)}; {b.label} {', '.join(b.classes)}",
            remedy="Compare two models of the same classes, in the same order",
        )
    source = images if isinstance(images, ImageSource) else source_in_memory(images)
    source = with_model_classes(source, a.classes or b.classes)
    results_a: list[FrameResult] = []
    results_b: list[FrameResult] = []
    ratios: list[float | None] = []
    kinds_b = kind_ids(source, b.kinds)
    for sample_a in evaluate_frames(a, source, progress):
        sample_b = inspect_labelled(
            b,
            sample_a.image,
            sample_a.mask,
            name=sample_a.result.name,
            is_defective=sample_a.result.is_defective,
            has_masks=source.has_masks,
            truth=source.truth.get(sample_a.result.name, NO_TRUTH),
            mask_classes=source.classes,
            kinds=kinds_b,
        )
        ratio = _map_difference_ratio(
            sample_a.inspection.class_map, sample_b.inspection.class_map, a.stride, b.stride
        )
        on_pair(sample_a, sample_b, ratio)
        results_a.append(sample_a.result)
        results_b.append(sample_b.result)
        ratios.append(ratio)
    return compare_results(
        results_a,
        results_b,
        ratios,
        a=a.label,
        b=b.label,
        classes=a.classes,
        seed=seed,
        rounds=rounds,
        max_differing=max_differing,
        groups=source.groups,
    )


def compare_results(
    results_a: Sequence[FrameResult],
    results_b: Sequence[FrameResult],
    ratios: Sequence[float | None],
    *,
    a: str = "A",
    b: str = "B",
    classes: Sequence[str] = (),
    seed: int = 1,
    rounds: int = 2000,
    max_differing: int = 200,
    groups: Mapping[str, str] = MappingProxyType({}),
) -> PairedComparison:
    """Compare the results of both on the same images, in the same order.

    Raises:
        DataError: There is no result, or the images are not the same.
    """
    if not results_a or [one.name for one in results_a] != [one.name for one in results_b]:
        raise DataError("a comparison needs results of the same images, at least one")
    pairs = list(zip(results_a, results_b, strict=True))
    bad = np.array([one.is_defective for one in results_a], np.bool_)
    reject_a = np.array([one.is_rejected for one in results_a], np.bool_)
    reject_b = np.array([one.is_rejected for one in results_b], np.bool_)
    scores_a = np.array([one.score for one in results_a])
    scores_b = np.array([one.score for one in results_b])
    clusters = find_clusters([one.name for one in results_a], groups)
    dice, iou = compare_overlap(results_a, results_b, classes, seed, rounds, clusters)
    escapes = (
        compare_errors("escape rate", ~reject_a[bad], ~reject_b[bad], _of(clusters, bad))
        if bad.any()
        else None
    )
    overkills = (
        None
        if bad.all()
        else compare_errors("overkill rate", reject_a[~bad], reject_b[~bad], _of(clusters, ~bad))
    )
    known = [ratio for ratio in ratios if ratio is not None]
    prob_differences = [
        abs(one.prob - other.prob)
        for one, other in pairs
        if one.prob is not None and other.prob is not None
    ]
    return PairedComparison(
        a=a,
        b=b,
        pictures=len(pairs),
        defective=int(bad.sum()),
        escapes=escapes,
        overkills=overkills,
        dice=dice,
        iou=iou,
        auc=compare_auc(scores_a, scores_b, bad, clusters),
        agreement_ratio=float((reject_a == reject_b).mean()),
        pixel_agreement_ratio=1 - float(np.mean(known)) if known else None,
        largest_prob_difference=max(prob_differences, default=None),
        differing=_differing_frames(results_a, results_b, ratios)[:max_differing],
        seed=seed,
        rounds=rounds,
        groups=None if clusters is None else count_clusters(clusters),
    )


def _of(clusters: Clusters | None, kind: NDArray[np.bool_]) -> Clusters | None:
    return None if clusters is None else clusters[kind]


def _map_difference_ratio(
    map_a: NDArray[np.uint8] | None, map_b: NDArray[np.uint8] | None, stride_a: int, stride_b: int
) -> float | None:
    if map_a is None or map_b is None:
        return None
    if stride_a != stride_b:  # both to frame pixels
        map_a = map_a.repeat(stride_a, 0).repeat(stride_a, 1)
        map_b = map_b.repeat(stride_b, 0).repeat(stride_b, 1)
    return float((map_a != map_b).mean())


def _differing_frames(
    results_a: Sequence[FrameResult],
    results_b: Sequence[FrameResult],
    ratios: Sequence[float | None],
) -> tuple[DifferingFrame, ...]:
    rows = [
        DifferingFrame(
            one.name,
            one.is_defective,
            one.is_rejected,
            other.is_rejected,
            one.prob,
            other.prob,
            one.dice,
            other.dice,
            ratio,
        )
        for one, other, ratio in zip(results_a, results_b, ratios, strict=True)
        if one.is_rejected != other.is_rejected
        or change(one.prob, other.prob, ratio) > NOISE_TOLERANCE
    ]
    rows.sort(key=lambda row: (row.a_rejected == row.b_rejected, -_row_change(row)))
    return tuple(rows)


def _row_change(row: DifferingFrame) -> float:
    return change(row.a_prob, row.b_prob, row.differing_ratio)


def change(a_prob: float | None, b_prob: float | None, ratio: float | None) -> float:
    """Return the larger of the change of probability and the share of differing pixels."""
    moved = abs(a_prob - b_prob) if a_prob is not None and b_prob is not None else 0.0
    return max(moved, ratio or 0.0)
