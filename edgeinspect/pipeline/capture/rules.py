"""The rules by which one camera's frames are captured, and the record of an open frame."""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.config import CameraActByConfig, LineConfig
from edgeinspect.domain import NS_PER_MS, Grab
from edgeinspect.pipeline.capture.image_checks import ImageLimits
from edgeinspect.storage.spool import OpenRecord


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """How one camera's frames are captured; see `config.CaptureConfig` and `ActByConfig`."""

    camera: str
    camera_index: int
    budget_ns: int
    overload: str
    letterbox: bool
    timeout_ns: int
    """Silence after which a free-running camera is lost, or three of its periods if that is
    longer."""
    attempts_max: int
    first_pause_ns: int
    max_pause_ns: int
    travel_ns: int
    gate_distance_counts: int | None
    image_limits: ImageLimits | None = None


def open_record(
    rules: CaptureRules, grab: Grab, frame_number: int, utc_offset_ns: int
) -> OpenRecord:
    """Return the spool's record of a frame that is being opened.

    Args:
        rules: Of its camera.
        grab: The frame.
        frame_number: Of this camera in this epoch, from 1.
        utc_offset_ns: UTC minus the monotonic clock.
    """
    part, distance = grab.part, rules.gate_distance_counts
    captured_at_utc_ns = grab.captured_at_ns + utc_offset_ns
    return OpenRecord(
        camera=rules.camera,
        frame=frame_number,
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


def capture_rules(config: LineConfig, camera: str, camera_index: int) -> CaptureRules:
    """Return the rules of one camera."""
    capture, act_by = config.capture, config.act_by
    own = act_by.cameras.get(camera, CameraActByConfig())
    travel_ms = act_by.travel_ms if own.travel_ms is None else own.travel_ms
    distance = own.gate_distance_counts
    return CaptureRules(
        camera=camera,
        camera_index=camera_index,
        budget_ns=round(config.budget_ms * NS_PER_MS),
        overload=capture.overload,
        letterbox=capture.wrong_shape == "letterbox",
        timeout_ns=round(capture.timeout_ms * NS_PER_MS),
        attempts_max=capture.reconnect.attempts,
        first_pause_ns=round(capture.reconnect.first_ms * NS_PER_MS),
        max_pause_ns=round(capture.reconnect.max_ms * NS_PER_MS),
        travel_ns=round(travel_ms * NS_PER_MS),
        gate_distance_counts=act_by.gate_distance_counts if distance is None else distance,
        image_limits=ImageLimits(
            capture.health.dark_level, capture.health.bright_level, capture.health.frozen_frames
        ),
    )
