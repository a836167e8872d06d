"""The whole loop on a manual clock: a scripted line, a scripted link, a real journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeinspect.client import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import (
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_PART_ID,
    PlcCommands,
    PlcError,
    PlcInputs,
    PlcOutcome,
    ProcessImage,
)
from edgeinspect.domain.verdict import Decision, Reason, Verdict
from edgeinspect.errors import DataError
from edgeinspect.services.gateway.config import GatewayConfig, parse_config
from edgeinspect.services.gateway.gateway import Gateway
from edgeinspect.services.gateway.handshake import Completion
from edgeinspect.services.gateway.journal import Journal
from edgeinspect.services.gateway.part_memory import PartMemory
from edgeinspect.wire.messages import Heartbeat
from tests.unit.clocks import PreemptedClock
from tests.unit.services.gateway.test_plc_results import VERDICT

CONFIG = parse_config(
    "schema: 1\ngateway: plc-1\nfeed: {line: press}\n"
    "link: {type: modbus, port: 0}\ncursor: unused\n"
).config
STEP_NS = 10 * NS_PER_MS


class FakeFeed:
    """What the feed would say next; remembers what it was asked for."""

    def __init__(self) -> None:
        self.events: deque[FeedEvent | Exception] = deque()
        self.verdicts: list[Verdict] = []
        self.cursor: int | None = None
        self.subscribed_cursors: list[int | None] = []
        self.acked: list[int] = []

    def subscribe(self, cursor: int | None) -> FakeFeed:
        self.subscribed_cursors.append(cursor)
        self.events.extend(
            VerdictReceived(verdict, b"", True)
            for verdict in self.verdicts
            if cursor is not None and verdict.seq > cursor
        )
        return self

    def receive(self, timeout_ms: int = 0) -> FeedEvent | None:
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


class FakeLink:
    """A PLC that takes and acknowledges at once, unless told not to."""

    acknowledges = True
    part_id_bytes: int | None = 32

    def __init__(self) -> None:
        self.images: list[ProcessImage] = []
        self.is_responding = True
        self.ack, self.ack_after = 0, -1

    def open(self) -> None: ...
    def close(self) -> None: ...

    def write(self, image: ProcessImage) -> None:
        self.images.append(image)
        if self.is_responding and image.result is not None:
            self.ack, self.ack_after = image.result_id, image.revision

    def poll(self) -> PlcInputs:
        if not self.is_responding:
            return PlcInputs()
        return PlcInputs(
            True,
            self.images[-1].revision if self.images else -1,
            PlcCommands(results_ack=self.ack, ack_after=self.ack_after),
        )


class GatewayHarness:
    def __init__(self, folder: Path, backlog: int = 8) -> None:
        self.folder = folder
        self.backlog = backlog
        self.clock = ManualClock()
        self.line = FakeFeed()
        self.link = FakeLink()
        self.beats = True
        self.seq = 0
        self.start()

    def start(self, config: GatewayConfig = CONFIG) -> None:
        self.journal = Journal(self.folder / "j", name="plc-1", capacity=256)
        self.memory = PartMemory(self.folder / "j.memory", name="plc-1", capacity=256)
        self.gateway = Gateway(
            config,
            subscribe=self.line.subscribe,
            link=self.link,
            journal=self.journal,
            clock=self.clock,
            backlog=self.backlog,
            memory=self.memory,
        )

    def kill(self) -> None:
        """As kill -9: nothing is said or written any more."""
        self.journal.close()
        self.memory.close()
        self.line.events.clear()

    def send_heartbeat(self, epoch: int = 7, **changes: Any) -> None:
        beat = Heartbeat(
            line="press",
            epoch=epoch,
            last_seq=self.seq,
            beat=1,
            utc_ns=0,
            period_ms=50,
            inspecting=True,
        )
        self.line.events.append(StatusReceived(msgspec.structs.replace(beat, **changes)))

    def send_verdicts(self, count: int = 1, travel_ms: int = 10_000, **changes: Any) -> None:
        for _ in range(count):
            self.seq += 1
            verdict = msgspec.structs.replace(
                VERDICT,
                seq=self.seq,
                act_by_utc_ns=self.clock.utc_ns() + travel_ms * NS_PER_MS,
                **changes,
            )
            self.line.verdicts.append(verdict)
            self.line.events.append(VerdictReceived(verdict, b"", False))

    def advance(self, ms: int) -> None:
        for _ in range(ms * NS_PER_MS // STEP_NS):
            if self.beats:
                self.send_heartbeat()
            self.gateway.step(0)
            self.clock.advance(STEP_NS)

    @property
    def image(self) -> ProcessImage:
        return self.link.images[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[GatewayHarness]:
    built = GatewayHarness(tmp_path)
    yield built
    built.journal.close()
    built.memory.close()


def test_it_starts_fail_safe_and_comes_online_by_itself(bench: GatewayHarness) -> None:
    bench.beats = False
    bench.advance(50)
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.STARTING)
    bench.beats = True
    bench.advance(20)
    assert (bench.image.online, bench.image.trigger_ready) == (True, True)


def test_silence_is_fail_safe_in_time_and_ends_by_itself(bench: GatewayHarness) -> None:
    bench.advance(100)
    bench.beats = False
    heard_at_ns = bench.clock.now_ns() - STEP_NS
    while bench.image.online:
        assert bench.clock.now_ns() - heard_at_ns <= 290 * NS_PER_MS
        bench.advance(10)
    assert bench.clock.now_ns() - heard_at_ns >= 270 * NS_PER_MS
    assert bench.image.error is PlcError.HEARTBEAT_LOST
    bench.beats = True
    bench.advance(20)
    assert bench.image.online


def test_a_dead_daemons_heartbeat_does_not_count(bench: GatewayHarness) -> None:
    bench.send_heartbeat(epoch=9)
    bench.advance(10)
    bench.advance(400)  # beats of epoch 7
    assert bench.image.error is PlcError.HEARTBEAT_LOST


def test_a_daemon_that_does_not_inspect_is_online_and_not_ready(bench: GatewayHarness) -> None:
    bench.beats = False
    bench.send_heartbeat(inspecting=False, alarm="camera top is lost")
    bench.advance(10)
    image = bench.image
    assert (image.online, image.trigger_ready, image.alarm) == (True, False, True)
    assert image.error is PlcError.NOT_INSPECTING


def test_each_result_once_over_restarts_of_the_gateway(bench: GatewayHarness) -> None:
    bench.advance(10)
    bench.send_verdicts(5)
    bench.advance(30)
    bench.kill()
    bench.start()
    assert bench.line.subscribed_cursors[-1] == bench.journal.cursor
    bench.send_verdicts(3)
    bench.advance(200)
    seqs = [record.seq for record in bench.journal.read_records() if record.outcome]
    assert seqs == list(range(1, 9))
    assert bench.line.acked[-1] == 8


@pytest.mark.parametrize("held_up_by", ["the processor", "the disk"])
def test_a_pause_of_the_gateway_makes_no_good_part_late(
    bench: GatewayHarness, held_up_by: str
) -> None:
    """What is replayed has an act-by on the wall clock alone: a false step would reject it."""
    clock = PreemptedClock()
    bench.kill()
    bench.clock = clock
    bench.start()
    begin, receive = bench.journal.set_cursor, bench.line.receive

    def begin_slowly(*cursor: Any) -> None:
        begin(*cursor)
        clock.advance(NS_PER_S if held_up_by == "the disk" else 0)

    def receive_and_pause(timeout_ms: int = 0) -> FeedEvent | None:
        event = receive(timeout_ms)
        clock.pauses = 2 if held_up_by == "the processor" else 0
        return event

    bench.journal.set_cursor = begin_slowly  # type: ignore[method-assign]
    bench.line.receive = receive_and_pause  # type: ignore[method-assign]
    bench.send_verdicts(5, travel_ms=1_000_000)
    bench.line.events = deque(VerdictReceived(each, b"", True) for each in bench.line.verdicts)
    bench.advance(1_000)
    outcomes = [record.outcome for record in bench.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.PASS] * 5


def test_what_a_slow_disk_held_back_is_shown_as_it_is_then(bench: GatewayHarness) -> None:
    """The second result's act-by passes, and the line falls silent, while the first is recorded."""
    bench.advance(10)
    bench.send_verdicts(2, travel_ms=500)
    append = bench.journal.append

    def append_slowly(*applied: Any) -> None:
        append(*applied)
        bench.clock.advance(NS_PER_S)

    bench.journal.append = append_slowly  # type: ignore[method-assign]
    shown = len(bench.link.images)
    bench.beats = False
    bench.advance(50)
    after = [image for image in bench.link.images[shown:] if image.results_total]
    assert after
    assert not any(image.online for image in after)
    bench.beats = True
    bench.advance(2_000)
    outcomes = [record.outcome for record in bench.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.PASS, PlcOutcome.REJECT]


