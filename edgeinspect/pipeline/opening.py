"""Opening a frame: by which rules, and what the spool is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.picture import PictureLimits
from edgeinspect.spool_format import OpenRecord


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """How one camera's frames are taken in; see `config.schema.Capture` and `ActBy`."""

    camera: str
    lane: int
    budget_ns: int
    overload: str
    letterbox: bool
    timeout_ns: int
    """Silence after which a free-running camera counts as lost, or three of its periods if
    that is longer."""
    attempts: int
    first_pause_ns: int
    max_pause_ns: int
    travel_ns: int
    gate_distance_counts: int | None
    picture: PictureLimits | None = None


def open_record(rules: CaptureRules, grab: Grab, number: int, utc_offset_ns: int) -> OpenRecord:
    """What stands on the spool of a frame that is open.

    Args:
        rules: Of its camera.
        grab: The frame.
        number: Its number from this camera in this epoch.
        utc_offset_ns: UTC less the monotonic clock.
    """
    part, distance = grab.part, rules.gate_distance_counts
    captured_at_utc_ns = grab.captured_at_ns + utc_offset_ns
    return OpenRecord(
        camera=rules.camera,
        frame=number,
        camera_frame_id=grab.camera_frame_id,
        captured_at_utc_ns=captured_at_utc_ns,
        deadline_utc_ns=captured_at_utc_ns + rules.budget_ns,
        act_by_utc_ns=captured_at_utc_ns + (rules.travel_ns or rules.budget_ns),
        encoder_count=part.encoder_count,
        act_by_encoder=(
            part.encoder_count + distance
            if part.encoder_count is not None and distance is not None
            else None
        ),
        part_id=part.part_id,
        label=grab.label,
        simulated=part.simulated,
    )
