"""The colours of defect classes, the same in HMI, reports and contact sheets."""

from __future__ import annotations

CLASS_COLORS: tuple[str, ...] = (
    "#ff5c5c",
    "#ffb000",
    "#4dc4ff",
    "#d98cff",
    "#5ee2a0",
    "#ffe45c",
    "#ff8ac2",
    "#9fb4ff",
)
"""Of class 1, 2, 3 ..., repeated; distinguishable with colour blindness and on grey steel."""


def class_color(class_id: int) -> str:
    """Return the colour of a class as #rrggbb."""
    return CLASS_COLORS[(class_id - 1) % len(CLASS_COLORS)]


def class_color_bgr(class_id: int) -> tuple[int, int, int]:
    """Return the colour of a class in OpenCV's order."""
    text = class_color(class_id)
    red, green, blue = (int(text[at : at + 2], 16) for at in (1, 3, 5))
    return blue, green, red