def test_a_look_into_a_memory_that_waits_shows_no_pass_past_its_act_by(
    bench: GatewayHarness,
) -> None:
    """The thread of the triggers holds the memory while its disk is slow."""
    bench.advance(10)
    bench.send_verdicts(1, travel_ms=500)
    not_passed = bench.memory.find_not_passed

    def not_passed_slowly(part: bytes) -> Any:
        bench.memory.find_not_passed = not_passed  # type: ignore[method-assign]
        bench.clock.advance(NS_PER_S)
        return not_passed(part)

    bench.memory.find_not_passed = not_passed_slowly  # type: ignore[method-assign]
    shown = len(bench.link.images)
    bench.advance(100)
    results = [image for image in bench.link.images[shown:] if image.result is not None]
    assert results
    assert not any(image.passed for image in results)


@pytest.mark.parametrize("empty_looks_after", [0, 1, 5])
def test_what_came_while_the_gateway_stood_still_is_as_old_as_that(
    bench: GatewayHarness, empty_looks_after: int
) -> None:
    """SIGSTOP in the middle of an empty look: act-by counts from before it, whatever the thread
    of the network gives first afterwards. The clock was set, so that nothing else tells."""
    bench.advance(10)
    receive = bench.line.receive

    def stop_in_the_look(timeout_ms: int = 0) -> FeedEvent | None:
        event = receive(timeout_ms)
        bench.line.receive = receive  # type: ignore[method-assign]
        bench.clock.advance(10 * NS_PER_S)
        return event

    bench.line.receive = stop_in_the_look  # type: ignore[method-assign]
    bench.gateway.step(0)
    for _ in range(empty_looks_after):
        bench.gateway.step(0)
        bench.clock.advance(STEP_NS)
    bench.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, captured_at_utc_ns=bench.clock.utc_ns()
    )
    bench.advance(100)
    outcomes = [record.outcome for record in bench.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.REJECT]
    bench.advance(1_000)
    bench.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, part_id="y", captured_at_utc_ns=bench.clock.utc_ns()
    )
    bench.advance(100)
    assert bench.journal.read_records()[-1].outcome is PlcOutcome.PASS


