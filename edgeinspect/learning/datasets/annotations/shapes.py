"""Shapes of annotations, whatever the format that they come from.

Coordinates are pixels of the image as displayed: x to the right, y down, (0, 0) is the outer
corner of the first pixel, unless the set's coordinates are pixel positions (`rasterise.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""float64 (n, 2): x and y of each point."""

_CURVE_POINTS = 90
"""Corners of the polygon that stands for an ellipse: 0.06 % of the radius off at most."""
LINE_WIDTH_PX = 10.0
"""Width of a drawn line, as in labelme's own export (`labelme.utils.shape_to_mask`)."""
POINT_RADIUS_PX = 5.0
"""Radius of a drawn point; the same source."""
_MIN_AREA_PX = 1e-6
"""Corners on one line enclose less, up to rounding."""


@dataclass(frozen=True, slots=True)
class Box:
    """An upright box: where an object is, not which pixels belong to it."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """The area inside of an odd number of rings: a second ring inside the first is a hole."""

    rings: tuple[Points, ...]
    is_box: bool = False
    """It is a rotated box: as `Box`, it does not give the pixels of the object."""
    is_sampled: bool = False
    """Its corners were computed here (ellipse), so they do not tell how the set counts pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Stroke:
    """A line of some width through points."""

    points: Points
    width_px: float = LINE_WIDTH_PX


@dataclass(frozen=True, slots=True, eq=False)
class RunLength:
    """A mask as runs of alternately unset and set pixels, the first unset."""

    counts: NDArray[np.int64]
    height_px: int
    width_px: int
    is_column_major: bool = True
    """Runs go down the columns (COCO), not along the rows (CVAT)."""
    left_px: int = 0
    top_px: int = 0
    """Position of the mask in the image."""


Shape = Box | Polygon | Stroke | RunLength


@dataclass(frozen=True, slots=True)
class LabelledShape:
    """One annotation of an image, as its file gives it."""

    class_name: str
    shape: Shape
    where: str
    """File and entry, for messages."""


def is_box(shape: Shape) -> bool:
    """Return whether a shape tells only where an object is."""
    return isinstance(shape, Box) or (isinstance(shape, Polygon) and shape.is_box)


def as_points(values: Sequence[float]) -> Points:
    """Return points of a flat list x, y, x, y …; the number must be even."""
    return np.asarray(values, np.float64).reshape(-1, 2)


def ellipse(
    center_x: float, center_y: float, radius_x: float, radius_y: float, angle_deg: float = 0.0
) -> Polygon:
    """Return an ellipse, turned clockwise about its centre."""
    at = np.linspace(0.0, 2 * np.pi, _CURVE_POINTS, endpoint=False)
    points = np.stack((radius_x * np.cos(at), radius_y * np.sin(at)), axis=1)
    center = np.array((center_x, center_y))
    return Polygon((rotated(points, angle_deg) + center,), is_sampled=True)


def rotated(points: Points, angle_deg: float) -> Points:
    """Return points turned clockwise (as displayed) about (0, 0)."""
    turn = np.deg2rad(angle_deg)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.asarray(points @ np.array(((cos, sin), (-sin, cos))), np.float64)


def box_corners(box: Box) -> Points:
    """Return the corners of a box, clockwise from the upper left."""
    left, top, right, bottom = box.left_px, box.top_px, box.right_px, box.bottom_px
    return as_points((left, top, right, top, right, bottom, left, bottom))


def extent(shape: Shape) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of a shape, without the width of a line."""
    if isinstance(shape, Box):
        return shape.left_px, shape.top_px, shape.right_px, shape.bottom_px
    if isinstance(shape, RunLength):
        return (
            shape.left_px,
            shape.top_px,
            shape.left_px + shape.width_px,
            shape.top_px + shape.height_px,
        )
    points = np.concatenate(shape.rings) if isinstance(shape, Polygon) else shape.points
    low, high = points.min(axis=0), points.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def has_area(shape: Shape) -> bool:
    """Return whether a shape encloses an area; corners on one line do not."""
    if isinstance(shape, Box):
        return shape.right_px > shape.left_px and shape.bottom_px > shape.top_px
    if not isinstance(shape, Polygon):
        return True
    return any(
        abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) > _MIN_AREA_PX
        for x, y in (ring.T - ring.mean(axis=0)[:, np.newaxis] for ring in shape.rings)
    )


def shape_key(shape: Shape) -> tuple[object, ...]:
    """Return a value that is equal for equal shapes only."""
    if isinstance(shape, Box):
        return (shape,)
    if isinstance(shape, Polygon):
        rings = tuple(ring.tobytes() for ring in shape.rings)
        return ("polygon", shape.is_box, shape.is_sampled, rings)
    if isinstance(shape, Stroke):
        return ("stroke", shape.width_px, shape.points.tobytes())
    place = (shape.height_px, shape.width_px, shape.left_px, shape.top_px)
    return ("runs", shape.is_column_major, place, shape.counts.tobytes())
