"""Clocks that jump: what counts as a step, what is marked, and what ages by it (nothing)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, SystemClock, read_utc_offset_ns
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.system.wall_clock import ClockStepDetector, RetentionClock, is_synchronised
from tests.unit.clocks import PreemptedClock

HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS
YEAR_NS = 365 * DAY_NS
JUMPS = (HOUR_NS, -HOUR_NS, 91 * DAY_NS, 10 * YEAR_NS, -56 * YEAR_NS)


def run(clock: ManualClock, watch: ClockStepDetector, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(NS_PER_S)
        watch.check()


@pytest.mark.parametrize("by_ns", [*JUMPS, 150 * NS_PER_MS, -150 * NS_PER_MS])
def test_a_step_is_found_marked_and_an_alarm_for_an_hour(by_ns: int) -> None:
    clock = ManualClock()
    watch = ClockStepDetector(clock, lambda: True)
    run(clock, watch, 5)
    captured_ns, captured_utc_ns = clock.now_ns(), clock.utc_ns()
    assert not watch.spans_step(captured_ns, captured_utc_ns)
    clock.utc_offset_ns += by_ns
    # Before anybody has looked: of a frame from before the step, and of one from after it.
    assert watch.spans_step(captured_ns, captured_utc_ns)
    assert watch.spans_step(clock.now_ns(), clock.utc_ns())
    step = watch.check()
    assert step is not None
    assert (step.by_ns, step.undone) == (by_ns, False)
    assert ("forward" if by_ns > 0 else "back") in watch.alarm
    run(clock, watch, 3500)
    assert watch.alarm
    assert watch.spans_step(clock.now_ns(), clock.utc_ns())
    run(clock, watch, 200)
    assert not watch.alarm
    assert not watch.spans_step(clock.now_ns(), clock.utc_ns())


def test_where_nobody_vouches_for_the_clock_the_mark_stays_and_the_alarm_goes() -> None:
    clock = ManualClock()
    watch = ClockStepDetector(clock, lambda: False)
    clock.utc_offset_ns += YEAR_NS
    run(clock, watch, 4000)
    assert watch.stepped
    assert not watch.alarm


def test_a_step_that_is_undone_is_over() -> None:
    clock = ManualClock()
    watch = ClockStepDetector(clock, lambda: False)
    clock.utc_offset_ns += YEAR_NS
    run(clock, watch, 3)
    stamp = clock.now_ns(), clock.utc_ns()
    clock.utc_offset_ns -= YEAR_NS
    step = watch.check()
    assert step is not None
    assert step.undone
    assert not watch.stepped
    assert not watch.alarm
    assert watch.spans_step(*stamp)  # of a frame captured while the clock stood wrong
    assert not watch.spans_step(clock.now_ns(), clock.utc_ns())


@pytest.mark.parametrize("by_ns", [-56 * YEAR_NS, -HOUR_NS, 91 * DAY_NS, 73 * YEAR_NS])
def test_a_start_with_a_wrong_clock_is_marked_until_it_is_set_right(by_ns: int) -> None:
    clock = ManualClock()
    last_utc_ns = clock.utc_ns()
    clock.utc_offset_ns += by_ns
    watch = ClockStepDetector(clock, lambda: False)
    step = watch.begin(last_utc_ns)
    assert step is not None
    assert step.by_ns == by_ns
    assert ("before" if by_ns < 0 else "after") in watch.alarm
    assert watch.spans_step(clock.now_ns(), clock.utc_ns())
    run(clock, watch, 10)
    clock.utc_offset_ns -= by_ns  # the server was reached
    run(clock, watch, 1)
    assert not watch.alarm
    assert not watch.stepped


@pytest.mark.parametrize("off_ns", [0, HOUR_NS, 3 * DAY_NS, 30 * DAY_NS])
def test_a_start_after_some_days_off_is_no_step(off_ns: int) -> None:
    clock = ManualClock()
    last_utc_ns = clock.utc_ns()
    clock.advance(off_ns)
    watch = ClockStepDetector(clock, lambda: False)
    assert watch.begin(last_utc_ns) is None
    assert not watch.alarm


@pytest.mark.parametrize(("utc_ns", "told"), [(37 * NS_PER_S, True), (None, False)])
def test_a_clock_that_was_never_set_is_told_without_a_verdict_before(
    utc_ns: int | None, told: bool
) -> None:
    clock = ManualClock()
    if utc_ns is not None:
        clock.utc_offset_ns = utc_ns - clock.now_ns()
    watch = ClockStepDetector(clock, lambda: False)
    assert (watch.begin(None) is not None) == told
    assert watch.stepped == told
    assert watch.alarm.endswith("before 2020: it was never set" if told else "")


def test_slewing_is_no_step() -> None:
    clock = ManualClock()
    watch = ClockStepDetector(clock, lambda: True)
    for _ in range(5000):  # 500 ppm apart: more than NTP may, which moves both clocks
        clock.advance(NS_PER_S)
        clock.utc_offset_ns += NS_PER_MS // 2
        assert watch.check() is None


def test_the_machines_own_clocks_do_not_step() -> None:
    watch = ClockStepDetector(SystemClock())
    assert watch.check() is None
    assert not watch.spans_step(time.monotonic_ns(), time.time_ns())
    assert isinstance(is_synchronised(), bool)


def test_a_pause_between_the_two_clocks_is_no_step() -> None:
    clock = PreemptedClock()
    watch = ClockStepDetector(clock)
    stamp = clock.now_ns(), clock.utc_ns()
    for look in (
        lambda: read_utc_offset_ns(clock) == clock.utc_offset_ns,
        lambda: watch.check() is None,
        lambda: not watch.spans_step(*stamp),
    ):
        clock.pauses = 3
        assert look()
        assert not clock.pauses


# -- age ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(1, HOUR_NS),
            st.sampled_from((0, 0, 0, *JUMPS)),
            st.booleans(),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_nothing_ages_more_than_five_times_as_fast_as_time_passes(
    turns: list[tuple[int, int, bool, bool]],
) -> None:
    """Whatever the clock does, in one process or over restarts."""
    said = [True]
    clock = ManualClock()
    kept = RetentionClock(clock, lambda: said[0])
    stored: tuple[int, int | None] = (0, None)
    kept.resume(*stored)
    passed_ns, before_ns = 0, 0
    for pause_ns, jump_ns, said[0], restarts in turns:
        clock.utc_offset_ns += jump_ns
        clock.advance(pause_ns)
        passed_ns += pause_ns
        now_ns = kept.now_ns()
        assert before_ns <= now_ns
        assert now_ns <= 5 * passed_ns
        before_ns = now_ns
        if restarts:
            stored = kept.store()
            kept = RetentionClock(clock, lambda: said[0])
            kept.resume(*stored)


@pytest.mark.parametrize("by_ns", JUMPS)
@pytest.mark.parametrize("synchronised", [True, False])
@pytest.mark.parametrize("restart", [True, False])
def test_a_jump_of_the_clock_ages_nothing(by_ns: int, synchronised: bool, restart: bool) -> None:
    clock = ManualClock()
    kept = RetentionClock(clock, lambda: synchronised)
    kept.resume(0, None)
    clock.advance(10 * NS_PER_S)
    kept.now_ns()
    clock.utc_offset_ns += by_ns
    if restart:
        stored = kept.store()
        kept = RetentionClock(clock, lambda: synchronised)
        kept.resume(stored[0], stored[1] - by_ns)
    for _ in range(300):
        clock.advance(10 * NS_PER_S)
        assert kept.now_ns() <= clock.now_ns()
    assert kept.now_ns() == clock.now_ns() - NS_PER_S  # it began at 1 s


def test_nights_count_once_the_clock_is_vouched_for() -> None:
    """A PC that is on for eight hours a day: a day is a day."""
    clock = ManualClock()
    stored: tuple[int, int | None] = (0, None)
    for day in range(10):
        kept = RetentionClock(clock, lambda: True)
        kept.resume(*stored)
        for _ in range(8 * 360):
            clock.advance(10 * NS_PER_S)
            kept.now_ns()
        assert kept.now_ns() == pytest.approx(day * DAY_NS + 8 * HOUR_NS, abs=NS_PER_S)
        stored = kept.store()
        clock.advance(16 * HOUR_NS)


def test_without_synchronisation_only_the_time_on_counts() -> None:
    clock = ManualClock()
    kept = RetentionClock(clock, lambda: False)
    kept.resume(5 * HOUR_NS, clock.utc_ns() - 30 * DAY_NS)
    for _ in range(1000):
        clock.advance(10 * NS_PER_S)
        kept.now_ns()
    assert kept.now_ns() == 5 * HOUR_NS + 10_000 * NS_PER_S
