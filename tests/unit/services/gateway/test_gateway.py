"""The gateway on a manual clock: a fake feed, a fake link, a real journal."""

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
from edgeinspect.services.gateway.handshake import ResultCompletion
from edgeinspect.services.gateway.journal import GatewayJournal
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
    """A feed of scripted events; records the cursors it was opened at."""

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
    """A link to a PLC that reads and acknowledges at once while `is_responding`."""

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
    """A gateway with its feed, link, journal and part memory on a manual clock."""

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
        self.journal = GatewayJournal(self.folder / "j", name="plc-1", capacity=256)
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
        """As kill -9: nothing more is sent or written."""
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
def harness(tmp_path: Path) -> Iterator[GatewayHarness]:
    built = GatewayHarness(tmp_path)
    yield built
    built.journal.close()
    built.memory.close()


def test_it_starts_fail_safe_and_goes_online(harness: GatewayHarness) -> None:
    harness.beats = False
    harness.advance(50)
    assert (harness.image.reject_all, harness.image.error) == (True, PlcError.STARTING)
    harness.beats = True
    harness.advance(20)
    assert (harness.image.online, harness.image.trigger_ready) == (True, True)


def test_silence_is_fail_safe_in_time_until_the_next_heartbeat(harness: GatewayHarness) -> None:
    harness.advance(100)
    harness.beats = False
    received_at_ns = harness.clock.now_ns() - STEP_NS
    while harness.image.online:
        assert harness.clock.now_ns() - received_at_ns <= 290 * NS_PER_MS
        harness.advance(10)
    assert harness.clock.now_ns() - received_at_ns >= 270 * NS_PER_MS
    assert harness.image.error is PlcError.HEARTBEAT_LOST
    harness.beats = True
    harness.advance(20)
    assert harness.image.online


def test_a_heartbeat_of_an_older_epoch_does_not_count(harness: GatewayHarness) -> None:
    harness.send_heartbeat(epoch=9)
    harness.advance(10)
    harness.advance(400)  # beats of epoch 7
    assert harness.image.error is PlcError.HEARTBEAT_LOST


def test_a_daemon_that_does_not_inspect_is_online_and_not_ready(harness: GatewayHarness) -> None:
    harness.beats = False
    harness.send_heartbeat(inspecting=False, alarm="camera top is lost")
    harness.advance(10)
    image = harness.image
    assert (image.online, image.trigger_ready, image.alarm) == (True, False, True)
    assert image.error is PlcError.NOT_INSPECTING


def test_each_result_once_across_restarts(harness: GatewayHarness) -> None:
    harness.advance(10)
    harness.send_verdicts(5)
    harness.advance(30)
    harness.kill()
    harness.start()
    assert harness.line.subscribed_cursors[-1] == harness.journal.cursor
    harness.send_verdicts(3)
    harness.advance(200)
    seqs = [record.seq for record in harness.journal.read_records() if record.outcome]
    assert seqs == list(range(1, 9))
    assert harness.line.acked[-1] == 8


@pytest.mark.parametrize("paused_by", ["the processor", "the disk"])
def test_a_pause_of_the_gateway_makes_no_pass_late(harness: GatewayHarness, paused_by: str) -> None:
    """A replayed verdict has only a wall-clock act-by: a false clock step would reject it."""
    clock = PreemptedClock()
    harness.kill()
    harness.clock = clock
    harness.start()
    set_cursor, receive = harness.journal.set_cursor, harness.line.receive

    def set_cursor_slowly(*cursor: Any) -> None:
        set_cursor(*cursor)
        clock.advance(NS_PER_S if paused_by == "the disk" else 0)

    def receive_and_pause(timeout_ms: int = 0) -> FeedEvent | None:
        event = receive(timeout_ms)
        clock.pauses = 2 if paused_by == "the processor" else 0
        return event

    harness.journal.set_cursor = set_cursor_slowly  # type: ignore[method-assign]
    harness.line.receive = receive_and_pause  # type: ignore[method-assign]
    harness.send_verdicts(5, travel_ms=1_000_000)
    harness.line.events = deque(VerdictReceived(each, b"", True) for each in harness.line.verdicts)
    harness.advance(1_000)
    outcomes = [record.outcome for record in harness.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.PASS] * 5


