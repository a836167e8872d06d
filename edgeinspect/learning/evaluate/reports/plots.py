"""The plots of a report, from the figures of a scorecard."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.metrics.calibration_curve import ReliabilityCurve
from edgeinspect.learning.evaluate.metrics.cost_threshold import CostThreshold
from edgeinspect.learning.evaluate.metrics.detection_by_size import TARGET_RECALL, DetectionBySize
from edgeinspect.learning.evaluate.metrics.rates import DecisionMetrics, Rate
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis
from edgeinspect.learning.reporting import AMBER, BLUE, FAINT, GREEN, RED, Axis, Plot


def format_percent(value: float | None) -> str:
    """A share for a person: `3.1 %`."""
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def format_interval(rate: Rate) -> str:
    """A rate's interval: `1.2 to 7.6 %`."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f} %"


def roc_plot(ranking: RocAnalysis, decisions: DecisionMetrics) -> Plot:
    """Recall over the false-reject rate; the left of it, where lines run, drawn out."""
    least = 0.1 / max(1, decisions.overkill.total) if decisions.overkill.total > 1000 else 0.001
    x = Axis(
        "sound pictures rejected (log; left edge: none)", least, 1.0, is_log=True, is_percent=True
    )
    plot = Plot("ROC", x, Axis("defective pictures rejected (recall)", 0, 1, is_percent=True))
    plot.step(
        [(least, 0.0), *((p.false_reject_ratio, p.recall) for p in ranking.curve)],
        BLUE,
        f"AUC {ranking.auc:.4f} [{ranking.auc_low:.4f}, {ranking.auc_high:.4f}]",
    )
    plot.line(list(_chance_diagonal(least)), FAINT, "by chance", dashed=True)
    plot.errorbar(
        [
            (each.false_reject_rate, each.recall.value or 0.0, each.recall.low, each.recall.high)
            for each in ranking.recall_at
        ],
        GREEN,
        "recall at 1 % and 5 % false rejects, 95 % interval",
        lambda k: (
            f"{format_percent(ranking.recall_at[k].recall.value)} at "
            f"{format_percent(ranking.recall_at[k].false_reject_rate)}"
        ),
    )
    recall, over = decisions.recall, decisions.overkill
    plot.errorbar(
        [(over.value or least, recall.value or 0.0, recall.low, recall.high)],
        RED,
        "decisions with the thresholds in force",
    )
    return plot


def precision_recall_plot(ranking: RocAnalysis, decisions: DecisionMetrics) -> Plot:
    """Precision over recall."""
    plot = Plot(
        "Precision and recall",
        Axis("recall", 0, 1, is_percent=True),
        Axis("precision (defective among rejected)", 0, 1, is_percent=True),
    )
    plot.line(
        [(p.recall, p.precision) for p in ranking.curve],
        BLUE,
        f"average precision {ranking.average_precision:.4f}",
    )
    share = decisions.recall.total / max(1, decisions.recall.total + decisions.overkill.total)
    plot.line([(0, share), (1, share)], FAINT, "by chance", dashed=True)
    if decisions.precision.value is not None:
        rate = decisions.precision
        plot.errorbar(
            [(decisions.recall.value or 0.0, rate.value or 0.0, rate.low, rate.high)],
            RED,
            "decisions with the thresholds in force",
        )
    return plot


def score_histogram_plot(ranking: RocAnalysis, label: str, threshold: float | None) -> Plot:
    """How far apart sound and defective pictures lie, each kind as shares of its own."""
    bad = max(1, sum(each.defective for each in ranking.histogram))
    good = max(1, sum(each.sound for each in ranking.histogram))
    y = Axis("share of its kind (log)", 0.001, 1, is_log=True, is_percent=True)
    plot = Plot("Distribution", Axis(label, 0, 1), y)
    half = [(each.low + each.high) / 2 for each in ranking.histogram]
    rows = list(zip(ranking.histogram, half, strict=True))
    plot.bars([(b.low, m, b.sound / good) for b, m in rows], BLUE, f"sound ({good})")
    plot.bars([(m, b.high, b.defective / bad) for b, m in rows], RED, f"defective ({bad})")
    if threshold is not None:
        plot.vline(threshold, AMBER, f"rejects at {threshold:g}")
    return plot


def detection_by_size_plot(found: DetectionBySize) -> Plot:
    """Recall over the defect's area."""
    low, high = found.bins[0].low_px, found.bins[-1].high_px
    what = "defect region" if found.what == "regions" else "all defects of a picture"
    plot = Plot(
        f"Recall by area of {found.what}",
        Axis(f"area of {what}, frame px (log)", low, max(high, 2 * low), is_log=True),
        Axis("found", 0, 1, is_percent=True),
    )
    plot.line(list(found.curve), BLUE, "logistic fit (probability of detection)")
    plot.errorbar(
        [
            ((b.low_px * b.high_px) ** 0.5, b.recall.value or 0.0, b.recall.low, b.recall.high)
            for b in found.bins
        ],
        GREEN,
        "found in a range of areas, 95 % interval",
        lambda k: f"{found.bins[k].recall.hits} of {found.bins[k].recall.total}",
    )
    plot.line([(low, TARGET_RECALL), (high, TARGET_RECALL)], FAINT, dashed=True)
    if found.a90_px is not None:
        plot.vline(found.a90_px, AMBER, f"90 % found from {found.a90_px:.0f} px on (a90)")
    return plot


def reliability_plot(found: ReliabilityCurve) -> Plot:
    """What came true over what was said."""
    plot = Plot(
        "Reliability",
        Axis("mean probability given by the gate", 0, 1),
        Axis("share that is defective", 0, 1, is_percent=True),
    )
    plot.line([(0, 0), (1, 1)], FAINT, "as it should be", dashed=True)
    plot.errorbar(
        [
            (b.mean_prob, b.defective.value or 0.0, b.defective.low, b.defective.high)
            for b in found.bins
        ],
        BLUE,
        f"pictures in tenths, 95 % interval; ECE {found.ece:.3f}",
        lambda k: f"{found.bins[k].defective.hits} of {found.bins[k].defective.total}",
    )
    return plot


def cost_plot(choice: CostThreshold) -> Plot:
    """Expected cost over the share of sound parts thrown away."""
    top = max(choice.cost_per_1000 * 4, choice.cost_high, choice.cost_now_per_1000 or 0) * 1.1
    plot = Plot(
        "Cost",
        Axis(
            "sound pictures rejected (log; left edge: none)",
            0.001,
            1.0,
            is_log=True,
            is_percent=True,
        ),
        Axis("cost of 1000 parts", 0, top or 1),
    )
    plot.line(
        [(p.overkill_ratio, p.cost_per_1000) for p in choice.curve if p.cost_per_1000 <= top],
        BLUE,
        f"an escape {choice.escape_cost:g}, an overkill {choice.overkill_cost:g}",
    )
    plot.errorbar(
        [(choice.overkill.value or 0.001, choice.cost_per_1000, choice.cost_low, choice.cost_high)],
        GREEN,
        f"least: rejects at {choice.threshold:.4g}",
    )
    if choice.cost_now_per_1000 is not None:
        now = choice.cost_now_per_1000
        plot.line([(0.001, now), (1, now)], RED, "with the thresholds in force", dashed=True)
    return plot


def _chance_diagonal(least: float) -> Iterator[tuple[float, float]]:
    for step in range(41):
        x = least ** (1 - step / 40)
        yield x, x
