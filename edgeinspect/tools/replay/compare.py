"""Comparison of recorded and replayed verdicts: bit for bit, or by decision after a change.

docs/howto/replay.md lists what is compared and what is not.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from edgeinspect.domain import Decision, Reason, Verdict

RESULT_FIELDS = (
    "decision",
    "reason",
    "degraded",
    "defect_prob",
    "kind",
    "kinds",
    "unknown",
    "regions",
    "regions_total",
    "severity",
    "reject_code",
    "letterbox",
)
"""The result. Numbers are compared exactly, without a tolerance."""
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
"""The rest of the verdict: which frame, and with which models and configuration."""
NOT_COMPARED = ("line", "epoch", "seq", "frame", "detail", "stages", "clock_stepped")
"""Numbers of the run, and times; the text of `detail` has times too."""


class DecisionCause(str, Enum):
    """What decided a recorded verdict.

    Frames decided by their image are inspected again; for the others the same condition is
    created again.
    """

    IMAGE = "image"
    """The engines and thresholds, or the checks of the image itself."""
    TIME = "time"
    """The budget: no verdict in time, or the gate alone because no time was left."""
    CAMERA = "camera"
    """The camera delivered no image."""
    ENGINE = "engine"
    """An engine failed."""
    END = "end"
    """The daemon stopped or died."""


_DECIDED_BY = {
    Reason.DEADLINE: DecisionCause.TIME,
    Reason.OVERRUN: DecisionCause.TIME,
    Reason.CAPTURE_LOST: DecisionCause.CAMERA,
    Reason.CAPTURE_ERROR: DecisionCause.CAMERA,
    Reason.ENGINE_ERROR: DecisionCause.ENGINE,
    Reason.RESTART: DecisionCause.END,
    Reason.SHUTDOWN: DecisionCause.END,
}


def decided_by(verdict: Verdict) -> DecisionCause:
    """Return what decided a verdict.

    A degraded verdict counts as decided by its image: only the gate runs again, on the image.
    """
    return _DECIDED_BY.get(verdict.reason, DecisionCause.IMAGE)


class VerdictSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The main fields of a verdict."""

    decision: str
    reason: str
    defect_prob: float | None
    classes: tuple[str, ...]
    """Classes of its fatal regions, sorted."""
    reject_code: int
    degraded: bool


class VerdictDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One frame whose verdicts differ."""

    seq: int
    epoch: int
    camera: str
    part_id: str | None
    captured_at_utc_ns: int
    fields: tuple[str, ...]
    """Names of the fields that differ."""
    recorded: VerdictSummary
    replayed: VerdictSummary


def fatal_classes(verdict: Verdict) -> tuple[str, ...]:
    """Return the classes that made a frame a reject, sorted and unique."""
    return verdict.reject_classes


def summarise(verdict: Verdict) -> VerdictSummary:
    """Return the main fields of a verdict."""
    return VerdictSummary(
        decision=verdict.decision.value,
        reason=verdict.reason.value,
        defect_prob=verdict.defect_prob,
        classes=fatal_classes(verdict),
        reject_code=verdict.reject_code,
        degraded=verdict.degraded,
    )


def differing_fields(recorded: Verdict, replayed: Verdict) -> tuple[str, ...]:
    """Return the compared fields in which two verdicts of one frame differ."""
    return tuple(
        name
        for name in RESULT_FIELDS + CONTEXT_FIELDS
        if getattr(recorded, name) != getattr(replayed, name)
    )


def differing_decision(recorded: Verdict, replayed: Verdict) -> tuple[str, ...]:
    """Return what another model, backend or threshold decided differently; numbers always are."""
    pairs: dict[str, tuple[Any, Any]] = {
        "decision": (recorded.decision, replayed.decision),
        "reason": (recorded.reason, replayed.reason),
        "classes": (fatal_classes(recorded), fatal_classes(replayed)),
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def describe_difference(
    recorded: Verdict, replayed: Verdict, fields: tuple[str, ...]
) -> VerdictDifference:
    """Return an entry for the list of differences."""
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
    """Number of frames with a fatal region of one class."""

    recorded: int = 0
    replayed: int = 0
    gained: int = 0
    """Only in the replay."""
    lost: int = 0
    """Only in the recording."""


class ReplaySummary(msgspec.Struct, kw_only=True):
    """Result of a replay; encoded as the JSON report."""

    line: str
    frames: int = 0
    """Verdicts in the recording."""
    compared: int = 0
    equal: int = 0
    different: int = 0
    decided_by: dict[str, int] = {}
    """Compared frames by what decided them in the recording; see `DecisionCause`."""
    degraded: int = 0
    """Compared frames that the gate decided alone for lack of time, in both."""
    not_compared: dict[str, int] = {}
    """Frames that could not be inspected again, by reason."""
    missed: int = 0
    """Verdicts that the recorder missed."""
    decisions: dict[str, dict[str, int]] = {}
    """Recorded decision to replayed decision to frames."""
    classes: dict[str, ClassCount] = {}
    opinions: dict[str, dict[str, int]] = {}
    """Frames without a verdict for lack of time or by a failed engine: reason to the decision that
    their images give now, to frames."""
    largest_prob_change: float = 0.0
    changes: list[str] = []
    """What differs from the recording: models, backend, configuration keys."""
    recorded_models: dict[str, list[str]] = {}
    models: dict[str, list[str]] = {}
    cuts: list[str] = []
    """Files that were not closed properly."""
    clock_steps: int = 0
    """Number of times the wall clock was set, by more than 50 ms within a second."""
    other_machine: list[str] = []
    """Differences between this machine and the recording one."""
    first_utc_ns: int = 0
    last_utc_ns: int = 0
    differences: list[VerdictDifference] = []
    """The first differences."""

    def add_compared(self, recorded: Verdict, replayed: Verdict) -> None:
        """Add one compared frame to the tables."""
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
        """True if differences are expected."""
        return bool(self.changes)

    def count_transitions(self, before: Decision, after: Decision) -> int:
        """Return the number of frames that changed from one decision to another."""
        return self.decisions.get(before.value, {}).get(after.value, 0)
