from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.evaluate.metrics.cost_threshold import choose_cost_threshold
from tests.unit.learning.evaluate.metrics.scored import Scored, scored


@given(scored(), st.floats(0.1, 100), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_no_threshold_has_a_lower_cost(given_: Scored, ratio: float, share: float) -> None:
    scores, bad = given_
    result = choose_cost_threshold(
        scores, bad, escape_cost=ratio, overkill_cost=1.0, prevalence_ratio=share
    )
    assert result is not None

    def cost(threshold: float) -> float:
        rejected = scores >= threshold
        return 1000 * (
            share * ratio * (~rejected[bad]).mean() + (1 - share) * rejected[~bad].mean()
        )

    assert result.cost_per_1000 == pytest.approx(min(cost(t) for t in [*scores, 2.0]))
    assert cost(result.threshold) == pytest.approx(result.cost_per_1000)
    assert result.threshold_low <= result.threshold_high


def test_cost_warns_of_a_small_set_and_not_of_a_large_one() -> None:
    rng = np.random.default_rng(1)

    def warning(count: int) -> str:
        bad = np.arange(count) % 2 == 0
        scores = np.where(bad, rng.normal(0.65, 0.15, count), rng.normal(0.35, 0.15, count))
        result = choose_cost_threshold(scores, bad, escape_cost=50, overkill_cost=1)
        assert result is not None
        return result.warning

    assert "too small" in warning(200)
    assert warning(60_000) == ""
