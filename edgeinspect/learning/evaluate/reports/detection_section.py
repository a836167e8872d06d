"""The part of an evaluation report about the area from which defects are found."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize
from edgeinspect.learning.evaluate.reports import plots
from edgeinspect.learning.reporting import html


def format_a90(size: DetectionBySize) -> str:
    """Return the area from which 90 % are found."""
    if size.a90_px is None:
        return "none"
    return f"{'≤ ' if size.below_all else ''}{size.a90_px:.0f} px"


def a90_interval(size: DetectionBySize) -> str:
    """Return the 95 % interval of that area, or why there is none."""
    if size.a90_px is None:
        return "the fitted curve never reaches 90 %"
    if size.below_all:
        return "even the smallest of this set"
    high = "beyond this set" if size.a90_high_px is None else f"{size.a90_high_px:.0f} px"
    return f"95 %: {size.a90_low_px:.0f} to {high}"


def detection_section(evaluation: EvaluationResult) -> Iterator[str]:
    """Yield recall against defect area; nothing without areas."""
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
    return f"90 % found from {format_a90(size)} on ({a90_interval(size)})"
