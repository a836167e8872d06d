"""Regions of Label Studio: coordinates are percent of the image's size.

Source: "Export annotations" and the pages of the tags in the documentation of Label Studio;
`label_studio_converter/brush.py`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.run_lengths import decode_brush
from edgeinspect.learning.datasets.annotations.shapes import (
    POINT_RADIUS_PX,
    Box,
    Polygon,
    Shape,
    Stroke,
    ellipse,
    rotated,
)

LABEL_KEYS = {
    "rectanglelabels": "rectangle",
    "polygonlabels": "polygon",
    "ellipselabels": "ellipse",
    "brushlabels": "brush",
    "keypointlabels": "keypoint",
}
"""Key of a region's labels, and the kind of its shape."""
KINDS = frozenset(LABEL_KEYS.values())
_MAX_SIDE = 1 << 20
_MIN_POLYGON = 3


def image_size(region: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Return (height_px, width_px) of the image that a region was drawn on.

    Raises:
        DataError: It has none, or was drawn on the image turned.
    """
    size = (region.get("original_height"), region.get("original_width"))
    if not all(isinstance(side, int) and 0 < side <= _MAX_SIDE for side in size):
        raise DataError("has no original_width and original_height", where=where)
    if region.get("image_rotation"):
        raise DataError(
            f"was drawn on the image turned by {region['image_rotation']!s:.10} degrees",
            where=where,
            remedy="Save the image turned, or draw it on the image as it is",
        )
    return size  # type: ignore[return-value]  # checked above


def _is_finite(number: float) -> bool:
    """Return whether a number, maybe an integer of any length, is a finite float."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def region_shape(kind: str, value: Mapping[str, Any], size: tuple[int, int], where: str) -> Shape:
    """Return the shape of a region.

    Args:
        kind: One of `KINDS`.
        value: Its coordinates.
        size: (height_px, width_px) of its image.
        where: File and entry, for messages.

    Raises:
        DataError: A value is missing, not a number or negative, or the mask is damaged.
    """
    height, width = size

    def number(key: str, default: float | None = None) -> float:
        found = value.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not _is_finite(found):
            raise DataError(f"{key} is {found!s:.40}, not a number", where=where)
        return float(found)

    def length(key: str) -> float:
        found = number(key)
        if found < 0:
            raise DataError(f"{key} is {found:g}, below 0", where=where)
        return found

    def scaled(x: float, y: float) -> tuple[float, float]:
        return x * width / 100, y * height / 100

    if kind == "brush":
        codes = value.get("rle")
        if not isinstance(codes, list) or not all(isinstance(code, int) for code in codes):
            raise DataError("has a brush mask without run lengths (rle)", where=where)
        return decode_brush(codes, height, width, where)
    if kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < _MIN_POLYGON:
            raise DataError("has a polygon without three points", where=where)
        try:
            corners = np.asarray(points, np.float64)
        except (TypeError, ValueError, OverflowError):
            corners = np.empty(0)
        if corners.shape != (len(points), 2) or not np.isfinite(corners).all():
            raise DataError("has a polygon whose points are not [x, y]", where=where)
        return Polygon((corners * (width / 100, height / 100),))
    left, top = scaled(number("x"), number("y"))
    if kind == "keypoint":
        return Stroke(np.array(((left, top),)), 2 * POINT_RADIUS_PX)
    angle = number("rotation", 0.0)
    if kind == "ellipse":
        return ellipse(left, top, *scaled(length("radiusX"), length("radiusY")), angle)
    across, down = scaled(length("width"), length("height"))
    if not angle:
        return Box(left, top, left + across, top + down)
    corners = np.array(((0.0, 0.0), (across, 0.0), (across, down), (0.0, down)))
    return Polygon((rotated(corners, angle) + np.array((left, top)),), is_box=True)
