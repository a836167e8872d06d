"""The HTML report of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from edgeinspect.learning.evaluate.evaluation import EvaluationResult
from edgeinspect.learning.evaluate.reports.classification_section import classification_section
from edgeinspect.learning.evaluate.reports.decision_sections import (
    cost_section,
    decisions_section,
    reliability_section,
    roc_section,
)
from edgeinspect.learning.evaluate.reports.detection_section import detection_section
from edgeinspect.learning.evaluate.reports.segmentation_section import segmentation_section
from edgeinspect.learning.evaluate.reports.summary_tiles import summary_tiles
from edgeinspect.learning.evaluate.reports.worst_images_section import worst_images_section
from edgeinspect.learning.evaluate.worst_frames import WorstFrames
from edgeinspect.learning.reporting import html

_MAX_SHOWN_SKIPPED = 10


def render_evaluation(evaluation: EvaluationResult, worst: WorstFrames) -> str:
    """Render an evaluation as one self-contained HTML document."""
    sections = (
        _head,
        summary_tiles,
        classification_section,
        decisions_section,
        roc_section,
        detection_section,
        segmentation_section,
        reliability_section,
        cost_section,
    )
    body = [
        *(part for section in sections for part in section(evaluation)),
        *worst_images_section(evaluation, worst),
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