@pytest.mark.parametrize("away", ["the gateway", "the network"])
def test_what_a_line_says_first_after_a_silence_may_be_old(
    bench: GatewayHarness, away: str
) -> None:
    """A newcomer is given the last verdict, and a network brings what lay in it. The clock was
    set, so that nothing else tells how old that is."""
    bench.advance(1_000)
    if away == "the gateway":
        bench.kill()
        bench.start()
    else:
        bench.beats = False
        bench.advance(5_000)
        bench.beats = True
    bench.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, captured_at_utc_ns=bench.clock.utc_ns()
    )
    bench.advance(1_000)
    bench.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, part_id="y", captured_at_utc_ns=bench.clock.utc_ns()
    )
    bench.advance(100)
    outcomes = [record.outcome for record in bench.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.REJECT, PlcOutcome.PASS]


def test_a_gateway_that_stood_still_forces_nothing(bench: GatewayHarness) -> None:
    """What the PLC wrote meanwhile lies in a socket: it is heard a moment later."""
    bench.advance(10)
    bench.link.is_responding = False
    bench.link.poll = lambda: PlcInputs(  # type: ignore[method-assign]
        True, bench.link.images[-1].revision, PlcCommands(results_ack=bench.link.ack)
    )
    bench.send_verdicts(1)
    bench.advance(30)
    bench.clock.advance(1_500 * NS_PER_MS)
    bench.advance(50)
    bench.link.ack = 1
    bench.advance(20)
    assert [record.completion for record in bench.journal.read_records() if record.outcome] == [
        Completion.ACKED
    ]


def test_a_new_gateway_fixes_its_cursor_before_the_first_result(bench: GatewayHarness) -> None:
    bench.seq = 40
    bench.advance(10)
    bench.kill()
    bench.start()
    assert bench.line.subscribed_cursors[-1] == 40


