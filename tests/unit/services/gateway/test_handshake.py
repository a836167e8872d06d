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
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.services.gateway.handshake import (
    CompletedResult,
    Handshake,
    HandshakeSettings,
    ResultCompletion,
    ResultTotals,
)
from edgeinspect.services.gateway.line_monitor import GatewayLineStatus
from edgeinspect.services.gateway.plc_results import PendingResult, result_for_lost
from edgeinspect.testing.peers import PlcProgram

ACK_TIMEOUT_NS = 500 * NS_PER_MS
RULES = HandshakeSettings(
    acknowledges=True, ack_timeout_ns=ACK_TIMEOUT_NS, buffer_size=4, heartbeat_interval_ns=NS_PER_S
)
ONLINE = GatewayLineStatus(True, PlcError.NONE, "", 7, 0)
OFFLINE = GatewayLineStatus(False, PlcError.HEARTBEAT_LOST, "", 7, 0)


def pending(
    seq: int, outcome: PlcOutcome = PlcOutcome.PASS, act_by_at_ns: int = NS_PER_S
) -> PendingResult:
    return PendingResult(PlcResult(seq, 7, outcome, 1, part_id=f"p{seq}"), act_by_at_ns)


class FakePlc:
    """A link and a PLC, driven by the test."""

    def __init__(self, handshake: Handshake) -> None:
        self.handshake = handshake
        self.inputs = PlcInputs(is_connected=True, commands=PlcCommands())
        self.now_ns = 0

    def cycle(
        self, status: GatewayLineStatus = ONLINE, **commands: Any
    ) -> tuple[ProcessImage, list[CompletedResult]]:
        written = replace(self.inputs.commands or PlcCommands(), **commands)
        self.inputs = replace(self.inputs, commands=written)
        completed = self.handshake.process_inputs(self.inputs, self.now_ns)
        return self.handshake.update_image(status, self.now_ns), completed

    def deliver(self, image: ProcessImage) -> None:
        self.inputs = replace(self.inputs, delivered_revision=image.revision)


def test_a_result_is_shown_until_it_is_acknowledged() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    plc.handshake.enqueue(pending(2, PlcOutcome.REJECT))
    image, completed = plc.cycle()
    assert (image.result_id, image.passed, image.rejected) == (1, True, False)
    assert not completed
    image, completed = plc.cycle(results_ack=1)
    assert not completed, "an ack of an undelivered result does not count"
    plc.deliver(image)
    image, completed = plc.cycle()
    assert [(each.completion, each.result.seq) for each in completed if each.result] == [
        (ResultCompletion.ACKED, 1)
    ]
    assert (image.result_id, image.passed, image.rejected) == (2, False, True)


@pytest.mark.parametrize("together", [False, True])
def test_on_a_new_journal_an_ack_before_the_delivery_report_counts(
    together: bool,
) -> None:
    """A fast PLC reads and acknowledges between two iterations of the gateway."""
    plc = FakePlc(Handshake(RULES, is_new_journal=True))
    plc.handshake.enqueue(pending(1))
    image, _completed = plc.cycle()
    if together:
        plc.deliver(image)
    _image, completed = plc.cycle(results_ack=1, ack_after=image.revision)
    if not together:
        assert not completed
        plc.deliver(image)
        _image, completed = plc.cycle()
    assert [each.completion for each in completed] == [ResultCompletion.ACKED]


@pytest.mark.parametrize("written", [{"results_ack": 1}, {"results_ack": 1, "ack_after": 0}])
def test_on_a_new_journal_an_old_ack_does_not_count(written: dict[str, Any]) -> None:
    plc = FakePlc(Handshake(RULES, is_new_journal=True))
    plc.handshake.enqueue(pending(1))
    image, _completed = plc.cycle(**written)
    plc.deliver(image)
    assert not plc.cycle()[1]


def test_without_a_result_both_bits_are_0_and_the_id_stays() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(5))
    plc.deliver(plc.cycle()[0])
    image, _completed = plc.cycle(results_ack=5)
    assert (image.results_valid, image.passed, image.rejected, image.result_id) == (
        False,
        False,
        False,
        5,
    )


