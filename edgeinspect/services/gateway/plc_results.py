"""Maps verdicts to PLC results. Pure: reads no clock and keeps no state.

Only a verdict PASS of the running daemon, shown before its act-by, is a pass. Everything
else is a reject or, if so configured, neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeinspect.client import VerdictsLost
from edgeinspect.domain import (
    CAUSE_DEAD_EPOCH,
    CAUSE_LATE,
    CAUSE_LOST,
    CAUSE_UNKNOWN,
    CAUSES,
    NS_PER_MS,
    NS_PER_US,
    Decision,
    PlcOutcome,
    PlcResult,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class PendingResult:
    """A result that waits to be shown."""

    result: PlcResult
    """As it is if shown in time; its `act_by_ms` is not set yet."""
    act_by_at_ns: int | None
    """Monotonic; None for a result that has no act-by."""

    def result_at(self, now_ns: int) -> PlcResult:
        """Return the result to show at `now_ns`: after its act-by a pass is a reject."""
        result = self.result
        if self.act_by_at_ns is None:
            return result
        left_ns = self.act_by_at_ns - now_ns
        if left_ns > 0:
            return replace(result, act_by_ms=left_ns // NS_PER_MS, act_by_at_ns=self.act_by_at_ns)
        passed = result.outcome is PlcOutcome.PASS
        return replace(
            result,
            act_by_ms=left_ns // NS_PER_MS,
            late=True,
            outcome=PlcOutcome.REJECT if passed else result.outcome,
            cause=CAUSE_LATE if passed else result.cause,
        )


def result_for_verdict(
    verdict: Verdict,
    *,
    now_ns: int,
    utc_ns: int,
    sent_at_ns: int | None,
    clock_stepped: bool,
    newest_epoch: int,
    no_verdict_as: PlcOutcome,
) -> PendingResult:
    """Return the result for a verdict.

    Args:
        verdict: The next in order.
        now_ns: Monotonic time. Act-by is converted to this clock once, here, so that a later
            step of the wall clock has no effect.
        utc_ns: Wall time at `now_ns`.
        sent_at_ns: Monotonic, the earliest time at which it can have been sent; None if
            only the wall clock tells, as for a replayed verdict.
        clock_stepped: The wall clock here or at the line was stepped recently: act-by then
            counts from the capture, and a replayed verdict is late.
        newest_epoch: Of the running daemon; a pass of an older one is a reject.
        no_verdict_as: REJECT or NEITHER.
    """
    outcome, cause = _OUTCOMES[verdict.decision], CAUSES.get(verdict.reason, CAUSE_UNKNOWN)
    if verdict.decision is Decision.NO_VERDICT:
        outcome = no_verdict_as
    elif outcome is PlcOutcome.PASS and verdict.epoch < newest_epoch:
        outcome, cause = PlcOutcome.REJECT, CAUSE_DEAD_EPOCH
    result = PlcResult(
        seq=verdict.seq,
        epoch=verdict.epoch,
        outcome=outcome,
        cause=cause,
        no_verdict=verdict.decision is Decision.NO_VERDICT,
        degraded=verdict.degraded,
        simulated=verdict.simulated,
        reject_code=verdict.reject_code,
        severity=verdict.severity,
        part_id=verdict.part_id or "",
        camera=verdict.camera,
        encoder_count=verdict.encoder_count,
        act_by_encoder=verdict.act_by_encoder,
        recipe_id=verdict.config_hash,
        processing_us=verdict.stages.total_us,
        captured_at_utc_ns=verdict.captured_at_utc_ns,
    )
    if not (clock_stepped or verdict.clock_stepped):
        return PendingResult(result, now_ns + verdict.act_by_utc_ns - utc_ns)
    if sent_at_ns is None:
        return PendingResult(result, now_ns)
    travel_ns = verdict.act_by_utc_ns - verdict.captured_at_utc_ns
    return PendingResult(result, sent_at_ns + travel_ns - verdict.stages.total_us * NS_PER_US)


_OUTCOMES = {
    Decision.PASS: PlcOutcome.PASS,
    Decision.REJECT: PlcOutcome.REJECT,
    Decision.NO_VERDICT: PlcOutcome.REJECT,
}


def result_for_lost(lost: VerdictsLost, epoch: int) -> PendingResult:
    """Return the one reject that covers a range of lost verdicts."""
    covers = lost.to_seq - lost.from_seq + 1
    result = PlcResult(
        lost.to_seq, epoch, PlcOutcome.REJECT, CAUSE_LOST, no_verdict=True, frames_covered=covers
    )
    return PendingResult(result, None)
