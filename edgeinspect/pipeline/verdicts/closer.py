"""Closing: the only way a frame gets its verdict, whoever gives it.

Worker, guard, capture thread and shutdown all come through `VerdictCloser.close`; the spool lets
the first one win. The law's counters live here, beside the one place that changes them.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edgeinspect.domain import (
    NS_PER_US,
    Assessment,
    Clock,
    Decision,
    LetterboxRef,
    ModelRef,
    Reason,
    StageTimes,
    Verdict,
)
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.spool import PAYLOAD_BYTES, OpenRecord, Spool
from edgeinspect.system import ClockStepDetector
from edgeinspect.wire import VerdictCounts, encode_message, verdict_topic


@dataclass(frozen=True, slots=True)
class Provenance:
    """What every verdict of this run names: line, configuration, models."""

    line: str
    cameras: tuple[str, ...]
    config_hash: str
    budget_us: int
    gate: ModelRef | None
    segmenter: ModelRef | None


NO_STAGE_TIMES = StageTimes()


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured on the way to a finding."""

    defect_prob: float | None = None
    stages: StageTimes = NO_STAGE_TIMES
    engine_ns: int = 0
    """Time inside the engines' own calls."""
    detail: str = ""
    gate_ran: bool = False
    segmenter_ran: bool = False
    provenance: Provenance | None = None
    """Of the judge that found it; the line's own when absent."""


NO_MEASUREMENTS = Measurements()


class VerdictCounters:
    """The law's counters of this epoch. Thread-safe.

    `captured` moves before a frame can be closed, so `captured - closed` is what is open.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._late = 0
        self._degraded = 0
        self._decided = dict.fromkeys(Decision, 0)
        self._reasons: dict[str, int] = {}
        self.no_verdict_run = 0
        """NO_VERDICTs since the last other verdict."""
        self.degraded_run = 0
        self.reject_run = 0

    def count_captured(self) -> None:
        """One frame was opened."""
        with self._lock:
            self._captured += 1

    def count_closed(self, verdict: Verdict) -> None:
        """One frame was closed."""
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
            rejected = verdict.decision is Decision.REJECT
            self.reject_run = self.reject_run + 1 if rejected else 0

    def count_late(self) -> None:
        """One result came after its frame had been closed."""
        with self._lock:
            self._late += 1

    def counts(self) -> VerdictCounts:
        """All counters of one moment."""
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
            )


class SlotTimings:
    """What the publisher measures a verdict by: one row per spool slot, no allocation.

    A row is written by the thread that closes the frame and read by the publisher once the
    spool says closed.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.captured_ns = array("q", bytes(8 * slots))
        self.deadline_ns = array("q", bytes(8 * slots))
        self.engine_ns = array("q", bytes(8 * slots))
        self.sent_ns = array("q", bytes(8 * slots))
        """When the publisher had sent it; the publisher's own column."""
        self.topics: list[bytes] = [b""] * slots
        self.masks: dict[int, bytes] = {}
        """Encoded masks of frames not yet published; only with `publish.mask`."""


class VerdictCloser:
    """Turns findings into verdicts and closes frames with them. Thread-safe."""

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
        """Results that came too late, for the ledger."""
        self.missed_challenge = ""
        """The last challenge part if it was not rejected; empty if it was."""
        self.provenance = provenance
        """Of who judges now; whoever exchanges the judges sets it."""
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
            finding: The decision.
            evidence: Measurements for the verdict and its `stages`.
            mask: Encoded run-length mask to send with it, if any.

        Returns:
            True if this was the frame's verdict; False if it had one, in which case this
            one is counted and kept as late and never published.
        """
        now_ns = self._clock.now_ns()
        verdict = self._make_verdict(frame, assessment, measurements, now_ns)
        payload = encode_message(verdict)
        if len(payload) > PAYLOAD_BYTES:
            payload = encode_message(_truncate(verdict))
        with self._lock:
            won = self.spool.is_open(frame.seq)
            if won:
                # Before the spool says closed: the publisher may be reading already.
                self._record_timings(frame, assessment, measurements, mask)
                self.spool.close(frame.seq, payload)
        if not won:
            self.counters.count_late()
            self.late_verdicts.append(verdict)
            return False
        self.counters.count_closed(verdict)
        if verdict.simulated:
            self.missed_challenge = (
                ""
                if verdict.decision is Decision.REJECT
                else verdict.label or verdict.part_id or "?"
            )
        self._publish()
        return True

    def _record_timings(
        self,
        frame: OpenFrame,
        assessment: Assessment,
        measurements: Measurements,
        mask: bytes | None,
    ) -> None:
        traces = self.timings
        row = frame.seq % traces.slots
        traces.captured_ns[row] = frame.captured_at_ns
        traces.deadline_ns[row] = frame.deadline_ns
        traces.engine_ns[row] = measurements.engine_ns
        traces.topics[row] = self._topics[frame.record.camera, assessment.decision]
        if mask is not None:
            traces.masks[frame.seq] = mask

    def close_as_no_verdict(self, frame: OpenFrame, reason: Reason, detail: str = "") -> bool:
        """Close one frame with NO_VERDICT; returns as `close`."""
        evidence = Measurements(detail=detail) if detail else NO_MEASUREMENTS
        return self.close(frame, Assessment(Decision.NO_VERDICT, reason), evidence)

    def _make_verdict(
        self, frame: OpenFrame, assessment: Assessment, measurements: Measurements, now_ns: int
    ) -> Verdict:
        record = frame.record
        causes = measurements.provenance or self.provenance
        box = frame.letterbox
        total_us = (now_ns - frame.captured_at_ns) // NS_PER_US
        stages = measurements.stages
        return Verdict(
            line=causes.line,
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
            regions=assessment.regions,
            regions_total=assessment.regions_total,
            severity=assessment.severity,
            reject_code=assessment.reject_code,
            letterbox=LetterboxRef(box.scale_ratio, box.left_px, box.top_px) if box else None,
            gate=causes.gate if measurements.gate_ran else None,
            segmenter=causes.segmenter if measurements.segmenter_ran else None,
            config_hash=causes.config_hash,
            stages=StageTimes(
                stages.queue_us, stages.gate_us, stages.segmenter_us, stages.regions_us, total_us
            ),
            budget_us=causes.budget_us,
            **_open_fields(record),
        )


def restart_verdict(
    provenance: Provenance, seq: int, epoch: int, record: OpenRecord | None, now_utc_ns: int
) -> Verdict:
    """The verdict of a frame that a dead daemon left open.

    It keeps the epoch that captured the frame, so that a gateway can fence it.
    """
    known = record or OpenRecord("unknown", 0, 0, now_utc_ns, now_utc_ns, now_utc_ns)
    return Verdict(
        line=provenance.line,
        epoch=epoch,
        seq=seq,
        decision=Decision.NO_VERDICT,
        reason=Reason.RESTART,
        detail="" if record else "the record of this frame is damaged",
        config_hash=provenance.config_hash,
        budget_us=provenance.budget_us,
        **_open_fields(known),
    )


def _open_fields(record: OpenRecord) -> dict[str, Any]:
    """What a frame's open record says, under the verdict's names."""
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
    """The verdict small enough for any slot: fewer regions, a shorter detail."""
    return msgspec.structs.replace(
        verdict, regions=verdict.regions[:1], detail=verdict.detail[:200]
    )
