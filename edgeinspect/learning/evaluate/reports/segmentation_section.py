"""The part of an evaluation report about masks."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.reports.plots import format_percent
from edgeinspect.learning.reporting import html


def segmentation_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield the overlap with the labelled masks; nothing without masks."""
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


def _format_4(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
