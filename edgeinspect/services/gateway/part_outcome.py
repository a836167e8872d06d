"""One part, one outcome: which passes are shown, given what the PLC has been shown before.

A part that was shown as not passed does not pass later, whatever caused another frame of it:
a restarted PLC, a person, a fault. A part whose id the protocol cannot carry does not pass
either: a truncated id could be that of another part.

Source: docs/reference/plc.md, "One part, one outcome"
"""

from __future__ import annotations

from dataclasses import replace

from edgeinspect.domain import (
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_PART_ID,
    CAUSE_TRIGGER_REFUSED,
    Clock,
    PlcOutcome,
    PlcResult,
    fits_utf8,
)
from edgeinspect.services.gateway.part_memory import NotPassedReason, PartMemory, digest_part_id


class PartOutcomePolicy:
    """Turns passes that may not be shown into rejects. For the gateway's loop."""

    def __init__(
        self,
        memory: PartMemory,
        clock: Clock,
        *,
        part_id_bytes: int | None = None,
        inspect_again: bool = False,
        repeats_after_ns: int | None = None,
    ) -> None:
        """Create a policy over `memory`.

        Args:
            memory: The parts that did not pass.
            clock: For their age.
            part_id_bytes: Longest part id that the link carries, in UTF-8; None for any.
            inspect_again: True if a part without a verdict may be inspected again.
            repeats_after_ns: Age after which an id denotes another part; None for never.
        """
        self._memory = memory
        self._clock = clock
        self._part_id_bytes = part_id_bytes
        self._inspect_again = inspect_again
        self._repeats_after_ns = repeats_after_ns

    def apply(self, result: PlcResult) -> PlcResult:
        """Return the result as it may be shown."""
        if not result.part_id:
            return result
        passed = result.outcome is PlcOutcome.PASS
        cause = self._reject_cause(result.part_id) if passed else 0
        if cause:
            result = replace(result, outcome=PlcOutcome.REJECT, cause=cause)
        if fits_utf8(result.part_id, self._part_id_bytes):
            return result
        return replace(
            result,
            part_id="",
            part_id_unfit=True,
            outcome=PlcOutcome.REJECT if passed else result.outcome,
            cause=CAUSE_PART_ID if passed else result.cause,
        )

    def record_shown(self, part_id: str, result: PlcResult) -> None:
        """Record what has been shown; call before it is recorded as applied.

        Args:
            part_id: Id of its part, also if the protocol cannot carry it.
            result: As it was shown.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        if not part_id or result.simulated or result.outcome is PlcOutcome.PASS:
            return
        kind = NotPassedReason.NO_VERDICT if result.no_verdict else NotPassedReason.REJECTED
        clock = self._clock
        self._memory.save_not_passed(digest_part_id(part_id), kind, clock.now_ns(), clock.utc_ns())

    def _reject_cause(self, part_id: str) -> int:
        noted = self._memory.find_not_passed(digest_part_id(part_id))
        if noted is None or (noted.reason is NotPassedReason.NO_VERDICT and self._inspect_again):
            return 0
        if self._repeats_after_ns is not None:
            clock = self._clock
            age_ns = self._memory.age_ns(noted, clock.now_ns(), clock.utc_ns())
            if age_ns >= self._repeats_after_ns:
                return 0
        refused = noted.reason is NotPassedReason.REFUSED
        return CAUSE_TRIGGER_REFUSED if refused else CAUSE_NOT_PASSED_BEFORE
