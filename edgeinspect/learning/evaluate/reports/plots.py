"""The plots of an evaluation report."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.metrics.calibration_curve import ReliabilityCurve
from edgeinspect.learning.evaluate.metrics.cost_threshold import CostThreshold
from edgeinspect.learning.evaluate.metrics.decisions import DecisionMetrics
from edgeinspect.learning.evaluate.metrics.detection_by_size import TARGET_RECALL, DetectionBySize
from edgeinspect.learning.evaluate.metrics.rates import Rate
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis
from edgeinspect.learning.reporting import AMBER, BLUE, FAINT, GREEN, RED, Axis, Plot


def format_percent(value: float | None) -> str:
    """Format a share: `3.1 %`; a dash for None."""
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def format_interval(rate: Rate) -> str:
    """Format a rate's interval: `1.2 to 7.6 %`."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %"


def counted_items(size: DetectionBySize) -> str:
    """Return what a `DetectionBySize` counts, as text."""
    return "images" if size.what == "pictures" else size.what


def roc_plot(roc: RocAnalysis, decisions: DecisionMetrics) -> Plot:
    """Plot recall over the false-reject rate, logarithmic, since lines run at low rates."""
    recall, over = decisions.recall, decisions.overkill
    lowest = 0.1 / max(1, over.total) if over.total > 1000 else 0.001
    plot = Plot(
        "ROC",
        Axis(
            "good images rejected (log; left edge: none)", lowest, 1.0, is_log=True, is_percent=True
        ),
        Axis("defective images rejected (recall)", 0, 1, is_percent=True),
    )
    plot.step(
        [(lowest, 0.0), *((p.false_reject_ratio, p.recall) for p in roc.curve)],
        BLUE,
        f"AUC {roc.auc:.4f} [{roc.auc_low:.4f}, {roc.auc_high:.4f}]",
    )
    plot.line(list(_chance_diagonal(lowest)), FAINT, "by chance", dashed=True)
    plot.errorbar(
        [
            (at.false_reject_rate, at.recall.value or 0.0, at.recall.low, at.recall.high)
            for at in roc.recall_at
        ],
        GREEN,
        "recall at 1 % and 5 % false rejects, 95 % interval",
        lambda k: (
            f"{format_percent(roc.recall_at[k].recall.value)} at "
            f"{format_percent(roc.recall_at[k].false_reject_rate)}"
        ),
    )
    plot.errorbar(
        [(over.value or lowest, recall.value or 0.0, recall.low, recall.high)],
        RED,
        "decisions with the thresholds in force",
    )
    return plot


def precision_recall_plot(roc: RocAnalysis, decisions: DecisionMetrics) -> Plot:
    """Plot precision over recall."""
    plot = Plot(
        "Precision and recall",
        Axis("recall", 0, 1, is_percent=True),
        Axis("precision (defective among rejected)", 0, 1, is_percent=True),
    )
    plot.line(
        [(p.recall, p.precision) for p in roc.curve],
        BLUE,
        f"average precision {roc.average_precision:.4f}",
    )
    recall, precision = decisions.recall, decisions.precision
    prevalence = recall.total / max(1, recall.total + decisions.overkill.total)
    plot.line([(0, prevalence), (1, prevalence)], FAINT, "by chance", dashed=True)
    if precision.value is not None:
        plot.errorbar(
            [(recall.value or 0.0, precision.value, precision.low, precision.high)],
            RED,
            "decisions with the thresholds in force",
        )
    return plot


def score_histogram_plot(roc: RocAnalysis, label: str, threshold: float | None) -> Plot:
    """Plot the scores of good and of defective images, each as shares of their kind."""
    bad = max(1, sum(each.defective for each in roc.histogram))
    good = max(1, sum(each.sound for each in roc.histogram))
    y = Axis("share of its kind (log)", 0.001, 1, is_log=True, is_percent=True)
    plot = Plot("Distribution", Axis(label, 0, 1), y)
    bins = [(each, (each.low + each.high) / 2) for each in roc.histogram]
    plot.bars([(b.low, middle, b.sound / good) for b, middle in bins], BLUE, f"good ({good})")
    plot.bars(
        [(middle, b.high, b.defective / bad) for b, middle in bins], RED, f"defective ({bad})"
    )
    if threshold is not None:
        plot.vline(threshold, AMBER, f"rejects at {threshold:g}")
    return plot


def detection_by_size_plot(size: DetectionBySize) -> Plot:
    """Plot recall over the defect's area."""
    low, high = size.bins[0].low_px, size.bins[-1].high_px
    what = "defect region" if size.what == "regions" else "all defects of an image"
    plot = Plot(
        f"Recall by area of {counted_items(size)}",
        Axis(f"area of {what}, frame px (log)", low, max(high, 2 * low), is_log=True),
        Axis("found", 0, 1, is_percent=True),
    )
    plot.line(list(size.curve), BLUE, "logistic fit (probability of detection)")
    plot.errorbar(
        [
            ((b.low_px * b.high_px) ** 0.5, b.recall.value or 0.0, b.recall.low, b.recall.high)
            for b in size.bins
        ],
        GREEN,
        "found in a range of areas, 95 % interval",
        lambda k: f"{size.bins[k].recall.hits} of {size.bins[k].recall.total}",
    )
    plot.line([(low, TARGET_RECALL), (high, TARGET_RECALL)], FAINT, dashed=True)
    if size.a90_px is not None:
        plot.vline(size.a90_px, AMBER, f"90 % found from {size.a90_px:.0f} px on (a90)")
    return plot


def reliability_plot(curve: ReliabilityCurve) -> Plot:
    """Plot the observed share of defective images over the predicted probability."""
    plot = Plot(
        "Reliability",
        Axis("mean probability given by the gate", 0, 1),
        Axis("share that is defective", 0, 1, is_percent=True),
    )
    plot.line([(0, 0), (1, 1)], FAINT, "perfect calibration", dashed=True)
    plot.errorbar(
        [
            (b.mean_prob, b.defective.value or 0.0, b.defective.low, b.defective.high)
            for b in curve.bins
        ],
        BLUE,
        f"images in ten bins, 95 % interval; ECE {curve.ece:.3f}",
        lambda k: f"{curve.bins[k].defective.hits} of {curve.bins[k].defective.total}",
    )
    return plot


def cost_plot(cost: CostThreshold) -> Plot:
    """Plot the expected cost over the share of good parts rejected."""
    now = cost.cost_now_per_1000
    top = max(cost.cost_per_1000 * 4, cost.cost_high, now or 0) * 1.1
    plot = Plot(
        "Cost",
        Axis(
            "good images rejected (log; left edge: none)", 0.001, 1.0, is_log=True, is_percent=True
        ),
        Axis("cost of 1000 parts", 0, top or 1),
    )
    plot.line(
        [(p.overkill_ratio, p.cost_per_1000) for p in cost.curve if p.cost_per_1000 <= top],
        BLUE,
        f"an escape {cost.escape_cost:g}, an overkill {cost.overkill_cost:g}",
    )
    plot.errorbar(
        [(cost.overkill.value or 0.001, cost.cost_per_1000, cost.cost_low, cost.cost_high)],
        GREEN,
        f"lowest: rejects at {cost.threshold:.4g}",
    )
    if now is not None:
        plot.line([(0.001, now), (1, now)], RED, "with the thresholds in force", dashed=True)
    return plot


def _chance_diagonal(lowest: float) -> Iterator[tuple[float, float]]:
    for step in range(41):
        x = lowest ** (1 - step / 40)
        yield x, x