def test_a_backlog_stays_in_the_lines_spool_and_is_fetched(bench: GatewayHarness) -> None:
    bench.advance(10)
    bench.link.is_responding = False
    bench.send_verdicts(60)
    bench.advance(200)
    assert len(bench.gateway.handshake) == 8
    bench.link.is_responding = True
    bench.advance(3_000)
    seqs = [record.seq for record in bench.journal.read_records() if record.outcome]
    assert seqs == list(range(1, 61))


def test_a_backlog_past_its_act_by_is_rejected(bench: GatewayHarness) -> None:
    bench.advance(10)
    bench.link.is_responding = False
    bench.send_verdicts(5, travel_ms=500)
    bench.advance(1_000)
    bench.link.is_responding = True
    before = len(bench.link.images)
    bench.advance(200)
    shown = [image for image in bench.link.images[before:] if image.result]
    assert shown
    assert all(image.rejected and image.result and image.result.late for image in shown)


def test_lost_and_renumbered_are_rejects_and_an_alarm(bench: GatewayHarness) -> None:
    bench.send_verdicts(2)
    bench.advance(50)
    bench.line.events.append(VerdictsLost(3, 10))
    bench.advance(50)
    assert bench.image.lost_total == 8
    assert (bench.image.alarm, bench.image.error) == (True, PlcError.RESULTS_LOST)
    bench.line.events.append(SequenceReset(9, 0))
    bench.seq = 0
    bench.beats = False
    bench.send_heartbeat(9)
    bench.send_verdicts(1, epoch=9)
    bench.advance(50)
    assert bench.image.sequence_generation == bench.journal.initial_totals.sequence_generation + 1
    assert bench.image.result_id == 1
    assert bench.image.error is PlcError.RENUMBERED
    assert [record.seq for record in bench.journal.read_records()][-3:] == [10, 0, 1]


def test_another_version_on_the_wire_is_fail_safe_until_it_can_be_read(
    bench: GatewayHarness,
) -> None:
    bench.advance(20)
    bench.line.events.append(DataError("no such reason", where="verdict.press.top.pass"))
    bench.advance(50)
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.WIRE)
    bench.send_verdicts()
    bench.advance(20)
    assert bench.image.online


def test_stopping_tells_the_plc(bench: GatewayHarness) -> None:
    bench.advance(20)
    bench.gateway.stop()
    bench.gateway.run()
    assert (bench.image.reject_all, bench.image.error) == (True, PlcError.STOPPING)


def test_the_heartbeat_turns_only_while_the_loop_does(bench: GatewayHarness) -> None:
    bench.advance(1_000)
    turns = sum(
        a.heartbeat != b.heartbeat
        for a, b in zip(bench.link.images, bench.link.images[1:], strict=False)
    )
    assert 9 <= turns <= 10
    assert NS_PER_S


def test_a_new_journal_is_told_and_an_old_one_is_not(bench: GatewayHarness) -> None:
    """A spare PC: the PLC must see another numbering, or it takes nothing for hours."""
    bench.advance(50)
    assert (bench.image.error, bench.image.alarm) == (PlcError.NEW_JOURNAL, True)
    assert bench.image.sequence_generation >= 1_000
    numbering = bench.image.sequence_generation
    bench.send_verdicts(1)
    bench.advance(50)
    bench.kill()
    bench.start()
    bench.advance(50)
    assert (bench.image.error, bench.image.sequence_generation) == (PlcError.NONE, numbering)


def test_an_acknowledgement_from_before_the_spare_pc_is_none(bench: GatewayHarness) -> None:
    bench.link.is_responding = False
    bench.advance(20)
    bench.send_verdicts(1)
    bench.advance(20)
    bench.link.is_responding, bench.link.ack = True, 1
    bench.link.write = bench.link.images.append  # it reads, and still writes the old id
    bench.advance(500)
    assert bench.image.result_id == 1
    assert bench.image.results_valid


def test_an_acknowledgement_far_ahead_is_told(bench: GatewayHarness) -> None:
    """The PLC has taken ids that this gateway never showed: its journal is an old one."""
    bench.send_verdicts(1)
    bench.advance(50)
    bench.kill()
    bench.start()
    bench.link.write = bench.link.images.append
    bench.link.ack = 1_273
    bench.send_verdicts(1)
    bench.advance(50)
    assert bench.image.error is PlcError.ACK_AHEAD


