"""Shapes as masks: contours give back their mask, canvas coordinates the pixels they cover."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations import rasterise
from edgeinspect.learning.datasets.annotations.mask import Annotation, AnnotationMask
from edgeinspect.learning.datasets.annotations.rasterise import draw_shape, uses_pixel_positions
from edgeinspect.learning.datasets.annotations.run_lengths import runs_from_mask
from edgeinspect.learning.datasets.annotations.shapes import (
    Box,
    Polygon,
    RunLength,
    Stroke,
    as_points,
    ellipse,
)
from edgeinspect.learning.datasets.dataset import VOID


def random_mask(seed: int, height: int = 61, width: int = 87) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 4)
    return np.asarray(noise > np.quantile(noise, 0.7))


def draw(*rings: np.ndarray, as_positions: bool = True, size: tuple[int, int] = (61, 87)):
    return draw_shape(Polygon(rings), *size, as_positions=as_positions)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("method", [cv2.CHAIN_APPROX_NONE, cv2.CHAIN_APPROX_SIMPLE])
def test_contours_give_back_their_mask(seed: int, method: int) -> None:
    mask = random_mask(seed)
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, method)
    drawn = np.zeros_like(mask)
    for at, contour in enumerate(contours):
        if hierarchy[0, at, 3] < 0:
            holes = [c for c, h in zip(contours, hierarchy[0], strict=True) if h[3] == at]
            drawn |= draw(*(c[:, 0].astype(np.float64) for c in (contour, *holes)))
    assert (drawn == mask).all()


@pytest.mark.parametrize("seed", range(10))
def test_contours_between_pixels_give_back_their_mask(seed: int) -> None:
    """As scikit-image's `find_contours` at 0.5: corners half-way to the next pixel."""
    mask = random_mask(seed)
    drawn = np.zeros_like(mask)
    for x in range(mask.shape[1]):
        edges = np.flatnonzero(np.diff(mask[:, x], prepend=False, append=False))
        for top, bottom in edges.reshape(-1, 2):
            ring = ((x - 0.5, top), (x, top - 0.5), (x + 0.5, bottom - 1), (x, bottom - 0.5))
            drawn |= draw(np.array(ring))
    assert (drawn == mask).all()


@pytest.mark.parametrize("seed", range(10))
def test_canvas_coordinates_set_the_pixels_whose_center_is_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 17))
    radius = rng.uniform(6, 28, 17)
    ring = np.stack((43 + radius * np.cos(angle), 30 + radius * np.sin(angle)), axis=1)
    drawn = draw(ring, as_positions=False)
    for y in range(61):
        for x in range(87):
            inside = cv2.pointPolygonTest(ring.astype(np.float32), (x + 0.5, y + 0.5), True)
            if abs(inside) > 1e-3:
                assert drawn[y, x] == (inside > 0)


def test_a_box_of_whole_numbers_has_its_area() -> None:
    area = draw_shape(Box(10, 20, 30, 25), 61, 87, as_positions=True)
    assert area[20:25, 10:30].all()
    assert area.sum() == 100


def test_a_ring_inside_a_ring_is_a_hole() -> None:
    outer, inner = (
        as_points((5, 5, 25, 5, 25, 25, 5, 25)),
        as_points((10, 10, 20, 10, 20, 20, 10, 20)),
    )
    area = draw(outer - 0.25, inner - 0.25, as_positions=False)
    assert area.sum() == 400 - 100
    assert not area[10:20, 10:20].any()


@pytest.mark.parametrize(
    "shape",
    [
        Box(4.2, 4.2, 4.3, 4.3),
        Polygon((as_points((4.1, 4.1, 4.2, 4.1, 4.2, 4.2)),)),
        Stroke(as_points((4, 4, 4, 4)), 1),
        ellipse(4.6, 4.6, 0.01, 0.01),
    ],
)
def test_a_shape_smaller_than_a_pixel_sets_one(shape: object) -> None:
    assert draw_shape(shape, 9, 9, as_positions=False).sum() == 1


