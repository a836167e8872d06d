"""Intervals over groups: ten images of one coil are not ten proofs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeinspect.learning.evaluate.comparison import compare_results
from edgeinspect.learning.evaluate.metrics.clusters import (
    auc_standard_error,
    cluster_rate,
    count_clusters,
    find_clusters,
    paired_p_value,
    t_quantile,
)
from edgeinspect.learning.evaluate.metrics.decisions import measure_decisions
from edgeinspect.learning.evaluate.metrics.grouped_metrics import (
    overlap_interval,
    regroup_decisions,
    regroup_roc,
)
from edgeinspect.learning.evaluate.metrics.paired_tests import compare_auc, compare_errors
from edgeinspect.learning.evaluate.metrics.rates import estimate_rate, wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import (
    analyse_roc,
    delong_placements,
    delong_variance,
)
from tests.unit.learning.evaluate.small_datasets import make_result


def test_groups_are_numbered_and_single_images_are_their_own() -> None:
    clusters = find_clusters(["a", "b", "c", "d"], {"a": "x", "c": "x", "d": ""})
    assert clusters is not None
    assert clusters.tolist() == [0, 1, 0, 2]
    assert count_clusters(clusters) == 3
    assert find_clusters(["a", "b"], {"a": "x", "b": "y"}) is None
    assert find_clusters(["a", "b"], {"z": "x"}) is None


def test_an_image_named_as_a_group_is_not_in_it() -> None:
    clusters = find_clusters(["x", "b", "c"], {"b": "x", "c": "x"})
    assert clusters is not None
    assert clusters.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("clusters", "quantile"), [(2, 12.706), (12, 2.201), (31, 2.042)])
def test_quantiles_of_t(clusters: int, quantile: float) -> None:
    assert t_quantile(clusters) == pytest.approx(quantile, abs=5e-3)


def test_one_group_proves_nothing() -> None:
    rate = cluster_rate(np.array([True, False, True]), np.zeros(3, np.int64))
    assert (rate.low, rate.high) == (0, 1)
    assert t_quantile(1) == math.inf


def test_copies_of_an_image_do_not_narrow_an_interval() -> None:
    rng = np.random.default_rng(1)
    once = rng.random(60) < 0.3
    clusters = np.repeat(np.arange(60), 10)
    rate = cluster_rate(np.repeat(once, 10), clusters)
    low, high = wilson_interval(int(once.sum()), 60)
    assert rate.value == once.mean()
    assert rate.high - rate.low == pytest.approx(high - low, rel=0.04)
    naive = estimate_rate(int(once.sum()) * 10, 600)
    assert rate.high - rate.low > 2.5 * (naive.high - naive.low)


def test_independent_images_in_groups_keep_nearly_their_interval() -> None:
    rng = np.random.default_rng(4)
    hits = rng.random(2000) < 0.2
    rate = cluster_rate(hits, np.arange(2000) // 10)
    low, high = wilson_interval(int(hits.sum()), 2000)
    assert rate.high - rate.low == pytest.approx(high - low, rel=0.25)


def test_without_a_hit_a_group_counts_as_one_image() -> None:
    rate = cluster_rate(np.zeros(300, np.bool_), np.arange(300) // 10)
    assert (rate.low, rate.high) == pytest.approx(wilson_interval(0, 30))
    assert rate.no_better_than == pytest.approx(0.1)


def test_the_interval_covers_the_truth_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(7)
    truth, covered, naive, rounds = 0.2, 0, 0, 400
    clusters = np.repeat(np.arange(25), 20)
    for _ in range(rounds):
        hits = rng.random(500) < np.repeat(rng.beta(1, 4, 25), 20)
        rate = cluster_rate(hits, clusters)
        covered += rate.low <= truth <= rate.high
        plain = estimate_rate(int(hits.sum()), 500)
        naive += plain.low <= truth <= plain.high
    assert covered / rounds > 0.91
    assert naive / rounds < 0.75


def test_the_error_of_an_auc_is_delong_s_without_groups_and_does_not_shrink_by_copies() -> None:
    rng = np.random.default_rng(2)
    bad = rng.random(200) < 0.4
    scores = rng.normal(size=200) + bad
    placements = delong_placements(scores, bad)
    plain = math.sqrt(delong_variance(*placements))
    assert auc_standard_error(placements, bad, np.arange(200)) == pytest.approx(plain, rel=0.01)
    many, many_bad = np.repeat(scores, 8), np.repeat(bad, 8)
    grouped = auc_standard_error(
        delong_placements(many, many_bad), many_bad, np.repeat(np.arange(200), 8)
    )
    assert grouped == pytest.approx(plain, rel=0.02)
    roc = analyse_roc(many, many_bad)
    wide = regroup_roc(roc, many, many_bad, np.repeat(np.arange(200), 8))
    assert roc is not None
    assert wide is not None
    assert wide.auc == roc.auc
    assert wide.auc_high - wide.auc_low > 2 * (roc.auc_high - roc.auc_low)
    for narrow, at in zip(roc.recall_at, wide.recall_at, strict=True):
        assert (at.recall.hits, at.recall.total) == (narrow.recall.hits, narrow.recall.total)
        assert at.recall.high - at.recall.low > 2 * (narrow.recall.high - narrow.recall.low)


def test_two_groups_that_agree_prove_no_more_than_their_images() -> None:
    scores = np.array([0.1, 0.9, 0.4, 0.6, 0.1, 0.9, 0.4, 0.6])
    bad = np.array([False, True, True, False] * 2)
    roc = analyse_roc(scores, bad)
    grouped = regroup_roc(roc, scores, bad, np.repeat([0, 1], 4))
    assert roc is not None
    assert grouped is not None
    assert (grouped.auc_low, grouped.auc_high) == pytest.approx(
        (roc.auc_low, roc.auc_high), abs=0.1
    )
    one = regroup_roc(roc, scores, bad, np.zeros(8, np.int64))
    assert one is not None
    assert (one.auc_low, one.auc_high) == (0, 1)


def results(copies: int) -> list:
    rng = np.random.default_rng(3)
    out = []
    for index in range(40):
        bad = index % 2 == 0
        pixels = rng.integers(1, 50, (2, 2)) * (1 if bad else np.array([[1, 1], [0, 0]]))
        rejected = bool(rng.random() < (0.8 if bad else 0.1))
        for copy in range(copies):
            out.append(
                make_result(
                    f"p{index}-{copy}", is_defective=bad, is_rejected=rejected, confusion=pixels
                )
            )
    return out


def test_all_rates_and_overlaps_widen() -> None:
    single, many = results(1), results(6)
    clusters = np.repeat(np.arange(40), 6)
    plain, grouped = (
        measure_decisions(many),
        regroup_decisions(measure_decisions(many), many, clusters),
    )
    for name in ("accuracy", "precision", "recall", "escape", "overkill"):
        one, other = getattr(plain, name), getattr(grouped, name)
        assert (one.hits, one.total, one.value) == (other.hits, other.total, other.value)
        assert other.high - other.low > 1.5 * (one.high - one.low)

    def width(interval: object) -> float:
        return interval.miou_high - interval.miou_low  # type: ignore[attr-defined]

    once = width(overlap_interval(single, None, 1))
    assert width(overlap_interval(many, clusters, 1)) == pytest.approx(once, rel=0.15)
    assert width(overlap_interval(many, None, 1)) < 0.6 * once


def test_an_overlap_needs_masks_and_a_defect() -> None:
    assert (
        overlap_interval([make_result("a", is_defective=True, is_rejected=True)], None, 1) is None
    )
    empty = make_result(
        "a", is_defective=False, is_rejected=False, confusion=np.array([[9, 1], [0, 0]])
    )
    assert overlap_interval([empty, empty], None, 1) is None


def test_a_comparison_over_groups_claims_less() -> None:
    rng = np.random.default_rng(5)
    wrong_a = np.repeat(rng.random(30) < 0.5, 10)
    wrong_b = np.repeat(rng.random(30) < 0.3, 10)
    clusters = np.repeat(np.arange(30), 10)
    plain = compare_errors("escape rate", wrong_a, wrong_b)
    grouped = compare_errors("escape rate", wrong_a, wrong_b, clusters)
    assert grouped.rate.difference == plain.rate.difference
    assert grouped.p_value > plain.p_value
    assert grouped.rate.high - grouped.rate.low > 2 * (plain.rate.high - plain.rate.low)
    bad = np.repeat(rng.random(30) < 0.5, 10)
    a, b = (np.repeat(rng.random(30), 10) for _ in range(2))
    one, other = compare_auc(a, b, bad), compare_auc(a, b, bad, clusters)
    assert one is not None
    assert other is not None
    assert other.high - other.low > 2 * (one.high - one.low)
    assert paired_p_value(np.zeros(4), np.arange(4)) == 1


def test_a_comparison_says_how_many_groups_it_has() -> None:
    many = results(2)
    groups = {one.name: one.name.partition("-")[0] for one in many}
    done = compare_results(many, many, [None] * len(many), classes=("defect",), groups=groups)
    assert done.groups == 40
    assert compare_results(many, many, [None] * len(many), classes=("defect",)).groups is None


def test_good_images_do_not_narrow_the_interval_of_the_overlap() -> None:
    """Three missed defects prove as little beside three good images as beside a hundred."""
    missed, good = np.array([[900, 0], [100, 0]]), np.array([[1000, 0], [0, 0]])
    expected = wilson_interval(0, 3)[1]
    for count in (3, 100):
        frames = [
            make_result(f"p{index}", is_defective=index < 3, is_rejected=False, confusion=pixels)
            for index, pixels in enumerate((*[missed] * 3, *[good] * count))
        ]
        found = overlap_interval(frames, None, 1)
        assert found is not None
        assert found.mean_dice_high == pytest.approx(expected)