def test_after_a_slow_write_the_image_has_the_current_time(harness: GatewayHarness) -> None:
    """While the first result is recorded, act-by of the second passes and the line is silent."""
    harness.advance(10)
    harness.send_verdicts(2, travel_ms=500)
    append = harness.journal.append

    def append_slowly(*applied: Any) -> None:
        append(*applied)
        harness.clock.advance(NS_PER_S)

    harness.journal.append = append_slowly  # type: ignore[method-assign]
    before = len(harness.link.images)
    harness.beats = False
    harness.advance(50)
    after = [image for image in harness.link.images[before:] if image.results_total]
    assert after
    assert not any(image.online for image in after)
    harness.beats = True
    harness.advance(2_000)
    outcomes = [record.outcome for record in harness.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.PASS, PlcOutcome.REJECT]


def test_after_a_slow_lookup_no_pass_is_shown_past_its_act_by(
    harness: GatewayHarness,
) -> None:
    """The trigger thread holds the memory's lock during a slow write."""
    harness.advance(10)
    harness.send_verdicts(1, travel_ms=500)
    find_not_passed = harness.memory.find_not_passed

    def find_slowly(part: bytes) -> Any:
        harness.memory.find_not_passed = find_not_passed  # type: ignore[method-assign]
        harness.clock.advance(NS_PER_S)
        return find_not_passed(part)

    harness.memory.find_not_passed = find_slowly  # type: ignore[method-assign]
    before = len(harness.link.images)
    harness.advance(100)
    results = [image for image in harness.link.images[before:] if image.result is not None]
    assert results
    assert not any(image.passed for image in results)


@pytest.mark.parametrize("empty_polls_after", [0, 1, 5])
def test_a_verdict_received_after_a_stop_may_be_as_old_as_the_stop(
    harness: GatewayHarness, empty_polls_after: int
) -> None:
    """SIGSTOP during an empty poll: act-by counts from before it, in whatever order the network
    thread delivers afterwards. The clock was stepped, so timestamps do not tell the age."""
    harness.advance(10)
    receive = harness.line.receive

    def stop_in_the_poll(timeout_ms: int = 0) -> FeedEvent | None:
        event = receive(timeout_ms)
        harness.line.receive = receive  # type: ignore[method-assign]
        harness.clock.advance(10 * NS_PER_S)
        return event

    harness.line.receive = stop_in_the_poll  # type: ignore[method-assign]
    harness.gateway.step(0)
    for _ in range(empty_polls_after):
        harness.gateway.step(0)
        harness.clock.advance(STEP_NS)
    harness.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, captured_at_utc_ns=harness.clock.utc_ns()
    )
    harness.advance(100)
    outcomes = [record.outcome for record in harness.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.REJECT]
    harness.advance(1_000)
    harness.send_verdicts(
        1,
        travel_ms=1_000,
        clock_stepped=True,
        part_id="y",
        captured_at_utc_ns=harness.clock.utc_ns(),
    )
    harness.advance(100)
    assert harness.journal.read_records()[-1].outcome is PlcOutcome.PASS


@pytest.mark.parametrize("away", ["the gateway", "the network"])
def test_the_first_verdict_after_a_silence_may_be_old(harness: GatewayHarness, away: str) -> None:
    """A new subscriber is sent the last verdict, and a network delivers what it had buffered. The
    clock was stepped, so timestamps do not tell the age."""
    harness.advance(1_000)
    if away == "the gateway":
        harness.kill()
        harness.start()
    else:
        harness.beats = False
        harness.advance(5_000)
        harness.beats = True
    harness.send_verdicts(
        1, travel_ms=1_000, clock_stepped=True, captured_at_utc_ns=harness.clock.utc_ns()
    )
    harness.advance(1_000)
    harness.send_verdicts(
        1,
        travel_ms=1_000,
        clock_stepped=True,
        part_id="y",
        captured_at_utc_ns=harness.clock.utc_ns(),
    )
    harness.advance(100)
    outcomes = [record.outcome for record in harness.journal.read_records() if record.outcome]
    assert outcomes == [PlcOutcome.REJECT, PlcOutcome.PASS]


def test_a_stop_of_the_gateway_forces_no_result(harness: GatewayHarness) -> None:
    """What the PLC wrote meanwhile is in a socket and is read a moment later."""
    harness.advance(10)
    harness.link.is_responding = False
    harness.link.poll = lambda: PlcInputs(  # type: ignore[method-assign]
        True, harness.link.images[-1].revision, PlcCommands(results_ack=harness.link.ack)
    )
    harness.send_verdicts(1)
    harness.advance(30)
    harness.clock.advance(1_500 * NS_PER_MS)
    harness.advance(50)
    harness.link.ack = 1
    harness.advance(20)
    assert [record.completion for record in harness.journal.read_records() if record.outcome] == [
        ResultCompletion.ACKED
    ]


