"""Parts that several cameras see: frames' verdicts in, one verdict per part out, in time.

What comes out depends on nothing but the verdicts that come in and the clock, so whoever has
the verdicts (each is on the spool and in the ledger) can reckon it again.
Source: docs/decisions/0013-cameras.md
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
"""Parts held at once; beyond that the oldest is closed with what is known of it."""


@dataclass(slots=True)
class _OpenPart:
    """A part between its first verdict and its own."""

    first: Verdict
    deadline_ns: int
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    decided: bool = False


class PartAggregator:
    """The parts of one line. For one thread.

    Args:
        line: The line's name.
        cameras: Those that each part passes, in the order of the configuration.
        window_ns: From a part's first exposure to its verdict.
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
        """Time until a part may have to be decided; None if none is held."""
        return max(0, self._next_due_ns - now_ns) if self._parts else None

    def add(
        self, verdict: Verdict, captured_at_ns: int, now_ns: int, epoch: int
    ) -> list[PartVerdict]:
        """Take one frame's verdict in.

        Args:
            verdict: Of any camera; one without a part id, and an injected challenge, is of
                no part.
            captured_at_ns: Its exposure on the monotonic clock.
            now_ns: On the same clock. A verdict that comes after its part's deadline does
                not change that part.
            epoch: Of this daemon.

        Returns:
            The part's verdict, if this one made it certain.
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
            if now_ns >= part.deadline_ns:  # which is past by this very verdict
                closed.append(self._decide(part_id, part, epoch))
        self._next_due_ns = min(self._next_due_ns, part.deadline_ns)
        known = part.verdicts.get(verdict.camera)
        if known is None or _SEVERITY_ORDER[verdict.decision] > _SEVERITY_ORDER[known.decision]:
            part.verdicts[verdict.camera] = verdict
        complete = len(part.verdicts) == len(self._cameras)
        if not part.decided and (complete or verdict.decision is Decision.REJECT):
            closed.append(self._decide(part_id, part, epoch))
        return closed

    def expire(self, now_ns: int, epoch: int) -> list[PartVerdict]:
        """Decide the parts whose deadline has come, with what is known of them."""
        closed: list[PartVerdict] = []
        if now_ns < self._next_due_ns:
            return closed
        for part_id, part in list(self._parts.items()):
            if now_ns >= part.deadline_ns and not part.decided:
                closed.append(self._decide(part_id, part, epoch))
            # Kept a little longer: a straggler must not begin its part anew.
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
        known = [part.verdicts[name] for name in self._cameras if name in part.verdicts]
        missing = tuple(name for name in self._cameras if name not in part.verdicts)
        worst = max(known, key=lambda verdict: verdict.severity)
        decision = combine_decisions((verdict.decision for verdict in known), complete=not missing)
        encoders = (verdict.act_by_encoder for verdict in (part.first, *known))
        return PartVerdict(
            line=self._line,
            epoch=epoch,
            part_id=part_id,
            decision=decision,
            members=tuple(PartMember(v.camera, v.seq, v.decision, v.reason) for v in known),
            missing=missing,
            first_captured_at_utc_ns=part.first.captured_at_utc_ns,
            deadline_utc_ns=part.first.captured_at_utc_ns + self._window_ns,
            act_by_utc_ns=min(verdict.act_by_utc_ns for verdict in known),
            clock_stepped=any(verdict.clock_stepped for verdict in known),
            act_by_encoder=next((count for count in encoders if count is not None), None),
            severity=worst.severity,
            reject_code=worst.reject_code if decision is Decision.REJECT else 0,
            simulated=any(verdict.simulated for verdict in known),
        )


def make_part_aggregator(config: LineConfig, cameras: Sequence[str]) -> PartAggregator | None:
    """The parts of the line, if it makes verdicts of them."""
    if config.parts is None:
        return None
    return PartAggregator(
        config.line, config.parts.cameras or cameras, round(config.parts.window_ms * NS_PER_MS)
    )
