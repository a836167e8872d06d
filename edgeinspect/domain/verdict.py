"""The verdict: what was decided on one frame, why, and by which models.

These structs are the wire format: their field names are the JSON keys of
`edgeinspect.verdict/1` (docs/reference/wire.md). msgspec encodes one in about a microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec
from msgspec import UNSET, UnsetType

from edgeinspect.domain.numbers import Count, DurationUs, Int64, PlcWord, UtcNs

VERDICT_SCHEMA = "edgeinspect.verdict/1"


class Decision(str, Enum):
    """The three decisions on a frame. Every frame gets one of them."""

    PASS = "PASS"
    REJECT = "REJECT"
    NO_VERDICT = "NO_VERDICT"


class Reason(str, Enum):
    """The reason of a decision."""

    CLEAN = "clean"
    """PASS: the gate was below its suspect threshold."""
    BELOW_THRESHOLDS = "below_thresholds"
    """PASS: the segmenter found no region that reaches its class's thresholds."""
    DEFECT = "defect"
    """REJECT: a region reached its class's thresholds, or the good-parts model its own."""
    GATE = "gate"
    """REJECT: the gate alone reached its threshold."""

    DEADLINE = "deadline"
    """NO_VERDICT: the budget was used up first."""
    OVERRUN = "overrun"
    """NO_VERDICT: frames came faster than they could be inspected."""
    SHAPE = "shape"
    """NO_VERDICT: the image does not have the line's size."""
    CAPTURE_ERROR = "capture_error"
    """NO_VERDICT: the camera delivered a frame that cannot be read."""
    CAPTURE_HEALTH = "capture_health"
    """NO_VERDICT: black, saturated, or frozen image."""
    CAPTURE_LOST = "capture_lost"
    """NO_VERDICT: the camera's frame counter includes a frame that did not arrive."""
    ENGINE_ERROR = "engine_error"
    """NO_VERDICT: an engine failed on this frame."""
    RESTART = "restart"
    """NO_VERDICT: the daemon died while the frame was open."""
    SHUTDOWN = "shutdown"
    """NO_VERDICT: the daemon stopped while the frame was open."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """A bounding box in frame pixels: [x, y, width, height] on the wire."""

    x_px: Int64
    y_px: Int64
    width_px: Int64
    height_px: Int64


class Region(msgspec.Struct, frozen=True):
    """One connected area of one defect class."""

    class_id: Int64
    class_name: str
    score: float
    """Mean probability of the class over its pixels, 0 to 1."""
    area_px: Int64
    """Area in frame pixels."""
    area_mm2: float
    box: Box
    centroid_px: tuple[float, float]
    """(x, y) in frame pixels."""
    centroid_mm: tuple[float, float]
    """(x, y) in mm from the frame's left top corner."""
    fatal: bool
    """True if this region reaches its class's thresholds."""


class KindProb(msgspec.Struct, frozen=True):
    """The probability of one kind of defect, by a gate that tells kinds apart."""

    name: str
    prob: float
    """0 to 1."""


class ModelRef(msgspec.Struct, frozen=True):
    """The exact model that inspected a frame."""

    name: str
    version: Int64
    sha256: str
    calibration: str | None = None


class UnknownState(str, Enum):
    """Whether the good-parts model was asked about a frame."""

    ASKED = "asked"
    NOT_NEEDED = "not_needed"
    """The gate or the segmenter had rejected the frame already."""
    NO_TIME = "no_time"
    """The rest of the budget was too short: the frame was decided without it."""


class UnknownCheck(msgspec.Struct, frozen=True):
    """What the good-parts model, which finds what good parts do not have, said of a frame."""

    state: UnknownState
    prob: float | None = None
    """Its score of the whole image, 0 to 1; null if it was not asked."""
    review: bool = False
    """True if it found something and its rule is `review`: the decision stands, and a person
    should look at the frame."""
    model: ModelRef | None = None
    """Null if it was not asked."""


class StageTimes(msgspec.Struct, frozen=True):
    """Durations of the stages, in µs of the monotonic clock."""

    queue_us: DurationUs = 0
    """From capture to the moment a worker took the frame."""
    gate_us: DurationUs = 0
    segmenter_us: DurationUs = 0
    regions_us: DurationUs = 0
    total_us: DurationUs = 0
    """From capture to the decision."""
    unknown_us: DurationUs | UnsetType = UNSET
    """In the good-parts model; absent on a line without one."""

    @property
    def in_unknown_us(self) -> int:
        """Time in the good-parts model; 0 if it did not run."""
        return self.unknown_us if isinstance(self.unknown_us, int) else 0


class LetterboxRef(msgspec.Struct, frozen=True):
    """frame_px = camera_px * scale_ratio + (left_px, top_px)"""

    scale_ratio: float
    left_px: Int64
    top_px: Int64


