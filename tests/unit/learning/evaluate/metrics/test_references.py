"""Metrics against scipy and scikit-learn, which the product does not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.learning.evaluate.metrics.calibration_curve import (
    fit_platt_scaling,
    measure_reliability,
)
from edgeinspect.learning.evaluate.metrics.paired_tests import mcnemar_p_value
from edgeinspect.learning.evaluate.metrics.rates import wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import analyse_roc, roc_curve
from edgeinspect.learning.evaluate.metrics.segmentation import confusion_matrix, iou_and_dice
from tests import needs

stats = needs.library("scipy.stats")
sklearn_metrics = needs.library("sklearn.metrics")


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (0, 60), (3, 60), (60, 60), (1234, 5000)])
def test_wilson_interval(hits: int, total: int) -> None:
    confidence = 2 * stats.norm.cdf(1.96) - 1  # scipy's 95 % is z = 1.95996
    interval = stats.binomtest(hits, total).proportion_ci(confidence, "wilson")
    assert wilson_interval(hits, total) == pytest.approx((interval.low, interval.high), abs=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (0, 8), (5, 5), (3, 17), (200, 260)])
def test_mcnemar(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_roc(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    bad = rng.random(400) < 0.3
    scores = np.round(rng.random(400) * 0.6 + bad * 0.3, decimals)
    roc = analyse_roc(scores, bad)
    assert roc is not None
    assert roc.auc == pytest.approx(sklearn_metrics.roc_auc_score(bad, scores), abs=1e-9)
    average_precision = sklearn_metrics.average_precision_score(bad, scores)
    assert roc.average_precision == pytest.approx(average_precision, abs=1e-9)
    false_rejects, recall, thresholds = sklearn_metrics.roc_curve(
        bad, scores, drop_intermediate=False
    )
    points = roc_curve(scores, bad)
    assert [p.false_reject_ratio for p in points] == pytest.approx(false_rejects[1:], abs=1e-9)
    assert [p.recall for p in points] == pytest.approx(recall[1:], abs=1e-9)
    assert [p.threshold for p in points] == thresholds[1:].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_calibration(seed: int) -> None:
    linear_model = needs.library("sklearn.linear_model")
    rng = np.random.default_rng(seed)
    bad = rng.random(500) < 0.3
    probs = np.clip(rng.random(500) * 0.5 + bad * 0.4, 0.001, 0.999)
    reliability = measure_reliability(probs, bad)
    assert reliability is not None
    assert reliability.brier == pytest.approx(
        sklearn_metrics.brier_score_loss(bad, probs), abs=1e-9
    )
    # Platt's smoothed targets as two weighted samples per image.
    positive = int(bad.sum())
    target = np.where(bad, (positive + 1) / (positive + 2), 1 / (len(bad) - positive + 2))
    logit = np.log(probs / (1 - probs))[:, None]
    model = linear_model.LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(
        np.vstack([logit, logit]),
        np.repeat([1, 0], len(bad)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    platt = fit_platt_scaling(probs, bad)
    expected = (model.coef_[0, 0], model.intercept_[0])
    assert (platt.slope, platt.offset) == pytest.approx(expected, abs=1e-6)


def test_segmentation() -> None:
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 4, (2, 3, 32, 32)).astype(np.uint8)
    matrix = confusion_matrix(list(predicted), true, 3)
    flat = true.ravel(), predicted.ravel()
    assert np.array_equal(matrix, sklearn_metrics.confusion_matrix(*flat))
    iou, dice = iou_and_dice(matrix)
    assert iou == pytest.approx(sklearn_metrics.jaccard_score(*flat, average=None), abs=1e-9)
    assert dice == pytest.approx(sklearn_metrics.f1_score(*flat, average=None), abs=1e-9)
