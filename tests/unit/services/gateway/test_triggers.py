from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, SystemClock
from edgeinspect.domain.frame import Part
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import PlcCommands, PlcInputs, TriggerRefusal
from edgeinspect.services.gateway.part_memory import (
    LastTrigger,
    NotPassedReason,
    PartMemory,
    TriggerState,
    digest_part_id,
)
from edgeinspect.services.gateway.trigger_validation import (
    FrameRequest,
    TriggerAnswer,
    TriggerValidator,
)
from edgeinspect.services.gateway.triggers import TriggerCountReporter, TriggerForwarder
from edgeinspect.wire.requests import TriggerRequest, decode_request
from tests.flow.frame_source import FakeLine
from tests.system.plant import wait_for


@pytest.fixture
def line(tmp_path: Path) -> Iterator[FakeLine]:
    fake = FakeLine(tmp_path)
    yield fake
    fake.close()


@dataclass
class Plc:
    """Writes triggers as a PLC, and waits for their answers."""

    triggers: TriggerForwarder
    clock: SystemClock = field(default_factory=SystemClock)

    def write(self, trigger_id: int, part: str = "", age_ms: int | None = 5, **more: Any) -> None:
        since_ns = None if age_ms is None else self.clock.now_ns() - age_ms * NS_PER_MS
        self.triggers.process_commands(
            PlcCommands(
                trigger_id=trigger_id, trigger_part_id=part, trigger_since_ns=since_ns, **more
            )
        )

    def answer_to(self, trigger_id: int) -> TriggerAnswer:
        wait_for(lambda: self.triggers.answer.trigger_id == trigger_id)
        return self.triggers.answer


@contextmanager
def running(
    address: str, memory: PartMemory, camera: str = "top", max_age_ms: float = 5_000
) -> Iterator[Plc]:
    """Run a forwarder; `max_age_ms` is long enough for a busy machine."""
    triggers = TriggerForwarder(address, camera, SystemClock(), memory, max_age_ms=max_age_ms)
    try:
        yield Plc(triggers)
    finally:
        triggers.close()


def test_a_changed_id_requests_one_frame(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(5)
        assert plc.answer_to(5) == TriggerAnswer(5, True, TriggerRefusal.STALE), (
            "the first one may be old"
        )
        for _ in range(3):
            plc.write(6, "plate", trigger_encoder=77)
        assert plc.answer_to(6) == TriggerAnswer(6, False)
    assert line.triggers == [Part("plate", 77)]
    (part,) = line.triggers
    assert isinstance(part, Part)
    assert part.expires_at_ns is not None


@pytest.mark.parametrize("age_ms", [None, 301, 5_000])
def test_a_trigger_that_may_be_too_old_is_refused(line: FakeLine, age_ms: int | None) -> None:
    with running(line.replay_server.address, PartMemory(None), max_age_ms=300) as plc:
        plc.write(5)
        plc.write(6, "plate", age_ms)
        assert plc.answer_to(6) == TriggerAnswer(6, True, TriggerRefusal.STALE)
    assert line.triggers == []


@pytest.mark.parametrize("problem", [TriggerRefusal.TORN, TriggerRefusal.PART_ID])
def test_an_invalid_trigger_is_refused(line: FakeLine, problem: TriggerRefusal) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(5)
        plc.write(6, trigger_problem=problem)
        assert plc.answer_to(6) == TriggerAnswer(6, True, problem)
    assert line.triggers == []


def test_zeros_of_a_restarted_plc_request_nothing_and_a_wrap_does(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(57)
        assert plc.answer_to(57).refused
        plc.write(0)
        assert plc.answer_to(0).refused
        plc.write(1, "a")
        assert not plc.answer_to(1).refused
        plc.write(65_535, "b")
        assert not plc.answer_to(65_535).refused
        plc.write(0, "c")
        assert not plc.answer_to(0).refused
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "b", "c"]


def test_a_plc_that_writes_zeros_and_then_its_old_block_requests_nothing(
    line: FakeLine, tmp_path: Path
) -> None:
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.answer_to(57).refused
        plc.write(0)
        assert plc.answer_to(0).refused
        plc.write(57, "a")
        assert plc.answer_to(57) == TriggerAnswer(57, True, TriggerRefusal.STALE)
        plc.write(58, "a")
        assert not plc.answer_to(58).refused, "requested again with a new id"
        plc.write(0)
        assert plc.answer_to(0).refused
        plc.write(58, "b")
        assert not plc.answer_to(58).refused, "another part"
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:  # both were restarted
        plc.write(0)
        assert plc.answer_to(0).refused
        plc.write(58, "b")
        assert plc.answer_to(58) == TriggerAnswer(58, True, TriggerRefusal.STALE)
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "a", "b"]


