from __future__ import annotations

import math

import numpy as np
import pytest

from edgeinspect.learning.evaluate.metrics.detection_by_size import recall_by_size


def test_a90_of_simulated_detections() -> None:
    rng = np.random.default_rng(5)
    area = np.exp(rng.uniform(math.log(8), math.log(4000), 4000)).astype(int)
    # 90 % at 100 px: logit 2.197 there, slope 2 per doubling.
    prob = 1 / (1 + np.exp(-(2.197 + 2 * np.log2(area / 100))))
    result = recall_by_size(
        area.tolist(), (rng.random(4000) < prob).tolist(), range(4000), "regions"
    )
    assert result is not None
    assert result.a90_px == pytest.approx(100, rel=0.1)
    assert result.a90_low_px is not None
    assert result.a90_high_px is not None
    assert result.a90_low_px < 100 < result.a90_high_px
    assert sum(each.recall.total for each in result.bins) == 4000
    assert all(b.low_px * 2 == b.high_px for b in result.bins)


def test_a90_when_no_or_every_defect_is_found() -> None:
    area = list(range(10, 110))
    always = recall_by_size(area, [True] * 100, range(100), "regions")
    never = recall_by_size(area, [False] * 100, range(100), "regions")
    assert always is not None
    assert never is not None
    assert always.below_all
    assert always.a90_px == pytest.approx(10)
    assert never.a90_px is None
    assert recall_by_size([5], [True], [0], "regions") is None
