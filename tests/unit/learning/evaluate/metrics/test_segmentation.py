from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.evaluate.metrics.segmentation import measure_segmentation


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


def test_without_a_labelled_defect_the_mean_is_undefined() -> None:
    result = measure_segmentation([np.array([[90, 10, 0], [0, 0, 0], [0, 0, 0]])], ("a", "b"))
    assert result is not None
    assert (result.miou, result.mean_dice) == (None, None)
    assert result.classes[0].iou == pytest.approx(0.9)
    result = measure_segmentation([np.array([[90, 0, 0], [0, 0, 0], [0, 0, 0]])], ("a", "b"))
    assert result is not None
    assert result.miou is None


def test_a_class_that_is_nowhere_does_not_lower_the_mean() -> None:
    result = measure_segmentation([np.array([[90, 0, 0], [0, 10, 0], [0, 0, 0]])], ("a", "b"))
    assert result is not None
    assert (result.miou, result.mean_dice) == (1.0, 1.0)
