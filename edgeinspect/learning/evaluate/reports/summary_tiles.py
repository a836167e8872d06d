"""The most important numbers of an evaluation, as tiles at the head of its report."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.metrics.rates import Rate
from edgeinspect.learning.evaluate.metrics.segmentation import SegmentationMetrics
from edgeinspect.learning.evaluate.reports.detection_section import a90_interval, format_a90
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.reporting import html


def summary_tiles(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield one element with all tiles."""
    tiles = []
    counts = evaluation.decisions
    rates = counts and (
        ("escape rate", counts.escape, "defective passed", "bad"),
        ("overkill rate", counts.overkill, "good rejected", "warn"),
    )
    for name, rate, counted, kind in rates or ():
        if rate.total:
            count = f"{rate.hits} of {rate.total} {counted}"
            value = format_percent(rate.value)
            tiles.append(html.stat_tile(name, value, count, *_interval_lines(rate), kind=kind))
    roc = evaluation.ranking
    if roc is not None:
        at = roc.recall_at[0]
        tiles.append(
            html.stat_tile(
                f"recall at {format_percent(at.false_reject_rate)} false rejects",
                format_percent(at.recall.value),
                f"{at.recall.hits} of {at.recall.total}",
                f"95 %: {format_interval(at.recall)}",
                kind="good",
            )
        )
        interval = f"95 %: {roc.auc_low:.4f} to {roc.auc_high:.4f}"
        tiles.append(html.stat_tile("AUC", f"{roc.auc:.4f}", evaluation.ranked_by, interval))
        interval = f"95 %: {roc.average_precision_low:.4f} to {roc.average_precision_high:.4f}"
        precision = f"{roc.average_precision:.4f}"
        tiles.append(html.stat_tile("average precision", precision, "bootstrap", interval))
    kinds = evaluation.classification
    if kinds is not None and kinds.balanced_accuracy is not None:
        interval = (
            f"95 %: {format_percent(kinds.balanced_accuracy_low)} to "
            f"{format_percent(kinds.balanced_accuracy_high)}"
        )
        value = format_percent(kinds.balanced_accuracy)
        tiles.append(html.stat_tile("balanced accuracy", value, "mean recall", interval))
    if (pixels := evaluation.pixels) is not None:
        overlap = f"overlap of regions (PRO): {pixels.region_overlap:.4f}"
        tiles.append(html.stat_tile("pixel AUC", f"{pixels.auc:.4f}", "the anomaly map", overlap))
    masks = evaluation.overlap
    if masks is not None:
        tiles.append(
            html.stat_tile("mean IoU", *_overlap_lines(masks), *_miou_interval(evaluation))
        )
    size = evaluation.regions or evaluation.by_picture
    if size is not None:
        meaning = "90 % found from here on" if size.a90_px is not None else ""
        name = "smallest defect found reliably"
        tiles.append(html.stat_tile(name, format_a90(size), meaning, a90_interval(size)))
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _overlap_lines(masks: SegmentationMetrics) -> tuple[str, ...]:
    """Return the mean IoU, and what it is over."""
    if masks.miou is None or masks.mean_dice is None:
        return ("undefined", "no defect is labelled")
    dice = f"mean Dice of the classes {masks.mean_dice:.4f}"
    return (f"{masks.miou:.4f}", "background and the classes in the set", dice)


def _miou_interval(evaluation: EvaluationResult) -> tuple[str, ...]:
    interval = evaluation.overlap_interval
    if interval is None:
        return ()
    return (f"95 %: {interval.miou_low:.4f} to {interval.miou_high:.4f}",)


def _interval_lines(rate: Rate) -> tuple[str, ...]:
    lines = (f"95 %: {format_interval(rate)}",)
    if rate.no_better_than is None:
        return lines
    return (
        *lines,
        f"no error seen: claim no better than {format_percent(rate.no_better_than)} (3/n)",
    )
