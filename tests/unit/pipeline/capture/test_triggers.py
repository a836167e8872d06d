"""The PLC's count of triggers against the frames: never a false alarm, exact after a pause."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.pipeline.capture.triggers import TriggerAudit

WITHIN_NS = 500 * NS_PER_MS
MODULO = 1 << 16


class TriggeredLine:
    """A PLC that triggers, a camera that may lose it, and the audit."""

    def __init__(self, count: int = 0) -> None:
        self.audit = TriggerAudit()
        self.now_ns = 10 * NS_PER_S
        self.count = count
        self.alarm = ""
        self.send_count(0)

    def send_count(self, age_ms: int) -> None:
        """The count of now is read after its age."""
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
        st.sampled_from(["part", "part", "part", "hear"]),
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
    plant = TriggeredLine(start)
    for what, delay_ms, then_ms in script:
        plant.send_count(delay_ms) if what == "hear" else plant.part(late_ms=delay_ms)
        plant.pass_ms(then_ms)
        assert plant.alarm == ""
    plant.pause()
    assert plant.alarm == ""


@settings(deadline=None)
@given(st.lists(st.sampled_from(["whole", "no frame", "no trigger"]), min_size=1, max_size=60))
def test_with_pauses_every_difference_is_found(parts: list[str]) -> None:
    plant = TriggeredLine()
    plant.pause()
    balance = 0
    for part in parts:
        plant.part(triggered=part != "no trigger", framed=part != "no frame")
        balance += (part == "no frame") - (part == "no trigger")
        plant.pause()
        assert plant.audit.difference == balance
    assert bool(plant.alarm) == (balance != 0)


@settings(deadline=None)
@given(st.sets(st.integers(0, 199), max_size=20))
def test_in_full_flow_losses_are_found_by_the_next_pause(lost: set[int]) -> None:
    plant = TriggeredLine()
    plant.pause()
    for number in range(200):
        plant.part(framed=number not in lost)
        plant.pass_ms(25)
        if number % 10 == 0:
            plant.send_count(0)
        assert plant.audit.difference <= len(lost)
    plant.pause()
    assert plant.audit.difference == len(lost)
    if lost:
        assert plant.alarm == f"the PLC counted {len(lost)} more triggers than there are frames"


def test_a_frame_that_is_accounted_for_later_clears_the_alarm() -> None:
    """A lost frame shows only when the next one comes."""
    plant = TriggeredLine()
    plant.pause()
    plant.part(framed=False)
    plant.pause()
    assert plant.alarm
    plant.part(triggered=False)
    plant.pause()
    assert plant.alarm == ""


def test_the_plc_s_restart_begins_anew() -> None:
    plant = TriggeredLine(40_000)
    plant.pause()
    plant.part(framed=False)
    plant.pause()
    assert plant.audit.difference == 1
    plant.count = 0
    plant.pause()
    assert plant.audit.difference == 0
    plant.part(triggered=False)
    plant.pause()
    assert plant.alarm == "there are 1 more frames than the PLC counted triggers"
