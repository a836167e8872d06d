"""Counters of one shift, in total and by quarter of an hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any

from edgeinspect.domain import NS_PER_S, Decision

BUCKET_NS = 15 * 60 * NS_PER_S


def shift_bounds(utc_ns: int, starts: Sequence[str]) -> tuple[int, int]:
    """Return (start, end) in UTC ns of the shift that contains an instant, by the PC's time zone.

    Args:
        utc_ns: The instant.
        starts: `HH:MM` at which shifts begin.
    """
    now = datetime.fromtimestamp(utc_ns // NS_PER_S)
    times = [time.fromisoformat(text) for text in starts]
    begins = sorted(
        round(datetime.combine(now.date() + timedelta(days=day), at).astimezone().timestamp())
        for day in (-1, 0, 1, 2)
        for at in times
    )
    now_s = utc_ns // NS_PER_S
    before = max(begin for begin in begins if begin <= now_s)
    after = min(begin for begin in begins if begin > now_s)
    return before * NS_PER_S, after * NS_PER_S


CHALLENGE_LABEL, SEVERAL_CLASSES_LABEL = "challenge part", "several classes"


def _reject_label(classes: Sequence[str], reason: str, simulated: bool) -> str:
    """Return the label of a reject: its class, or what replaces it."""
    if simulated:
        return CHALLENGE_LABEL
    if len(set(classes)) > 1:
        return SEVERAL_CLASSES_LABEL
    return classes[0] if classes else reason


@dataclass(slots=True)
class ShiftBucket:
    """A quarter of an hour."""

    decisions: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    """Rejected frames by label; each counts once, so they add up to the rejects."""


@dataclass(slots=True)
class ShiftCounters:
    """Counters of one shift. Not thread-safe.

    A shift has every seq from the first frame captured in it, so `captured` follows from the
    numbers alone, and the counted verdicts are checked against it.
    """

    start_utc_ns: int
    end_utc_ns: int
    first_seq: int = 0
    last_seq: int = 0
    skipped_seqs: int = 0
    """Seqs that were skipped after a spool was lost."""
    unknown_verdicts: int = 0
    """Seqs whose verdict can no longer be received."""
    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    buckets: dict[int, ShiftBucket] = field(default_factory=dict)

    @property
    def captured(self) -> int:
        """Frames captured, by their seqs."""
        return self.last_seq - self.first_seq + 1 - self.skipped_seqs if self.last_seq else 0

    @property
    def is_balanced(self) -> bool:
        """True if `captured == pass + reject + no_verdict`."""
        return self.captured == sum(self.decisions.values())

    def count_verdict(
        self,
        seq: int,
        at_utc_ns: int,
        decision: str,
        reason: str,
        classes: Sequence[str],
        *,
        simulated: bool = False,
        times: int = 1,
    ) -> None:
        """Count one verdict, or `times` equal ones, the last of which is `seq`."""
        self.first_seq = self.first_seq or seq
        self.last_seq = max(self.last_seq, seq)
        self.decisions[decision] += times
        if decision == Decision.NO_VERDICT.value:
            self.reasons[reason] += times
        bucket = self.buckets.setdefault(self.bucket_of(at_utc_ns), ShiftBucket())
        bucket.decisions[decision] += times
        if decision == Decision.REJECT.value:
            bucket.classes[_reject_label(classes, reason, simulated)] += times

    def bucket_of(self, at_utc_ns: int) -> int:
        """Return the index of the quarter of an hour; the first or last for an instant outside."""
        last = (self.end_utc_ns - self.start_utc_ns - 1) // BUCKET_NS
        return max(0, min(last, (at_utc_ns - self.start_utc_ns) // BUCKET_NS))

    def payload(self) -> dict[str, Any]:
        """Return the counters as JSON values."""
        decisions = self.decisions
        return {
            "start_ms": self.start_utc_ns // 1_000_000,
            "end_ms": self.end_utc_ns // 1_000_000,
            "captured": self.captured,
            "pass": decisions["PASS"],
            "reject": decisions["REJECT"],
            "no_verdict": decisions["NO_VERDICT"],
            "unknown": self.unknown_verdicts,
            "holds": self.is_balanced,
            "reasons": dict(self.reasons),
        }

    def trend_payload(self) -> dict[str, Any]:
        """Return the quarters of an hour as JSON values."""
        return {
            "start_ms": self.start_utc_ns // 1_000_000,
            "end_ms": self.end_utc_ns // 1_000_000,
            "bucket_ms": BUCKET_NS // 1_000_000,
            "buckets": [
                {"index": index, **dict(bucket.decisions), "classes": dict(bucket.classes)}
                for index, bucket in sorted(self.buckets.items())
            ],
        }
