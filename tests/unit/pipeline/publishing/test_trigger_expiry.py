"""No frame for a part that may have passed, whichever clock is wrong or thread was stalled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, STALL_NS
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.pipeline.publishing.trigger_expiry import QUEUE_AGE_MAX_NS, TriggerExpiry
from edgeinspect.system import boot_id
from edgeinspect.wire.requests import TriggerRequest

MS = NS_PER_MS


def look(expiry: TriggerExpiry, *, empty: bool = True) -> None:
    at_ns = expiry.begin_poll()
    if empty:
        expiry.record_empty(at_ns)


def test_a_trigger_without_an_expiry_gets_half_a_second() -> None:
    clock = ManualClock()
    expiry = TriggerExpiry(clock)
    look(expiry)
    empty_ns = clock.now_ns()
    clock.advance(3 * MS)
    look(expiry, empty=False)
    assert expiry.expires_at_ns(TriggerRequest(camera="top")) == empty_ns + QUEUE_AGE_MAX_NS


def test_triggers_that_queued_during_a_stall_have_expired() -> None:
    clock = ManualClock()
    expiry = TriggerExpiry(clock)
    look(expiry)
    clock.advance(2 * NS_PER_S)  # SIGSTOP
    for _ in range(3):  # the thread that reads the network wakes up later still
        look(expiry)
        clock.advance(50 * MS)
        for request in (
            TriggerRequest(camera="top"),
            TriggerRequest(camera="top", expires_utc_ns=clock.utc_ns() + NS_PER_S),
        ):
            assert expiry.expires_at_ns(request) <= clock.now_ns()
    clock.advance(STALL_NS)
    look(expiry)
    look(expiry)
    clock.advance(STALL_NS)
    look(expiry)
    assert expiry.expires_at_ns(TriggerRequest(camera="top")) > clock.now_ns()


@given(step_ms=st.integers(-100_000, 100_000), valid_ms=st.integers(-1000, 400))
def test_on_one_pc_a_step_of_the_wall_clock_does_not_move_the_expiry(
    step_ms: int, valid_ms: int
) -> None:
    clock = ManualClock()
    expiry = TriggerExpiry(clock)
    look(expiry)
    wanted_ns = clock.now_ns() + valid_ms * MS
    request = TriggerRequest(
        camera="top",
        boot_id=boot_id.boot_id(),
        expires_monotonic_ns=wanted_ns,
        expires_utc_ns=clock.utc_ns() + (valid_ms + step_ms) * MS,
    )
    assert expiry.expires_at_ns(request) == wanted_ns


def test_the_monotonic_clock_of_another_pc_is_not_used() -> None:
    clock = ManualClock()
    expiry = TriggerExpiry(clock)
    look(expiry)
    request = TriggerRequest(
        camera="top",
        boot_id="another/1",
        expires_monotonic_ns=clock.now_ns() + 10 * NS_PER_S,
        expires_utc_ns=clock.utc_ns() + 100 * MS,
    )
    assert expiry.expires_at_ns(request) == clock.now_ns() + 100 * MS


def test_a_distant_expiry_is_limited_by_the_queue() -> None:
    """A trigger valid for an hour gets half a second from its earliest possible arrival."""
    clock = ManualClock()
    expiry = TriggerExpiry(clock)
    look(expiry)
    for hour_ns in (clock.now_ns() + 3600 * NS_PER_S,):
        request = TriggerRequest(
            camera="top", boot_id=boot_id.boot_id(), expires_monotonic_ns=hour_ns
        )
        assert expiry.expires_at_ns(request) == clock.now_ns() + QUEUE_AGE_MAX_NS
