"""Connected areas: independent of their position on the class map; none on a clean map."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeinspect.imaging.blobs import Blobs, find_blobs


def areas(class_map: NDArray[np.uint8], classes: int = 3) -> NDArray[np.float32]:
    """Count the pixels of each class as a model does."""
    return np.array([(class_map == k + 1).sum() for k in range(classes)], np.float32)


SCORES = np.array([0.9, 0.8, 0.7], np.float32)


def placed(blob: Blobs) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Return (x, y, width, height, area) and centroid on the whole map, sorted."""
    at = (blob.left_px, blob.top_px)
    return sorted(
        (
            (stats[0] + at[0], stats[1] + at[1], *stats[2:]),
            tuple(np.round(np.add(centroid, at), 6)),
        )
        for stats, centroid in zip(blob.stats, blob.centroids, strict=True)
    )


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 24), st.integers(1, 40)),
    st.sampled_from([0.0, 0.02, 0.3, 0.9]),
)
def test_blobs_equal_those_of_opencv_on_the_whole_map(
    seed: int, shape: tuple[int, int], density: float
) -> None:
    random = np.random.default_rng(seed)
    class_map = (random.integers(1, 4, shape) * (random.random(shape) < density)).astype(np.uint8)
    blobs = find_blobs(class_map, areas(class_map), SCORES)
    assert [blob.class_id for blob in blobs] == sorted(set(class_map.ravel().tolist()) - {0})
    for blob in blobs:
        binary = (class_map == blob.class_id).astype(np.uint8)
        _count, _labels, stats, centroids = cv2.connectedComponentsWithStats(binary)
        want = zip(stats[1:].tolist(), centroids[1:].tolist(), strict=True)
        assert placed(blob) == sorted((tuple(a), tuple(np.round(b, 6))) for a, b in want)
        assert blob.largest_px == stats[1:, 4].max()
        assert blob.score == pytest.approx(float(SCORES[blob.class_id - 1]))


def test_a_clean_map_has_no_blobs() -> None:
    clean = np.zeros((128, 800), np.uint8)
    assert find_blobs(clean, areas(clean), SCORES) == []
    assert find_blobs(clean, np.array([0, 5, 0], np.float32), SCORES) == []


def test_blobs_in_the_corners_are_found() -> None:
    class_map = np.zeros((128, 800), np.uint8)
    class_map[0, 0] = class_map[127, 799] = 2
    (blob,) = find_blobs(class_map, areas(class_map), SCORES)
    assert placed(blob) == [((0, 0, 1, 1, 1), (0.0, 0.0)), ((799, 127, 1, 1, 1), (799.0, 127.0))]
