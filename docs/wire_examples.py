"""One message of each type, for docs/reference/wire.md: a scratched plate on line `strip`."""

from __future__ import annotations

import msgspec

from edgeinspect.domain import (
    Box,
    CameraCounts,
    Decision,
    ModelRef,
    PartMember,
    PartVerdict,
    Reason,
    Region,
    StageTimes,
    Verdict,
)
from edgeinspect.wire import (
    Ack,
    ChallengeRequest,
    CommandResult,
    Heartbeat,
    Mask,
    NoLongerHeld,
    OperatorRequest,
    ReplayBusy,
    ReplayComplete,
    ReplayRequest,
    Status,
    TriggerCount,
    TriggerRequest,
    VerdictCounts,
)

_EPOCH = 1_795_230_000_000
_AT_NS = _EPOCH * 1_000_000 + 4_170_000_000
_MS = 1_000_000
_HASH = "7d1f3b0a9c52"
_COUNTS = VerdictCounts(
    captured=1042,
    passed=611,
    reject=425,
    no_verdict=5,
    open=1,
    late=0,
    degraded=0,
    reasons={"deadline": 2, "overrun": 3},
)

_MESSAGES: tuple[msgspec.Struct, ...] = (
    Verdict(
        line="strip",
        camera="top",
        epoch=_EPOCH,
        seq=1042,
        frame=42,
        camera_frame_id=42,
        label="strip-2026-41",
        part_id="plate-0815",
        encoder_count=880_120,
        captured_at_utc_ns=_AT_NS,
        deadline_utc_ns=_AT_NS + 150 * _MS,
        act_by_utc_ns=_AT_NS + 800 * _MS,
        act_by_encoder=884_120,
        decision=Decision.REJECT,
        reason=Reason.DEFECT,
        defect_prob=0.99871,
        regions=(
            Region(
                class_id=3,
                class_name="scratch",
                score=0.9612,
                area_px=2976,
                area_mm2=744.0,
                box=Box(412, 88, 264, 52),
                centroid_px=(540.3, 112.9),
                centroid_mm=(270.15, 56.45),
                fatal=True,
            ),
        ),
        regions_total=1,
        severity=4,
        reject_code=13,
        gate=ModelRef("strip-gate", 1, "892483c1" + "0" * 56),
        segmenter=ModelRef("strip-segmenter", 1, "5af4a128" + "0" * 56),
        config_hash=_HASH,
        stages=StageTimes(
            queue_us=61, gate_us=6480, segmenter_us=19_870, regions_us=212, total_us=26_655
        ),
        budget_us=150_000,
    ),
    PartVerdict(
        line="strip",
        epoch=_EPOCH,
        part_id="plate-0815",
        decision=Decision.REJECT,
        members=(
            PartMember("top", 1042, Decision.REJECT, Reason.DEFECT),
            PartMember("side", 1043, Decision.PASS, Reason.CLEAN),
        ),
        first_captured_at_utc_ns=_AT_NS,
        deadline_utc_ns=_AT_NS + 400 * _MS,
        act_by_utc_ns=_AT_NS + 800 * _MS,
        act_by_encoder=884_120,
        severity=4,
        reject_code=13,
    ),
    Heartbeat(
        line="strip",
        epoch=_EPOCH,
        last_seq=1042,
        beat=84,
        utc_ns=_AT_NS + 30 * _MS,
        period_ms=50.0,
        inspecting=True,
    ),
    Status(
        line="strip",
        epoch=_EPOCH,
        utc_ns=_AT_NS + 30 * _MS,
        counts=_COUNTS,
        rate_hz=10.0,
        latency_p50_us=7_900,
        latency_p99_us=31_200,
        budget_us=150_000,
        cameras={"top": "live"},
        camera_counts={"top": CameraCounts(frames=1041, missing=1, temperature_c=46.5)},
        gate="strip-gate/1",
        segmenter="strip-segmenter/1",
        config_hash=_HASH,
    ),
    Mask(seq=1042, height_px=64, width_px=400, stride=4, runs={3: [6615, 3, 6679, 2]}),
    ReplayRequest(from_seq=1043, limit=256),
    Ack(name="gateway-1", seq=1042),
    TriggerRequest(camera="top", part_id="plate-0816", encoder_count=886_300),
    ChallengeRequest(picture="scratches.png", camera="top"),
    OperatorRequest(actor="anna", action="acknowledge", detail="camera top is lost"),
    ReplayComplete(epoch=_EPOCH, from_seq=1043, to_seq=1050, last_seq=1050),
    NoLongerHeld(epoch=_EPOCH, from_seq=3, oldest_seq=940),
    ReplayBusy(epoch=_EPOCH, from_seq=3),
    TriggerCount(camera="top", count=1043),
    CommandResult(accepted=True, seq=1043),
)

EXAMPLES: dict[str, msgspec.Struct] = {type(each).__name__: each for each in _MESSAGES}
"""Name of each message type to an example."""
