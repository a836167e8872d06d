"""The verdict on a part that several cameras see: what their verdicts make together."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edgeinspect.domain.numbers import Count, Int64, PlcWord, UtcNs
from edgeinspect.domain.verdict import Decision, Reason

PART_SCHEMA = "edgeinspect.part/1"


class PartMember(msgspec.Struct, frozen=True):
    """One camera's verdict on the part."""

    camera: str
    seq: Count
    """Of the frame's verdict, which says the rest."""
    decision: Decision
    reason: Reason


class PartVerdict(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=PART_SCHEMA):
    """What all cameras together say of one part. Sent when it is certain, at its deadline at
    the latest. A second one for the same part, after a restart, is never a PASS.
    """

    line: str
    epoch: Count
    """Of the daemon that says so."""
    part_id: str
    decision: Decision
    members: tuple[PartMember, ...]
    """The verdicts it rests on, by camera in the order of the configuration."""
    missing: tuple[str, ...] = ()
    """Cameras without a verdict when it was decided: not waited for after a REJECT, the
    cause of a NO_VERDICT."""
    first_captured_at_utc_ns: UtcNs
    """Exposure of the part's first frame that was known then."""
    deadline_utc_ns: UtcNs
    """That, and `parts.window_ms`."""
    act_by_utc_ns: UtcNs
    """The earliest of its frames'."""
    clock_stepped: bool = False
    """As of a verdict: true if it is of any of its frames."""
    act_by_encoder: Int64 | None = None
    """Of the frame that was captured first and has one."""
    severity: PlcWord = 0
    """The highest of its frames'."""
    reject_code: PlcWord = 0
    """That of the most severe frame; 0 unless the decision is REJECT."""
    simulated: bool = False
    """True for a challenge part."""


def combine_decisions(decisions: Iterable[Decision], *, complete: bool) -> Decision:
    """What the verdicts of a part make together: the worst of them.

    Args:
        decisions: Of the cameras that gave one.
        complete: True if each camera gave one.

    Returns:
        REJECT if any rejects; PASS if all cameras gave a verdict and all of them pass; else
        NO_VERDICT, and so nothing seen is never "good".
    """
    found = set(decisions)
    if Decision.REJECT in found:
        return Decision.REJECT
    return Decision.PASS if complete and found == {Decision.PASS} else Decision.NO_VERDICT
