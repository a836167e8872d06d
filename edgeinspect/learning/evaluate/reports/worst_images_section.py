"""The part of an evaluation report that shows the worst images."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.worst_frames import FrameSnapshot, WorstFrames
from edgeinspect.learning.reporting import (
    display_width_px,
    html,
    overlay_class_map,
    to_display_size,
)


def worst_images_section(evaluation: EvaluationResult, worst: WorstFrames) -> Iterator[str]:
    """Yield escapes, overkills and the lowest Dice; nothing where nothing was decided."""
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
