"""The verdict on a part that several cameras inspect."""

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
    """Of the frame's verdict, which has all other fields."""
    decision: Decision
    reason: Reason


class PartVerdict(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=PART_SCHEMA):
    """The combined verdict of all cameras on one part. Sent once it is certain, at its deadline at
    the latest. A second one for the same part, after a restart, is never a PASS.
    """

    line: str
    epoch: Count
    """Of the daemon that decided."""
    part_id: str
    decision: Decision
    members: tuple[PartMember, ...]
    """The verdicts it is based on, by camera in the order of the configuration."""
    missing: tuple[str, ...] = ()
    """Cameras without a verdict at the decision: not waited for after a REJECT, the reason of a
    NO_VERDICT."""
    first_captured_at_utc_ns: UtcNs
    """Exposure of the part's first frame at the decision."""
    deadline_utc_ns: UtcNs
    """`first_captured_at_utc_ns` plus `parts.window_ms`."""
    act_by_utc_ns: UtcNs
    """The earliest of its frames."""
    clock_stepped: bool = False
    """True if it is true in the verdict of any of its frames."""
    act_by_encoder: Int64 | None = None
    """Of the first captured frame that has one."""
    severity: PlcWord = 0
    """The highest of its frames."""
    reject_code: PlcWord = 0
    """Of the most severe frame; 0 unless the decision is REJECT."""
    simulated: bool = False
    """True for a challenge part."""


def combine_decisions(decisions: Iterable[Decision], *, complete: bool) -> Decision:
    """Return the decision on a part: the worst of its frames'.

    Args:
        decisions: Of the cameras with a verdict.
        complete: True if every camera has a verdict.

    Returns:
        REJECT if any rejects; PASS if all cameras have a verdict and all of them pass; else
        NO_VERDICT, so that a part that was not inspected is never good.
    """
    distinct = set(decisions)
    if Decision.REJECT in distinct:
        return Decision.REJECT
    return Decision.PASS if complete and distinct == {Decision.PASS} else Decision.NO_VERDICT