def test_an_ack_timeout_forces_the_result_and_is_counted() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    plc.deliver(plc.cycle()[0])
    plc.cycle()
    plc.now_ns = ACK_TIMEOUT_NS - 1
    assert not plc.cycle()[1]
    plc.now_ns += 1
    image, completed = plc.cycle()
    assert [each.completion for each in completed] == [ResultCompletion.FORCED]
    assert (image.forced_total, image.error) == (1, PlcError.ACK_TIMEOUT)
    image, _completed = plc.cycle(fault_reset=True)
    assert image.error is PlcError.NONE


def test_no_timeout_runs_while_disconnected() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    plc.deliver(plc.cycle()[0])
    plc.cycle()
    plc.inputs = PlcInputs(is_connected=False, delivered_revision=plc.inputs.delivered_revision)
    for _ in range(10):
        plc.now_ns += ACK_TIMEOUT_NS
        image, completed = plc.cycle()
        assert not completed
    assert image.link_losses == 1


def test_a_pass_not_delivered_in_time_becomes_a_reject() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    assert plc.cycle()[0].passed
    plc.now_ns = NS_PER_S
    image, _completed = plc.cycle()
    assert image.result is not None
    assert (image.passed, image.rejected, image.result.late) == (False, True, True)
    assert image.result.cause == CAUSE_LATE


def delivered_pass(*, act_by_at_ns: int = NS_PER_S) -> tuple[FakePlc, ProcessImage]:
    """A handshake with a delivered, unacknowledged pass."""
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1, act_by_at_ns=act_by_at_ns))
    image = plc.cycle()[0]
    plc.deliver(image)
    plc.cycle()
    return plc, image


