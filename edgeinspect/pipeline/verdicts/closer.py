"""The closer: every frame gets its verdict here, whichever thread gives it.

Worker, guard, capture thread and shutdown all call `VerdictCloser.close`, and the first call
wins. The counters of the invariant `captured == pass + reject + no_verdict + open` are here as
well, where they change.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from edgeinspect.domain import (
    NS_PER_US,
    Assessment,
    Clock,
    Decision,
    KindProb,
    LetterboxRef,
    ModelRef,
    Reason,
    StageTimes,
    UnknownCheck,
    UnknownState,
    Verdict,
)
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.spool import PAYLOAD_BYTES, OpenRecord, Spool
from edgeinspect.system import ClockStepDetector
from edgeinspect.wire import VerdictCounts, encode_message, verdict_topic


@dataclass(frozen=True, slots=True)
class Provenance:
    """What every verdict of a run names: line, configuration, models."""

    line: str
    cameras: tuple[str, ...]
    config_hash: str
    budget_us: int
    gate: ModelRef | None
    segmenter: ModelRef | None
    unknown: ModelRef | None = None
    pretrained: Mapping[str, str] = field(default_factory=dict)
    """Engine to name and hash of the weights that its training started from; for the status."""


NO_STAGE_TIMES = StageTimes()


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured while a frame was inspected."""

    defect_prob: float | None = None
    stages: StageTimes = NO_STAGE_TIMES
    engine_ns: int = 0
    """Time spent in the calls of the engines."""
    detail: str = ""
    gate_ran: bool = False
    segmenter_ran: bool = False
    provenance: Provenance | None = None
    """Of the inspector; the line's own if None."""
    kinds: tuple[KindProb, ...] | UnsetType = UNSET
    """Of a gate that tells kinds apart: the most probable ones."""
    unknown: UnknownCheck | UnsetType = UNSET
    """Of the line's good-parts model."""


NO_MEASUREMENTS = Measurements()


class VerdictCounters:
    """The counters of this epoch. Thread-safe.

    `captured` advances before a frame can be closed, so `captured - closed` frames are open.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._late = 0
        self._degraded = 0
        self._decided = dict.fromkeys(Decision, 0)
        self._reasons: dict[str, int] = {}
        self._review = 0
        self._unknown_not_asked = 0
        self._has_unknown = False
        self.no_verdict_run = 0
        """Number of NO_VERDICTs since the last other verdict."""
        self.degraded_run = 0
        self.reject_run = 0

    def count_captured(self) -> None:
        """Count a frame that was opened."""
        with self._lock:
            self._captured += 1

    def count_closed(self, verdict: Verdict) -> None:
        """Count a frame that was closed."""
        with self._lock:
            self._decided[verdict.decision] += 1
            if verdict.decision is Decision.NO_VERDICT:
                reason = verdict.reason.value
                self._reasons[reason] = self._reasons.get(reason, 0) + 1
                self.no_verdict_run += 1
            else:
                self.no_verdict_run = 0
            self.degraded_run = self.degraded_run + 1 if verdict.degraded else 0
            self._degraded += verdict.degraded
            if (check := verdict.unknown_check) is not None:
                self._has_unknown = True
                self._review += check.review
                self._unknown_not_asked += check.state is UnknownState.NO_TIME
            rejected = verdict.decision is Decision.REJECT
            self.reject_run = self.reject_run + 1 if rejected else 0

    def count_late(self) -> None:
        """Count a result that came after its frame had been closed."""
        with self._lock:
            self._late += 1

    def counts(self) -> VerdictCounts:
        """Return all counters of one moment."""
        with self._lock:
            closed = sum(self._decided.values())
            return VerdictCounts(
                captured=self._captured,
                passed=self._decided[Decision.PASS],
                reject=self._decided[Decision.REJECT],
                no_verdict=self._decided[Decision.NO_VERDICT],
                open=self._captured - closed,
                late=self._late,
                degraded=self._degraded,
                reasons=dict(self._reasons),
                review=self._review if self._has_unknown else UNSET,
                unknown_not_asked=self._unknown_not_asked if self._has_unknown else UNSET,
            )


class SlotTimings:
    """The times of the frames in the spool: one row per slot, without allocation.

    A row is written by the thread that closes the frame, and read by the publisher once the
    frame is closed in the spool.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.captured_ns = array("q", bytes(8 * slots))
        self.deadline_ns = array("q", bytes(8 * slots))
        self.engine_ns = array("q", bytes(8 * slots))
        self.sent_ns = array("q", bytes(8 * slots))
        """When the verdict was sent; written by the publisher."""
        self.topics: list[bytes] = [b""] * slots
        self.masks: dict[int, bytes] = {}
        """Encoded masks by seq, until they are published; only with `publish.mask`."""


