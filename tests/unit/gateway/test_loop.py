"""The whole loop on a manual clock: a scripted line, a scripted link, a real journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeinspect.client import Beat, Delivered, Event, Lost, Renumbered
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.plc import PlcCommands, PlcError, PlcImage, PlcInputs
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError
from edgeinspect.gateway.config import parse
from edgeinspect.gateway.journal import Journal
from edgeinspect.gateway.loop import Gateway
from edgeinspect.testing import ManualClock
from edgeinspect.wire import Heartbeat
from tests.unit.gateway.test_results import VERDICT

CONFIG = parse(
    "schema: 1\ngateway: plc-1\nfeed: {line: press}\n"
    "link: {type: modbus, port: 0}\ncursor: unused\n"
).config
STEP_NS = 10 * NS_PER_MS


class Line:
    """What the feed would say next; remembers what it was asked for."""

    def __init__(self) -> None:
        self.events: deque[Event | Exception] = deque()
        self.verdicts: list[Verdict] = []
        self.cursor: int | None = None
        self.asked: list[int | None] = []
        self.acked: list[int] = []

    def subscribe(self, cursor: int | None) -> Line:
        self.asked.append(cursor)
        self.events.extend(
            Delivered(verdict, b"", True)
            for verdict in self.verdicts
            if cursor is not None and verdict.seq > cursor
        )
        return self

    def receive(self, timeout_ms: int = 0) -> Event | None:
        if not self.events:
            return None
        event = self.events.popleft()
        if isinstance(event, Exception):
            raise event
        return event

    def ack(self, seq: int) -> None:
        self.acked.append(seq)

    def close(self) -> None:
        self.events.clear()


class Link:
    """A PLC that takes and acknowledges at once, unless told not to."""

    acknowledges = True

    def __init__(self) -> None:
        self.images: list[PlcImage] = []
        self.answers = True
        self.ack = 0

    def open(self) -> None: ...
    def close(self) -> None: ...

    def show(self, image: PlcImage) -> None:
        self.images.append(image)
        if self.answers and image.result is not None:
            self.ack = image.result_id

    def poll(self) -> PlcInputs:
        if not self.answers:
            return PlcInputs()
        return PlcInputs(True, self.images[-1].revision if self.images else -1,
                         PlcCommands(results_ack=self.ack))  # fmt: skip


class Bench:
    def __init__(self, folder: Path, backlog: int = 8) -> None:
        self.folder = folder
        self.backlog = backlog
        self.clock = ManualClock()
        self.line = Line()
        self.link = Link()
        self.beats = True
        self.seq = 0
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.folder / "j", name="plc-1", capacity=256)
        self.gateway = Gateway(
            CONFIG, subscribe=self.line.subscribe, link=self.link, journal=self.journal,
            clock=self.clock, backlog=self.backlog,
        )  # fmt: skip

    def kill(self) -> None:
        """As kill -9: nothing is said or written any more."""
        self.journal.close()
        self.line.events.clear()

    def beat(self, epoch: int = 7, **changes: Any) -> None:
        beat = Heartbeat(line="press", epoch=epoch, last_seq=self.seq, beat=1, utc_ns=0,
                         period_ms=50, inspecting=True)  # fmt: skip
        self.line.events.append(Beat(msgspec.structs.replace(beat, **changes)))

    def judge(self, count: int = 1, travel_ms: int = 10_000, **changes: Any) -> None:
        for _ in range(count):
            self.seq += 1
            verdict = msgspec.structs.replace(
                VERDICT, seq=self.seq,
                act_by_utc_ns=self.clock.utc_ns() + travel_ms * NS_PER_MS, **changes,
            )  # fmt: skip
            self.line.verdicts.append(verdict)
            self.line.events.append(Delivered(verdict, b"", False))

    def run(self, ms: int) -> None:
        for _ in range(ms * NS_PER_MS // STEP_NS):
            if self.beats:
                self.beat()
            self.gateway.step(0)
            self.clock.advance(STEP_NS)

    @property
    def image(self) -> PlcImage:
        return self.link.images[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    built = Bench(tmp_path)
    yield built
    built.journal.close()


def test_it_starts_fail_safe_and_comes_online_by_itself(bench: Bench) -> None:
    bench.beats = False
    bench.run(50)
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.STARTING)
    bench.beats = True
    bench.run(20)
    assert (bench.image.online, bench.image.trigger_ready) == (True, True)


def test_silence_is_fail_safe_in_time_and_ends_by_itself(bench: Bench) -> None:
    bench.run(100)
    bench.beats = False
    heard_at_ns = bench.clock.now_ns() - STEP_NS
    while bench.image.online:
        assert bench.clock.now_ns() - heard_at_ns <= 290 * NS_PER_MS
        bench.run(10)
    assert bench.clock.now_ns() - heard_at_ns >= 270 * NS_PER_MS
    assert bench.image.error is PlcError.HEARTBEAT_LOST
    bench.beats = True
    bench.run(20)
    assert bench.image.online


def test_a_dead_daemons_heartbeat_does_not_count(bench: Bench) -> None:
    bench.beat(epoch=9)
    bench.run(10)
    bench.run(400)  # beats of epoch 7
    assert bench.image.error is PlcError.HEARTBEAT_LOST


def test_a_daemon_that_does_not_inspect_is_online_and_not_ready(bench: Bench) -> None:
    bench.beats = False
    bench.beat(inspecting=False, alarm="camera top is lost")
    bench.run(10)
    image = bench.image
    assert (image.online, image.trigger_ready, image.alarm) == (True, False, True)
    assert image.error is PlcError.NOT_INSPECTING


def test_each_result_once_over_restarts_of_the_gateway(bench: Bench) -> None:
    bench.run(10)
    bench.judge(5)
    bench.run(30)
    bench.kill()
    bench.start()
    assert bench.line.asked[-1] == bench.journal.cursor
    bench.judge(3)
    bench.run(200)
    seqs = [record.seq for record in bench.journal.records() if record.outcome]
    assert seqs == list(range(1, 9))
    assert bench.line.acked[-1] == 8


def test_a_new_gateway_fixes_its_cursor_before_the_first_result(bench: Bench) -> None:
    bench.seq = 40
    bench.run(10)
    bench.kill()
    bench.start()
    assert bench.line.asked[-1] == 40


def test_a_backlog_stays_in_the_lines_spool_and_is_fetched(bench: Bench) -> None:
    bench.run(10)
    bench.link.answers = False
    bench.judge(60)
    bench.run(200)
    assert len(bench.gateway.handshake) == 8
    bench.link.answers = True
    bench.run(3_000)
    seqs = [record.seq for record in bench.journal.records() if record.outcome]
    assert seqs == list(range(1, 61))


def test_a_backlog_past_its_act_by_is_rejected(bench: Bench) -> None:
    bench.run(10)
    bench.link.answers = False
    bench.judge(5, travel_ms=500)
    bench.run(1_000)
    bench.link.answers = True
    before = len(bench.link.images)
    bench.run(200)
    shown = [image for image in bench.link.images[before:] if image.result]
    assert shown
    assert all(image.rejected and image.result and image.result.late for image in shown)


def test_lost_and_renumbered_are_rejects_and_an_alarm(bench: Bench) -> None:
    bench.judge(2)
    bench.run(50)
    bench.line.events.append(Lost(3, 10))
    bench.run(50)
    assert bench.image.lost_total == 8
    assert (bench.image.alarm, bench.image.error) == (True, PlcError.RESULTS_LOST)
    bench.line.events.append(Renumbered(9, 0))
    bench.seq = 0
    bench.beats = False
    bench.beat(9)
    bench.judge(1, epoch=9)
    bench.run(50)
    assert (bench.image.numbering, bench.image.result_id) == (1, 1)
    assert bench.image.error is PlcError.RENUMBERED
    assert [record.seq for record in bench.journal.records()][-3:] == [10, 0, 1]


def test_another_version_on_the_wire_is_fail_safe_until_it_can_be_read(bench: Bench) -> None:
    bench.run(20)
    bench.line.events.append(DataError("no such reason", where="verdict.press.top.pass"))
    bench.run(50)
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.WIRE)
    bench.judge()
    bench.run(20)
    assert bench.image.online


def test_stopping_tells_the_plc(bench: Bench) -> None:
    bench.run(20)
    bench.gateway.stop()
    bench.gateway.run()
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.STOPPING)


def test_the_heartbeat_turns_only_while_the_loop_does(bench: Bench) -> None:
    bench.run(1_000)
    turns = sum(a.heartbeat != b.heartbeat for a, b in zip(bench.link.images,
                bench.link.images[1:], strict=False))  # fmt: skip
    assert 9 <= turns <= 10
    assert NS_PER_S
