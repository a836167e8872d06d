from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.paired_tests import (
    compare_auc,
    compare_overlap,
    mcnemar_p_value,
)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_against_all_outcomes(only_a: int, only_b: int) -> None:
    discordant, distance = only_a + only_b, abs(only_a - only_b)
    row = [1.0]
    for _ in range(discordant):  # Pascal's triangle, halved at each step
        row = [(a + b) / 2 for a, b in zip([0.0, *row], [*row, 0.0], strict=True)]
    expected = sum(p for k, p in enumerate(row) if abs(2 * k - discordant) >= distance)
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_is_right_where_floats_overflow() -> None:
    assert mcnemar_p_value(2000, 2000) == pytest.approx(1.0)
    assert 0 <= mcnemar_p_value(0, 3000) < 1e-300


def _result(confusion: list[list[int]]) -> FrameResult:
    return cast("FrameResult", SimpleNamespace(confusion=np.array(confusion)))


def test_overlap_is_compared_only_where_it_is_defined() -> None:
    seen = _result([[90, 0, 0], [2, 8, 0], [0, 0, 0]])
    dice, iou = compare_overlap([seen] * 4, [seen] * 4, ("a", "b"), seed=1, rounds=100)
    assert [each.name for each in dice] == ["a", "mean"]
    assert [each.name for each in iou] == ["background", "a", "mean"]
    assert dice[1].a == dice[0].a == pytest.approx(16 / 18)
    clean = _result([[90, 10, 0], [0, 0, 0], [0, 0, 0]])
    assert compare_overlap([clean] * 4, [clean] * 4, ("a", "b"), seed=1, rounds=100) == ((), ())


@pytest.mark.parametrize("count", [2, 3, 40])
def test_perfect_ranks_on_few_images_do_not_prove_that_models_are_equal(count: int) -> None:
    is_defective = np.arange(2 * count) < count
    scores = np.where(is_defective, 0.9, 0.1)
    found = compare_auc(scores, scores**2, is_defective)
    assert found is not None
    assert (found.a, found.b, found.difference) == (1.0, 1.0, 0.0)
    assert found.low == pytest.approx(-found.high)
    assert found.high == pytest.approx({2: 0.65, 3: 0.5, 40: 0.06}[count], abs=0.06)
    groups = np.arange(2 * count) // 2
    grouped = compare_auc(scores, scores**2, is_defective, groups)
    assert grouped is not None
    assert grouped.high >= found.high
