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
    feeder = FakeLine(tmp_path)
    yield feeder
    feeder.close()


@dataclass
class Plc:
    """What the PLC writes, and what it is told."""

    triggers: TriggerForwarder
    clock: SystemClock = field(default_factory=SystemClock)

    def write(self, trigger_id: int, part: str = "", age_ms: int | None = 5, **more: Any) -> None:
        since_ns = None if age_ms is None else self.clock.now_ns() - age_ms * NS_PER_MS
        self.triggers.process_commands(
            PlcCommands(
                trigger_id=trigger_id, trigger_part_id=part, trigger_since_ns=since_ns, **more
            )
        )

    def told(self, trigger_id: int) -> TriggerAnswer:
        wait_for(lambda: self.triggers.answer.trigger_id == trigger_id)
        return self.triggers.answer


@contextmanager
def running(
    address: str, memory: PartMemory, camera: str = "top", max_age_ms: float = 5_000
) -> Iterator[Plc]:
    """Old enough that a busy machine does not make a fresh trigger stale."""
    triggers = TriggerForwarder(address, camera, SystemClock(), memory, max_age_ms=max_age_ms)
    try:
        yield Plc(triggers)
    finally:
        triggers.close()


def test_a_changed_id_asks_for_one_frame(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(5)
        assert plc.told(5) == TriggerAnswer(5, True, TriggerRefusal.STALE), "where the PLC stood"
        for _ in range(3):
            plc.write(6, "plate", trigger_encoder=77)
        assert plc.told(6) == TriggerAnswer(6, False)
    assert line.triggers == [Part("plate", 77)]
    (part,) = line.triggers
    assert isinstance(part, Part)
    assert part.expires_at_ns is not None


@pytest.mark.parametrize("age_ms", [None, 301, 5_000])
def test_what_may_be_too_old_is_refused(line: FakeLine, age_ms: int | None) -> None:
    with running(line.replay_server.address, PartMemory(None), max_age_ms=300) as plc:
        plc.write(5)
        plc.write(6, "plate", age_ms)
        assert plc.told(6) == TriggerAnswer(6, True, TriggerRefusal.STALE)
    assert line.triggers == []


@pytest.mark.parametrize("problem", [TriggerRefusal.TORN, TriggerRefusal.PART_ID])
def test_what_is_not_whole_is_refused(line: FakeLine, problem: TriggerRefusal) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(5)
        plc.write(6, trigger_problem=problem)
        assert plc.told(6) == TriggerAnswer(6, True, problem)
    assert line.triggers == []


def test_zeros_of_a_plc_that_began_again_ask_for_nothing_and_a_wrap_does(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None)) as plc:
        plc.write(57)
        assert plc.told(57).refused
        plc.write(0)
        assert plc.told(0).refused
        plc.write(1, "a")
        assert not plc.told(1).refused
        plc.write(65_535, "b")
        assert not plc.told(65_535).refused
        plc.write(0, "c")
        assert not plc.told(0).refused
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "b", "c"]


def test_a_plc_that_writes_zeros_and_then_its_old_memory_asks_for_nothing(
    line: FakeLine, tmp_path: Path
) -> None:
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.told(57).refused
        plc.write(0)
        assert plc.told(0).refused
        plc.write(57, "a")
        assert plc.told(57) == TriggerAnswer(57, True, TriggerRefusal.STALE)
        plc.write(58, "a")
        assert not plc.told(58).refused, "asked for again, by a new id"
        plc.write(0)
        assert plc.told(0).refused
        plc.write(58, "b")
        assert not plc.told(58).refused, "another part"
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:  # both have begun again
        plc.write(0)
        assert plc.told(0).refused
        plc.write(58, "b")
        assert plc.told(58) == TriggerAnswer(58, True, TriggerRefusal.STALE)
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "a", "b"]


def test_a_trigger_of_before_asks_for_nothing_whoever_writes_it_again(
    line: FakeLine, tmp_path: Path
) -> None:
    """60, 61, 60: a second controller, or a PLC that has found an older memory."""

    def again(plc: Plc) -> None:
        for trigger_id, part in ((60, "a"), (61, "b"), (60, "a"), (61, "b")):
            plc.write(trigger_id, part)
            assert plc.told(trigger_id) == TriggerAnswer(trigger_id, True, TriggerRefusal.STALE)

    for life in range(2):
        memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
        with running(line.replay_server.address, memory) as plc:
            if life == 0:
                plc.write(59)
                assert plc.told(59).refused
                for trigger_id, part in ((60, "a"), (61, "b")):
                    plc.write(trigger_id, part)
                    assert not plc.told(trigger_id).refused
            again(plc)
            for trigger_id, part in ((60, f"c{life}"), (62 + life, "a"), (61, "")):
                plc.write(trigger_id, part)
                assert not plc.told(trigger_id).refused, "another part, a new id, or no name"
        memory.close()
        if life == 0:
            line.triggers.clear()
    names = [part.part_id for part in line.triggers if isinstance(part, Part)]
    assert names == ["c1", "a", None]


