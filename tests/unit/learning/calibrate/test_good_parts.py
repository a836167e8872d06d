"""Acceptance of INT8 good-parts models by the order of their scores."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.learning.calibrate.good_parts import (
    good_parts_checks,
    rank_correlation,
    score_noise,
    score_units,
)


def probability(u: np.ndarray) -> np.ndarray:
    return (1 + u / (1 + np.abs(u))) / 2


def scores(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Units of 40 good and 20 defective frames."""
    rng = np.random.default_rng(seed)
    units = np.concatenate([rng.normal(-4, 1, 40), rng.normal(1, 2, 20)])
    return units, np.arange(60) >= 40


def passed(units: np.ndarray, changed: np.ndarray, labels: np.ndarray | None) -> dict[str, bool]:
    rows = good_parts_checks(probability(units), probability(changed), labels)
    return {row[0]: row[3] for row in rows}


def test_units_are_the_inverse_of_the_scale():
    units = np.array([-30.0, -1.0, 0.0, 0.5, 200.0])
    assert score_units(probability(units)) == pytest.approx(units, rel=1e-6)


def test_a_common_shift_costs_nothing_and_a_little_noise_is_accepted():
    units, labels = scores()
    noise = np.random.default_rng(2).normal(0, 0.1, 60)
    assert all(passed(units, units + 0.7 + noise, labels).values())
    assert all(passed(units, units + 0.7 + noise, None).values())


def test_an_order_that_is_lost_is_refused_by_good_frames_alone():
    units, labels = scores()
    shuffled = units.copy()
    shuffled[:40] = np.random.default_rng(3).permutation(units[:40])
    result = passed(units, shuffled, labels)
    assert not result["rank correlation of good frames"]
    assert not result["change of the scores of good frames"]
    assert not all(passed(units[:40], shuffled[:40], None).values())


def test_defects_that_sink_among_the_good_are_a_loss_of_auc():
    units, labels = scores()
    sunk = units.copy()
    sunk[50:] -= 4
    result = passed(units, sunk, labels)
    assert not result.pop("AUC")
    assert all(result.values())


def test_a_constant_output_and_too_few_frames_are_refused():
    units, _labels = scores()
    assert not all(passed(units, np.full(60, -3.0), None).values())
    assert passed(units[:5], units[:5], None) == {"good frames to compare": False}
    assert rank_correlation(units, np.ones(60)) == 0.0
    assert score_noise(np.ones(9), np.ones(9)) == float("inf")
