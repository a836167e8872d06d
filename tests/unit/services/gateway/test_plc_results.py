from __future__ import annotations

import msgspec
import pytest

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.plc import CAUSE_DEAD_EPOCH, CAUSE_LATE, CAUSES, PlcOutcome, PlcResult
from edgeinspect.domain.verdict import Decision, Reason, StageTimes, Verdict
from edgeinspect.services.gateway.plc_results import result_for_verdict

UTC_NS = 1_700_000_000 * NS_PER_S
VERDICT = Verdict(
    line="press",
    camera="top",
    epoch=7,
    seq=3,
    frame=3,
    camera_frame_id=3,
    captured_at_utc_ns=UTC_NS,
    deadline_utc_ns=UTC_NS,
    act_by_utc_ns=UTC_NS + NS_PER_S,
    decision=Decision.PASS,
    reason=Reason.CLEAN,
    budget_us=1,
    part_id="x",
    encoder_count=9,
)


def result_of(
    verdict: Verdict,
    now_ns: int = 0,
    epoch: int = 7,
    no_verdict_as: PlcOutcome = PlcOutcome.REJECT,
    sent_at_ns: int | None = 5,
    utc_ns: int = UTC_NS,
    *,
    stepped: bool = False,
) -> PlcResult:
    pending = result_for_verdict(
        verdict,
        now_ns=5,
        utc_ns=utc_ns,
        sent_at_ns=sent_at_ns,
        clock_stepped=stepped,
        newest_epoch=epoch,
        no_verdict_as=no_verdict_as,
    )
    return pending.result_at(5 + now_ns)


def test_every_reason_has_its_own_number() -> None:
    assert set(CAUSES) == set(Reason)
    assert len(set(CAUSES.values())) == len(CAUSES)


def test_a_pass_in_time_is_a_pass() -> None:
    result = result_of(VERDICT, NS_PER_S - NS_PER_MS)
    assert (result.outcome, result.act_by_ms, result.late) == (PlcOutcome.PASS, 1, False)


def test_a_pass_after_its_act_by_is_a_reject() -> None:
    result = result_of(VERDICT, NS_PER_S)
    assert (result.outcome, result.cause, result.late) == (PlcOutcome.REJECT, CAUSE_LATE, True)


YEAR_NS = 365 * 86_400 * NS_PER_S
INSPECTED = msgspec.structs.replace(VERDICT, stages=StageTimes(total_us=300_000))


@pytest.mark.parametrize("by_ns", [-56 * YEAR_NS, -3600 * NS_PER_S, 3600 * NS_PER_S, YEAR_NS])
@pytest.mark.parametrize("marked", [True, False])
def test_after_a_clock_step_act_by_counts_from_the_capture(by_ns: int, marked: bool) -> None:
    """Of 1 s of travel the inspection took 0.3 s; a step of either clock changes nothing."""
    verdict = msgspec.structs.replace(INSPECTED, clock_stepped=marked)

    def at(now_ns: int) -> PlcResult:
        return result_of(verdict, now_ns, utc_ns=UTC_NS + by_ns, stepped=not marked)

    assert (at(0).outcome, at(0).late, at(0).act_by_ms) == (PlcOutcome.PASS, False, 700)
    assert at(699 * NS_PER_MS).outcome is PlcOutcome.PASS
    assert (at(700 * NS_PER_MS).outcome, at(700 * NS_PER_MS).late) == (PlcOutcome.REJECT, True)


def test_after_a_clock_step_a_replayed_pass_is_late() -> None:
    """Its age is not known."""
    result = result_of(INSPECTED, sent_at_ns=None, utc_ns=UTC_NS - YEAR_NS, stepped=True)
    assert (result.outcome, result.cause, result.late) == (PlcOutcome.REJECT, CAUSE_LATE, True)


def test_after_a_clock_step_a_queued_verdict_is_as_old_as_the_last_empty_poll() -> None:
    result = result_of(INSPECTED, sent_at_ns=5 - NS_PER_S, stepped=True)
    assert (result.outcome, result.late) == (PlcOutcome.REJECT, True)


def test_a_pass_of_an_older_epoch_is_a_reject() -> None:
    result = result_of(VERDICT, epoch=8)
    assert (result.outcome, result.cause) == (PlcOutcome.REJECT, CAUSE_DEAD_EPOCH)


@pytest.mark.parametrize("reason", [r for r in Reason if CAUSES[r] >= 20])
@pytest.mark.parametrize("now_ns", [0, 2 * NS_PER_S])
@pytest.mark.parametrize("epoch", [7, 8])
@pytest.mark.parametrize("shown_as", [PlcOutcome.REJECT, PlcOutcome.NEITHER])
def test_no_verdict_is_never_a_pass(
    reason: Reason, now_ns: int, epoch: int, shown_as: PlcOutcome
) -> None:
    verdict = msgspec.structs.replace(VERDICT, decision=Decision.NO_VERDICT, reason=reason)
    result = result_of(verdict, now_ns, epoch, shown_as)
    assert result.outcome is shown_as
    assert result.no_verdict


def test_a_reject_keeps_its_cause() -> None:
    verdict = msgspec.structs.replace(
        VERDICT, decision=Decision.REJECT, reason=Reason.DEFECT, reject_code=12, part_id=None
    )
    for now_ns, epoch in ((0, 7), (2 * NS_PER_S, 8)):
        result = result_of(verdict, now_ns, epoch)
        assert (result.outcome, result.cause, result.reject_code) == (PlcOutcome.REJECT, 10, 12)
