"""One row of a report: an image as it came, with its truth and with the result."""

from __future__ import annotations

from html import escape

from edgeinspect.learning.evaluate.worst_frames import Kept
from edgeinspect.learning.reporting.overlay import data_uri, fit, overlay, shown_width


def picture(kept: Kept, caption: str) -> str:
    """One picture: as it came, as it is marked, as it was found."""
    width = shown_width(*kept.image.shape[:2])
    shown = [("picture", fit(kept.image, width))]
    if kept.truth is not None:
        shown.append(("truth", overlay(kept.image, kept.truth, width)))
    if kept.found is not None:
        shown.append(("found", overlay(kept.image, kept.found, width)))
    row = "".join(
        f'<div>{name}<img alt="{escape(kept.answer.name)}, {name}" width="{width}" '
        f'src="{data_uri(pixels)}"></div>'
        for name, pixels in shown
    )
    head = f"<b>{escape(kept.answer.name)}</b> <span>{escape(caption)}</span>"
    return f'<div class="picture"><div class="small">{head}</div><div class="row">{row}</div></div>'
