"""`edgeinspect evaluate MODEL --data DATASET`: metrics of a model with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgeinspect.cli import _evaluation_options
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import JSON_FILE, json_option, print_result
from edgeinspect.cli._options import GOOD_CLASS, LAYOUT, SEED, STORE
from edgeinspect.cli._paths import MODEL
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
    from edgeinspect.learning.evaluate import EvaluationResult


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
@_evaluation_options.GATE
@_evaluation_options.line_option("Use the thresholds, and without MODEL the models, of a line.")
@_evaluation_options.BACKEND
@STORE
@_evaluation_options.REPORT
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
@SEED
def evaluate(
    model: str | None,
    data: str,
    split: str,
    split_file: Path | None,
    gate: str | None,
    config: Path | None,
    backend: str | None,
    store: Path | None,
    report: Path | None,
    json_path: Path | None,
    as_json: bool,
    cost_escape: float | None,
    cost_overkill: float | None,
    prevalence: float | None,
    layout: str | None,
    good_classes: tuple[str, ...],
    seed: int,
) -> None:
    """Inspect the images of a data set as the line would, and report metrics.

    MODEL is a model of the store (NAME or NAME/VERSION), its folder, an ONNX file under the
    model contract, a training run's folder, or a run's checkpoint.pt. Decisions are made by
    the line's code, with the thresholds of the manifest or of --line.
    """
    from edgeinspect.learning.evaluate import ErrorCosts, find_training_split, open_image_source
    from edgeinspect.learning.evaluate import evaluate as run

    if (cost_escape is None) != (cost_overkill is None):
        raise UsageError("--cost-escape and --cost-overkill go together")
    costs = (
        ErrorCosts(cost_escape, cost_overkill, prevalence)
        if cost_escape and cost_overkill
        else None
    )
    inspector = _evaluation_options.load_inspector(model, gate, config, backend, store)
    try:
        source = open_image_source(
            data,
            inspector.spec,
            split=split,
            split_file=split_file,
            training_split=find_training_split(model or ""),
            classes=inspector.classes,
            good_classes=good_classes,
            layout=layout,
        )
        with progress_bar("inspecting", source.image_count) as done:
            result, worst = run(inspector, source, costs=costs, seed=seed, progress=done)
    finally:
        inspector.close()
    if report is not None:
        from edgeinspect.learning.evaluate import render_evaluation

        _evaluation_options.write_text(report, render_evaluation(result, worst))
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
    for name, rate in (
        ("escape rate", counts.escape),
        ("overkill rate", counts.overkill),
        ("accuracy", counts.accuracy),
        ("precision", counts.precision),
    ):
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
            table.add_row("mean IoU, Dice", f"{overlap.miou:.4f}, {overlap.mean_dice:.4f}")
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
    print_table(table)
    for text in (
        *result.notes,
        *([result.costs.warning] if result.costs and result.costs.warning else []),
    ):
        print_text(Text(f"note: {text}", style="yellow"))
    for line in skipped_image_lines(result.skipped.items(), "--json"):
        print_text(Text(line, style="yellow"))
