"""Metrics against brute force and against values computed by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.calibration_curve import (
    expected_calibration_error,
    fit_platt_scaling,
    measure_reliability,
)
from edgeinspect.learning.evaluate.metrics.cost_threshold import choose_cost_threshold
from edgeinspect.learning.evaluate.metrics.decisions import measure_decisions
from edgeinspect.learning.evaluate.metrics.detection_by_size import recall_by_size
from edgeinspect.learning.evaluate.metrics.rates import estimate_rate
from edgeinspect.learning.evaluate.metrics.roc import analyse_roc, downsample_curve, roc_curve
from edgeinspect.learning.evaluate.metrics.segmentation import measure_segmentation
from tests.unit.learning.evaluate.small_datasets import make_result

Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Few distinct scores, so that ties are common; good and defective images."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40))
    scores = np.array([value / 8 for value, _bad in pairs])
    bad = np.array([bad for _value, bad in pairs])
    assume(bad.any() and not bad.all())
    return scores, bad


def test_a_rate_without_a_hit_has_the_limit_three_over_n() -> None:
    no_hit = estimate_rate(0, 60)
    assert (no_hit.value, no_hit.low, no_hit.no_better_than) == (0.0, 0.0, 0.05)
    assert no_hit.high == pytest.approx(0.0602, abs=1e-4)
    assert estimate_rate(1, 60).no_better_than is None
    assert estimate_rate(0, 0).value is None
    assert (estimate_rate(0, 0).low, estimate_rate(0, 0).high) == (0.0, 1.0)


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_wilson_is_where_the_score_test_just_accepts(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    result = estimate_rate(hits, total)
    for end in (result.low, result.high):
        if 1e-9 < end < 1 - 1e-9:  # not at the ends of the scale
            z = (hits / total - end) / math.sqrt(end * (1 - end) / total)
            assert abs(abs(z) - 1.96) < 1e-5


def test_decisions_by_hand() -> None:
    decisions = (
        [(True, True)] * 7 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)] * 8
    )
    result = measure_decisions(
        [make_result(str(i), is_defective=d, is_rejected=r) for i, (d, r) in enumerate(decisions)]
    )
    assert (result.defective_rejected, result.defective_passed) == (7, 3)
    assert (result.sound_rejected, result.sound_passed) == (2, 8)
    assert result.accuracy.value == 0.75
    assert result.precision.value == pytest.approx(7 / 9)
    assert result.recall.value == 0.7
    assert result.f1 == pytest.approx(2 * (7 / 9) * 0.7 / (7 / 9 + 0.7))
    assert result.escape.value == 0.3
    assert result.overkill.value == 0.2


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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=9, max_size=9), min_size=1, max_size=6))
def test_segmentation_against_the_definitions(pixels: list[list[int]]) -> None:
    confusions = np.array(pixels, np.int64).reshape(-1, 3, 3)
    result = measure_segmentation(list(confusions), ("a", "b"))
    assert result is not None
    whole = confusions.sum(0)
    for k, row in enumerate(result.classes):
        union = whole[k].sum() + whole[:, k].sum() - whole[k, k]
        if not union:
            assert (row.iou, row.dice) == (None, None)
            continue
        assert row.iou == pytest.approx(whole[k, k] / union)
        assert row.dice == pytest.approx(2 * whole[k, k] / (whole[k].sum() + whole[:, k].sum()))
        assert row.pictures == sum(c[k].sum() > 0 for c in confusions)
    pairs = [(c[k].sum(), c[:, k].sum(), c[k, k]) for c in confusions for k in (1, 2)]
    dice = [1.0 if t + f == 0 else 2 * h / (t + f) for t, f, h in pairs]
    assert result.severstal.dice == pytest.approx(np.mean(dice))
    assert result.severstal.dice_of_empty == pytest.approx(np.mean([t == 0 for t, _f, _h in pairs]))


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
