"""Pixel AUC and overlap of regions, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.learning.datasets import VOID
from edgeinspect.learning.evaluate import PixelRanking
from edgeinspect.learning.evaluate.metrics.roc import classifier_scores


def example(seed: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 10:30] = 1
    mask[30:33, 50:53] = 2
    values = rng.uniform(0, 0.5, mask.shape) + shift * (mask > 0)
    return values.astype(np.float32), mask


def test_the_pixel_auc_is_that_of_all_pixels_together():
    ranking, values, labels = PixelRanking(), [], []
    for seed in range(3):
        image, mask = example(seed, 0.2)
        ranking.add(image, mask)
        values.append(image.ravel())
        labels.append(mask.ravel() > 0)
    exact = classifier_scores(np.concatenate(values), np.concatenate(labels), (0.01,)).auc
    result = ranking.result()
    assert result is not None
    assert result.auc == pytest.approx(exact, abs=2e-4)
    assert result.regions == 6
    assert result.defect_px == 3 * 209


def test_the_overlap_is_the_mean_over_regions_however_small():
    image, mask = example(1, 0.5)
    ranking = PixelRanking()
    ranking.add(image, mask)
    perfect = ranking.result()
    assert perfect is not None
    assert perfect.region_overlap == pytest.approx(1.0, abs=1e-3)
    missed = image.copy()
    missed[mask == 2] = 0.0  # 9 of 209 pixels, and one of two regions
    ranking = PixelRanking()
    ranking.add(missed, mask)
    half = ranking.result()
    assert half is not None
    assert half.region_overlap == pytest.approx(0.5, abs=1e-2)
    assert half.auc > 0.95


def test_void_pixels_count_for_nothing():
    image, mask = example(2, 0.3)
    with_void = mask.copy()
    with_void[:, :8] = VOID
    ranking, cut = PixelRanking(), PixelRanking()
    ranking.add(image, with_void)
    cut.add(image[:, 8:], mask[:, 8:])
    assert ranking.result() == cut.result()


def test_without_pixels_of_both_kinds_there_is_no_result():
    ranking = PixelRanking()
    assert ranking.result() is None
    ranking.add(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.uint8))
    assert ranking.result() is None
