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
from edgeinspect.domain.plc import PlcCommands, PlcInputs, Refusal
from edgeinspect.services.gateway.part_memory import Kind, LastTrigger, Memory, TriggerState, digest
from edgeinspect.services.gateway.trigger_ids import Answer, Ask, TriggerWatch
from edgeinspect.services.gateway.triggers import TriggerCounter, Triggers
from edgeinspect.wire.requests import TriggerRequest, decode_request
from tests.flow.frame_source import Feeder
from tests.system.plant import wait_for


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Feeder]:
    feeder = Feeder(tmp_path)
    yield feeder
    feeder.close()


@dataclass
class Plc:
    """What the PLC writes, and what it is told."""

    triggers: Triggers
    clock: SystemClock = field(default_factory=SystemClock)

    def write(self, trigger_id: int, part: str = "", age_ms: int | None = 5, **more: Any) -> None:
        since_ns = None if age_ms is None else self.clock.now_ns() - age_ms * NS_PER_MS
        self.triggers.hear(
            PlcCommands(
                trigger_id=trigger_id, trigger_part_id=part, trigger_since_ns=since_ns, **more
            )
        )

    def told(self, trigger_id: int) -> Answer:
        wait_for(lambda: self.triggers.answer.trigger_id == trigger_id)
        return self.triggers.answer


@contextmanager
def running(
    address: str, memory: Memory, camera: str = "top", max_age_ms: float = 5_000
) -> Iterator[Plc]:
    """Old enough that a busy machine does not make a fresh trigger stale."""
    triggers = Triggers(address, camera, SystemClock(), memory, max_age_ms=max_age_ms)
    try:
        yield Plc(triggers)
    finally:
        triggers.close()


def test_a_changed_id_asks_for_one_frame(line: Feeder) -> None:
    with running(line.replay.address, Memory(None)) as plc:
        plc.write(5)
        assert plc.told(5) == Answer(5, True, Refusal.STALE), "where the PLC stood"
        for _ in range(3):
            plc.write(6, "plate", trigger_encoder=77)
        assert plc.told(6) == Answer(6, False)
    assert line.triggers == [Part("plate", 77)]
    (part,) = line.triggers
    assert isinstance(part, Part)
    assert part.expires_at_ns is not None


@pytest.mark.parametrize("age_ms", [None, 301, 5_000])
def test_what_may_be_too_old_is_refused(line: Feeder, age_ms: int | None) -> None:
    with running(line.replay.address, Memory(None), max_age_ms=300) as plc:
        plc.write(5)
        plc.write(6, "plate", age_ms)
        assert plc.told(6) == Answer(6, True, Refusal.STALE)
    assert line.triggers == []


@pytest.mark.parametrize("problem", [Refusal.TORN, Refusal.PART_ID])
def test_what_is_not_whole_is_refused(line: Feeder, problem: Refusal) -> None:
    with running(line.replay.address, Memory(None)) as plc:
        plc.write(5)
        plc.write(6, trigger_problem=problem)
        assert plc.told(6) == Answer(6, True, problem)
    assert line.triggers == []


def test_zeros_of_a_plc_that_began_again_ask_for_nothing_and_a_wrap_does(line: Feeder) -> None:
    with running(line.replay.address, Memory(None)) as plc:
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
    line: Feeder, tmp_path: Path
) -> None:
    memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.told(57).refused
        plc.write(0)
        assert plc.told(0).refused
        plc.write(57, "a")
        assert plc.told(57) == Answer(57, True, Refusal.STALE)
        plc.write(58, "a")
        assert not plc.told(58).refused, "asked for again, by a new id"
        plc.write(0)
        assert plc.told(0).refused
        plc.write(58, "b")
        assert not plc.told(58).refused, "another part"
    memory.close()
    memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay.address, memory) as plc:  # both have begun again
        plc.write(0)
        assert plc.told(0).refused
        plc.write(58, "b")
        assert plc.told(58) == Answer(58, True, Refusal.STALE)
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "a", "b"]


def test_a_trigger_of_before_asks_for_nothing_whoever_writes_it_again(
    line: Feeder, tmp_path: Path
) -> None:
    """60, 61, 60: a second controller, or a PLC that has found an older memory."""

    def again(plc: Plc) -> None:
        for trigger_id, part in ((60, "a"), (61, "b"), (60, "a"), (61, "b")):
            plc.write(trigger_id, part)
            assert plc.told(trigger_id) == Answer(trigger_id, True, Refusal.STALE)

    for life in range(2):
        memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
        with running(line.replay.address, memory) as plc:
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
    memory = Memory(None)

    def is_again(trigger_id: int, part_id: str) -> bool:
        return memory.hear_trigger(trigger_id, digest(part_id), 0, 0) is not None

    watch = TriggerWatch(None, 300 * NS_PER_MS, is_again)

    def hear(trigger_id: int, since_ns: int | None, now_ns: int) -> Ask | Answer | None:
        commands = PlcCommands(
            trigger_id=trigger_id, trigger_part_id=f"part-{trigger_id}", trigger_since_ns=since_ns
        )
        return watch.hear(commands, now_ns)

    now_ns, refused = 400 * NS_PER_MS, Refusal.STALE
    hear(1, 0, 0)
    assert isinstance(hear(2, 500, 600), Ask)
    assert hear(1, 600, 700) == Answer(1, True, refused)
    assert isinstance(hear(3, 700, 800), Ask), "nobody was silent"
    assert hear(1, since_ns, now_ns) == Answer(1, True, refused)
    assert hear(2, now_ns - 10, now_ns) == Answer(2, True, refused)
    assert hear(4, now_ns - 10, now_ns) == Answer(4, True, refused)
    assert isinstance(hear(5, now_ns - 10, now_ns), Ask)


