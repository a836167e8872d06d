"""Run-length masks: Severstal's convention, and no hostile code gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeinspect.errors import DataError
from edgeinspect.imaging.runlength import (
    decode_classes,
    decode_runs,
    encode_classes,
    encode_runs,
)

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)


@given(arrays(np.uint8, shapes, elements=st.integers(0, 1)))
def test_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(decode_runs(encode_runs(mask), *mask.shape), mask)


@given(arrays(np.uint8, shapes, elements=st.integers(0, 4)))
def test_classes_round_trip(class_map: np.ndarray) -> None:
    assert np.array_equal(decode_classes(encode_classes(class_map), *class_map.shape), class_map)


def test_column_major_and_counted_from_one() -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1:3, 0] = 1
    mask[0, 1] = 1
    assert encode_runs(mask) == [2, 3]


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        ([1], "odd number"),
        ([1, 0], "length below 1"),
        ([1, -3], "length below 1"),
        ([0, 2], "outside"),
        ([12, 2], "outside"),
        ([5, 3, 6, 1], "overlaps"),
        ([5, 3, 1, 1], "overlaps or precedes"),
        ([1 << 62, 1], "outside"),
    ],
)
def test_bad_codes_are_named(runs: list[int], word: str) -> None:
    with pytest.raises(DataError, match=word):
        decode_runs(runs, 3, 4, where="a.csv:7")