def test_a_new_gateway_records_its_cursor_before_the_first_result(harness: GatewayHarness) -> None:
    harness.seq = 40
    harness.advance(10)
    harness.kill()
    harness.start()
    assert harness.line.subscribed_cursors[-1] == 40


def test_a_full_backlog_is_replayed_from_the_lines_spool(harness: GatewayHarness) -> None:
    harness.advance(10)
    harness.link.is_responding = False
    harness.send_verdicts(60)
    harness.advance(200)
    assert len(harness.gateway.handshake) == 8
    harness.link.is_responding = True
    harness.advance(3_000)
    seqs = [record.seq for record in harness.journal.read_records() if record.outcome]
    assert seqs == list(range(1, 61))


def test_a_backlog_after_its_act_by_is_rejected(harness: GatewayHarness) -> None:
    harness.advance(10)
    harness.link.is_responding = False
    harness.send_verdicts(5, travel_ms=500)
    harness.advance(1_000)
    harness.link.is_responding = True
    before = len(harness.link.images)
    harness.advance(200)
    shown = [image for image in harness.link.images[before:] if image.result]
    assert shown
    assert all(image.rejected and image.result and image.result.late for image in shown)


def test_lost_verdicts_and_a_sequence_reset_raise_the_alarm(harness: GatewayHarness) -> None:
    harness.send_verdicts(2)
    harness.advance(50)
    harness.line.events.append(VerdictsLost(3, 10))
    harness.advance(50)
    assert harness.image.lost_total == 8
    assert (harness.image.alarm, harness.image.error) == (True, PlcError.RESULTS_LOST)
    harness.line.events.append(SequenceReset(9, 0))
    harness.seq = 0
    harness.beats = False
    harness.send_heartbeat(9)
    harness.send_verdicts(1, epoch=9)
    harness.advance(50)
    assert (
        harness.image.sequence_generation == harness.journal.initial_totals.sequence_generation + 1
    )
    assert harness.image.result_id == 1
    assert harness.image.error is PlcError.RENUMBERED
    assert [record.seq for record in harness.journal.read_records()][-3:] == [10, 0, 1]


def test_an_invalid_message_is_fail_safe_until_a_valid_one(
    harness: GatewayHarness,
) -> None:
    harness.advance(20)
    harness.line.events.append(DataError("no such reason", where="verdict.press.top.pass"))
    harness.advance(50)
    assert (harness.image.reject_all, harness.image.error) == (True, PlcError.WIRE)
    harness.send_verdicts()
    harness.advance(20)
    assert harness.image.online


def test_stopping_shows_fail_safe(harness: GatewayHarness) -> None:
    harness.advance(20)
    harness.gateway.stop()
    harness.gateway.run()
    assert (harness.image.reject_all, harness.image.error) == (True, PlcError.STOPPING)


def test_the_heartbeat_changes_as_the_loop_runs(harness: GatewayHarness) -> None:
    harness.advance(1_000)
    changes = sum(
        a.heartbeat != b.heartbeat
        for a, b in zip(harness.link.images, harness.link.images[1:], strict=False)
    )
    assert 9 <= changes <= 10


def test_a_new_journal_sets_an_error_and_another_generation(harness: GatewayHarness) -> None:
    """A spare PC: without another generation the PLC would take no result for hours."""
    harness.advance(50)
    assert (harness.image.error, harness.image.alarm) == (PlcError.NEW_JOURNAL, True)
    assert harness.image.sequence_generation >= 1_000
    generation = harness.image.sequence_generation
    harness.send_verdicts(1)
    harness.advance(50)
    harness.kill()
    harness.start()
    harness.advance(50)
    assert (harness.image.error, harness.image.sequence_generation) == (PlcError.NONE, generation)


def test_an_old_ack_does_not_answer_a_new_journal(harness: GatewayHarness) -> None:
    harness.link.is_responding = False
    harness.advance(20)
    harness.send_verdicts(1)
    harness.advance(20)
    harness.link.is_responding, harness.link.ack = True, 1
    harness.link.write = harness.link.images.append  # it reads, and continues to write the old id
    harness.advance(500)
    assert harness.image.result_id == 1
    assert harness.image.results_valid


