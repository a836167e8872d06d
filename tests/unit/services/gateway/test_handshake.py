from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeinspect.client import VerdictsLost
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.plc import (
    CAUSE_LATE,
    CAUSE_LOST,
    PlcCommands,
    PlcError,
    PlcInputs,
    PlcOutcome,
    PlcResult,
    ProcessImage,
)
from edgeinspect.errors import InternalError
from edgeinspect.plclinks import _register_map
from edgeinspect.services.gateway.handshake import (
    CompletedResult,
    Completion,
    Handshake,
    HandshakeSettings,
    ResultTotals,
)
from edgeinspect.services.gateway.line_monitor import LineStatus
from edgeinspect.services.gateway.plc_results import PendingResult, result_for_lost
from edgeinspect.testing.peers import PlcProgram

ACK_TIMEOUT_NS = 500 * NS_PER_MS
RULES = HandshakeSettings(
    acknowledges=True, ack_timeout_ns=ACK_TIMEOUT_NS, buffer_size=4, heartbeat_interval_ns=NS_PER_S
)
ONLINE = LineStatus(True, PlcError.NONE, "", 7, 0)
OFFLINE = LineStatus(False, PlcError.HEARTBEAT_LOST, "", 7, 0)


def pending(
    seq: int, outcome: PlcOutcome = PlcOutcome.PASS, act_by_at_ns: int = NS_PER_S
) -> PendingResult:
    return PendingResult(PlcResult(seq, 7, outcome, 1, part_id=f"p{seq}"), act_by_at_ns)


class FakePlc:
    """A link and a PLC, moved by hand."""

    def __init__(self, handshake: Handshake) -> None:
        self.handshake = handshake
        self.inputs = PlcInputs(is_connected=True, commands=PlcCommands())
        self.now_ns = 0

    def cycle(
        self, standing: LineStatus = ONLINE, **commands: Any
    ) -> tuple[ProcessImage, list[CompletedResult]]:
        written = replace(self.inputs.commands or PlcCommands(), **commands)
        self.inputs = replace(self.inputs, commands=written)
        applied = self.handshake.process_inputs(self.inputs, self.now_ns)
        return self.handshake.update_image(standing, self.now_ns), applied

    def deliver(self, image: ProcessImage) -> None:
        self.inputs = replace(self.inputs, delivered_revision=image.revision)


def test_a_result_is_shown_until_its_id_is_written_back() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    peer.handshake.enqueue(pending(2, PlcOutcome.REJECT))
    image, applied = peer.cycle()
    assert (image.result_id, image.passed, image.rejected) == (1, True, False)
    assert not applied
    image, applied = peer.cycle(results_ack=1)
    assert not applied, "an ack of what was not delivered is no ack"
    peer.deliver(image)
    image, applied = peer.cycle()
    assert [(done.completion, done.result.seq) for done in applied if done.result] == [
        (Completion.ACKED, 1)
    ]
    assert (image.result_id, image.passed, image.rejected) == (2, False, True)


@pytest.mark.parametrize("together", [False, True])
def test_on_a_new_journal_an_ack_that_overtakes_the_word_of_delivery_counts(
    together: bool,
) -> None:
    """A fast PLC reads and answers between two looks of the gateway's loop."""
    peer = FakePlc(Handshake(RULES, is_new_journal=True))
    peer.handshake.enqueue(pending(1))
    image, _applied = peer.cycle()
    if together:
        peer.deliver(image)
    _image, applied = peer.cycle(results_ack=1, ack_after=image.revision)
    if not together:
        assert not applied
        peer.deliver(image)
        _image, applied = peer.cycle()
    assert [done.completion for done in applied] == [Completion.ACKED]


@pytest.mark.parametrize("written", [{"results_ack": 1}, {"results_ack": 1, "ack_after": 0}])
def test_on_a_new_journal_an_ack_that_stood_there_before_is_none(written: dict[str, Any]) -> None:
    peer = FakePlc(Handshake(RULES, is_new_journal=True))
    peer.handshake.enqueue(pending(1))
    image, _applied = peer.cycle(**written)
    peer.deliver(image)
    assert not peer.cycle()[1]


def test_nothing_waits_so_both_bits_are_0_and_the_id_stays() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(5))
    peer.deliver(peer.cycle()[0])
    image, _applied = peer.cycle(results_ack=5)
    assert (image.results_valid, image.passed, image.rejected, image.result_id) == (
        False,
        False,
        False,
        5,
    )


