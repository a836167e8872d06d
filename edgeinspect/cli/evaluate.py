"""`edgeinspect evaluate MODEL --data DATASET`: metrics of a model with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgeinspect.cli import _evaluation_options
from edgeinspect.cli._command import Command
from edgeinspect.cli._group_options import GROUPS, group_rule
from edgeinspect.cli._json_output import JSON_FILE, json_option, print_result
from edgeinspect.cli._kinds_tables import confusion_table, kinds_table
from edgeinspect.cli._options import BOXES, GOOD_CLASS, LAYOUT, SEED, STORE
from edgeinspect.cli._paths import MODEL, NESTED_OUTPUT_FILE
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import FiniteRange
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    number,
    print_table,
    print_text,
    skipped_image_lines,
)
from edgeinspect.errors import UsageError

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import EvaluationResult, FrameResult


@click.command(
    cls=Command,
    examples=[
        (
            "Measure a model on the test split of a data set",
            "edgeinspect evaluate strip-gate --data castings",
        ),
        (
            "Measure what a line's models and thresholds decide",
            "edgeinspect evaluate --line line.yaml --data castings --report report.html",
        ),
    ],
    renamed=_evaluation_options.RENAMED,
)
@click.argument("model", required=False, type=MODEL)
@_evaluation_options.DATA
@_evaluation_options.SPLIT
@_evaluation_options.FILE_OF_SPLITS
@_evaluation_options.ON_TRAINING_IMAGES
@GROUPS
@_evaluation_options.GATE
@_evaluation_options.line_option("Use the thresholds, and without MODEL the models, of a line.")
@_evaluation_options.BACKEND
@STORE
@_evaluation_options.REPORT
@click.option(
    "--per-image",
    "per_image",
    type=NESTED_OUTPUT_FILE,
    metavar="FILE.csv",
    help="Write a table of every image: truth, scores, verdict.",
)
@JSON_FILE
@QUIET
@json_option("edgeinspect.learning.evaluate:EvaluationResult")
@click.option(
    "--cost-escape",
    type=FiniteRange(0, min_open=True),
    metavar="N",
    help="Cost of a defective part that passes.",
)
@click.option(
    "--cost-overkill",
    type=FiniteRange(0, min_open=True),
    metavar="M",
    help="Cost of a good part that is rejected, in the same unit.",
)
@click.option(
    "--prevalence",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Ratio of defective parts on the line; that of the set by default.",
)
@LAYOUT
@GOOD_CLASS
@BOXES
@SEED
def evaluate(
    model: str | None,
    data: str,
    split: str,
    split_file: Path | None,
    on_training_images: bool,
    group_pattern: str | None,
    group_folder: bool,
    group_gap: float | None,
    gate: str | None,
    config: Path | None,
    backend: str | None,
    store: Path | None,
    report: Path | None,
    per_image: Path | None,
    json_path: Path | None,
    as_json: bool,
    cost_escape: float | None,
    cost_overkill: float | None,
    prevalence: float | None,
    layout: str | None,
    good_classes: tuple[str, ...],
    draws_boxes: bool,
    seed: int,
) -> None:
    """Inspect the images of a data set as the line would, and report metrics.

    MODEL is a model of the store (NAME or NAME/VERSION), its folder, an ONNX file under the
    model contract, a training run's folder, or a run's checkpoint.pt. A name in the store that
    --store names goes before a folder of that name. Decisions are made by
    the line's code, with the thresholds of the manifest or of --line.
    """
    from edgeinspect.learning.evaluate import ErrorCosts, open_image_source, training_knowledge
    from edgeinspect.learning.evaluate import evaluate as run

    if (cost_escape is None) != (cost_overkill is None):
        raise UsageError("--cost-escape and --cost-overkill go together")
    costs = (
        ErrorCosts(cost_escape, cost_overkill, prevalence)
        if cost_escape and cost_overkill
        else None
    )
    frames: list[FrameResult] = []
    inspector = _evaluation_options.load_inspector(model, gate, config, backend, store)
    try:
        source = open_image_source(
            data,
            inspector.spec,
            split=split,
            split_file=split_file,
            training=training_knowledge(inspector.specs),
            on_training_images=on_training_images,
            groups=group_rule(group_pattern, group_folder, group_gap),
            classes=inspector.classes,
            good_classes=good_classes,
            draws_boxes=draws_boxes,
            layout=layout,
        )
        with progress_bar("inspecting", source.image_count) as done:
            result, worst = run(
                inspector,
                source,
                costs=costs,
                seed=seed,
                progress=done,
                on_result=frames.append if per_image is not None else lambda frame: None,
            )
    finally:
        inspector.close()
    if report is not None:
        from edgeinspect.learning.evaluate import render_evaluation

        _evaluation_options.write_text(report, render_evaluation(result, worst))
    if per_image is not None:
        from edgeinspect.learning.evaluate import per_image_csv

        _evaluation_options.write_text(per_image, per_image_csv(inspector, frames))
    print_result(result, as_json, _print_evaluation, path=json_path)


def _print_evaluation(result: EvaluationResult) -> None:
    """Print the main metrics."""
    from edgeinspect.learning.evaluate import format_interval, format_percent

    title = f"{result.label} on {result.data}: {result.defective} defective, {result.sound} good"
    table = TextTable(
        Column("metric", fixed=True),
        number("value"),
        "95 % interval",
        Column("counted", fixed=True),
        title=title,
    )
    counts = result.decisions
    rates = counts and (
        ("escape rate", counts.escape),
        ("overkill rate", counts.overkill),
        ("accuracy", counts.accuracy),
        ("precision", counts.precision),
    )
    for name, rate in rates or ():
        if rate.total:
            extra = (
                f", no better than {format_percent(rate.no_better_than)}"
                if rate.no_better_than
                else ""
            )
            table.add_row(
                name,
                format_percent(rate.value),
                format_interval(rate) + extra,
                f"{rate.hits} of {rate.total}",
            )
    if result.ranking is not None:
        for at in result.ranking.recall_at:
            name = f"recall at {format_percent(at.false_reject_rate)} false rejects"
            table.add_row(
                name,
                format_percent(at.recall.value),
                format_interval(at.recall),
                f"{at.recall.hits} of {at.recall.total}",
            )
        auc = result.ranking
        table.add_row("AUC", f"{auc.auc:.4f}", f"{auc.auc_low:.4f} to {auc.auc_high:.4f}", "")
        table.add_row(
            "average precision",
            f"{auc.average_precision:.4f}",
            f"{auc.average_precision_low:.4f} to {auc.average_precision_high:.4f}",
            "",
        )
    if result.pixels is not None:
        pixels = result.pixels
        table.add_row("pixel AUC", f"{pixels.auc:.4f}", "", f"{pixels.defect_px} defect pixels")
        table.add_row(
            "overlap of regions (PRO)",
            f"{pixels.region_overlap:.4f}",
            "",
            f"{pixels.regions} regions",
        )
    if result.overlap is not None:
        for row in result.overlap.classes:
            if row.iou is not None:
                table.add_row(
                    f"IoU, Dice of {row.name}",
                    f"{row.iou:.4f}, {row.dice:.4f}",
                    "",
                    f"in {row.pictures} images",
                )
        overlap = result.overlap
        if overlap.miou is None or overlap.mean_dice is None:
            table.add_row("mean IoU, Dice", "undefined", "", "no defect is labelled")
        else:
            interval = result.overlap_interval
            table.add_row(
                "mean IoU, Dice",
                f"{overlap.miou:.4f}, {overlap.mean_dice:.4f}",
                f"{interval.miou_low:.4f} to {interval.miou_high:.4f}, "
                f"{interval.mean_dice_low:.4f} to {interval.mean_dice_high:.4f}"
                if interval
                else "",
            )
        severstal = result.overlap.severstal
        empty = f"without any finding {severstal.dice_of_empty:.4f}"
        table.add_row(
            "Severstal's Dice", f"{severstal.dice:.4f}", empty, f"lift {severstal.lift:+.4f}"
        )
    size = result.regions or result.by_picture
    if size is not None and size.a90_px is not None:
        high = "open" if size.a90_high_px is None else f"{size.a90_high_px:.0f}"
        table.add_row(
            "90 % found from", f"{size.a90_px:.0f} px", f"{size.a90_low_px:.0f} to {high}"
        )
    if result.costs is not None:
        cost = result.costs
        table.add_row(
            "lowest cost at",
            f"{cost.threshold:.5f}",
            f"{cost.threshold_low:.5f} to {cost.threshold_high:.5f}",
            f"{cost.cost_per_1000:.0f} per 1000 parts",
        )
    kinds = result.classification
    if kinds is not None and kinds.balanced_accuracy is not None:
        table.add_row(
            "balanced accuracy of the kinds",
            format_percent(kinds.balanced_accuracy),
            f"{format_percent(kinds.balanced_accuracy_low)} to "
            f"{format_percent(kinds.balanced_accuracy_high)}",
            f"{kinds.accuracy.hits} of {kinds.accuracy.total} right",
        )
    print_table(table)
    if result.groups is not None:
        print_text(f"intervals over {result.groups} groups of images")
    if kinds is not None:
        print_text("")
        print_table(kinds_table(kinds))
        print_table(confusion_table(kinds))
    for text in (
        *result.notes,
        *([result.costs.warning] if result.costs and result.costs.warning else []),
    ):
        print_text(Text(f"note: {text}", style="yellow"))
    for line in skipped_image_lines(result.skipped.items(), "--json"):
        print_text(Text(line, style="yellow"))
