"""Pictures that cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.capture.image_checks import ImageChecker, ImageLimits

LIMITS = ImageLimits(dark_level=3, bright_level=252, frozen_frames=3)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 140, (64, 96, 1), np.uint8)


def say(watch: ImageChecker, pixels: np.ndarray, frame_id: int) -> str:
    return watch.problem(pixels, Grab(pixels, frame_id, 0))


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (2, "black"), (253, "saturated")])
def test_black_and_saturated(level: int, word: str) -> None:
    watch = ImageChecker(LIMITS)
    assert word in say(watch, np.full((64, 96, 1), level, np.uint8), 1)
    assert say(watch, picture(1), 2) == ""


def test_frozen_only_after_so_many_and_until_it_moves() -> None:
    watch = ImageChecker(LIMITS)
    same = picture(1)
    assert [bool(say(watch, same.copy(), i)) for i in range(6)] == [False] * 3 + [True] * 3
    assert say(watch, picture(2), 7) == ""


def test_a_count_that_stands_still() -> None:
    watch = ImageChecker(LIMITS)
    found = [say(watch, picture(seed), 5) for seed in range(5)]
    assert found[:3] == ["", "", ""]
    assert "stands still at 5" in found[3]


def test_off_when_told_so_and_any_size() -> None:
    watch = ImageChecker(ImageLimits(0, 255, 0))
    for shape in ((1, 1, 1), (3, 5, 3), (64, 96, 1)):
        assert say(watch, np.zeros(shape, np.uint8), 1) == ""
