"""The fitted tail, against distributions whose tail is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.tools.bench.tail_fit import estimate_tail, fit_tail


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.4])
def test_the_fit_recovers_the_distribution(shape: float) -> None:
    even = np.random.default_rng(1).random(20_000)
    excess = -np.log(even) * 3 if shape == 0 else 3 * (even**-shape - 1) / shape
    found_scale, found_shape = fit_tail(excess)
    assert found_scale == pytest.approx(3, rel=0.05)
    assert found_shape == pytest.approx(shape, abs=0.04)


def test_the_upper_limit_has_its_coverage() -> None:
    """An exponential latency's one-in-a-million value is known; 95 of 100 bounds are above."""
    rng = np.random.default_rng(2)
    exact_us = 5_000 + 400 * np.log(1e6)
    held = 0
    for turn in range(40):
        seen = (5_000 + rng.exponential(400, 4_000)).astype(np.int64)
        found = estimate_tail(seen, seed=turn)
        held += found.upper_us >= exact_us
        assert found.upper_us >= found.latency_us >= seen.max()
    assert held >= 32, held


def test_a_constant_latency_is_its_own_estimate() -> None:
    found = estimate_tail(np.full(1_000, 7_000, np.int64))
    assert found.latency_us == found.upper_us == 7_000


def test_too_few_frames_are_rejected() -> None:
    with pytest.raises(ValueError, match="too few"):
        estimate_tail(np.arange(700, dtype=np.int64))
