"""The synthetic strip: reproducible, varied, and not separable by mean grey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.imaging.synthetic_strip import CLASS_NAMES, render_strip


def test_seed_and_index_determine_every_pixel() -> None:
    later = render_strip(3, 7)
    render_strip(3, 1)
    again = render_strip(3, 7)
    assert np.array_equal(later.image, again.image)
    assert np.array_equal(later.mask, again.mask)
    assert not np.array_equal(later.image, render_strip(3, 8).image)
    assert not np.array_equal(later.image, render_strip(4, 7).image)


@pytest.mark.parametrize("size", [(256, 1600), (64, 128), (300, 2500)])
def test_sizes_and_types(size: tuple[int, int]) -> None:
    image = render_strip(1, 2, *size)
    assert image.image.shape == image.mask.shape == size
    assert image.image.dtype == image.mask.dtype == np.uint8
    assert image.mask.max() <= len(CLASS_NAMES)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 300))
@settings(deadline=None, max_examples=150)
def test_any_size_is_rendered(index: int, height_px: int, width_px: int) -> None:
    image = render_strip(5, index, height_px, width_px)
    assert image.image.shape == image.mask.shape == (height_px, width_px)
    assert image.image.flags.c_contiguous


@pytest.mark.slow
def test_class_shares_follow_severstal() -> None:
    images = [render_strip(99, index) for index in range(300)]
    defective = [image for image in images if image.has_defect]
    assert 0.35 < len(defective) / len(images) < 0.5
    counts = [
        sum(bool((image.mask == class_id).any()) for image in defective) for class_id in range(1, 5)
    ]
    assert counts.index(max(counts)) == 2
    assert min(counts) > 0
    assert min(int((image.mask > 0).sum()) for image in defective) >= 20


def test_mean_grey_does_not_separate_defective_from_clean() -> None:
    images = [render_strip(98, index) for index in range(200)]
    means = np.array([image.image.mean() for image in images])
    labels = np.array([image.has_defect for image in images])
    bad, good = means[labels], means[~labels]
    auc = (bad[:, None] > good[None, :]).mean()
    assert 0.35 < auc < 0.65
