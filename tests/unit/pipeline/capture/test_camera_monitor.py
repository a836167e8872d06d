"""Detection of a silent camera, and of gaps in its frame counter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.pipeline.capture.camera_monitor import (
    FIRST_FRAME_TIMEOUT_NS,
    CameraSilenceMonitor,
)

TIMEOUT_NS = 200 * NS_PER_MS


@given(st.integers(NS_PER_MS, 2 * NS_PER_S))
def test_silence_is_noticed_after_the_timeout_or_three_periods(period_ns: int) -> None:
    monitor = CameraSilenceMonitor(TIMEOUT_NS)
    monitor.on_open()
    monitor.on_frame()
    limit_ns = max(TIMEOUT_NS, 3 * period_ns)
    silent_for_ns = 0
    while not monitor.is_silent(period_ns):
        wait_ns = monitor.next_wait_ns(period_ns)
        assert 0 < wait_ns <= 100 * NS_PER_MS
        monitor.on_timeout(wait_ns, wait_ns)
        silent_for_ns += wait_ns
    assert limit_ns <= silent_for_ns < limit_ns + 2 * NS_PER_MS


def test_time_in_which_the_daemon_was_stopped_does_not_count() -> None:
    monitor = CameraSilenceMonitor(TIMEOUT_NS)
    monitor.on_open()
    monitor.on_frame()
    wait_ns = monitor.next_wait_ns(10 * NS_PER_MS)
    monitor.on_timeout(wait_ns, 60 * NS_PER_S)
    assert not monitor.is_silent(10 * NS_PER_MS)


def test_the_first_frame_may_take_longer_and_a_triggered_one_any_time() -> None:
    monitor = CameraSilenceMonitor(TIMEOUT_NS)
    monitor.on_open()
    monitor.on_timeout(FIRST_FRAME_TIMEOUT_NS, FIRST_FRAME_TIMEOUT_NS - 1)
    assert not monitor.is_silent(10 * NS_PER_MS)
    monitor.on_timeout(NS_PER_MS, NS_PER_MS)
    assert monitor.is_silent(10 * NS_PER_MS)
    assert not monitor.is_silent(None)