def part(bench: GatewayHarness, part_id: str, decision: Decision, **changes: Any) -> ProcessImage:
    """One verdict of a part; the image that showed it."""
    reasons = {
        Decision.PASS: Reason.CLEAN,
        Decision.REJECT: Reason.DEFECT,
        Decision.NO_VERDICT: Reason.DEADLINE,
    }
    bench.send_verdicts(1, part_id=part_id, decision=decision, reason=reasons[decision], **changes)
    bench.advance(50)
    return next(
        image
        for image in reversed(bench.link.images)
        if image.result is not None and image.result.seq == bench.seq
    )


@pytest.mark.parametrize("first", [Decision.REJECT, Decision.NO_VERDICT])
@pytest.mark.parametrize("restart", [False, True])
def test_a_part_that_did_not_pass_never_does(
    bench: GatewayHarness, first: Decision, restart: bool
) -> None:
    bench.advance(10)
    assert part(bench, "a", Decision.PASS).passed
    assert not part(bench, "a", first).passed
    if restart:
        bench.kill()
        bench.start()
        bench.advance(10)
    for _ in range(2):
        shown = part(bench, "a", Decision.PASS)
        assert (shown.passed, shown.rejected) == (False, True)
        assert shown.result is not None
        assert shown.result.cause == CAUSE_NOT_PASSED_BEFORE
    assert part(bench, "b", Decision.PASS).passed
    assert part(bench, "c", Decision.REJECT, simulated=True).rejected
    assert part(bench, "c", Decision.PASS).passed, "a challenge says nothing of a part"


def test_a_pass_that_came_too_late_once_is_a_part_that_did_not_pass(bench: GatewayHarness) -> None:
    bench.advance(10)
    bench.link.is_responding = False
    bench.send_verdicts(1, travel_ms=10, part_id="a", decision=Decision.PASS, reason=Reason.CLEAN)
    bench.advance(100)
    bench.link.is_responding = True
    bench.advance(50)
    assert not part(bench, "a", Decision.PASS).passed


def test_a_part_whose_name_does_not_fit_is_a_reject_without_a_name(bench: GatewayHarness) -> None:
    bench.advance(10)
    for name in ("ORDER-2026-11-28/SHIFT-A/PART-00012345", "\u00c4" * 17, "a\0b"):
        shown = part(bench, name, Decision.PASS)
        assert shown.result is not None
        assert (shown.passed, shown.rejected, shown.result.part_id) == (False, True, "")
        assert (shown.result.cause, shown.result.part_id_unfit) == (CAUSE_PART_ID, True)
    assert part(bench, "\u00c4" * 16, Decision.PASS).passed
    bench.kill()
    bench.link.part_id_bytes = None  # OPC UA, MQTT
    bench.start()
    bench.advance(10)
    shown = part(bench, "ORDER-2026-11-28/SHIFT-A/PART-00012346", Decision.PASS)
    assert shown.result is not None
    assert (shown.passed, shown.result.part_id[-5:]) == (True, "12346")


@pytest.mark.parametrize(
    ("changes", "first", "after_ms", "passes"),
    [
        ({"inspect_again": True}, Decision.NO_VERDICT, 0, True),
        ({"inspect_again": True}, Decision.REJECT, 0, False),
        ({"part_id_repeats_after_s": 2.0}, Decision.REJECT, 1_000, False),
        ({"part_id_repeats_after_s": 2.0}, Decision.REJECT, 3_000, True),
    ],
)
def test_a_deliberate_second_inspection_is_configured(
    bench: GatewayHarness, changes: dict[str, Any], first: Decision, after_ms: int, passes: bool
) -> None:
    bench.kill()
    bench.start(msgspec.structs.replace(CONFIG, **changes))
    bench.advance(10)
    part(bench, "a", first)
    bench.advance(after_ms)
    assert part(bench, "a", Decision.PASS).passed is passes


def test_what_a_plc_sees_first_has_the_numbering_of_the_journal(tmp_path: Path) -> None:
    """A zero before it would be another numbering: results that were taken would be new again."""
    bench = GatewayHarness(tmp_path)
    seen: list[list[int]] = []
    bench.link.open = lambda: (  # type: ignore[method-assign]
        seen.append([image.sequence_generation for image in bench.link.images]),
        bench.gateway.stop(),
    )
    bench.gateway.run()
    assert seen == [[bench.journal.totals.sequence_generation]]
    assert bench.journal.totals.sequence_generation != 0
    bench.kill()
