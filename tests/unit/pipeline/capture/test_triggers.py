"""The PLC's count of triggers against the frames: never a false alarm, exact after a pause."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.frame import NO_PART, Part
from edgeinspect.pipeline.capture.triggers import PendingTriggers, TriggerAudit

WITHIN_NS = 500 * NS_PER_MS
MODULO = 1 << 16


class TriggeredLine:
    """A PLC that sends triggers, a camera that may lose them, and the audit."""

    def __init__(self, count: int = 0) -> None:
        self.audit = TriggerAudit()
        self.now_ns = 10 * NS_PER_S
        self.count = count
        self.alarm = ""
        self.send_count(0)

    def send_count(self, age_ms: int) -> None:
        """Send the current count, `age_ms` old."""
        count = self.count % MODULO
        self.pass_ms(age_ms)
        self.audit.add_plc_count(count, MODULO, WITHIN_NS, self.now_ns)

    def part(self, *, triggered: bool = True, framed: bool = True, late_ms: int = 20) -> None:
        self.count += triggered
        if framed and self.audit.is_active:
            self.audit.add_frame(self.now_ns + late_ms * NS_PER_MS)

    def pass_ms(self, ms: int) -> None:
        self.now_ns += ms * NS_PER_MS
        self.alarm = self.audit.check(self.now_ns)

    def pause(self) -> None:
        for _ in range(10):
            self.pass_ms(500)
            self.send_count(0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["part", "part", "part", "count"]),
        st.integers(0, 450),  # age of a count, or delay of an exposure
        st.sampled_from([1, 5, 40, 300, 2500]),  # then
    ),
    max_size=120,
)


@settings(deadline=None)
@given(steps, st.integers(0, 3 * MODULO))
def test_a_line_without_loss_never_raises_an_alarm(
    script: list[tuple[str, int, int]], start: int
) -> None:
    line = TriggeredLine(start)
    for what, delay_ms, then_ms in script:
        line.send_count(delay_ms) if what == "count" else line.part(late_ms=delay_ms)
        line.pass_ms(then_ms)
        assert line.alarm == ""
    line.pause()
    assert line.alarm == ""


@settings(deadline=None)
@given(st.lists(st.sampled_from(["whole", "no frame", "no trigger"]), min_size=1, max_size=60))
def test_with_pauses_every_difference_is_found(parts: list[str]) -> None:
    line = TriggeredLine()
    line.pause()
    balance = 0
    for part in parts:
        line.part(triggered=part != "no trigger", framed=part != "no frame")
        balance += (part == "no frame") - (part == "no trigger")
        line.pause()
        assert line.audit.difference == balance
    assert bool(line.alarm) == (balance != 0)


@settings(deadline=None)
@given(st.sets(st.integers(0, 199), max_size=20))
def test_without_pauses_losses_are_found_by_the_next_pause(lost: set[int]) -> None:
    line = TriggeredLine()
    line.pause()
    for number in range(200):
        line.part(framed=number not in lost)
        line.pass_ms(25)
        if number % 10 == 0:
            line.send_count(0)
        assert line.audit.difference <= len(lost)
    line.pause()
    assert line.audit.difference == len(lost)
    if lost:
        assert line.alarm == f"the PLC counted {len(lost)} more triggers than there are frames"


def test_a_frame_that_is_recorded_later_clears_the_alarm() -> None:
    """A lost frame shows only when the next one comes."""
    line = TriggeredLine()
    line.pause()
    line.part(framed=False)
    line.pause()
    assert line.alarm
    line.part(triggered=False)
    line.pause()
    assert line.alarm == ""


def test_a_restart_of_the_plc_begins_again() -> None:
    line = TriggeredLine(40_000)
    line.pause()
    line.part(framed=False)
    line.pause()
    assert line.audit.difference == 1
    line.count = 0
    line.pause()
    assert line.audit.difference == 0
    line.part(triggered=False)
    line.pause()
    assert line.alarm == "there are 1 more frames than the PLC counted triggers"


def test_a_frame_resolves_the_trigger_with_its_id() -> None:
    pending = PendingTriggers()
    first, second = pending.add(Part("plate")), pending.add(Part("plate"))
    assert first.part == second.part == Part("plate")
    pending.resolve(second.part, 8)
    assert (first.seq, second.seq, len(pending)) == (None, 8, 1)
    pending.resolve(second.part, 9)  # a camera that delivers it twice
    pending.resolve(Part("plate"), 10)  # a frame that was not triggered
    pending.resolve(NO_PART, 11)
    assert (first.seq, second.seq) == (None, 8)
    pending.cancel(first)
    pending.resolve(first.part, 12)
    assert (first.seq, len(pending)) == (None, 0)


def test_pending_triggers_are_bounded() -> None:
    pending = PendingTriggers()
    oldest, *_others, newest = [pending.add(NO_PART) for _ in range(1025)]
    assert len(pending) == 1024
    pending.resolve(oldest.part, 1)
    pending.resolve(newest.part, 2)
    assert (oldest.seq, newest.seq) == (None, 2)