def test_the_number_of_a_carrier_comes_again_with_an_id_of_before(line: Feeder) -> None:
    clock = ManualClock()
    triggers = Triggers(
        line.replay.address, "top", clock, Memory(None), repeats_after_ns=60 * NS_PER_S
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
        triggers.hear(
            PlcCommands(
                trigger_id=trigger_id, trigger_part_id=part, trigger_since_ns=clock.now_ns()
            )
        )
        wait_for(lambda: triggers.answer.trigger_id == trigger_id)  # noqa: B023
        told.append(triggers.answer.refusal is Refusal.STALE)
    triggers.close()
    assert told == [True, False, False, True, False, False]


def test_a_gateway_that_comes_again_knows_the_trigger_that_stands_there(
    line: Feeder, tmp_path: Path
) -> None:
    memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay.address, memory) as plc:
        plc.write(56)
        plc.write(57, "a")
        assert not plc.told(57).refused
    memory.close()
    memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay.address, memory) as plc:
        assert plc.triggers.answer == Answer(57, False)
        plc.write(57, "a", None)
        plc.write(57, "a")
        plc.write(58, "b")
        assert not plc.told(58).refused, "it changed under our eyes"
    memory.close()
    memory = Memory(tmp_path / "m", name="plc-1", capacity=256)
    with running(line.replay.address, memory) as plc:
        plc.write(59, "c")
        assert plc.told(59).refused, "nobody knows how long it has stood there"
    memory.close()
    assert [part.part_id for part in line.triggers if isinstance(part, Part)] == ["a", "b"]


def test_a_gateway_that_was_killed_while_it_asked_refuses_and_does_not_let_the_part_pass(
    line: Feeder,
) -> None:
    memory = Memory(None)
    memory.note_trigger(LastTrigger(57, TriggerState.ASKED, part=digest("a")))
    with running(line.replay.address, memory) as plc:
        assert plc.triggers.answer == Answer(57, True, Refusal.LINE)
        plc.write(57, "a")
        noted = memory.not_passed(digest("a"))
        assert noted is not None
        assert noted.kind is Kind.REFUSED
        plc.write(58, "a")  # the PLC tries again, and the line takes it
        assert not plc.told(58).refused
        assert memory.not_passed(digest("a")) is None
    assert len(line.triggers) == 1


def test_a_camera_that_is_not_there_refuses(line: Feeder) -> None:
    with running(line.replay.address, Memory(None), "side") as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.told(8) == Answer(8, True, Refusal.LINE)


def test_a_line_that_is_away_refuses_and_blocks_nobody() -> None:
    with running("tcp://127.0.0.1:9", Memory(None), max_age_ms=300) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert plc.told(8).refused


def test_a_line_that_never_answers_refuses_and_the_part_does_not_pass() -> None:
    """As one that is stopped: what it finds when it wakes up has expired."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    silent = context.socket(zmq.ROUTER)
    silent.bind("tcp://127.0.0.1:*")
    memory = Memory(None)
    with running(silent.last_endpoint.decode().rstrip("\0"), memory, max_age_ms=500) as plc:
        plc.write(7)
        plc.write(8, "a")
        assert silent.poll(5_000)
        request = decode_request(silent.recv_multipart()[-1])
        assert plc.told(8) == Answer(8, True, Refusal.LINE)
        assert isinstance(request, TriggerRequest)
        assert request.expires_monotonic_ns is not None
        assert request.expires_monotonic_ns < plc.clock.now_ns(), "never before its end"
        assert request.boot_id
        noted = memory.not_passed(digest("a"))
        assert noted is not None
        assert noted.kind is Kind.REFUSED
    context.destroy(0)


def test_the_plc_s_count_is_said_twice_a_second_while_it_is_there(line: Feeder) -> None:
    clock = ManualClock()
    counter = TriggerCounter(line.replay.address, "top", clock)
    counter.hear(PlcInputs(connected=False, commands=PlcCommands(trigger_id=1)))
    counter.hear(PlcInputs(connected=True, commands=None))
    counter.hear(PlcInputs(connected=True, commands=PlcCommands()))  # nothing written yet
    heard = PlcInputs(connected=True, commands=PlcCommands(trigger_id=5))
    wait_for(lambda: counter.hear(heard) or line.counts)
    counter.hear(PlcInputs(connected=True, commands=PlcCommands(trigger_id=6)))
    clock.advance(NS_PER_S)
    counter.hear(PlcInputs(connected=True, commands=PlcCommands(trigger_id=8)))
    wait_for(lambda: len(line.counts) == 2)
    counter.close()
    assert [(said.camera, said.count) for said in line.counts] == [("top", 5), ("top", 8)]
    assert line.counts[1].read_at_utc_ns == clock.utc_ns()
