from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.evaluate.metrics.roc import analyse_roc, downsample_curve, roc_curve
from tests.unit.learning.evaluate.metrics.scored import Scored, scored


@settings(deadline=None, max_examples=60)
@given(scored())
def test_auc_counts_pairs(given_: Scored) -> None:
    scores, bad = given_
    pairs = [
        1.0 if b > g else 0.5 if b == g else 0.0 for b, g in product(scores[bad], scores[~bad])
    ]
    result = analyse_roc(scores, bad)
    assert result is not None
    assert result.auc == pytest.approx(np.mean(pairs))
    assert result.auc_low <= result.auc + 1e-12
    assert result.auc <= result.auc_high + 1e-12


@settings(deadline=None, max_examples=60)
@given(scored())
def test_a_curve_has_every_threshold(given_: Scored) -> None:
    scores, bad = given_
    points = roc_curve(scores, bad)
    assert [point.threshold for point in points] == sorted(set(scores), reverse=True)
    for point in points:
        rejected = scores >= point.threshold
        assert point.recall == pytest.approx(rejected[bad].mean())
        assert point.false_reject_ratio == pytest.approx(rejected[~bad].mean())
        assert point.precision == pytest.approx(bad[rejected].mean())
    # The area under precision and recall is the mean precision at each defective image.
    result = analyse_roc(scores, bad)
    assert result is not None
    steps = [bad[scores >= value].mean() for value in scores[bad]]
    assert result.average_precision == pytest.approx(np.mean(steps))


@settings(deadline=None, max_examples=60)
@given(scored(), st.sampled_from([0.01, 0.05, 0.3]))
def test_recall_at_a_false_reject_rate_is_the_best_allowed(given_: Scored, at: float) -> None:
    scores, bad = given_
    result = analyse_roc(scores, bad, (at,))
    assert result is not None
    limits = [-1.0, *set(scores)]
    best = max(
        (scores[bad] > limit).mean()
        for limit in limits
        if (scores[~bad] > limit).sum() <= int(at * (~bad).sum())
    )
    assert result.recall_at[0].recall.value == pytest.approx(best)


def test_one_label_alone_has_no_roc() -> None:
    assert analyse_roc(np.array([0.1, 0.2]), np.array([True, True])) is None


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 1500), st.integers(2, 600))
def test_a_downsampled_curve_keeps_its_ends(count: int, limit: int) -> None:
    rng = np.random.default_rng(count)
    points = roc_curve(rng.random(count), rng.random(count) < 0.5)
    kept = downsample_curve(points, limit)
    assert len(kept) <= max(2, limit)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    chosen = set(kept)
    assert list(kept) == [point for point in points if point in chosen]
