"""Registration of detail: one piece correlates whatever its shift, two pieces do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeinspect.learning.datasets.registration import (
    MAX_DETAIL_CORRELATION,
    MAX_SHIFT_PX,
    MIN_DETAIL_CORRELATION,
    NULL_MARGIN,
    detail_correlation,
    extract_detail,
    orientation,
    required_correlation,
    shrink_image,
)


def surface(seed: int) -> np.ndarray:
    """An outline that all pieces share, and grain of its own."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(size=(160, 160)), (0, 0), 1.2)
    image = 120 + 12 * grain / grain.std()
    cv2.circle(image, (80, 80), 50, 200, 4)
    return np.clip(image, 0, 255).astype(np.uint8)


def likeness(one: np.ndarray, other: np.ndarray, way: int = 0) -> float:
    details = [extract_detail(shrink_image(each)) for each in (one, other)]
    return detail_correlation(details[0], orientation(details[1], way))


@pytest.mark.parametrize("shift", [(0, 0), (5, -7), (-MAX_SHIFT_PX, MAX_SHIFT_PX)])
def test_a_moved_and_darker_image_of_one_piece_correlates(shift: tuple[int, int]) -> None:
    image = cv2.resize(surface(1), (128, 128), interpolation=cv2.INTER_AREA)
    moved = (np.roll(image, shift, axis=(0, 1)) * 0.8 + 9).astype(np.uint8)
    assert likeness(image, moved) > 0.85


@pytest.mark.parametrize("way", range(8))
def test_an_orientation_undoes_its_turn(way: int) -> None:
    image = surface(2)
    turned = next(
        each
        for each in (orientation(image, back) for back in range(8))
        if np.array_equal(orientation(each, way), image)
    )
    assert likeness(image, turned, way) > 0.99


def test_two_pieces_with_one_outline_do_not_correlate() -> None:
    assert max(likeness(surface(seed), surface(seed + 50)) for seed in range(10)) < 0.25


def test_images_without_detail_do_not_correlate() -> None:
    flat = np.full((80, 80), 90, np.uint8)
    assert likeness(flat, flat) == 0
    assert likeness(flat, surface(1)) == 0


@pytest.mark.parametrize(
    ("reached", "required"),
    [
        ([], MIN_DETAIL_CORRELATION),
        ([0.05] * 50, MIN_DETAIL_CORRELATION),
        ([0.4] * 50, 0.4 + NULL_MARGIN),
        ([0.95] * 50, MAX_DETAIL_CORRELATION),
    ],
)
def test_the_requirement_follows_unrelated_images(reached: list[float], required: float) -> None:
    assert required_correlation(np.asarray(reached, np.float64)) == pytest.approx(required)
