"""The HTML report of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from edgeinspect.domain import Decides
from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.rates import Rate
from edgeinspect.learning.evaluate.metrics.segmentation import SegmentationMetrics
from edgeinspect.learning.evaluate.reports import plots
from edgeinspect.learning.evaluate.reports.classification_section import classification_section
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.evaluate.worst_frames import FrameSnapshot, WorstFrames
from edgeinspect.learning.reporting import (
    display_width_px,
    html,
    overlay_class_map,
    to_display_size,
)

_MAX_SHOWN_SKIPPED = 10


def render_evaluation(evaluation: EvaluationResult, worst: WorstFrames) -> str:
    """Render an evaluation as one self-contained HTML document."""
    sections = (
        _head,
        _tiles,
        classification_section,
        _decisions,
        _roc,
        _detection_by_size,
        _segmentation,
        _reliability,
        _cost_threshold,
    )
    body = [
        *(part for section in sections for part in section(evaluation)),
        *_worst_frames(evaluation, worst),
        *_glossary(),
    ]
    return html.document(f"{evaluation.label} on {evaluation.data}", body)


def _head(evaluation: EvaluationResult) -> Iterator[str]:
    yield f"<h1>{escape(evaluation.label)}</h1>"
    yield html.paragraph(
        f"on {evaluation.data}: {evaluation.pictures} images, {evaluation.defective} defective, "
        f"{evaluation.sound} good{'' if evaluation.has_masks else '; labels only, no masks'}"
    )
    skipped = evaluation.skipped
    for name, why in list(skipped.items())[:_MAX_SHOWN_SKIPPED]:
        yield html.warning_note(f"{name} is left out: {why}")
    if len(skipped) > _MAX_SHOWN_SKIPPED:
        yield html.warning_note(f"{len(skipped)} images are left out in all; the JSON lists them")
    if evaluation.groups is not None:
        yield html.paragraph(f"Intervals are over {evaluation.groups} groups of images.")
    if evaluation.training_images:
        yield html.warning_note(
            f"{evaluation.training_images} of {evaluation.pictures} images are training images: "
            "the result does not hold for others"
        )
    for note in evaluation.notes:
        yield html.paragraph(note, faint=True)


def _tiles(evaluation: EvaluationResult) -> Iterator[str]:
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
        tiles.append(html.stat_tile(name, _format_a90(size), meaning, _a90_interval(size)))
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


def _decisions(evaluation: EvaluationResult) -> Iterator[str]:
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


def _roc(evaluation: EvaluationResult) -> Iterator[str]:
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


def _detection_by_size(evaluation: EvaluationResult) -> Iterator[str]:
    sizes = [size for size in (evaluation.regions, evaluation.by_picture) if size is not None]
    if not sizes:
        return
    yield "<h2>Recall against defect area</h2>"
    yield html.plot_grid(plots.detection_by_size_plot(size) for size in sizes)
    for size in sizes:
        yield html.paragraph(f"{plots.counted_items(size)}: {_describe_a90(size)}.")


def _describe_a90(size: DetectionBySize) -> str:
    if size.a90_px is None:
        return "the fitted curve reaches 90 % at no area of this set"
    return f"90 % found from {_format_a90(size)} on ({_a90_interval(size)})"


def _segmentation(evaluation: EvaluationResult) -> Iterator[str]:
    masks = evaluation.overlap
    if masks is None:
        return
    yield "<h2>Masks</h2>"
    yield '<div class="card">'
    yield html.table(
        ("class", "IoU", "Dice", "pixel precision", "pixel recall", "images with it"),
        [
            (
                row.name,
                _format_4(row.iou),
                _format_4(row.dice),
                format_percent(row.precision),
                format_percent(row.recall),
                str(row.pictures),
            )
            for row in masks.classes
        ],
        caption="Over the pixels of all images together, at frame size",
    )
    severstal = masks.severstal
    yield html.paragraph(
        "By Severstal's convention (mean over every image and class, 1 where both are empty): "
        f"Dice {severstal.dice:.4f}. A prediction without any defect scores "
        f"{severstal.dice_of_empty:.4f} here, so the lift is {severstal.lift:+.4f}; where a "
        f"class is present the mean Dice is {_format_4(severstal.dice_where_present)}."
    )
    yield "<h3>Confusion of pixels</h3>"
    yield html.confusion_table(["background", *evaluation.classes], masks.confusion)
    yield "</div>"


def _reliability(evaluation: EvaluationResult) -> Iterator[str]:
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


def _cost_threshold(evaluation: EvaluationResult) -> Iterator[str]:
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


def _worst_frames(evaluation: EvaluationResult, worst: WorstFrames) -> Iterator[str]:
    if evaluation.decisions is None:
        return
    yield "<h2>Worst images</h2>"
    yield html.legend_paragraph(evaluation.classes)
    yield html.paragraph(
        "Contrast is raised for display; the models see the images as they are.", faint=True
    )
    for category, title, if_empty in (
        (
            "escapes",
            "Escapes: defective, passed",
            "No defective image passed." if evaluation.defective else "",
        ),
        (
            "overkills",
            "Overkills: good, rejected",
            "No good image was rejected." if evaluation.sound else "",
        ),
        ("overlap", "Lowest Dice", ""),
    ):
        snapshots = worst.top(category)
        if snapshots:
            yield f"<h3>{title}</h3>"
            yield from map(_image_row, snapshots)
        elif if_empty:
            yield html.paragraph(if_empty)


def _image_row(snapshot: FrameSnapshot) -> str:
    width = display_width_px(*snapshot.image.shape[:2])
    images = [("image", to_display_size(snapshot.image, width))]
    for label, mask in (("label", snapshot.label_mask), ("predicted", snapshot.predicted_mask)):
        if mask is not None:
            images.append((label, overlay_class_map(snapshot.image, mask, width)))
    return html.image_row(snapshot.result.name, images, _frame_caption(snapshot.result))


def _frame_caption(result: FrameResult) -> str:
    parts = [result.reason.replace("_", " ")]
    if result.prob is not None:
        parts.append(f"gate {result.prob:.4f}")
    if result.unknown_prob is not None:
        parts.append(f"good-parts model {result.unknown_prob:.4f}")
    if result.dice is not None:
        parts.append(f"Dice {result.dice:.3f}")
    if result.defect_px:
        parts.append(f"{result.defect_px} px of defect")
    return ", ".join(parts)


def _format_4(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _glossary() -> Iterator[str]:
    yield "<h2>Terms</h2>"
    for text in (
        "Escape rate: defective images that pass, of all defective ones. Overkill rate: good "
        "images that are rejected, of all good ones. Intervals of rates are Wilson's, 95 %; "
        "with no error seen in n images, claim no better than 3/n. Over groups, n is the effective "
        "number of images (Korn and Graubard), and the AUC's interval is Obuchowski's.",
        "AUC: probability that a defective image ranks above a good one; interval after DeLong, "
        "with fewer than 30 good or defective images after Newcombe. "
        "Average precision: mean precision at each defective image found; its interval is from a "
        "bootstrap over the images. No interval of an area or an overlap is narrower than that of "
        "as many images without an error.",
        "Balanced accuracy: mean of the classes' recalls; interval from draws of each recall's "
        "posterior (Jeffreys' prior).",
        "Found by area: a region counts as found if a predicted region that causes a rejection "
        "touches it; an image counts as found if it is rejected. a90 is where the logistic fit "
        "in the logarithm of the area reaches 90 % (as in MIL-HDBK-1823A), with a bootstrap over "
        "images.",
        "Decisions are made by the line's own code with the thresholds shown above.",
    ):
        yield html.paragraph(text, faint=True)