def test_shapes_beyond_the_image_are_cut() -> None:
    ring = as_points((-50, -50, 200, -50, 200, 200, -50, 200))
    assert draw(ring).all()
    assert draw_shape(Box(80, 50, 99, 99), 61, 87, as_positions=True).sum() == 7 * 11
    stroke = draw_shape(Stroke(as_points((-40, 30, 200, 30)), 10), 61, 87, as_positions=True)
    assert stroke.sum() == 10 * 87


def test_a_disc_and_a_turned_ellipse() -> None:
    area = draw_shape(ellipse(43, 30, 20, 8, 90), 61, 87, as_positions=True)
    assert abs(area.sum() - np.pi * 160) < 12
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (10, 49, 35, 50)


def test_a_mask_is_placed_and_cut() -> None:
    mask = random_mask(3, 20, 30)
    area = draw_shape(runs_from_mask(mask, "", 70, 50), 61, 87, as_positions=True)
    assert (area[50:, 70:] == mask[:11, :17]).all()
    assert area.sum() == mask[:11, :17].sum()


def test_positions_are_told_from_canvas_coordinates() -> None:
    rng = np.random.default_rng(1)
    whole = Polygon((rng.integers(0, 99, (40, 2)).astype(np.float64),))
    halves = Polygon((rng.integers(0, 99, (40, 2)) / 2,))
    clicks = Polygon((rng.uniform(0, 99, (40, 2)).round(2),))
    sampled = ellipse(5, 5, 2, 2)
    assert uses_pixel_positions([whole, halves, sampled])
    assert not uses_pixel_positions([clicks, whole])
    assert not uses_pixel_positions([])
    rounded = Polygon((np.round(whole.rings[0] / 1600, 6) * 1600,))
    assert uses_pixel_positions([rounded])


def test_later_annotations_win_and_boxes_are_unlabelled() -> None:
    box, wide = Box(0, 0, 10, 10), Box(5, 5, 15, 15)
    area = Polygon((as_points((0, 0, 7, 0, 7, 7, 0, 7)),))
    parts = (Annotation(1, area, "a"), Annotation(2, wide, "b"), Annotation(3, box, "c"))
    mask = AnnotationMask(parts, as_positions=True).read(20, 20)
    assert mask[3, 3] == 1
    assert mask[9, 9] == mask[14, 14] == VOID
    filled = AnnotationMask(parts, as_positions=True, draws_boxes=True).read(20, 20)
    assert (filled[3, 3], filled[14, 14]) == (3, 2)
    assert VOID not in filled


def test_a_mask_of_another_size_is_refused() -> None:
    mask = AnnotationMask((Annotation(1, Box(0, 0, 5, 5), "a.json, 1"),), True, size=(20, 30))
    with pytest.raises(DataError, match=r"a\.json, 1: states an image of 20 x 30 px.*rotated"):
        mask.read(30, 20)


def test_masks_differ_in_their_text() -> None:
    """The cache of decoded arrays is keyed by it."""
    points = np.random.default_rng(0).uniform(0, 99, (5000, 2))
    moved = points.copy()
    moved[2500] += 1

    def text(ring: np.ndarray, class_id: int = 1) -> str:
        return repr(AnnotationMask((Annotation(class_id, Polygon((ring,)), ""),), True))

    assert text(points) == text(points.copy())
    assert len({text(points), text(moved), text(points, 2)}) == 3
    counts = np.array([3, 4, 5])
    runs = [RunLength(counts, 3, 4, flag) for flag in (True, False)]
    assert repr(AnnotationMask((Annotation(1, runs[0], ""),), True)) != repr(
        AnnotationMask((Annotation(1, runs[1], ""),), True)
    )


def test_a_polygon_with_far_too_many_corners_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterise, "_MAX_ROWS", 100)
    ring = np.stack((np.tile((0.0, 9.0), 50), np.tile((0.0, 50.0), 50)), axis=1)
    with pytest.raises(DataError, match=r"p\.xml: is a polygon of 100 corners"):
        AnnotationMask((Annotation(1, Polygon((ring,)), "p.xml"),), True).read(60, 60)
