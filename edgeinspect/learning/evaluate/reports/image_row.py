"""One row of a report: an image as it came, with its truth and with the result."""

from __future__ import annotations

from html import escape

from edgeinspect.learning.evaluate.worst_frames import FrameSnapshot
from edgeinspect.learning.reporting import (
    display_width_px,
    jpeg_data_uri,
    overlay_class_map,
    to_display_size,
)


def image_row(snapshot: FrameSnapshot, caption: str) -> str:
    """One picture: as it came, as it is marked, as it was found."""
    width = display_width_px(*snapshot.image.shape[:2])
    shown = [("picture", to_display_size(snapshot.image, width))]
    if snapshot.label_mask is not None:
        shown.append(("truth", overlay_class_map(snapshot.image, snapshot.label_mask, width)))
    if snapshot.predicted_mask is not None:
        shown.append(("found", overlay_class_map(snapshot.image, snapshot.predicted_mask, width)))
    row = "".join(
        f'<div>{name}<img alt="{escape(snapshot.result.name)}, {name}" width="{width}" '
        f'src="{jpeg_data_uri(pixels)}"></div>'
        for name, pixels in shown
    )
    head = f"<b>{escape(snapshot.result.name)}</b> <span>{escape(caption)}</span>"
    return f'<div class="picture"><div class="small">{head}</div><div class="row">{row}</div></div>'
