"""The section on a gate's kinds in the report of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.reporting import html


def classification_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield the section; nothing for a model without kinds."""
    kinds = evaluation.classification
    if kinds is None:
        return
    yield "<h2>Kinds of defects</h2>"
    yield '<div class="card">'
    yield html.confusion_table(kinds.names, kinds.confusion, counted="images")
    yield html.table(
        ("class", "images", "recall", "95 % interval", "precision", "95 % interval"),
        [
            (
                row.name,
                str(row.images),
                format_percent(row.recall.value),
                format_interval(row.recall),
                format_percent(row.precision.value),
                format_interval(row.precision),
            )
            for row in kinds.classes
        ],
        caption="By class",
    )
    accuracy = kinds.accuracy
    yield html.paragraph(
        f"Accuracy {format_percent(accuracy.value)} ({format_interval(accuracy)}), "
        f"{accuracy.hits} of {accuracy.total}. The predicted class is the most probable one, "
        "whatever the thresholds."
    )
    yield "</div>"
