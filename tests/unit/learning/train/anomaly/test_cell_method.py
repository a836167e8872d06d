"""The method of comparison, chosen with defective images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.learning.train.anomaly.cell_features import CellMethod
from edgeinspect.learning.train.anomaly.cell_method import (
    METHODS,
    MIN_DEFECTIVE,
    MethodDecision,
    decide_method,
)

SIDE, WIDTH = 8, 6


class Features:
    """A runner whose frames are their own features, repeated over the channels."""

    cell_px = 16

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def of_frame(self, frame: np.ndarray) -> tuple[Any, Any]:
        values = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None]
        return values, torch.ones(1, 1, SIDE, SIDE)

    def of_image(self, number: int) -> tuple[Any, Any]:
        return self.of_frame(self.images[number])


def parts(count: int, seed: int, *, is_mirrored: bool = False) -> np.ndarray:
    """Features of 1 in the left half and of -1 in the right one, with noise."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.2, (count, SIDE, SIDE, WIDTH))
    values[:, :, : SIDE // 2] += 1
    values[:, :, SIDE // 2 :] -= 1
    return values[:, :, ::-1] if is_mirrored else values


def decide(good: np.ndarray, defective: np.ndarray) -> MethodDecision:
    numbers = list(range(len(good)))
    return decide_method(Features(good), numbers, list(defective), 200, turned=False)  # type: ignore[arg-type]


def test_a_feature_in_the_wrong_place_is_found_by_position():
    decision = decide(parts(24, 1), parts(MIN_DEFECTIVE, 2, is_mirrored=True))
    assert decision.method.has_position
    assert max(decision.aucs) == 1.0
    assert decision.aucs[0] < 0.9
    document = decision.to_document()
    assert document["used"] == decision.method.name
    assert set(document["auc"]) == {method.name for method in METHODS}


def test_the_default_stays_unless_another_is_better():
    strange = parts(MIN_DEFECTIVE, 2)
    strange[:, 3:6, 3:6] += 5
    decision = decide(parts(24, 1), strange)
    assert decision.method == CellMethod()
    assert decision.aucs[0] == 1.0


@pytest.mark.parametrize(("good", "defective"), [(24, MIN_DEFECTIVE - 1), (15, 20), (24, 0)])
def test_few_images_choose_nothing(good: int, defective: int):
    decision = decide(parts(good, 1), parts(defective, 2, is_mirrored=True))
    assert decision == MethodDecision(CellMethod())
    assert decision.to_document() == {"used": "limit 3"}