@pytest.mark.parametrize("since_ns", [1_000, None])
def test_what_comes_after_an_older_memory_may_have_stood_there_as_long(
    since_ns: int | None,
) -> None:
    """After a silence a second controller writes first, and then the PLC what it had wished."""
    memory = PartMemory(None)

    def is_again(trigger_id: int, part_id: str) -> bool:
        return memory.save_trigger(trigger_id, digest_part_id(part_id), 0, 0) is not None

    watch = TriggerValidator(None, 300 * NS_PER_MS, is_again)

    def hear(
        trigger_id: int, since_ns: int | None, now_ns: int
    ) -> FrameRequest | TriggerAnswer | None:
        commands = PlcCommands(
            trigger_id=trigger_id, trigger_part_id=f"part-{trigger_id}", trigger_since_ns=since_ns
        )
        return watch.check(commands, now_ns)

    now_ns, refused = 400 * NS_PER_MS, TriggerRefusal.STALE
    hear(1, 0, 0)
    assert isinstance(hear(2, 500, 600), FrameRequest)
    assert hear(1, 600, 700) == TriggerAnswer(1, True, refused)
    assert isinstance(hear(3, 700, 800), FrameRequest), "nobody was silent"
    assert hear(1, since_ns, now_ns) == TriggerAnswer(1, True, refused)
    assert hear(2, now_ns - 10, now_ns) == TriggerAnswer(2, True, refused)
    assert hear(4, now_ns - 10, now_ns) == TriggerAnswer(4, True, refused)
    assert isinstance(hear(5, now_ns - 10, now_ns), FrameRequest)


def test_the_number_of_a_carrier_comes_again_with_an_id_of_before(line: FakeLine) -> None:
    clock = ManualClock()
    triggers = TriggerForwarder(
        line.replay_server.address, "top", clock, PartMemory(None), repeats_after_ns=60 * NS_PER_S
    )
    told = []
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
        told.append(triggers.answer.refusal is TriggerRefusal.STALE)
    triggers.close()
    assert told == [True, False, False, True, False, False]


def test_a_gateway_that_comes_again_knows_the_trigger_that_stands_there(
    line: FakeLine, tmp_path: Path
) -> None:
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.told(57).refused
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        assert plc.triggers.answer == TriggerAnswer(57, False)
        plc.write(57, "a", None)
        plc.write(57, "a")
        plc.write(58, "b")
        assert not plc.told(58).refused, "it changed under our eyes"
    memory.close()
    memory = PartMemory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay_server.address, memory) as plc:
        plc.write(59, "c")
        assert plc.told(59).refused, "nobody knows how long it has stood there"
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "b"]


def test_a_gateway_that_was_killed_while_it_asked_refuses_and_does_not_let_the_part_pass(
    line: FakeLine,
) -> None:
    memory = PartMemory(None)
    memory.save_last_trigger(
        LastTrigger(57, TriggerState.REQUESTED, part_digest=digest_part_id("a"))
    )
    with running(line.replay_server.address, memory) as plc:
        assert plc.triggers.answer == TriggerAnswer(57, True, TriggerRefusal.LINE)
        plc.write(57, "a")
        noted = memory.find_not_passed(digest_part_id("a"))
        assert noted is not None
        assert noted.reason is NotPassedReason.REFUSED
        plc.write(58, "a")  # the PLC tries again, and the line takes it
        assert not plc.told(58).refused
        assert memory.find_not_passed(digest_part_id("a")) is None
    assert len(line.triggers) == 1


def test_a_camera_that_is_not_there_refuses(line: FakeLine) -> None:
    with running(line.replay_server.address, PartMemory(None), "side") as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.told(8) == TriggerAnswer(8, True, TriggerRefusal.LINE)


def test_a_line_that_is_away_refuses_and_blocks_nobody() -> None:
    with running("tcp://127.0.0.1:9", PartMemory(None), max_age_ms=300) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.told(8).refused


def test_a_line_that_never_answers_refuses_and_the_part_does_not_pass() -> None:
    """As one that is stopped: what it finds when it wakes up has expired."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    silent = context.socket(zmq.ROUTER)
    silent.bind("tcp://127.0.0.1:*")
    memory = PartMemory(None)
    with running(silent.last_endpoint.decode().rstrip("\0"), memory, max_age_ms=500) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert silent.poll(5_000)
        request = decode_request(silent.recv_multipart()[-1])
        assert plc.told(8) == TriggerAnswer(8, True, TriggerRefusal.LINE)
        assert isinstance(request, TriggerRequest)
        assert request.expires_monotonic_ns is not None
        assert request.expires_monotonic_ns < plc.clock.now_ns(), "never before its end"
        assert request.boot_id
        noted = memory.find_not_passed(digest_part_id("a"))
        assert noted is not None
        assert noted.reason is NotPassedReason.REFUSED
    context.destroy(0)


def test_the_plc_s_count_is_said_twice_a_second_while_it_is_there(line: FakeLine) -> None:
    clock = ManualClock()
    counter = TriggerCountReporter(line.replay_server.address, "top", clock)
    counter.report(PlcInputs(is_connected=False, commands=PlcCommands(trigger_id=1)))
    counter.report(PlcInputs(is_connected=True, commands=None))
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands()))  # nothing written yet
    heard = PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=5))
    wait_for(lambda: counter.report(heard) or line.counts)
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=6)))
    clock.advance(NS_PER_S)
    counter.report(PlcInputs(is_connected=True, commands=PlcCommands(trigger_id=8)))
    wait_for(lambda: len(line.counts) == 2)
    counter.close()
    assert [(said.camera, said.count) for said in line.counts] == [("top", 5), ("top", 8)]
    assert line.counts[1].read_at_utc_ns == clock.utc_ns()
