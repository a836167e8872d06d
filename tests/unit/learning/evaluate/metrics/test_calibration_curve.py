from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.learning.evaluate.metrics.calibration_curve import (
    expected_calibration_error,
    fit_platt_scaling,
    measure_reliability,
)


def test_ece_by_hand() -> None:
    probs = np.array([0.05, 0.05, 0.95, 0.95])
    bad = np.array([False, True, True, True])
    assert expected_calibration_error(probs, bad) == pytest.approx(
        0.5 * abs(0.5 - 0.05) + 0.5 * 0.05
    )


def test_platt_scaling_corrects_a_wrong_temperature() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(0, 2, 20_000)
    bad = rng.random(20_000) < 1 / (1 + np.exp(-logit))
    overconfident = 1 / (1 + np.exp(-(3 * logit + 1)))
    platt = fit_platt_scaling(overconfident, bad)
    assert platt.slope == pytest.approx(1 / 3, abs=0.02)
    assert platt.offset == pytest.approx(-1 / 3, abs=0.05)
    result = measure_reliability(overconfident, bad)
    assert result is not None
    assert result.ece > 0.08
    assert result.ece_after_platt < 0.02
