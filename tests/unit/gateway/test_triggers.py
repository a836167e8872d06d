from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.frame import Part
from edgeinspect.domain.plc import PlcCommands, PlcInputs
from edgeinspect.gateway.triggers import TriggerCounter, Triggers
from edgeinspect.testing import ManualClock
from tests.flow.feeder import Feeder
from tests.system.plant import wait_for


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Feeder]:
    feeder = Feeder(tmp_path)
    yield feeder
    feeder.close()


def test_a_changed_id_asks_for_one_frame(line: Feeder) -> None:
    triggers = Triggers(line.replay.address, "top")
    triggers.hear(PlcCommands(trigger_id=5))
    assert triggers.answer == (5, False)
    for _ in range(3):
        triggers.hear(PlcCommands(trigger_id=6, trigger_part_id="plate", trigger_encoder=77))
    wait_for(lambda: triggers.answer[0] == 6)
    assert triggers.answer == (6, False)
    assert line.triggers == [Part("plate", 77)]
    triggers.close()


def test_a_camera_that_is_not_there_refuses(line: Feeder) -> None:
    triggers = Triggers(line.replay.address, "side")
    triggers.hear(PlcCommands(trigger_id=0))
    triggers.hear(PlcCommands(trigger_id=1))
    wait_for(lambda: triggers.answer == (1, True))
    triggers.close()


def test_a_line_that_is_away_refuses_and_blocks_nobody() -> None:
    triggers = Triggers("tcp://127.0.0.1:9", "top")
    triggers.hear(PlcCommands(trigger_id=0))
    triggers.hear(PlcCommands(trigger_id=1))
    wait_for(lambda: triggers.answer == (1, True))
    triggers.close()


def test_the_plc_s_count_is_said_twice_a_second_while_it_is_there(line: Feeder) -> None:
    clock = ManualClock()
    counter = TriggerCounter(line.replay.address, "top", clock)
    counter.hear(PlcInputs(connected=False, commands=PlcCommands(trigger_id=1)))
    counter.hear(PlcInputs(connected=True, commands=None))
    heard = PlcInputs(connected=True, commands=PlcCommands(trigger_id=5))
    wait_for(lambda: counter.hear(heard) or line.counts)
    counter.hear(PlcInputs(connected=True, commands=PlcCommands(trigger_id=6)))
    clock.advance(NS_PER_S)
    counter.hear(PlcInputs(connected=True, commands=PlcCommands(trigger_id=8)))
    wait_for(lambda: len(line.counts) == 2)
    counter.close()
    assert [(said.camera, said.count) for said in line.counts] == [("top", 5), ("top", 8)]
    assert line.counts[1].read_at_utc_ns == clock.utc_ns()