def test_the_timeout_is_forced_counted_and_told() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    peer.deliver(peer.cycle()[0])
    peer.cycle()
    peer.now_ns = ACK_TIMEOUT_NS - 1
    assert not peer.cycle()[1]
    peer.now_ns += 1
    image, applied = peer.cycle()
    assert [done.completion for done in applied] == [Completion.FORCED]
    assert (image.forced_total, image.error) == (1, PlcError.ACK_TIMEOUT)
    image, _applied = peer.cycle(fault_reset=True)
    assert image.error is PlcError.NONE


def test_no_timeout_runs_while_the_plc_is_away() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    peer.deliver(peer.cycle()[0])
    peer.cycle()
    peer.inputs = PlcInputs(is_connected=False, delivered_revision=peer.inputs.delivered_revision)
    for _ in range(10):
        peer.now_ns += ACK_TIMEOUT_NS
        image, applied = peer.cycle()
        assert not applied
    assert image.link_losses == 1


def test_a_pass_that_could_not_be_delivered_in_time_becomes_a_reject() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    assert peer.cycle()[0].passed
    peer.now_ns = NS_PER_S
    image, _applied = peer.cycle()
    assert image.result is not None
    assert (image.passed, image.rejected, image.result.late) == (False, True, True)
    assert image.result.cause == CAUSE_LATE


def delivered_pass(*, act_by_at_ns: int = NS_PER_S) -> tuple[FakePlc, ProcessImage]:
    """A pass that a PLC may have read, and has not acknowledged."""
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1, act_by_at_ns=act_by_at_ns))
    image = peer.cycle()[0]
    peer.deliver(image)
    peer.cycle()
    return peer, image


