"""The watch over a camera's silence, and the count of its frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.pipeline.capture.camera_monitor import FIRST_FRAME_TIMEOUT_NS, CameraSilenceMonitor
from edgeinspect.pipeline.capture.frame_gaps import FrameGapDetector

TIMEOUT_NS = 200 * NS_PER_MS


@given(st.integers(NS_PER_MS, 2 * NS_PER_S))
def test_silence_is_noticed_after_the_timeout_or_three_periods(period_ns: int) -> None:
    watchdog = CameraSilenceMonitor(TIMEOUT_NS)
    watchdog.on_open()
    watchdog.on_frame()
    limit_ns = max(TIMEOUT_NS, 3 * period_ns)
    waited_ns = 0
    while not watchdog.is_silent(period_ns):
        asked_ns = watchdog.next_wait_ns(period_ns)
        assert 0 < asked_ns <= 100 * NS_PER_MS
        watchdog.on_timeout(asked_ns, asked_ns)
        waited_ns += asked_ns
    assert limit_ns <= waited_ns < limit_ns + 2 * NS_PER_MS


def test_a_daemon_that_was_stopped_does_not_blame_the_camera() -> None:
    watchdog = CameraSilenceMonitor(TIMEOUT_NS)
    watchdog.on_open()
    watchdog.on_frame()
    asked_ns = watchdog.next_wait_ns(10 * NS_PER_MS)
    watchdog.on_timeout(asked_ns, 60 * NS_PER_S)
    assert not watchdog.is_silent(10 * NS_PER_MS)


def test_the_first_frame_may_take_longer_and_a_trigger_for_ever() -> None:
    watchdog = CameraSilenceMonitor(TIMEOUT_NS)
    watchdog.on_open()
    watchdog.on_timeout(FIRST_FRAME_TIMEOUT_NS, FIRST_FRAME_TIMEOUT_NS - 1)
    assert not watchdog.is_silent(10 * NS_PER_MS)
    watchdog.on_timeout(NS_PER_MS, NS_PER_MS)
    assert watchdog.is_silent(10 * NS_PER_MS)
    assert not watchdog.is_silent(None)


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=30))
def test_every_step_of_the_count_is_accounted_but_a_restart(steps: list[int]) -> None:
    gaps, frame_id, missing = FrameGapDetector(), 1, 0
    assert not gaps.missing_ids(1)
    for step in steps:
        frame_id += step
        found = gaps.missing_ids(frame_id)
        missing += len(found)
        assert list(found) == (list(range(frame_id - step + 1, frame_id)) if step <= 1000 else [])
    gaps.reset()
    assert not gaps.missing_ids(5)
    assert missing == sum(step - 1 for step in steps if step <= 1000)