class Verdict(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=VERDICT_SCHEMA):
    """The verdict of one frame. Immutable; safe to share between threads."""

    line: str
    camera: str
    epoch: Count
    """Identifies the start of the daemon that captured the frame."""
    seq: Count
    """Number of the frame on the line, contiguous over restarts, from 1."""
    frame: Count
    """Number of the frame of this camera in this epoch, from 1."""
    camera_frame_id: int
    label: str | None = None
    part_id: str | None = None
    encoder_count: Int64 | None = None
    captured_at_utc_ns: UtcNs
    clock_source: str = "host"
    deadline_utc_ns: UtcNs
    act_by_utc_ns: UtcNs
    """When the ejector must have this verdict, from the line's travel time."""
    clock_stepped: bool = False
    """True if the wall clock was set recently, so that the times of this verdict may be wrong by
    years. The difference `act_by_utc_ns - captured_at_utc_ns` is still valid."""
    act_by_encoder: Int64 | None = None
    """Encoder count at which the part reaches the ejector."""
    decision: Decision
    reason: Reason
    detail: str = ""
    """What exactly failed; empty for an ordinary verdict."""
    degraded: bool = False
    """True if the budget left no time for a model: the gate decided alone, or a good-parts model
    that is required was not asked."""
    simulated: bool = False
    defect_prob: float | None = None
    kind: str | UnsetType = UNSET
    """The class that the frame was rejected for, if no region tells it: the kind of a gate that
    tells kinds apart, or the class of the good-parts model; absent otherwise."""
    kinds: tuple[KindProb, ...] | UnsetType = UNSET
    """The most probable kinds, at most 8, the most probable first, without those below 0.01;
    absent unless the gate tells kinds apart."""
    unknown: UnknownCheck | UnsetType = UNSET
    """What the good-parts model said; absent on a line without one, and in a NO_VERDICT."""
    regions: tuple[Region, ...] = ()
    """The regions found, the most severe first, at most the configured number."""
    regions_total: Count = 0
    """Regions found before the list was cut."""
    severity: PlcWord = 0
    """Highest severity among the fatal regions, or of the gate's `kind`; 0 if none."""
    reject_code: PlcWord = 0
    """Number by which the PLC sorts rejects; 0 unless the decision is REJECT."""
    letterbox: LetterboxRef | None = None
    gate: ModelRef | None = None
    segmenter: ModelRef | None = None
    config_hash: str = ""
    stages: StageTimes = StageTimes()
    budget_us: DurationUs

    @property
    def unknown_check(self) -> UnknownCheck | None:
        """What the good-parts model said; None without one."""
        return self.unknown if isinstance(self.unknown, UnknownCheck) else None

    @property
    def unknown_model(self) -> ModelRef | None:
        """The good-parts model, if it inspected the frame."""
        check = self.unknown_check
        return None if check is None else check.model

    @property
    def needs_review(self) -> bool:
        """Whether the good-parts model found something that a person should look at."""
        check = self.unknown_check
        return check is not None and check.review

    @property
    def kind_name(self) -> str:
        """The class that the frame was rejected for, if no region tells it; empty for none."""
        return self.kind if isinstance(self.kind, str) else ""

    @property
    def kind_probs(self) -> tuple[KindProb, ...]:
        """The most probable kinds; empty if the gate tells none apart."""
        return self.kinds if isinstance(self.kinds, tuple) else ()

    @property
    def reject_classes(self) -> tuple[str, ...]:
        """The classes that the frame was rejected for, sorted; see `reject_classes`."""
        return reject_classes(self.regions, self.kind_name)


def reject_classes(regions: tuple[Region, ...], kind: str) -> tuple[str, ...]:
    """Return the classes of fatal regions and the class that none of them tells, sorted."""
    if not regions:
        return (kind,) if kind else ()
    names = {region.class_name for region in regions if region.fatal}
    return tuple(sorted(names | {kind} if kind else names))


def model_name(ref: ModelRef | None) -> str | None:
    """Return `name/version`; None without a model."""
    return f"{ref.name}/{ref.version}" if ref is not None else None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The decision on a frame and its reason, before it becomes a verdict."""

    decision: Decision
    reason: Reason
    degraded: bool = False
    regions: tuple[Region, ...] = ()
    regions_total: int = 0
    severity: int = 0
    reject_code: int = 0
    kind: str = ""
    """See `Verdict.kind`; empty for none."""
    review: bool = False
    """See `UnknownCheck.review`."""

    @property
    def reject_classes(self) -> tuple[str, ...]:
        """The classes that the frame is rejected for, sorted; see `reject_classes`."""
        return reject_classes(self.regions, self.kind)