class VerdictCloser:
    """Closes frames with their verdicts. Thread-safe.

    Args:
        spool: Of the line.
        clock: For the times of a verdict.
        provenance: Of the line's inspectors.
        publish: Called after each close, in the thread that closed the frame.
        clock_steps: Detects steps of the wall clock.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        provenance: Provenance,
        publish: Callable[[], None],
        clock_steps: ClockStepDetector | None = None,
    ) -> None:
        self.counters = VerdictCounters()
        self.timings = SlotTimings(spool.slots)
        self.late_verdicts: deque[Verdict] = deque(maxlen=1024)
        """Results that came after their frame was closed, for the ledger."""
        self.missed_challenge = ""
        """Name of the last challenge part if it was not rejected; empty if it was."""
        self.provenance = provenance
        """Of the current inspectors; set by `EngineSwap`."""
        self.spool = spool
        self._clock = clock
        self._publish = publish
        self.clock_steps = clock_steps or ClockStepDetector(clock)
        self._lock = threading.Lock()
        self._topics = {
            (camera, decision): verdict_topic(provenance.line, camera, decision)
            for camera in provenance.cameras
            for decision in Decision
        }

    def close(
        self,
        frame: OpenFrame,
        assessment: Assessment,
        measurements: Measurements = NO_MEASUREMENTS,
        mask: bytes | None = None,
    ) -> bool:
        """Close one frame; the first close wins.

        Args:
            frame: Opened on this closer's spool.
            assessment: The decision and its reason.
            measurements: For the verdict and its `stages`.
            mask: Encoded run-length mask to be sent with the verdict, if any.

        Returns:
            True if this call closed the frame; False if it was closed before: then the verdict
            is counted and recorded as late, and never published.
        """
        now_ns = self._clock.now_ns()
        verdict = self._make_verdict(frame, assessment, measurements, now_ns)
        payload = encode_message(verdict)
        if len(payload) > PAYLOAD_BYTES:
            payload = encode_message(_truncate(verdict))
        with self._lock:
            is_first = self.spool.is_open(frame.seq)
            if is_first:
                # Before the frame is closed in the spool: the publisher may read at once.
                self._record_timings(frame, assessment, measurements, mask)
                self.spool.close(frame.seq, payload)
        if not is_first:
            self.counters.count_late()
            self.late_verdicts.append(verdict)
            return False
        self.counters.count_closed(verdict)
        if verdict.simulated:
            is_caught = verdict.decision is Decision.REJECT
            self.missed_challenge = "" if is_caught else verdict.label or verdict.part_id or "?"
        self._publish()
        return True

    def _record_timings(
        self,
        frame: OpenFrame,
        assessment: Assessment,
        measurements: Measurements,
        mask: bytes | None,
    ) -> None:
        timings = self.timings
        row = frame.seq % timings.slots
        timings.captured_ns[row] = frame.captured_at_ns
        timings.deadline_ns[row] = frame.deadline_ns
        timings.engine_ns[row] = measurements.engine_ns
        timings.topics[row] = self._topics[frame.record.camera, assessment.decision]
        if mask is not None:
            timings.masks[frame.seq] = mask

    def close_as_no_verdict(self, frame: OpenFrame, reason: Reason, detail: str = "") -> bool:
        """Close one frame with NO_VERDICT; return as `close`."""
        measurements = Measurements(detail=detail) if detail else NO_MEASUREMENTS
        return self.close(frame, Assessment(Decision.NO_VERDICT, reason), measurements)

    def _make_verdict(
        self, frame: OpenFrame, assessment: Assessment, measurements: Measurements, now_ns: int
    ) -> Verdict:
        record = frame.record
        provenance = measurements.provenance or self.provenance
        box = frame.letterbox
        total_us = (now_ns - frame.captured_at_ns) // NS_PER_US
        stages = measurements.stages
        return Verdict(
            line=provenance.line,
            epoch=self.spool.epoch,
            seq=frame.seq,
            clock_source=frame.clock_source,
            clock_stepped=self.clock_steps.spans_step(
                frame.captured_at_ns, record.captured_at_utc_ns
            ),
            decision=assessment.decision,
            reason=assessment.reason,
            detail=measurements.detail,
            degraded=assessment.degraded,
            defect_prob=measurements.defect_prob,
            kind=assessment.kind or UNSET,
            kinds=measurements.kinds,
            unknown=measurements.unknown,
            regions=assessment.regions,
            regions_total=assessment.regions_total,
            severity=assessment.severity,
            reject_code=assessment.reject_code,
            letterbox=LetterboxRef(box.scale_ratio, box.left_px, box.top_px) if box else None,
            gate=provenance.gate if measurements.gate_ran else None,
            segmenter=provenance.segmenter if measurements.segmenter_ran else None,
            config_hash=provenance.config_hash,
            stages=StageTimes(
                stages.queue_us,
                stages.gate_us,
                stages.segmenter_us,
                stages.regions_us,
                total_us,
                stages.unknown_us,
            ),
            budget_us=provenance.budget_us,
            **_open_fields(record),
        )


def restart_verdict(
    provenance: Provenance, seq: int, epoch: int, record: OpenRecord | None, now_utc_ns: int
) -> Verdict:
    """Return the verdict of a frame that a crashed daemon left open.

    Its epoch is that of the frame, which distinguishes it from verdicts of the current epoch.
    """
    open_record = record or OpenRecord("unknown", 0, 0, now_utc_ns, now_utc_ns, now_utc_ns)
    return Verdict(
        line=provenance.line,
        epoch=epoch,
        seq=seq,
        decision=Decision.NO_VERDICT,
        reason=Reason.RESTART,
        detail="" if record else "the record of this frame is damaged",
        config_hash=provenance.config_hash,
        budget_us=provenance.budget_us,
        **_open_fields(open_record),
    )


def _open_fields(record: OpenRecord) -> dict[str, Any]:
    """Return the verdict's fields that come from the open record."""
    return {
        "camera": record.camera,
        "frame": record.frame,
        "camera_frame_id": record.camera_frame_id,
        "label": record.label,
        "part_id": record.part_id,
        "encoder_count": record.encoder_count,
        "captured_at_utc_ns": record.captured_at_utc_ns,
        "deadline_utc_ns": record.deadline_utc_ns,
        "act_by_utc_ns": record.act_by_utc_ns,
        "act_by_encoder": record.act_by_encoder,
        "simulated": record.simulated,
    }


def _truncate(verdict: Verdict) -> Verdict:
    """Return the verdict with fewer regions and a shorter detail, so that it fits any slot."""
    shorter = msgspec.structs.replace(
        verdict, regions=verdict.regions[:1], detail=verdict.detail[:200]
    )
    if verdict.kind_probs:
        shorter = msgspec.structs.replace(shorter, kinds=verdict.kind_probs[:1])
    return shorter
