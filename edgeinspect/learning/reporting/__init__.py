"""Building blocks of HTML reports: tables, SVG plots, image overlays."""

from edgeinspect.learning.reporting.overlay import (
    display_width_px,
    jpeg_data_uri,
    overlay_class_map,
    overlay_heatmap,
    to_display_size,
)
from edgeinspect.learning.reporting.svg_plot import (
    AMBER,
    BLUE,
    FAINT,
    GREEN,
    RED,
    Axis,
    Plot,
    side_by_side,
)

__all__ = [
    # overlay
    "display_width_px",
    "jpeg_data_uri",
    "overlay_class_map",
    "overlay_heatmap",
    "to_display_size",
    # svg plot
    "AMBER",
    "BLUE",
    "FAINT",
    "GREEN",
    "RED",
    "Axis",
    "Plot",
    "side_by_side",
]
