"""Thresholds from the scores of held-out good images."""

from __future__ import annotations

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.learning.train.anomaly.anomaly_map import ScoreScale, image_score, output_stride
from edgeinspect.learning.train.anomaly.false_rejects import (
    choose_threshold,
    limit_for_rate,
    student_quantile,
)
from edgeinspect.learning.train.anomaly.held_out import assign_folds


@pytest.mark.parametrize(
    ("freedom", "probability", "value"),
    [
        (1, 0.95, 6.3138),
        (2, 0.99, 6.9646),
        (3, 0.99, 4.5407),
        (5, 0.999, 5.8934),
        (40, 0.9, 1.3031),
    ],
)
def test_quantiles_of_students_distribution_are_those_of_the_tables(freedom, probability, value):
    assert student_quantile(probability, freedom) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.1])
def test_with_enough_images_the_wanted_share_lies_above(rate):
    scores = np.random.default_rng(1).normal(10, 1, 400)
    limit, is_extrapolated = limit_for_rate(scores, rate)
    assert (scores > limit).sum() == int(rate * 400)
    assert not is_extrapolated


def test_too_few_images_give_a_threshold_beyond_all_of_them():
    scores = np.array([10.0, 10.5, 11.0, 10.2])
    one, few = limit_for_rate(scores, 0.01), limit_for_rate(scores, 0.1)
    assert one[1]
    assert few[1]
    assert one[0] > few[0] > 11.0


def test_the_rate_holds_for_images_that_were_not_counted():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(200):
        limit, _extrapolated = limit_for_rate(np.exp(rng.normal(2, 0.1, 12)), 0.01)
        rates.append((np.exp(rng.normal(2, 0.1, 2000)) > limit).mean())
    assert 0.004 < np.mean(rates) < 0.02


def test_equal_images_do_not_make_a_threshold_at_their_score():
    limit, _extrapolated = limit_for_rate(np.full(5, 7.0), 0.01)
    assert limit > 7.1


def test_defective_images_raise_the_threshold_and_are_still_found():
    scores = np.linspace(9, 10, 200)
    plain = choose_threshold(scores, 0.05)
    raised = choose_threshold(scores, 0.05, [12.0, 13.0, 9.2])
    assert plain.scale.threshold < raised.scale.threshold < 12.0
    assert raised.raised_by == 2
    assert raised.rejected == 0
    # A missed one does not lower it: the wanted rate stays what was asked for.
    assert choose_threshold(scores, 0.05, [9.2]).scale == plain.scale


def test_the_document_says_what_so_few_images_can_show():
    scores = np.linspace(9, 10, 30)
    document = choose_threshold(scores, 0.01).to_document(scores)
    assert document["extrapolated"]
    assert document["lowest_rate_shown"] == pytest.approx(0.1)
    assert document["interval"][1] > 0.05
    probs = [row["defect_prob"] for row in document["thresholds"]]
    assert probs == sorted(probs, reverse=True)
    assert next(r for r in document["thresholds"] if r["rate"] == 0.01)["defect_prob"] == 0.5


def test_the_scale_is_monotone_and_does_not_saturate():
    scale = ScoreScale(10.0, 0.5)
    values = torch.tensor([0.0, 9.0, 10.0, 12.0, 500.0, 501.0])
    probs = scale.probability(values)
    assert float(probs[2]) == 0.5
    assert bool((probs.diff() > 0).all())
    assert float(probs[0]) > 0
    assert float(probs[-1]) < 1


def test_the_score_is_the_mean_of_the_largest_cells():
    values = torch.zeros(1, 1, 20, 20)
    values[0, 0, 3, 4], values[0, 0, 3, 5] = 8.0, 4.0
    assert float(image_score(values)) == 3.0


@pytest.mark.parametrize(
    ("size", "stride"), [((512, 512), 8), ((500, 1250), 2), ((100, 104), 4), ((35, 64), 1)]
)
def test_the_output_stride_divides_the_frame(size, stride):
    assert output_stride(*size) == stride


def test_folds_hold_every_image_once_and_whole_groups():
    folds = assign_folds([f"part {number // 3}" for number in range(60)], seed=1)
    assert sorted(number for fold in folds for number in fold) == list(range(60))
    assert len(folds) == 5
    for fold in folds:
        assert all(number // 3 * 3 + one in fold for number in fold for one in range(3))
    assert len(assign_folds([""] * 4, seed=1)) == 4
    assert len(assign_folds(["one part"] * 4, seed=1)) == 4, "a bank of no image at all"
