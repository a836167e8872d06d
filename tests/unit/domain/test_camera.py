"""Gaps in the frame counter of a camera."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain import FrameGapDetector


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=30))
def test_every_step_of_the_counter_is_a_gap_except_a_restart(steps: list[int]) -> None:
    gaps, frame_id, missing = FrameGapDetector(), 1, 0
    assert not gaps.missing_ids(1)
    for step in steps:
        frame_id += step
        ids = gaps.missing_ids(frame_id)
        missing += len(ids)
        assert list(ids) == (list(range(frame_id - step + 1, frame_id)) if step <= 1000 else [])
    gaps.reset()
    assert not gaps.missing_ids(5)
    assert missing == sum(step - 1 for step in steps if step <= 1000)


@given(st.integers(0, 5), st.integers(-1500, 1500))
def test_a_frame_that_is_not_newer_is_repeated(first: int, step: int) -> None:
    gaps = FrameGapDetector()
    assert not gaps.is_repeated(first)
    assert not gaps.missing_ids(first)
    assert gaps.is_repeated(first + step) == (-1000 < step <= 0)
