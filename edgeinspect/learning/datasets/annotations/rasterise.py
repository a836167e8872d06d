"""Draws the shapes of annotations as masks.

A polygon's corners are either pixel positions or canvas coordinates, and no format says which:

- *Pixel positions*: contours of a mask (OpenCV's at whole pixels, scikit-image's at halves), and
  what labelme and YOLO's tools draw. A pixel is set if its position is in the polygon or on it.
- *Canvas coordinates*: clicks of a person in a browser, where pixel 0 spans 0 to 1. A pixel is
  set if its centre is in the polygon, as in pycocotools.

Most corners of the former are multiples of a half, by chance 8 % of the latter, so the set itself
tells (`uses_pixel_positions`). A wrong guess would move outlines by half a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.shapes import (
    Box,
    Points,
    Polygon,
    RunLength,
    Shape,
    Stroke,
    box_corners,
    ellipse,
)

Area = NDArray[np.bool_]
"""bool (h, w)."""
_SNAP_PX = 0.02
"""Corners this close to a multiple of a half are there: files round to a few digits."""
_POSITIONS_RATIO = 0.9
_EPSILON_PX = 1e-6
_MAX_ROWS = 1 << 26
"""Limit of the rows that the edges of one polygon cross together."""


def uses_pixel_positions(shapes: Iterable[Shape]) -> bool:
    """Return whether most corners of the polygons of a set are at whole or half pixels."""
    near = total = 0
    for shape in shapes:
        if isinstance(shape, Polygon) and not shape.is_sampled and not shape.is_box:
            for ring in shape.rings:
                near += int((np.abs(_snapped(ring) - ring) <= _SNAP_PX).sum())
                total += ring.size
    return total > 0 and near >= _POSITIONS_RATIO * total


def draw_shape(shape: Shape, height_px: int, width_px: int, *, as_positions: bool) -> Area:
    """Return the pixels of a shape in an image of this size; never none, but for a mask.

    Args:
        shape: The shape. Parts outside of the image are ignored.
        height_px: Height of the image.
        width_px: Width of the image.
        as_positions: Corners of polygons are pixel positions, see `uses_pixel_positions`.

    Raises:
        DataError: A polygon with far too many corners.
    """
    area = np.zeros((height_px, width_px), np.bool_)
    if isinstance(shape, RunLength):
        _draw_runs(area, shape)
    elif isinstance(shape, Stroke):
        _draw_stroke(area, shape)
    elif isinstance(shape, Box):
        _fill_rings(area, (box_corners(shape) - 0.5,))
    else:
        is_canvas = shape.is_sampled or shape.is_box or not as_positions
        rings = tuple(ring - 0.5 if is_canvas else _with_snapped(ring) for ring in shape.rings)
        _fill_rings(area, rings, is_closed=not is_canvas)
    if not isinstance(shape, RunLength) and not area.any():
        _set_nearest(area, _all_points(shape) - 0.5)
    return area


def _all_points(shape: Box | Polygon | Stroke) -> Points:
    if isinstance(shape, Box):
        return box_corners(shape)
    return np.concatenate(shape.rings) if isinstance(shape, Polygon) else shape.points


def _snapped(points: Points) -> Points:
    return np.asarray(np.round(2 * points) / 2, np.float64)


def _with_snapped(points: Points) -> Points:
    near = _snapped(points)
    return np.where(np.abs(near - points) <= _SNAP_PX, near, points)


def _draw_runs(area: Area, runs: RunLength) -> None:
    values = np.repeat(np.arange(len(runs.counts)) % 2 == 1, runs.counts)
    shape = (runs.height_px, runs.width_px)
    mask = values.reshape(shape[::-1]).T if runs.is_column_major else values.reshape(shape)
    height, width = area.shape
    top, left = max(runs.top_px, 0), max(runs.left_px, 0)
    bottom, right = min(runs.top_px + shape[0], height), min(runs.left_px + shape[1], width)
    if top < bottom and left < right:
        area[top:bottom, left:right] = mask[
            top - runs.top_px : bottom - runs.top_px, left - runs.left_px : right - runs.left_px
        ]


def _draw_stroke(area: Area, stroke: Stroke) -> None:
    """Draw a rectangle for each part of a line, and a disc at each point between two parts."""
    points, half = stroke.points, stroke.width_px / 2
    discs = points if len(points) == 1 else points[1:-1]
    for x, y in discs.tolist():
        _fill_rings(area, tuple(ring - 0.5 for ring in ellipse(x, y, half, half).rings))
    for start, end in pairwise(points):
        along = end - start
        length = float(np.hypot(*along))
        if length > 0:
            across = np.array((-along[1], along[0])) * (half / length)
            corners = np.stack((start + across, end + across, end - across, start - across))
            _fill_rings(area, (corners - 0.5,))


def _fill_rings(area: Area, rings: tuple[Points, ...], *, is_closed: bool = False) -> None:
    """Set the pixels whose position is inside of an odd number of rings.

    Args:
        area: bool (h, w), set in place.
        rings: Corners as pixel positions.
        is_closed: Positions on the outline belong to the area.
    """
    height, width = area.shape
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    changes = np.zeros((height, width + 1), np.int32)
    flat = np.abs(starts[:, 1] - ends[:, 1]) < _EPSILON_PX
    sloped = ~flat
    _add_spans(changes, starts[sloped], ends[sloped], is_upper_open=True)
    if is_closed:
        _add_spans(changes, starts[sloped], ends[sloped], is_upper_open=False)
        rows = np.round(starts[flat, 1])
        on_row = (np.abs(rows - starts[flat, 1]) < _EPSILON_PX) & (rows >= 0) & (rows < height)
        ends_x = np.sort(np.stack((starts[flat, 0], ends[flat, 0]), axis=1)[on_row], axis=1)
        _add_changes(changes, rows[on_row].astype(np.int64), ends_x[:, 0], ends_x[:, 1])
    area |= np.cumsum(changes, axis=1)[:, :width] > 0


def _add_spans(changes: NDArray[np.int32], a: Points, b: Points, *, is_upper_open: bool) -> None:
    """Add the spans of each row between every second crossing of the edges a to b.

    Args:
        changes: int32 (h, w + 1), +1 where a span begins and -1 behind its end.
        a: Starts of the edges.
        b: Their ends.
        is_upper_open: An edge crosses rows from its upper end on, its lower end excluded; else
            the other way round. Both together find every position on the outline.
    """
    upper = np.where((a[:, 1] <= b[:, 1])[:, None], a, b)
    lower = np.where((a[:, 1] <= b[:, 1])[:, None], b, a)
    if is_upper_open:
        first, last = np.ceil(upper[:, 1]), np.ceil(lower[:, 1]) - 1
    else:
        first, last = np.floor(upper[:, 1]) + 1, np.floor(lower[:, 1])
    first = np.clip(first, 0, len(changes)).astype(np.int64)
    last = np.clip(last, -1, len(changes) - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    total = int(count.sum())
    if total > _MAX_ROWS:
        raise DataError(f"is a polygon of {len(a)} corners, too many to draw", remedy="Simplify it")
    if not total:
        return
    edge = np.repeat(np.arange(len(a)), count)
    rows = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    x = upper[edge, 0] + (rows - upper[edge, 1]) * slope[edge]
    order = np.lexsort((x, rows))
    rows, x = rows[order], x[order]
    _add_changes(changes, rows[0::2], x[0::2], x[1::2])


def _add_changes(
    changes: NDArray[np.int32],
    rows: NDArray[np.int64],
    left: NDArray[np.float64],
    right: NDArray[np.float64],
) -> None:
    width = changes.shape[1] - 1
    first = np.clip(np.ceil(left - _EPSILON_PX), 0, width).astype(np.int64)
    last = np.clip(np.floor(right + _EPSILON_PX), -1, width - 1).astype(np.int64)
    some = last >= first
    np.add.at(changes, (rows[some], first[some]), 1)
    np.add.at(changes, (rows[some], last[some] + 1), -1)


def _set_nearest(area: Area, points: Points) -> None:
    """Set the pixels nearest to points: of a shape so small that it has no pixel's position."""
    rounded = np.round(points).astype(np.int64)
    at = np.clip(rounded, 0, (area.shape[1] - 1, area.shape[0] - 1))
    area[at[:, 1], at[:, 0]] = True
