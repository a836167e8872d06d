"""The page of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape as quote

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize
from edgeinspect.learning.evaluate.metrics.rates import Rate
from edgeinspect.learning.evaluate.reports import plots
from edgeinspect.learning.evaluate.reports.image_row import image_row
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.evaluate.worst_frames import FrameSnapshot, WorstFrames
from edgeinspect.learning.reporting import html

_MAX_SHOWN_SKIPPED = 10


def render_evaluation(evaluation: EvaluationResult, worst: WorstFrames) -> str:
    """A scorecard as one self-contained HTML document."""
    body = [
        *_head(evaluation),
        *_tiles(evaluation),
        *_decisions(evaluation),
        *_roc(evaluation),
        *_detection_by_size(evaluation),
        *_segmentation(evaluation),
        *_reliability(evaluation),
        *_cost_threshold(evaluation),
        *_worst_frames(evaluation, worst),
        *_glossary(),
    ]
    return html.document(f"{evaluation.label} on {evaluation.data}", body)


def _head(card: EvaluationResult) -> Iterator[str]:
    yield f"<h1>{quote(card.label)}</h1>"
    yield html.paragraph(
        f"on {card.data}: {card.pictures} pictures, {card.defective} defective, "
        f"{card.sound} sound{'' if card.has_masks else '; labels only, no masks'}"
    )
    for name, why in list(card.skipped.items())[:_MAX_SHOWN_SKIPPED]:
        yield html.warning_note(f"{name} is left out: {why}")
    if len(card.skipped) > _MAX_SHOWN_SKIPPED:
        yield html.warning_note(
            f"{len(card.skipped)} pictures are left out in all; the JSON lists them"
        )
    for each in card.notes:
        yield html.paragraph(each, faint=True)


def _tiles(card: EvaluationResult) -> Iterator[str]:
    tiles = []
    escape, overkill = card.decisions.escape, card.decisions.overkill
    if escape.total:
        said = f"{escape.hits} of {escape.total} defective passed"
        tiles.append(
            html.stat_tile(
                "escape rate",
                format_percent(escape.value),
                said,
                *_interval_lines(escape),
                kind="bad",
            )
        )
    if overkill.total:
        said = f"{overkill.hits} of {overkill.total} sound rejected"
        tiles.append(
            html.stat_tile(
                "overkill rate",
                format_percent(overkill.value),
                said,
                *_interval_lines(overkill),
                kind="warn",
            )
        )
    if card.ranking is not None:
        at = card.ranking.recall_at[0]
        tiles.append(
            html.stat_tile(
                f"recall at {format_percent(at.false_reject_rate)} false rejects",
                format_percent(at.recall.value),
                f"{at.recall.hits} of {at.recall.total}",
                f"95 %: {format_interval(at.recall)}",
                kind="good",
            )
        )
        tiles.append(
            html.stat_tile(
                "AUC",
                f"{card.ranking.auc:.4f}",
                card.ranked_by,
                f"95 %: {card.ranking.auc_low:.4f} to {card.ranking.auc_high:.4f}",
            )
        )
    if card.overlap is not None:
        tiles.append(
            html.stat_tile(
                "mean IoU",
                f"{card.overlap.miou:.4f}",
                "background and all classes",
                f"mean Dice of the classes {card.overlap.mean_dice:.4f}",
            )
        )
    size = card.regions or card.by_picture
    if size is not None:
        said = "90 % found from here on" if size.a90_px is not None else ""
        name = "smallest defect found reliably"
        tiles.append(html.stat_tile(name, _format_a90(size), said, _a90_interval(size)))
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _interval_lines(rate: Rate) -> tuple[str, ...]:
    lines = (f"95 %: {format_interval(rate)}",)
    if rate.no_better_than is None:
        return lines
    return (*lines, f"none seen: claim no better than {format_percent(rate.no_better_than)} (3/n)")


def _format_a90(size: DetectionBySize) -> str:
    if size.a90_px is None:
        return "none"
    return f"{'≤ ' if size.below_all else ''}{size.a90_px:.0f} px"


def _a90_interval(size: DetectionBySize) -> str:
    if size.a90_px is None:
        return "the fitted curve never reaches 90 %"
    if size.below_all:
        return "even the smallest of this set"
    high = "beyond this set" if size.a90_high_px is None else f"{size.a90_high_px:.0f} px"
    return f"95 %: {size.a90_low_px:.0f} to {high}"


def _decisions(card: EvaluationResult) -> Iterator[str]:
    found = card.decisions
    yield "<h2>Decisions with the thresholds in force</h2>"
    yield '<div class="card cols">'
    yield html.table(
        ("", "rejected", "passed", "of them"),
        (
            (
                "defective",
                str(found.defective_rejected),
                f"{found.defective_passed} (escapes)",
                str(card.defective),
            ),
            (
                "sound",
                f"{found.sound_rejected} (overkills)",
                str(found.sound_passed),
                str(card.sound),
            ),
        ),
        caption="Pictures",
    )
    rows = []
    for name, rate in (
        ("accuracy", found.accuracy),
        ("precision", found.precision),
        ("recall", found.recall),
        ("escape rate", found.escape),
        ("overkill rate", found.overkill),
    ):
        if rate.total:
            rows.append(
                (
                    name,
                    format_percent(rate.value),
                    format_interval(rate),
                    f"{rate.hits} of {rate.total}",
                )
            )
    if found.f1 is not None:
        rows.append(("F1", f"{found.f1:.4f}", "", ""))
    yield html.table(("figure", "value", "95 % interval", "counted"), rows, caption="Figures")
    yield html.table(
        ("reason of the verdict", "pictures"),
        [(name, str(count)) for name, count in found.reasons.items()],
        caption="Reasons",
    )
    yield html.table(("threshold", "value"), _threshold_rows(card), caption="Thresholds in force")
    yield "</div>"


def _threshold_rows(card: EvaluationResult) -> list[tuple[str, str]]:
    rows = [
        (f"gate, {key}", f"{value:g}") for key, value in card.thresholds.get("gate", {}).items()
    ]
    for name, limits in card.thresholds.get("classes", {}).items():
        text = f"score ≥ {limits['score']:g} and area ≥ {limits['area_px']:g} px"
        if card.searched_limits and name in card.searched_limits:
            other = card.searched_limits[name]
            text += (
                f"   (searched on these pictures: {other['score']:g} and {other['area_px']:g} px)"
            )
        rows.append((name, text))
    return rows


def _roc(card: EvaluationResult) -> Iterator[str]:
    if card.ranking is None:
        yield html.warning_note(
            "Only one kind of pictures is there: no ROC, no precision and recall, "
            "no overkill rate can be had from them."
        )
        return
    yield "<h2>Ranking: what another threshold would give</h2>"
    yield html.paragraph(f"Drawn over {card.ranked_by}.", faint=True)
    gate = card.thresholds.get("gate")
    rows = [
        (
            format_percent(each.false_reject_rate),
            format_percent(each.recall.value),
            format_interval(each.recall),
            f"{each.recall.hits} of {each.recall.total}",
            f"{each.threshold:.5f}",
        )
        for each in card.ranking.recall_at
    ]
    text = html.table(
        ("false rejects", "recall", "95 % interval", "found", "rejects above"),
        rows,
        caption="Recall at a fixed share of false rejects",
    )
    drawn = (
        plots.roc_plot(card.ranking, card.decisions),
        plots.precision_recall_plot(card.ranking, card.decisions),
        plots.score_histogram_plot(
            card.ranking, card.ranked_by, gate["reject_at"] if gate else None
        ),
    )
    yield html.plot_grid(drawn, text)


def _detection_by_size(card: EvaluationResult) -> Iterator[str]:
    found = [each for each in (card.regions, card.by_picture) if each is not None]
    if not found:
        return
    yield "<h2>Recall against defect area</h2>"
    yield html.plot_grid(plots.detection_by_size_plot(each) for each in found)
    for each in found:
        yield html.paragraph(f"{each.what}: {_describe_a90(each)}.")


def _describe_a90(size: DetectionBySize) -> str:
    if size.a90_px is None:
        return "the fitted curve reaches 90 % at no area of this set"
    return f"90 % found from {_format_a90(size)} on ({_a90_interval(size)})"


def _segmentation(card: EvaluationResult) -> Iterator[str]:
    if card.overlap is None:
        return
    yield "<h2>Masks</h2>"
    yield '<div class="card">'
    yield html.table(
        ("class", "IoU", "Dice", "pixel precision", "pixel recall", "pictures with it"),
        [
            (
                row.name,
                _format_4(row.iou),
                _format_4(row.dice),
                format_percent(row.precision),
                format_percent(row.recall),
                str(row.pictures),
            )
            for row in card.overlap.classes
        ],
        caption="Over the pixels of all pictures together, at frame size",
    )
    each = card.overlap.severstal
    yield html.paragraph(
        f"By Severstal's convention (mean over every picture and class, 1 where both are empty): "
        f"Dice {each.dice:.4f}. An answer without any defect scores {each.dice_of_empty:.4f} "
        f"here, so the lift is {each.lift:+.4f}; where a class is present the mean Dice is "
        f"{_format_4(each.dice_where_present)}."
    )
    yield "<h3>Which pixels are taken for which</h3>"
    yield html.confusion_table(["background", *card.classes], card.overlap.confusion)
    yield "</div>"


def _reliability(card: EvaluationResult) -> Iterator[str]:
    if card.reliability is None:
        return
    found = card.reliability
    yield "<h2>Calibration of the gate's probability</h2>"
    text = html.paragraph(
        f"Expected calibration error {found.ece:.4f}, Brier score {found.brier:.4f}. Platt's "
        f"correction: logit × {found.platt.slope:.3f} {found.platt.offset:+.3f}; on pictures it "
        f"was not fitted on, the error is then {found.ece_after_platt:.4f}. Valid at this set's "
        f"share of defective pictures ({format_percent(card.defective / card.pictures)})."
    )
    yield html.plot_grid((plots.reliability_plot(found),), text)


def _cost_threshold(card: EvaluationResult) -> Iterator[str]:
    if card.costs is None:
        return
    found = card.costs
    yield "<h2>Threshold by cost</h2>"
    if found.warning:
        yield html.warning_note(found.warning)
    text = html.paragraph(
        f"With {format_percent(found.prevalence_ratio)} defective parts, an escape at "
        f"{found.escape_cost:g} and an overkill at {found.overkill_cost:g}, rejecting at "
        f"{found.threshold:.5f} costs {found.cost_per_1000:.0f} per 1000 parts "
        f"({found.cost_low:.0f} to {found.cost_high:.0f}): "
        f"{format_percent(found.escape.value)} escapes, "
        f"{format_percent(found.overkill.value)} overkills. Resamplings of these pictures choose "
        f"thresholds from {found.threshold_low:.5f} to {found.threshold_high:.5f}. Chosen on "
        "these pictures: prove it on others."
    )
    yield html.plot_grid((plots.cost_plot(found),), text)


def _worst_frames(card: EvaluationResult, worst: WorstFrames) -> Iterator[str]:
    yield "<h2>The worst pictures</h2>"
    yield html.legend_paragraph(card.classes)
    yield html.paragraph(
        "Contrast is spread for the eye; the models see the pictures as they are.", faint=True
    )
    for sort, title, empty in (
        (
            "escapes",
            "Escapes: defective, passed",
            "No defective picture passed." if card.defective else "",
        ),
        (
            "overkills",
            "Overkills: sound, rejected",
            "No sound picture was rejected." if card.sound else "",
        ),
        ("overlap", "Lowest Dice", ""),
    ):
        kept = worst.top(sort)
        if kept:
            yield f"<h3>{title}</h3>"
            yield from (image_row(each, _frame_caption(each)) for each in kept)
        elif empty:
            yield html.paragraph(empty)


def _frame_caption(kept: FrameSnapshot) -> str:
    answer = kept.result
    parts = [answer.reason.replace("_", " ")]
    if answer.prob is not None:
        parts.append(f"gate {answer.prob:.4f}")
    if answer.dice is not None:
        parts.append(f"Dice {answer.dice:.3f}")
    if answer.defect_px:
        parts.append(f"{answer.defect_px} px of defect")
    return ", ".join(parts)


def _format_4(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _glossary() -> Iterator[str]:
    yield "<h2>Terms</h2>"
    for text in (
        "Escape rate: defective pictures that pass, of all defective ones. Overkill rate: sound "
        "pictures that are rejected, of all sound ones. Intervals of rates are Wilson's, 95 %; "
        "with no error seen in n pictures, claim no better than 3/n.",
        "AUC: chance that a defective picture ranks above a sound one; interval after DeLong.",
        "Found by area: a region counts as found if a found region that rejects by itself "
        "touches it; a picture counts as found if it is rejected. a90 is where the logistic fit "
        "in the logarithm of the area reaches 90 % (as in MIL-HDBK-1823A), with a bootstrap over "
        "pictures.",
        "Decisions are made by the line's own code with the thresholds shown above.",
    ):
        yield html.paragraph(text, faint=True)