def test_a_pass_that_was_delivered_in_time_stays_what_it_was() -> None:
    peer, _image = delivered_pass(act_by_at_ns=ACK_TIMEOUT_NS // 2)
    peer.now_ns = ACK_TIMEOUT_NS - 1
    assert peer.cycle()[0].passed


def test_whoever_connects_again_sees_no_pass_past_its_act_by() -> None:
    """A cable that is pulled while the answer is under way: nobody may have read it."""
    peer, _image = delivered_pass()
    ack = PlcCommands(results_ack=0)
    peer.inputs = replace(peer.inputs, is_connected=False, commands=None)
    assert peer.cycle()[0].passed, "it is in time still"
    peer.now_ns = 10 * NS_PER_S
    peer.cycle()
    peer.inputs = replace(peer.inputs, is_connected=True, commands=ack)
    image, applied = peer.cycle()
    assert not applied
    assert image.result is not None
    assert (image.result_id, image.passed, image.rejected) == (1, False, True)
    peer.deliver(image)
    _image, applied = peer.cycle(results_ack=1, ack_after=image.revision)
    assert [(done.completion, done.result.cause) for done in applied if done.result] == [
        (Completion.ACKED, CAUSE_LATE)
    ]


def test_who_took_a_pass_before_the_connection_was_lost_has_it_recorded_as_that() -> None:
    peer, shown = delivered_pass()
    peer.inputs = replace(peer.inputs, is_connected=False, commands=None)
    peer.cycle()
    peer.now_ns = 10 * NS_PER_S
    peer.cycle()
    peer.inputs = replace(peer.inputs, is_connected=True)
    _image, applied = peer.cycle(results_ack=1, ack_after=shown.revision)
    assert [(done.completion, done.result.outcome) for done in applied if done.result] == [
        (Completion.ACKED, PlcOutcome.PASS)
    ]


def test_no_timeout_runs_while_the_gateway_stands_still() -> None:
    peer, _image = delivered_pass()
    peer.now_ns = 3 * ACK_TIMEOUT_NS
    peer.handshake.extend_ack_deadline(3 * ACK_TIMEOUT_NS - NS_PER_MS)
    assert not peer.cycle()[1]
    peer.now_ns += ACK_TIMEOUT_NS
    assert [done.completion for done in peer.cycle()[1]] == [Completion.FORCED]


def test_fail_safe_hides_the_result_and_shows_it_again() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    peer.cycle()
    image, _applied = peer.cycle(OFFLINE)
    assert (image.reject_all, image.results_valid, image.passed) == (True, False, False)
    peer.deliver(image)
    image, applied = peer.cycle(OFFLINE)
    assert not applied, "a fail-safe image that arrived delivers no result"
    image, _applied = peer.cycle()
    assert (image.result_id, image.passed) == (1, True)


def test_an_ack_during_fail_safe_counts() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    peer.deliver(peer.cycle()[0])
    peer.cycle(OFFLINE)
    _image, applied = peer.cycle(OFFLINE, results_ack=1)
    assert [done.completion for done in applied] == [Completion.ACKED]


def test_more_than_the_buffer_is_an_overrun_and_loses_nothing() -> None:
    peer = FakePlc(Handshake(RULES))
    for seq in range(1, 8):
        peer.handshake.enqueue(pending(seq))
    image, _applied = peer.cycle()
    assert (image.overrun, image.error, image.buffer_free) == (True, PlcError.OVERRUN, 0)
    for seq in range(1, 8):
        assert image.result_id == seq
        peer.deliver(image)
        image, _applied = peer.cycle(results_ack=seq)
    assert image.overrun, "until the PLC has seen it"
    assert not peer.cycle(fault_reset=True)[0].overrun


def test_after_renumbering_an_old_ack_is_no_ack() -> None:
    peer = FakePlc(Handshake(RULES, ResultTotals(last_id=1)))
    peer.cycle(results_ack=1)
    peer.handshake.reset_sequence(8)
    peer.handshake.enqueue(pending(1))
    image, applied = peer.cycle()
    assert [done.completion for done in applied] == [Completion.SEQUENCE_RESET]
    assert (image.sequence_generation, image.result_id) == (1, 1)
    peer.deliver(image)
    assert not peer.cycle()[1]


def test_lost_verdicts_are_one_reject_that_speaks_for_all() -> None:
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(result_for_lost(VerdictsLost(3, 12), 7))
    image, _applied = peer.cycle()
    assert image.result is not None
    assert (image.rejected, image.result.frames_covered, image.result.cause) == (
        True,
        10,
        CAUSE_LOST,
    )
    peer.deliver(image)
    image, _applied = peer.cycle(results_ack=12)
    assert (image.lost_total, image.results_total, image.error) == (10, 10, PlcError.RESULTS_LOST)


def test_without_acknowledgement_delivered_is_applied() -> None:
    peer = FakePlc(Handshake(replace(RULES, acknowledges=False)))
    peer.handshake.enqueue(pending(1))
    peer.deliver(peer.cycle()[0])
    assert [done.completion for done in peer.cycle()[1]] == [Completion.DELIVERED]


def test_nothing_changed_means_the_same_image() -> None:
    peer = FakePlc(Handshake(RULES))
    first, _applied = peer.cycle()
    assert peer.cycle()[0] is first
    peer.now_ns = NS_PER_S
    beat, _applied = peer.cycle()
    assert (beat.heartbeat, beat.revision) == (not first.heartbeat, first.revision + 1)


def test_enable_gates_the_trigger_where_demanded() -> None:
    peer = FakePlc(Handshake(replace(RULES, enable_required=True)))
    image, _applied = peer.cycle()
    assert (image.trigger_ready, image.error) == (False, PlcError.NOT_ENABLED)
    assert peer.cycle(enable=True)[0].trigger_ready


@pytest.mark.parametrize(
    "bad",
    [
        lambda: PlcResult(1, 1, PlcOutcome.PASS, 1, no_verdict=True),
        lambda: PlcResult(1, 1, PlcOutcome.PASS, 1, late=True),
        lambda: PlcResult(1, 1, PlcOutcome.PASS, 1, frames_covered=2),
        lambda: ProcessImage(online=False, result=PlcResult(1, 1, PlcOutcome.PASS, 1)),
        lambda: ProcessImage(online=False, trigger_ready=True),
    ],
)
def test_what_must_never_be_shown_cannot_be_made(bad: Any) -> None:
    with pytest.raises(InternalError):
        bad()


class AnyOrder(RuleBasedStateMachine):
    """The line, the link, the PLC and the gateway's own death, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.line: list[PendingResult] = []
        """All that the line ever said since the last renumbering."""
        self.base = 0
        self.pushed = 0
        self.applied: list[PlcResult] = []
        self.numbering_applied: list[int] = []
        self.totals = ResultTotals()
        self.is_connected = True
        self.online = True
        self.delivered = -1
        self.block = _register_map.encode_outputs(ProcessImage())
        self.at_plc: dict[str, Any] = _register_map.tag_values(ProcessImage())
        self.plc = PlcProgram()
        self.ack = 0
        self.handshake = Handshake(RULES, self.totals)
        self.image = self.handshake.update_image(OFFLINE, 0)

    def turn(self) -> None:
        commands = PlcCommands(results_ack=self.ack) if self.is_connected else None
        inputs = PlcInputs(self.is_connected, self.delivered, commands)
        for done in self.handshake.process_inputs(inputs, self.now_ns):
            assert done.result is not None
            last = self.applied[-1].seq if self.applied else 0
            assert done.result.seq - done.result.frames_covered == last, "in order, none skipped"
            self.applied.append(done.result)
            self.totals = self.handshake.totals
            if done.completion is Completion.ACKED:
                assert self.plc.last_id >= done.result.seq, "acknowledged, so it was taken"
        self.image = self.handshake.update_image(ONLINE if self.online else OFFLINE, self.now_ns)
        result = self.image.result
        if result is not None and result.outcome is PlcOutcome.PASS:
            source = next(p for p in self.line if p.result.seq == result.seq)
            assert source.act_by_at_ns is not None
            in_time = self.now_ns < source.act_by_at_ns
            assert in_time or self.delivered >= 0, "a late pass is shown only if it was seen"

    @rule(
        outcome=st.sampled_from([PlcOutcome.PASS, PlcOutcome.REJECT]), travel_ms=st.integers(0, 900)
    )
    def judge(self, outcome: PlcOutcome, travel_ms: int) -> None:
        last = self.line[-1].result.seq if self.line else 0
        self.line.append(pending(last + 1, outcome, self.now_ns + travel_ms * NS_PER_MS))
        self.handshake.enqueue(self.line[-1])
        self.turn()

    @rule(count=st.integers(1, 5))
    def lose(self, count: int) -> None:
        last = self.line[-1].result.seq if self.line else 0
        self.line.append(result_for_lost(VerdictsLost(last + 1, last + count), 7))
        self.handshake.enqueue(self.line[-1])
        self.turn()

    @rule(ms=st.integers(1, 700))
    def wait(self, ms: int) -> None:
        self.now_ns += ms * NS_PER_MS
        self.turn()

    @rule()
    def silence(self) -> None:
        self.online = not self.online
        self.turn()
        assert self.image.online is self.online

    @precondition(lambda self: self.is_connected)
    @rule()
    def link_writes(self) -> None:
        self.block = _register_map.encode_outputs(self.image)
        self.at_plc = _register_map.tag_values(self.image)
        self.delivered = self.image.revision
        self.turn()

    @precondition(lambda self: self.is_connected)
    @rule(after=st.integers(0, 75), from_the_end=st.booleans())
    def link_writes_a_part(self, after: int, from_the_end: bool) -> None:
        """The PLC scans while its block is half new."""
        old, new = self.block, _register_map.encode_outputs(self.image)
        self.block = new
        head, tail = (old, new) if from_the_end else (new, old)
        torn = head[: 2 * after] + tail[2 * after :]
        self.at_plc = _register_map.decode_block(
            torn, _register_map.OUTPUT_TAGS, _register_map.STATUS_BITS
        )
        self.plc_scans()
        self.at_plc = _register_map.decode_block(
            self.block, _register_map.OUTPUT_TAGS, _register_map.STATUS_BITS
        )
        self.delivered = self.image.revision
        self.turn()

    @rule()
    def plc_scans(self) -> None:
        before = len(self.plc.log)
        self.ack = self.plc.cycle(self.at_plc)
        for taken in self.plc.log[before:]:
            source = next(p for p in self.line if p.result.seq == taken.result_id)
            assert not (taken.passed and source.result.outcome is not PlcOutcome.PASS)
            assert taken.part_id == source.result.part_id

    @rule()
    def link_drops(self) -> None:
        self.is_connected = not self.is_connected
        self.turn()

    @rule()
    def kill_9(self) -> None:
        self.handshake = Handshake(RULES, self.totals)
        self.delivered = -1
        done = self.applied[-1].seq if self.applied else 0
        for item in self.line:
            if item.result.seq > done:
                self.handshake.enqueue(item)
        self.turn()

    @invariant()
    def taken_once_and_in_order(self) -> None:
        ids = [taken.result_id for taken in self.plc.log]
        assert ids == sorted(set(ids))


def test_the_head_of_a_result_before_the_tail_of_none_is_not_taken() -> None:
    """Forced by the time-out, a result is gone from the block while its id is still shown."""
    peer = FakePlc(Handshake(RULES))
    peer.handshake.enqueue(pending(1))
    shown = peer.cycle()[0]
    peer.deliver(shown)
    peer.cycle()
    peer.now_ns = ACK_TIMEOUT_NS
    gone = peer.cycle()[0]
    assert (gone.result_id, gone.results_valid) == (1, False)
    old, new = _register_map.encode_outputs(shown), _register_map.encode_outputs(gone)
    for words in range(1, _register_map.OUTPUT_WORDS):
        torn = old[: 2 * words] + new[2 * words :]
        plc = PlcProgram()
        plc.cycle(
            _register_map.decode_block(torn, _register_map.OUTPUT_TAGS, _register_map.STATUS_BITS)
        )
        assert not plc.log, words


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
