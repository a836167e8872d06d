"""Images that cannot be inspected."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.capture.image_checks import ImageChecker, ImageLimits

LIMITS = ImageLimits(dark_level=3, bright_level=252, frozen_frames=3)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 140, (64, 96, 1), np.uint8)


def problem(checker: ImageChecker, pixels: np.ndarray, frame_id: int) -> str:
    return checker.problem(pixels, Grab(pixels, frame_id, 0))


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (2, "black"), (253, "saturated")])
def test_black_and_saturated(level: int, word: str) -> None:
    checker = ImageChecker(LIMITS)
    assert word in problem(checker, np.full((64, 96, 1), level, np.uint8), 1)
    assert problem(checker, image(1), 2) == ""


def test_frozen_after_some_equal_images_until_one_differs() -> None:
    checker = ImageChecker(LIMITS)
    same = image(1)
    assert [bool(problem(checker, same.copy(), i)) for i in range(6)] == [False] * 3 + [True] * 3
    assert problem(checker, image(2), 7) == ""


def test_a_frame_counter_that_does_not_advance() -> None:
    checker = ImageChecker(LIMITS)
    problems = [problem(checker, image(seed), 5) for seed in range(5)]
    assert problems[:3] == ["", "", ""]
    assert "still at 5" in problems[3]


def test_switched_off_for_images_of_any_size() -> None:
    checker = ImageChecker(ImageLimits(0, 255, 0))
    for shape in ((1, 1, 1), (3, 5, 3), (64, 96, 1)):
        assert problem(checker, np.zeros(shape, np.uint8), 1) == ""