def test_an_ack_far_ahead_sets_an_error(harness: GatewayHarness) -> None:
    """The PLC has acknowledged ids that this gateway never showed: the journal is old."""
    harness.send_verdicts(1)
    harness.advance(50)
    harness.kill()
    harness.start()
    harness.link.write = harness.link.images.append
    harness.link.ack = 1_273
    harness.send_verdicts(1)
    harness.advance(50)
    assert harness.image.error is PlcError.ACK_AHEAD


def part(harness: GatewayHarness, part_id: str, decision: Decision, **changes: Any) -> ProcessImage:
    """Send a verdict of a part; return the image that shows it."""
    reasons = {
        Decision.PASS: Reason.CLEAN,
        Decision.REJECT: Reason.DEFECT,
        Decision.NO_VERDICT: Reason.DEADLINE,
    }
    harness.send_verdicts(
        1, part_id=part_id, decision=decision, reason=reasons[decision], **changes
    )
    harness.advance(50)
    return next(
        image
        for image in reversed(harness.link.images)
        if image.result is not None and image.result.seq == harness.seq
    )


@pytest.mark.parametrize("first", [Decision.REJECT, Decision.NO_VERDICT])
@pytest.mark.parametrize("restart", [False, True])
def test_a_part_that_did_not_pass_never_passes(
    harness: GatewayHarness, first: Decision, restart: bool
) -> None:
    harness.advance(10)
    assert part(harness, "a", Decision.PASS).passed
    assert not part(harness, "a", first).passed
    if restart:
        harness.kill()
        harness.start()
        harness.advance(10)
    for _ in range(2):
        shown = part(harness, "a", Decision.PASS)
        assert (shown.passed, shown.rejected) == (False, True)
        assert shown.result is not None
        assert shown.result.cause == CAUSE_NOT_PASSED_BEFORE
    assert part(harness, "b", Decision.PASS).passed
    assert part(harness, "c", Decision.REJECT, simulated=True).rejected
    assert part(harness, "c", Decision.PASS).passed, "a challenge does not count for its part"


def test_a_late_pass_counts_as_not_passed(harness: GatewayHarness) -> None:
    harness.advance(10)
    harness.link.is_responding = False
    harness.send_verdicts(1, travel_ms=10, part_id="a", decision=Decision.PASS, reason=Reason.CLEAN)
    harness.advance(100)
    harness.link.is_responding = True
    harness.advance(50)
    assert not part(harness, "a", Decision.PASS).passed


def test_a_part_id_that_does_not_fit_is_a_reject_without_id(harness: GatewayHarness) -> None:
    harness.advance(10)
    for name in ("ORDER-2026-11-28/SHIFT-A/PART-00012345", "\u00c4" * 17, "a\0b"):
        shown = part(harness, name, Decision.PASS)
        assert shown.result is not None
        assert (shown.passed, shown.rejected, shown.result.part_id) == (False, True, "")
        assert (shown.result.cause, shown.result.part_id_unfit) == (CAUSE_PART_ID, True)
    assert part(harness, "\u00c4" * 16, Decision.PASS).passed
    harness.kill()
    harness.link.part_id_bytes = None  # OPC UA, MQTT
    harness.start()
    harness.advance(10)
    shown = part(harness, "ORDER-2026-11-28/SHIFT-A/PART-00012346", Decision.PASS)
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
def test_a_second_inspection_must_be_configured(
    harness: GatewayHarness, changes: dict[str, Any], first: Decision, after_ms: int, passes: bool
) -> None:
    harness.kill()
    harness.start(msgspec.structs.replace(CONFIG, **changes))
    harness.advance(10)
    part(harness, "a", first)
    harness.advance(after_ms)
    assert part(harness, "a", Decision.PASS).passed is passes


def test_the_first_image_has_the_generation_of_the_journal(tmp_path: Path) -> None:
    """A zero before it would be another generation: taken results would be new again."""
    harness = GatewayHarness(tmp_path)
    generations: list[list[int]] = []
    harness.link.open = lambda: (  # type: ignore[method-assign]
        generations.append([image.sequence_generation for image in harness.link.images]),
        harness.gateway.stop(),
    )
    harness.gateway.run()
    assert generations == [[harness.journal.totals.sequence_generation]]
    assert harness.journal.totals.sequence_generation != 0
    harness.kill()
