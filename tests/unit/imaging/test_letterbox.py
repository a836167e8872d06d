"""Letterboxing of images of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.errors import DataError
from edgeinspect.imaging import letterbox_image, upsample_class_map


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([None, 1, 3]))
def test_any_size_fits_inside(height: int, width: int, channels: int | None) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    frame, scale, left, top = letterbox_image(np.full(shape, 200, np.uint8), 40, 64)
    assert frame.shape == (40, 64, *shape[2:])
    assert scale == min(40 / height, 64 / width)
    filled = frame.reshape(40, 64, -1)[:, :, 0] > 0
    rows, columns = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
    assert rows[0] == top
    assert columns[0] == left
    assert len(rows) == max(1, min(40, round(height * scale)))
    assert len(columns) == max(1, min(64, round(width * scale)))
    assert filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_same_size_is_unchanged() -> None:
    image = np.arange(40 * 64, dtype=np.uint8).reshape(40, 64)
    frame, scale, left, top = letterbox_image(image, 40, 64)
    assert np.array_equal(frame, image)
    assert (scale, left, top) == (1.0, 0, 0)


def test_a_class_map_is_upsampled_by_its_stride_and_cropped() -> None:
    class_map = np.array([[0, 1], [2, 3]], np.uint8)
    assert upsample_class_map(class_map, 2, 3, 4).tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [2, 2, 3, 3],
    ]
    with pytest.raises(DataError, match="the class map is 4 x 4 px, its image 5 x 4 px"):
        upsample_class_map(class_map, 2, 5, 4)
