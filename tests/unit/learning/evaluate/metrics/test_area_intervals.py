"""Intervals of AUC, average precision and overlap tell how little a few images prove."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeinspect.learning.evaluate.metrics.area_intervals import (
    auc_interval,
    bootstrap_interval,
    newcombe_interval,
)
from edgeinspect.learning.evaluate.metrics.grouped_metrics import regroup_roc
from edgeinspect.learning.evaluate.metrics.rates import wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import RocAnalysis, analyse_roc, classifier_scores


def analyse(scores: list[float], defective: list[bool]) -> RocAnalysis:
    roc = analyse_roc(np.array(scores), np.array(defective, np.bool_))
    assert roc is not None
    return roc


def test_an_end_is_1_96_standard_errors_of_that_end_away() -> None:
    """Hanley and McNeil's variance, written out, at the ends that were found."""
    for auc, bad, good in ((0.9, 8, 20), (0.5, 3, 3), (0.75, 40, 5), (1.0, 3, 3)):
        for end in newcombe_interval(auc, bad, good):
            q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
            number = (bad + good) / 2
            variance = end * (1 - end) + (number - 1) * (q1 + q2 - 2 * end**2)
            error = math.sqrt(max(0.0, variance) / (bad * good))
            assert abs(auc - end) == pytest.approx(1.96 * error, abs=1e-6)


def test_one_image_of_each_kind_is_one_try() -> None:
    assert newcombe_interval(1.0, 1, 1) == pytest.approx(wilson_interval(1, 1), abs=1e-9)
    assert newcombe_interval(1.0, 0, 5) == (0, 1)


def test_perfect_and_meaningless_scores_of_six_images_prove_little() -> None:
    bad = [True] * 3 + [False] * 3
    perfect = analyse([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], bad)
    assert perfect.auc == perfect.average_precision == 1
    assert perfect.auc_low < 0.51
    assert perfect.average_precision_low == pytest.approx(wilson_interval(3, 3)[0])
    constant = analyse([0.5] * 6, bad)
    assert constant.auc == 0.5
    assert constant.auc_low < 0.2
    assert constant.auc_high > 0.8
    assert constant.average_precision_high - constant.average_precision_low > 0.5


def test_an_error_does_not_narrow_the_interval() -> None:
    bad = np.arange(400) < 200
    scores = np.where(bad, 1.0, 0.0) + np.linspace(0, 0.5, 400)
    perfect = classifier_scores(scores, bad, ())
    scores[199], scores[200] = scores[200], scores[199]
    nearly = classifier_scores(scores, bad, ())
    assert nearly.auc < perfect.auc == 1
    assert nearly.auc_interval[0] <= perfect.auc_interval[0] < 1


def test_more_images_prove_more() -> None:
    lows = [newcombe_interval(1.0, each, each)[0] for each in (1, 3, 10, 100, 1000)]
    assert lows == sorted(lows)
    assert lows[-1] > 0.99


def test_groups_that_agree_prove_no_more_than_their_number() -> None:
    bad = np.arange(400) < 200
    scores = np.where(bad, 1.0, 0.0) + np.linspace(0, 0.5, 400)
    roc = regroup_roc(analyse_roc(scores, bad), scores, bad, np.arange(400) // 100)
    assert roc is not None
    assert (roc.auc_low, roc.auc_high) == newcombe_interval(1.0, 2, 2)


def test_groups_do_not_narrow_the_interval_of_few_images() -> None:
    bad = np.arange(8) < 4
    scores = np.array([0.9, 0.8, 0.7, 0.4, 0.5, 0.3, 0.2, 0.1])
    plain = analyse_roc(scores, bad)
    roc = regroup_roc(plain, scores, bad, np.arange(8) // 2)
    assert plain is not None
    assert roc is not None
    assert roc.auc_low <= plain.auc_low
    assert roc.auc_high >= plain.auc_high


def test_draws_that_agree_are_not_certainty() -> None:
    assert bootstrap_interval(1.0, 1.0, 1.0, 4) == wilson_interval(4, 4)
    assert bootstrap_interval(0.5, 0.5, 0.5, 4) == wilson_interval(2, 4)
    assert bootstrap_interval(0.9, 0.85, 0.95, 1000) == (0.85, 0.95)
    assert auc_interval(0.9, 0.02, 1000, 1000) == pytest.approx((0.88, 0.92))
