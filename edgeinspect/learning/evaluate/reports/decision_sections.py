"""The parts of an evaluation report about decisions: as made, at other thresholds, and by cost."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.domain import Decides
from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.reports import plots
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.reporting import html


def decisions_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield the decisions made; nothing for a gate that tells kinds alone."""
    counts = evaluation.decisions
    if counts is None:
        return
    yield "<h2>Decisions with the thresholds in force</h2>"
    yield '<div class="card cols">'
    yield html.table(
        ("", "rejected", "passed", "of them"),
        (
            (
                "defective",
                str(counts.defective_rejected),
                f"{counts.defective_passed} (escapes)",
                str(evaluation.defective),
            ),
            (
                "good",
                f"{counts.sound_rejected} (overkills)",
                str(counts.sound_passed),
                str(evaluation.sound),
            ),
        ),
        caption="Images",
    )
    rows = [
        (name, format_percent(rate.value), format_interval(rate), f"{rate.hits} of {rate.total}")
        for name, rate in (
            ("accuracy", counts.accuracy),
            ("precision", counts.precision),
            ("recall", counts.recall),
            ("escape rate", counts.escape),
            ("overkill rate", counts.overkill),
        )
        if rate.total
    ]
    if counts.f1 is not None:
        rows.append(("F1", f"{counts.f1:.4f}", "", ""))
    yield html.table(("metric", "value", "95 % interval", "counted"), rows, caption="Metrics")
    yield html.table(
        ("reason of the verdict", "images"),
        [(name, str(count)) for name, count in counts.reasons.items()],
        caption="Reasons",
    )
    yield html.table(
        ("threshold", "value"), _threshold_rows(evaluation), caption="Thresholds in force"
    )
    yield "</div>"


def _threshold_rows(evaluation: EvaluationResult) -> list[tuple[str, str]]:
    gate = evaluation.thresholds.get("gate", {})
    rows = [(f"gate, {key}", f"{value:g}") for key, value in gate.items()]
    for key, value in evaluation.thresholds.get("unknown", {}).items():
        rows.append((f"good-parts model, {key}", f"{value:g}"))
    for name, limits in evaluation.thresholds.get("classes", {}).items():
        text = f"score ≥ {limits['score']:g} and area ≥ {limits['area_px']:g} px"
        found = (evaluation.searched_limits or {}).get(name)
        if found:
            text += f"   (best on these images: {found['score']:g} and {found['area_px']:g} px)"
        rows.append((name, text))
    return rows


def roc_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield what other thresholds would give; a note where all images are good, or defective."""
    roc = evaluation.ranking
    if roc is None or evaluation.decisions is None:
        if evaluation.decides is Decides.DEFECTS:
            yield html.warning_note(
                "ROC, precision-recall and overkill rate need both good and defective images."
            )
        return
    yield "<h2>ROC: results of other thresholds</h2>"
    yield html.paragraph(f"Ranked by {evaluation.ranked_by}.", faint=True)
    gate = evaluation.thresholds.get("gate")
    rows = [
        (
            format_percent(at.false_reject_rate),
            format_percent(at.recall.value),
            format_interval(at.recall),
            f"{at.recall.hits} of {at.recall.total}",
            f"{at.threshold:.5f}",
        )
        for at in roc.recall_at
    ]
    text = html.table(
        ("false rejects", "recall", "95 % interval", "found", "rejects above"),
        rows,
        caption="Recall at a fixed share of false rejects",
    )
    figures = (
        plots.roc_plot(roc, evaluation.decisions),
        plots.precision_recall_plot(roc, evaluation.decisions),
        plots.score_histogram_plot(roc, evaluation.ranked_by, gate["reject_at"] if gate else None),
    )
    yield html.plot_grid(figures, text)


def reliability_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield how well a gate's probability is calibrated; nothing without a gate."""
    curve = evaluation.reliability
    if curve is None:
        return
    yield "<h2>Calibration of the gate's probability</h2>"
    text = html.paragraph(
        f"Expected calibration error {curve.ece:.4f}, Brier score {curve.brier:.4f}. Platt "
        f"scaling: logit × {curve.platt.slope:.3f} {curve.platt.offset:+.3f}; on images it was "
        f"not fitted on, the error is then {curve.ece_after_platt:.4f}. Valid at this set's "
        f"share of defective images ({format_percent(evaluation.defective / evaluation.pictures)})."
    )
    yield html.plot_grid((plots.reliability_plot(curve),), text)


def cost_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield the threshold of least cost; nothing where no costs were given."""
    cost = evaluation.costs
    if cost is None:
        return
    yield "<h2>Threshold by cost</h2>"
    if cost.warning:
        yield html.warning_note(cost.warning)
    text = html.paragraph(
        f"With {format_percent(cost.prevalence_ratio)} defective parts, an escape at "
        f"{cost.escape_cost:g} and an overkill at {cost.overkill_cost:g}, rejecting at "
        f"{cost.threshold:.5f} costs {cost.cost_per_1000:.0f} per 1000 parts "
        f"({cost.cost_low:.0f} to {cost.cost_high:.0f}): {format_percent(cost.escape.value)} "
        f"escapes, {format_percent(cost.overkill.value)} overkills. Resamplings of these images "
        f"choose thresholds from {cost.threshold_low:.5f} to {cost.threshold_high:.5f}. Chosen "
        "on these images: verify it on others."
    )
    yield html.plot_grid((plots.cost_plot(cost),), text)
