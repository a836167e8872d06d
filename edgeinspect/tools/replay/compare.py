"""Is a replayed verdict the recorded one? Bit for bit, or as far as a change lets it be.

Source: docs/replay.md lists what is compared and what is not
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgeinspect.domain import Decision, Verdict

RESULT_FIELDS = (
    "decision",
    "reason",
    "degraded",
    "defect_prob",
    "regions",
    "regions_total",
    "severity",
    "reject_code",
    "letterbox",
)
"""What was found. Numbers are compared as they are, not within a tolerance."""
CONTEXT_FIELDS = (
    "camera",
    "camera_frame_id",
    "label",
    "part_id",
    "encoder_count",
    "captured_at_utc_ns",
    "clock_source",
    "deadline_utc_ns",
    "act_by_utc_ns",
    "act_by_encoder",
    "simulated",
    "gate",
    "segmenter",
    "config_hash",
    "budget_us",
)
"""What the verdict says beside it: whose it is, and by which causes it was judged."""
NOT_COMPARED = ("line", "epoch", "seq", "frame", "detail", "stages", "clock_stepped")
"""Numbers of the run, and times; `detail` has times in its words."""


class VerdictSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict in short."""

    decision: str
    reason: str
    defect_prob: float | None
    classes: tuple[str, ...]
    """Of its fatal regions, sorted."""
    reject_code: int
    degraded: bool


class VerdictDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One frame that was judged otherwise."""

    seq: int
    epoch: int
    camera: str
    part_id: str | None
    captured_at_utc_ns: int
    fields: tuple[str, ...]
    """What differs."""
    recorded: VerdictSummary
    replayed: VerdictSummary


def fatal_classes(verdict: Verdict) -> tuple[str, ...]:
    """The classes that made a frame a reject, sorted, each once."""
    return tuple(sorted({region.class_name for region in verdict.regions if region.fatal}))


def summarise(verdict: Verdict) -> VerdictSummary:
    """A verdict in short."""
    return VerdictSummary(
        decision=verdict.decision.value,
        reason=verdict.reason.value,
        defect_prob=verdict.defect_prob,
        classes=fatal_classes(verdict),
        reject_code=verdict.reject_code,
        degraded=verdict.degraded,
    )


def differing_fields(recorded: Verdict, replayed: Verdict) -> tuple[str, ...]:
    """The fields in which two verdicts of one frame differ, of all that are compared."""
    return tuple(
        name
        for name in RESULT_FIELDS + CONTEXT_FIELDS
        if getattr(recorded, name) != getattr(replayed, name)
    )


def differing_decision(recorded: Verdict, replayed: Verdict) -> tuple[str, ...]:
    """What another model, backend or threshold decided otherwise; its numbers always differ."""
    pairs: dict[str, tuple[Any, Any]] = {
        "decision": (recorded.decision, replayed.decision),
        "reason": (recorded.reason, replayed.reason),
        "classes": (fatal_classes(recorded), fatal_classes(replayed)),
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def describe_difference(
    recorded: Verdict, replayed: Verdict, fields: tuple[str, ...]
) -> VerdictDifference:
    """A frame for the list of differences."""
    return VerdictDifference(
        seq=recorded.seq,
        epoch=recorded.epoch,
        camera=recorded.camera,
        part_id=recorded.part_id,
        captured_at_utc_ns=recorded.captured_at_utc_ns,
        fields=fields,
        recorded=summarise(recorded),
        replayed=summarise(replayed),
    )


class ClassCount(msgspec.Struct, kw_only=True):
    """Frames with a fatal region of one class."""

    recorded: int = 0
    replayed: int = 0
    gained: int = 0
    """Only in the replay."""
    lost: int = 0
    """Only in the recording."""


class ReplaySummary(msgspec.Struct, kw_only=True):
    """What a replay came to. `to_builtins` gives its JSON."""

    line: str
    frames: int = 0
    """Verdicts in the recording."""
    compared: int = 0
    equal: int = 0
    different: int = 0
    decided_by: dict[str, int] = {}
    """Compared frames by what decided them in the recording; see `causes.DecidedBy`."""
    degraded: int = 0
    """Compared frames that the gate decided alone for lack of time, in both."""
    not_compared: dict[str, int] = {}
    """Frames that could not be judged again, by why."""
    missed: int = 0
    """Verdicts that the recorder itself missed."""
    decisions: dict[str, dict[str, int]] = {}
    """Recorded decision to replayed decision to frames."""
    classes: dict[str, ClassCount] = {}
    opinions: dict[str, dict[str, int]] = {}
    """Frames without a verdict for lack of time or by a failed engine: reason to what would be
    decided of their pictures now, to frames."""
    largest_prob_change: float = 0.0
    changes: list[str] = []
    """What judged otherwise than was recorded: models, backend, keys of the configuration."""
    recorded_models: dict[str, list[str]] = {}
    models: dict[str, list[str]] = {}
    cuts: list[str] = []
    """Files that were not ended in order."""
    clock_steps: int = 0
    """Times that the wall clock was set, by more than 50 ms within a second."""
    other_machine: list[str] = []
    """In what this machine differs from the one that recorded."""
    first_utc_ns: int = 0
    last_utc_ns: int = 0
    differences: list[VerdictDifference] = []
    """The first of them."""

    def add_compared(self, recorded: Verdict, replayed: Verdict) -> None:
        """Take one compared frame into the tables."""
        before, after = recorded.decision.value, replayed.decision.value
        row = self.decisions.setdefault(before, {})
        row[after] = row.get(after, 0) + 1
        old, new = set(fatal_classes(recorded)), set(fatal_classes(replayed))
        for name in old | new:
            count = self.classes.setdefault(name, ClassCount())
            count.recorded += name in old
            count.replayed += name in new
            count.gained += name in new - old
            count.lost += name in old - new
        if recorded.defect_prob is not None and replayed.defect_prob is not None:
            change = abs(recorded.defect_prob - replayed.defect_prob)
            self.largest_prob_change = max(self.largest_prob_change, change)

    @property
    def has_overrides(self) -> bool:
        """True if verdicts may rightly differ."""
        return bool(self.changes)

    def count_transitions(self, before: Decision, after: Decision) -> int:
        """Frames that went from one decision to another."""
        return self.decisions.get(before.value, {}).get(after.value, 0)
