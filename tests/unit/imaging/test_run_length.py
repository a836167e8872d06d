"""Run-length masks by Severstal's convention; hostile codes are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeinspect.errors import DataError
from edgeinspect.imaging.run_length import (
    decode_classes,
    decode_runs,
    encode_classes,
    encode_runs,
    format_runs,
    parse_runs,
)

shapes = array_shapes(min_dims=2, max_dims=2, max_side=12)


@settings(deadline=None)  # the machine may be busy
@given(arrays(np.uint8, shapes, elements=st.integers(0, 1)))
def test_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(decode_runs(encode_runs(mask), *mask.shape), mask)


@settings(deadline=None)  # the machine may be busy
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
def test_invalid_codes_are_refused(runs: list[int], word: str) -> None:
    with pytest.raises(DataError, match=word):
        decode_runs(runs, 3, 4, where="a.csv:7")


def column_major_runs(mask: np.ndarray) -> list[int]:
    """Encode pixel by pixel, as the convention defines it."""
    runs: list[int] = []
    before = 0
    for place, value in enumerate(mask.T.ravel().tolist(), 1):
        if value and not before:
            runs += [place, 0]
        if value:
            runs[-1] += 1
        before = value
    return runs


@settings(deadline=None)  # the machine may be busy
@given(arrays(np.uint8, shapes, elements=st.integers(0, 1)))
def test_codes_follow_the_convention(mask: np.ndarray) -> None:
    assert encode_runs(mask) == column_major_runs(mask)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_valid_code_round_trips_with_adjacent_runs_joined(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    ends = sorted(data.draw(st.sets(st.integers(0, height * width))))
    edges = ends[: len(ends) // 2 * 2]
    runs = [v for i in range(0, len(edges), 2) for v in (edges[i] + 1, edges[i + 1] - edges[i])]
    assert encode_runs(decode_runs(runs, height, width)) == runs


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(-(10**12), 10**12)))
def test_any_numbers_give_a_mask_or_a_data_error(runs: list[int]) -> None:
    try:
        mask = decode_runs(runs, 7, 5, where="t.csv:9")
    except DataError as error:
        assert error.where == "t.csv:9"
    else:
        assert mask.sum() == sum(runs[1::2])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(1, 10**9)))
def test_text_round_trip(runs: list[int]) -> None:
    assert parse_runs(format_runs(runs)) == runs
    assert parse_runs("  " + "  ".join(map(str, runs)) + "\n") == runs


@settings(deadline=None)  # the machine may be busy
@given(st.text())
def test_any_text_gives_numbers_or_a_data_error(text: str) -> None:
    try:
        runs = parse_runs(text, where="t.csv:9")
    except DataError as error:
        assert error.where == "t.csv:9"
        assert "value" in error.what
    else:
        assert runs == [int(word) for word in text.split()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 x 4", "value 3 .*'x', not an integer"),
        ("1 2.0", "value 2 "),
        ("1,2", "value 1 "),
        ("1 ²", "value 2 "),
        ("1 " + "9" * 5000, "value 2 .* 5000 digits"),
    ],
)
def test_an_invalid_number_is_reported_with_its_position(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse_runs(text, where="train.csv:12")
    assert str(caught.value).startswith("train.csv:12: ")
