"""The classification of a gate with kinds, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain import Decides
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.kinds import Classification, measure_kinds
from edgeinspect.learning.evaluate.metrics.rates import wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import analyse_roc, average_precision

KINDS = ("pit", "burr", "stain")


def frame(true: int | tuple[int, ...], *probs: float, good: bool = False) -> FrameResult:
    kinds = (true,) if isinstance(true, int) and true else true if isinstance(true, tuple) else ()
    return FrameResult(
        "x", not good, False, "gate", sum(probs), sum(probs), kind_probs=probs, true_kinds=kinds
    )


def test_confusion_recall_and_precision() -> None:
    results = [
        frame(0, 0.1, 0.1, 0.1, good=True),
        frame(0, 0.6, 0.1, 0.1, good=True),
        frame(1, 0.9, 0.0, 0.0),
        frame(1, 0.2, 0.1, 0.0),
        frame(2, 0.1, 0.7, 0.1),
        frame((1, 2), 0.9, 0.0, 0.0),
        frame((), 0.9, 0.0, 0.0),
    ]
    found = measure_kinds(results, KINDS, Decides.DEFECTS)
    assert found is not None
    assert found.names == ("good", *KINDS)
    assert found.confusion == ((1, 1, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0))
    assert [(one.images, one.recall.value, one.precision.value) for one in found.classes] == [
        (2, 0.5, 0.5),
        (2, 0.5, 0.5),
        (1, 1.0, 1.0),
        (0, None, None),
    ]
    assert (found.accuracy.hits, found.accuracy.total) == (3, 5)
    assert found.balanced_accuracy == pytest.approx(2 / 3)
    assert (found.several_kinds, found.unknown_kind, found.good_left_out) == (1, 1, 0)


def test_a_model_of_kinds_leaves_good_images_out() -> None:
    results = [frame(0, 0.9, 0.1, 0.0, good=True), frame(1, 0.4, 0.3, 0.3), frame(3, 0.4, 0.3, 0.3)]
    found = measure_kinds(results, KINDS, Decides.KINDS)
    assert found is not None
    assert found.names == KINDS
    assert found.confusion == ((1, 0, 0), (0, 0, 0), (1, 0, 0))
    assert found.good_left_out == 1
    assert found.balanced_accuracy == 0.5


def test_nothing_known_is_nothing_measured() -> None:
    assert measure_kinds([frame((), 0.9, 0.0, 0.0)], KINDS, Decides.DEFECTS) is None
    only_good = [frame(0, 0.1, 0.1, 0.1, good=True)]
    assert measure_kinds(only_good, KINDS, Decides.DEFECTS) is None
    assert measure_kinds(only_good, KINDS, Decides.KINDS) is None
    assert measure_kinds([frame(1)], (), Decides.DEFECTS) is None


images = st.lists(
    st.tuples(st.integers(0, 3), st.tuples(*[st.floats(0, 0.33)] * 3)), min_size=1, max_size=40
)


@given(images)
def test_the_matrix_counts_every_image_once(rows: list[tuple[int, tuple[float, ...]]]) -> None:
    results = [frame(true, *probs, good=true == 0) for true, probs in rows]
    found = measure_kinds(results, KINDS, Decides.DEFECTS)
    if found is None:
        assert all(true == 0 for true, _probs in rows)
        return
    matrix = np.array(found.confusion)
    assert matrix.sum() == len(rows)
    assert matrix.sum(axis=1).tolist() == [sum(t == i for t, _ in rows) for i in range(4)]
    best = [int(np.argmax((1 - sum(probs), *probs))) for _t, probs in rows]
    assert matrix.sum(axis=0).tolist() == [best.count(i) for i in range(4)]
    assert found.balanced_accuracy is not None
    assert found.balanced_accuracy_low <= found.balanced_accuracy <= found.balanced_accuracy_high


def test_the_interval_covers_the_true_balanced_accuracy() -> None:
    rng = np.random.default_rng(4)
    true_recalls = (0.95, 0.8, 0.9)
    covered = 0
    for _round in range(200):
        results = []
        for kind, recall in enumerate(true_recalls, start=1):
            for _image in range(30):
                right = rng.random() < recall
                probs = [0.1, 0.1, 0.1]
                probs[(kind if right else kind % 3 + 1) - 1] = 0.7
                results.append(frame(kind, *probs))
        found = measure_kinds(results, KINDS, Decides.KINDS)
        assert isinstance(found, Classification)
        true = float(np.mean(true_recalls))
        covered += found.balanced_accuracy_low <= true <= found.balanced_accuracy_high
    assert 180 <= covered <= 200


def test_average_precision_is_the_sum_of_steps() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    bad = np.array([True, False, True, True, False])
    assert average_precision(scores, bad) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    tied = np.array([0.9, 0.9, 0.1])
    assert average_precision(tied, np.array([True, False, False])) == pytest.approx(0.5)


def test_the_interval_of_the_average_precision() -> None:
    rng = np.random.default_rng(5)
    bad = rng.random(400) < 0.2
    scores = np.round(rng.normal(bad * 1.5, 1.0), 2)
    roc = analyse_roc(scores, bad)
    assert roc is not None
    assert roc == analyse_roc(scores, bad), "the same seed gives the same interval"
    assert roc.average_precision_low < roc.average_precision < roc.average_precision_high
    values = []
    good, defective = np.flatnonzero(~bad), np.flatnonzero(bad)
    for _round in range(400):
        drawn = np.concatenate([rng.choice(good, len(good)), rng.choice(defective, len(defective))])
        values.append(average_precision(scores[drawn], bad[drawn]))
    low, high = np.quantile(values, (0.025, 0.975))
    assert roc.average_precision_low == pytest.approx(low, abs=0.03)
    assert roc.average_precision_high == pytest.approx(high, abs=0.03)
    perfect = analyse_roc(bad.astype(np.float64), bad)
    assert perfect is not None
    assert perfect.average_precision_low == wilson_interval(bad.sum(), bad.sum())[0]
    assert perfect.average_precision_high == 1