def test_a_pass_delivered_in_time_stays_a_pass() -> None:
    plc, _image = delivered_pass(act_by_at_ns=ACK_TIMEOUT_NS // 2)
    plc.now_ns = ACK_TIMEOUT_NS - 1
    assert plc.cycle()[0].passed


def test_after_a_reconnection_no_pass_is_shown_past_its_act_by() -> None:
    """A cable is pulled while the response is being sent: the PLC may not have read it."""
    plc, _image = delivered_pass()
    ack = PlcCommands(results_ack=0)
    plc.inputs = replace(plc.inputs, is_connected=False, commands=None)
    assert plc.cycle()[0].passed, "it is still in time"
    plc.now_ns = 10 * NS_PER_S
    plc.cycle()
    plc.inputs = replace(plc.inputs, is_connected=True, commands=ack)
    image, completed = plc.cycle()
    assert not completed
    assert image.result is not None
    assert (image.result_id, image.passed, image.rejected) == (1, False, True)
    plc.deliver(image)
    _image, completed = plc.cycle(results_ack=1, ack_after=image.revision)
    assert [(each.completion, each.result.cause) for each in completed if each.result] == [
        (ResultCompletion.ACKED, CAUSE_LATE)
    ]


def test_a_pass_taken_before_a_disconnection_is_recorded_as_a_pass() -> None:
    plc, shown = delivered_pass()
    plc.inputs = replace(plc.inputs, is_connected=False, commands=None)
    plc.cycle()
    plc.now_ns = 10 * NS_PER_S
    plc.cycle()
    plc.inputs = replace(plc.inputs, is_connected=True)
    _image, completed = plc.cycle(results_ack=1, ack_after=shown.revision)
    assert [(each.completion, each.result.outcome) for each in completed if each.result] == [
        (ResultCompletion.ACKED, PlcOutcome.PASS)
    ]


def test_no_timeout_runs_while_the_gateway_is_stopped() -> None:
    plc, _image = delivered_pass()
    plc.now_ns = 3 * ACK_TIMEOUT_NS
    plc.handshake.extend_ack_deadline(3 * ACK_TIMEOUT_NS - NS_PER_MS)
    assert not plc.cycle()[1]
    plc.now_ns += ACK_TIMEOUT_NS
    assert [each.completion for each in plc.cycle()[1]] == [ResultCompletion.FORCED]


def test_fail_safe_hides_a_result_and_shows_it_again() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    plc.cycle()
    image, _completed = plc.cycle(OFFLINE)
    assert (image.reject_all, image.results_valid, image.passed) == (True, False, False)
    plc.deliver(image)
    image, completed = plc.cycle(OFFLINE)
    assert not completed, "a fail-safe image that arrived delivers no result"
    image, _completed = plc.cycle()
    assert (image.result_id, image.passed) == (1, True)


def test_an_ack_during_fail_safe_counts() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    plc.deliver(plc.cycle()[0])
    plc.cycle(OFFLINE)
    _image, completed = plc.cycle(OFFLINE, results_ack=1)
    assert [each.completion for each in completed] == [ResultCompletion.ACKED]


def test_an_overrun_loses_no_result() -> None:
    plc = FakePlc(Handshake(RULES))
    for seq in range(1, 8):
        plc.handshake.enqueue(pending(seq))
    image, _completed = plc.cycle()
    assert (image.overrun, image.error, image.buffer_free) == (True, PlcError.OVERRUN, 0)
    for seq in range(1, 8):
        assert image.result_id == seq
        plc.deliver(image)
        image, _completed = plc.cycle(results_ack=seq)
    assert image.overrun, "until a fault reset"
    assert not plc.cycle(fault_reset=True)[0].overrun


def test_after_a_sequence_reset_an_old_ack_does_not_count() -> None:
    plc = FakePlc(Handshake(RULES, ResultTotals(last_id=1)))
    plc.cycle(results_ack=1)
    plc.handshake.reset_sequence(8)
    plc.handshake.enqueue(pending(1))
    image, completed = plc.cycle()
    assert [each.completion for each in completed] == [ResultCompletion.SEQUENCE_RESET]
    assert (image.sequence_generation, image.result_id) == (1, 1)
    plc.deliver(image)
    assert not plc.cycle()[1]


def test_lost_verdicts_are_one_reject() -> None:
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(result_for_lost(VerdictsLost(3, 12), 7))
    image, _completed = plc.cycle()
    assert image.result is not None
    assert (image.rejected, image.result.frames_covered, image.result.cause) == (
        True,
        10,
        CAUSE_LOST,
    )
    plc.deliver(image)
    image, _completed = plc.cycle(results_ack=12)
    assert (image.lost_total, image.results_total, image.error) == (10, 10, PlcError.RESULTS_LOST)


def test_without_acknowledgement_a_delivered_result_is_applied() -> None:
    plc = FakePlc(Handshake(replace(RULES, acknowledges=False)))
    plc.handshake.enqueue(pending(1))
    plc.deliver(plc.cycle()[0])
    assert [each.completion for each in plc.cycle()[1]] == [ResultCompletion.DELIVERED]


def test_without_a_change_the_image_is_the_same_object() -> None:
    plc = FakePlc(Handshake(RULES))
    first, _completed = plc.cycle()
    assert plc.cycle()[0] is first
    plc.now_ns = NS_PER_S
    beat, _completed = plc.cycle()
    assert (beat.heartbeat, beat.revision) == (not first.heartbeat, first.revision + 1)


def test_enable_required() -> None:
    plc = FakePlc(Handshake(replace(RULES, enable_required=True)))
    image, _completed = plc.cycle()
    assert (image.trigger_ready, image.error) == (False, PlcError.NOT_ENABLED)
    assert plc.cycle(enable=True)[0].trigger_ready


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
def test_invalid_results_and_images_cannot_be_created(bad: Any) -> None:
    with pytest.raises(InternalError):
        bad()


class HandshakeMachine(RuleBasedStateMachine):
    """The line, the link, the PLC and kills of the gateway, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.line: list[PendingResult] = []
        """All results of the line."""
        self.applied: list[PlcResult] = []
        self.totals = ResultTotals()
        self.is_connected = True
        self.online = True
        self.delivered = -1
        self.block = _register_codec.encode_outputs(ProcessImage())
        self.at_plc: dict[str, Any] = _register_codec.tag_values(ProcessImage())
        self.plc = PlcProgram()
        self.ack = 0
        self.handshake = Handshake(RULES, self.totals)
        self.image = self.handshake.update_image(OFFLINE, 0)

    def iterate(self) -> None:
        commands = PlcCommands(results_ack=self.ack) if self.is_connected else None
        inputs = PlcInputs(self.is_connected, self.delivered, commands)
        for each in self.handshake.process_inputs(inputs, self.now_ns):
            assert each.result is not None
            last = self.applied[-1].seq if self.applied else 0
            assert each.result.seq - each.result.frames_covered == last, "in order, none skipped"
            self.applied.append(each.result)
            self.totals = self.handshake.totals
            if each.completion is ResultCompletion.ACKED:
                assert self.plc.last_id >= each.result.seq, "acknowledged, so it was taken"
        self.image = self.handshake.update_image(ONLINE if self.online else OFFLINE, self.now_ns)
        result = self.image.result
        if result is not None and result.outcome is PlcOutcome.PASS:
            source = next(p for p in self.line if p.result.seq == result.seq)
            assert source.act_by_at_ns is not None
            in_time = self.now_ns < source.act_by_at_ns
            assert in_time or self.delivered >= 0, "a late pass is shown only if delivered"

    @rule(
        outcome=st.sampled_from([PlcOutcome.PASS, PlcOutcome.REJECT]), travel_ms=st.integers(0, 900)
    )
    def add_verdict(self, outcome: PlcOutcome, travel_ms: int) -> None:
        last = self.line[-1].result.seq if self.line else 0
        self.line.append(pending(last + 1, outcome, self.now_ns + travel_ms * NS_PER_MS))
        self.handshake.enqueue(self.line[-1])
        self.iterate()

    @rule(count=st.integers(1, 5))
    def lose_verdicts(self, count: int) -> None:
        last = self.line[-1].result.seq if self.line else 0
        self.line.append(result_for_lost(VerdictsLost(last + 1, last + count), 7))
        self.handshake.enqueue(self.line[-1])
        self.iterate()

    @rule(ms=st.integers(1, 700))
    def wait(self, ms: int) -> None:
        self.now_ns += ms * NS_PER_MS
        self.iterate()

    @rule()
    def toggle_online(self) -> None:
        self.online = not self.online
        self.iterate()
        assert self.image.online is self.online

    @precondition(lambda self: self.is_connected)
    @rule()
    def link_writes(self) -> None:
        self.block = _register_codec.encode_outputs(self.image)
        self.at_plc = _register_codec.tag_values(self.image)
        self.delivered = self.image.revision
        self.iterate()

    @precondition(lambda self: self.is_connected)
    @rule(after=st.integers(0, 75), from_the_end=st.booleans())
    def link_writes_partly(self, after: int, from_the_end: bool) -> None:
        """The PLC scans while its block is half new."""
        old, new = self.block, _register_codec.encode_outputs(self.image)
        self.block = new
        head, tail = (old, new) if from_the_end else (new, old)
        torn = head[: 2 * after] + tail[2 * after :]
        self.at_plc = _register_codec.decode_outputs(torn)
        self.plc_scans()
        self.at_plc = _register_codec.decode_outputs(self.block)
        self.delivered = self.image.revision
        self.iterate()

    @rule()
    def plc_scans(self) -> None:
        before = len(self.plc.log)
        self.ack = self.plc.cycle(self.at_plc)
        for taken in self.plc.log[before:]:
            source = next(p for p in self.line if p.result.seq == taken.result_id)
            assert not (taken.passed and source.result.outcome is not PlcOutcome.PASS)
            assert taken.part_id == source.result.part_id

    @rule()
    def toggle_connected(self) -> None:
        self.is_connected = not self.is_connected
        self.iterate()

    @rule()
    def kill_9(self) -> None:
        self.handshake = Handshake(RULES, self.totals)
        self.delivered = -1
        last = self.applied[-1].seq if self.applied else 0
        for item in self.line:
            if item.result.seq > last:
                self.handshake.enqueue(item)
        self.iterate()

    @invariant()
    def taken_once_and_in_order(self) -> None:
        ids = [taken.result_id for taken in self.plc.log]
        assert ids == sorted(set(ids))


def test_a_block_of_a_result_and_its_successor_is_not_taken() -> None:
    """After a forced timeout the result is no longer in the block, but its id is."""
    plc = FakePlc(Handshake(RULES))
    plc.handshake.enqueue(pending(1))
    shown = plc.cycle()[0]
    plc.deliver(shown)
    plc.cycle()
    plc.now_ns = ACK_TIMEOUT_NS
    without_result = plc.cycle()[0]
    assert (without_result.result_id, without_result.results_valid) == (1, False)
    old, new = _register_codec.encode_outputs(shown), _register_codec.encode_outputs(without_result)
    for words in range(1, _register_map.OUTPUT_WORDS):
        torn = old[: 2 * words] + new[2 * words :]
        program = PlcProgram()
        program.cycle(_register_codec.decode_outputs(torn))
        assert not program.log, words


HandshakeMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None
)
TestHandshakeMachine = HandshakeMachine.TestCase