def test_a_repeated_trigger_requests_nothing_from_any_writer(
    line: FakeLine, tmp_path: Path
) -> None:
    """60, 61, 60: a second controller, or a PLC with an older block."""

    def repeat(plc: Plc) -> None:
        for trigger_id, part in ((60, "a"), (61, "b"), (60, "a"), (61, "b")):
            plc.write(trigger_id, part)
            assert plc.answer_to(trigger_id) == TriggerAnswer(
                trigger_id, True, TriggerRefusal.STALE
            )

    for life in range(2):
        memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
        with running(line.replay_server.address, memory) as plc:
            if life == 0:
                plc.write(59)
                assert plc.answer_to(59).refused
                for trigger_id, part in ((60, "a"), (61, "b")):
                    plc.write(trigger_id, part)
                    assert not plc.answer_to(trigger_id).refused
            repeat(plc)
            for trigger_id, part in ((60, f"c{life}"), (62 + life, "a"), (61, "")):
                plc.write(trigger_id, part)
                assert not plc.answer_to(trigger_id).refused, (
                    "another part, a new id, or no part id"
                )
        memory.close()
        if life == 0:
            line.triggers.clear()
    names = [part.part_id for part in line.triggers if isinstance(part, Part)]
    assert names == ["c1", "a", None]


@pytest.mark.parametrize("since_ns", [1_000, None])
def test_a_trigger_after_a_repeat_may_be_as_old(
    since_ns: int | None,
) -> None:
    """After a silence a second controller writes first, then the PLC an old request."""
    memory = PartMemory(None)

    def is_repeat(trigger_id: int, part_id: str) -> bool:
        return memory.save_trigger(trigger_id, digest_part_id(part_id), 0, 0) is not None

    validator = TriggerValidator(None, 300 * NS_PER_MS, is_repeat)

    def check(
        trigger_id: int, since_ns: int | None, now_ns: int
    ) -> FrameRequest | TriggerAnswer | None:
        commands = PlcCommands(
            trigger_id=trigger_id, trigger_part_id=f"part-{trigger_id}", trigger_since_ns=since_ns
        )
        return validator.check(commands, now_ns)

    now_ns, refused = 400 * NS_PER_MS, TriggerRefusal.STALE
    check(1, 0, 0)
    assert isinstance(check(2, 500, 600), FrameRequest)
    assert check(1, 600, 700) == TriggerAnswer(1, True, refused)
    assert isinstance(check(3, 700, 800), FrameRequest), "there was no silence"
    assert check(1, since_ns, now_ns) == TriggerAnswer(1, True, refused)
    assert check(2, now_ns - 10, now_ns) == TriggerAnswer(2, True, refused)
    assert check(4, now_ns - 10, now_ns) == TriggerAnswer(4, True, refused)
    assert isinstance(check(5, now_ns - 10, now_ns), FrameRequest)


