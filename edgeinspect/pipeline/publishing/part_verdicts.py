"""Part verdicts: the verdicts of several cameras on one part are combined into one, in time.

The result depends only on the frames' verdicts and the clock, so it can be computed again from
the verdicts in the spool or the ledger.
Source: docs/explanation/decisions/0013-cameras.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeinspect.config import LineConfig
from edgeinspect.domain import (
    NS_PER_MS,
    Decision,
    PartMember,
    PartVerdict,
    Verdict,
    combine_decisions,
)

_SEVERITY_ORDER = {Decision.PASS: 0, Decision.NO_VERDICT: 1, Decision.REJECT: 2}
PARTS_MAX = 4096
"""Open parts; beyond that the oldest is closed with the verdicts it has."""


@dataclass(slots=True)
class _OpenPart:
    """A part between the first verdict of a frame and its own."""

    first: Verdict
    deadline_ns: int
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    decided: bool = False


class PartAggregator:
    """Combines the verdicts of one line. Used by one thread.

    Args:
        line: The line's name.
        cameras: The cameras that each part passes, in the order of the configuration.
        window_ns: Longest time from a part's first exposure to its verdict.
    """

    def __init__(self, line: str, cameras: Sequence[str], window_ns: int) -> None:
        self._line = line
        self._cameras = tuple(cameras)
        self._window_ns = window_ns
        self._parts: dict[str, _OpenPart] = {}
        self._next_due_ns = 1 << 63

    def __len__(self) -> int:
        return len(self._parts)

    def due_in_ns(self, now_ns: int) -> int | None:
        """Return the time until a part may have to be decided; None without open parts."""
        return max(0, self._next_due_ns - now_ns) if self._parts else None

    def add(
        self, verdict: Verdict, captured_at_ns: int, now_ns: int, epoch: int
    ) -> list[PartVerdict]:
        """Add one frame's verdict.

        Args:
            verdict: Of any camera; ignored without a part id, and for a challenge image.
            captured_at_ns: Exposure of the frame, monotonic.
            now_ns: Monotonic. A verdict after the part's deadline does not change the part.
            epoch: Of this daemon.

        Returns:
            The verdicts of parts that are decided now.
        """
        part_id = verdict.part_id
        if part_id is None or verdict.camera not in self._cameras:
            return []
        if verdict.simulated and part_id.startswith("challenge:"):
            return []
        closed = self.expire(now_ns, epoch)
        part = self._parts.get(part_id)
        if part is None:
            if len(self._parts) >= PARTS_MAX:
                closed += self._close_oldest(epoch)
            part = self._parts[part_id] = _OpenPart(verdict, captured_at_ns + self._window_ns)
        elif not part.decided and verdict.captured_at_utc_ns < part.first.captured_at_utc_ns:
            part.first = verdict
            part.deadline_ns = min(part.deadline_ns, captured_at_ns + self._window_ns)
            if now_ns >= part.deadline_ns:  # already passed, by this frame's exposure
                closed.append(self._decide(part_id, part, epoch))
        self._next_due_ns = min(self._next_due_ns, part.deadline_ns)
        before = part.verdicts.get(verdict.camera)
        if before is None or _SEVERITY_ORDER[verdict.decision] > _SEVERITY_ORDER[before.decision]:
            part.verdicts[verdict.camera] = verdict
        is_complete = len(part.verdicts) == len(self._cameras)
        if not part.decided and (is_complete or verdict.decision is Decision.REJECT):
            closed.append(self._decide(part_id, part, epoch))
        return closed

    def expire(self, now_ns: int, epoch: int) -> list[PartVerdict]:
        """Decide the parts whose deadline has passed, with the verdicts they have."""
        closed: list[PartVerdict] = []
        if now_ns < self._next_due_ns:
            return closed
        for part_id, part in list(self._parts.items()):
            if now_ns >= part.deadline_ns and not part.decided:
                closed.append(self._decide(part_id, part, epoch))
            # Kept for another window, so that a late verdict does not open the part again.
            if now_ns >= part.deadline_ns + self._window_ns:
                del self._parts[part_id]
        self._next_due_ns = min(map(self._due_at_ns, self._parts.values()), default=1 << 63)
        return closed

    def _due_at_ns(self, part: _OpenPart) -> int:
        return part.deadline_ns + (self._window_ns if part.decided else 0)

    def _close_oldest(self, epoch: int) -> list[PartVerdict]:
        part_id = next(iter(self._parts))
        part = self._parts.pop(part_id)
        return [] if part.decided else [self._decide(part_id, part, epoch)]

    def _decide(self, part_id: str, part: _OpenPart, epoch: int) -> PartVerdict:
        part.decided = True
        verdicts = [part.verdicts[name] for name in self._cameras if name in part.verdicts]
        missing = tuple(name for name in self._cameras if name not in part.verdicts)
        worst = max(verdicts, key=lambda verdict: verdict.severity)
        decision = combine_decisions(
            (verdict.decision for verdict in verdicts), complete=not missing
        )
        encoders = (verdict.act_by_encoder for verdict in (part.first, *verdicts))
        return PartVerdict(
            line=self._line,
            epoch=epoch,
            part_id=part_id,
            decision=decision,
            members=tuple(PartMember(v.camera, v.seq, v.decision, v.reason) for v in verdicts),
            missing=missing,
            first_captured_at_utc_ns=part.first.captured_at_utc_ns,
            deadline_utc_ns=part.first.captured_at_utc_ns + self._window_ns,
            act_by_utc_ns=min(verdict.act_by_utc_ns for verdict in verdicts),
            clock_stepped=any(verdict.clock_stepped for verdict in verdicts),
            act_by_encoder=next((count for count in encoders if count is not None), None),
            severity=worst.severity,
            reject_code=worst.reject_code if decision is Decision.REJECT else 0,
            simulated=any(verdict.simulated for verdict in verdicts),
        )


def make_part_aggregator(config: LineConfig, cameras: Sequence[str]) -> PartAggregator | None:
    """Return the aggregator of a line; None if it publishes no part verdicts."""
    if config.parts is None:
        return None
    return PartAggregator(
        config.line, config.parts.cameras or cameras, round(config.parts.window_ms * NS_PER_MS)
    )
