from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.evaluate.metrics.rates import estimate_rate, wilson_interval


def test_a_rate_without_a_hit_has_the_limit_three_over_n() -> None:
    no_hit = estimate_rate(0, 60)
    assert (no_hit.value, no_hit.low, no_hit.no_better_than) == (0.0, 0.0, 0.05)
    assert no_hit.high == pytest.approx(0.0602, abs=1e-4)
    assert estimate_rate(1, 60).no_better_than is None
    assert estimate_rate(0, 0).value is None
    assert (estimate_rate(0, 0).low, estimate_rate(0, 0).high) == (0.0, 1.0)


def test_all_and_none_are_in_their_own_interval() -> None:
    for total in range(1, 300):
        assert wilson_interval(total, total)[1] == 1
        assert wilson_interval(0, total)[0] == 0


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_wilson_is_where_the_score_test_just_accepts(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    result = estimate_rate(hits, total)
    for end in (result.low, result.high):
        if 1e-9 < end < 1 - 1e-9:  # not at the ends of the scale
            z = (hits / total - end) / math.sqrt(end * (1 - end) / total)
            assert abs(abs(z) - 1.96) < 1e-5