def test_a_carrier_number_may_return_with_an_earlier_id(line: FakeLine) -> None:
    clock = ManualClock()
    triggers = TriggerForwarder(
        line.replay_server.address, "top", clock, PartMemory(None), repeats_after_ns=60 * NS_PER_S
    )
    refused = []
    for after_s, trigger_id, part in (
        (0, 1, ""),
        (1, 2, "C7"),
        (1, 1, "C8"),
        (40, 2, "C7"),
        (1, 1, "C9"),
        (61, 2, "C7"),
    ):
        clock.advance(after_s * NS_PER_S)
        triggers.process_commands(
            PlcCommands(
                trigger_id=trigger_id, trigger_part_id=part, trigger_since_ns=clock.now_ns()
            )
        )
        wait_for(lambda: triggers.answer.trigger_id == trigger_id)  # noqa: B023
        refused.append(triggers.answer.refusal is TriggerRefusal.STALE)
    triggers.close()
    assert refused == [True, False, False, True, False, False]


def test_a_restarted_gateway_knows_the_last_trigger(line: FakeLine, tmp_path: Path) -> None:
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.answer_to(57).refused
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        assert plc.triggers.answer == TriggerAnswer(57, False)
        plc.write(57, "a", None)
        plc.write(57, "a")
        plc.write(58, "b")
        assert not plc.answer_to(58).refused, "it changed while connected"
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(59, "c")
        assert plc.answer_to(59).refused, "its age is not known"
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "b"]


def test_a_trigger_interrupted_by_a_kill_is_refused_and_its_part_does_not_pass(
    line: FakeLine,
) -> None:
    memory = PartMemory(None)
    memory.save_last_trigger(
        LastTrigger(57, TriggerState.REQUESTED, part_digest=digest_part_id("a"))
    )
    with running(line.replay_server.address, memory) as plc:
        assert plc.triggers.answer == TriggerAnswer(57, True, TriggerRefusal.LINE)
        plc.write(57, "a")
        record = memory.find_not_passed(digest_part_id("a"))
        assert record is not None
        assert record.reason is NotPassedReason.REFUSED
        plc.write(58, "a")  # the PLC tries again, and the line accepts
        assert not plc.answer_to(58).refused
        assert memory.find_not_passed(digest_part_id("a")) is None
    assert len(line.triggers) == 1


def test_a_trigger_of_an_unknown_camera_is_refused(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None), "side") as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.answer_to(8) == TriggerAnswer(8, True, TriggerRefusal.LINE)


def test_a_trigger_is_refused_while_the_line_is_away() -> None:
    with running("tcp://127.0.0.1:9", PartMemory(None), max_age_ms=300) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.answer_to(8).refused


def test_a_trigger_without_an_answer_is_refused_and_its_part_does_not_pass() -> None:
    """As if it were stopped: when it continues, the request has expired."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    silent = context.socket(zmq.ROUTER)
    silent.bind("tcp://127.0.0.1:*")
    memory = PartMemory(None)
    with running(silent.last_endpoint.decode().rstrip("\0"), memory, max_age_ms=500) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert silent.poll(5_000)
        request = decode_request(silent.recv_multipart()[-1])
        assert plc.answer_to(8) == TriggerAnswer(8, True, TriggerRefusal.LINE)
        assert isinstance(request, TriggerRequest)
        assert request.expires_monotonic_ns is not None
        assert request.expires_monotonic_ns < plc.clock.now_ns(), "not answered before it expires"
        assert request.boot_id
        record = memory.find_not_passed(digest_part_id("a"))
        assert record is not None
        assert record.reason is NotPassedReason.REFUSED
    context.destroy(0)


def test_the_trigger_count_is_reported_twice_a_second_while_connected(line: FakeLine) -> None:
    clock = ManualClock()
    counter = TriggerCountReporter(line.replay_server.address, "top", clock)
    counter.report(PlcInputs(is_connected=False, commands=PlcCommands(trigger_id=1)))
    counter.report(PlcInputs(is_connected=True, commands=None))
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands()))  # nothing written yet
    inputs = PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=5))
    wait_for(lambda: counter.report(inputs) or line.counts)
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=6)))
    clock.advance(NS_PER_S)
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=8)))
    wait_for(lambda: len(line.counts) == 2)
    counter.close()
    assert [(count.camera, count.count) for count in line.counts] == [("top", 5), ("top", 8)]
    assert line.counts[1].read_at_utc_ns == clock.utc_ns()
