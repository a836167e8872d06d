"""Closing: the only way a frame gets its verdict, whoever gives it.

Worker, guard, capture thread and shutdown all come through `Closer.close`; the spool lets
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

from edgeinspect.domain.clock import NS_PER_US, Clock
from edgeinspect.domain.verdict import (
    Decision,
    Finding,
    LetterboxRef,
    ModelRef,
    Reason,
    StageTimes,
    Verdict,
)
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.spool.format import PAYLOAD_BYTES, OpenRecord
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system.wall_clock import StepWatch
from edgeinspect.wire.messages import Counts, encode, verdict_topic


@dataclass(frozen=True, slots=True)
class Causes:
    """What every verdict of this run names: line, configuration, models."""

    line: str
    cameras: tuple[str, ...]
    config_hash: str
    budget_us: int
    gate: ModelRef | None
    segmenter: ModelRef | None


NO_TIMES = StageTimes()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured on the way to a finding."""

    defect_prob: float | None = None
    stages: StageTimes = NO_TIMES
    engine_ns: int = 0
    """Time inside the engines' own calls."""
    detail: str = ""
    gate_ran: bool = False
    segmenter_ran: bool = False
    causes: Causes | None = None
    """Of the judge that found it; the line's own when absent."""


NO_EVIDENCE = Evidence()


class Tally:
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

    def counts(self) -> Counts:
        """All counters of one moment."""
        with self._lock:
            closed = sum(self._decided.values())
            return Counts(
                captured=self._captured,
                passed=self._decided[Decision.PASS],
                reject=self._decided[Decision.REJECT],
                no_verdict=self._decided[Decision.NO_VERDICT],
                open=self._captured - closed,
                late=self._late,
                degraded=self._degraded,
                reasons=dict(self._reasons),
            )


class Traces:
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


class Closer:
    """Turns findings into verdicts and closes frames with them. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        causes: Causes,
        publish: Callable[[], None],
        steps: StepWatch | None = None,
    ) -> None:
        self.tally = Tally()
        self.traces = Traces(spool.slots)
        self.late: deque[Verdict] = deque(maxlen=1024)
        """Results that came too late, for the ledger."""
        self.missed_challenge = ""
        """The last challenge part if it was not rejected; empty if it was."""
        self.causes = causes
        """Of who judges now; whoever exchanges the judges sets it."""
        self.spool = spool
        self._clock = clock
        self._publish = publish
        self.steps = steps or StepWatch(clock)
        self._lock = threading.Lock()
        self._topics = {
            (camera, decision): verdict_topic(causes.line, camera, decision)
            for camera in causes.cameras
            for decision in Decision
        }

    def close(
        self,
        frame: OpenFrame,
        finding: Finding,
        evidence: Evidence = NO_EVIDENCE,
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
        verdict = self._verdict(frame, finding, evidence, now_ns)
        payload = encode(verdict)
        if len(payload) > PAYLOAD_BYTES:
            payload = encode(_cut(verdict))
        with self._lock:
            won = self.spool.is_open(frame.seq)
            if won:
                # Before the spool says closed: the publisher may be reading already.
                self._trace(frame, finding, evidence, mask)
                self.spool.close(frame.seq, payload)
        if not won:
            self.tally.count_late()
            self.late.append(verdict)
            return False
        self.tally.count_closed(verdict)
        if verdict.simulated:
            self.missed_challenge = (
                ""
                if verdict.decision is Decision.REJECT
                else verdict.label or verdict.part_id or "?"
            )
        self._publish()
        return True

    def _trace(
        self, frame: OpenFrame, finding: Finding, evidence: Evidence, mask: bytes | None
    ) -> None:
        traces = self.traces
        row = frame.seq % traces.slots
        traces.captured_ns[row] = frame.captured_at_ns
        traces.deadline_ns[row] = frame.deadline_ns
        traces.engine_ns[row] = evidence.engine_ns
        traces.topics[row] = self._topics[frame.record.camera, finding.decision]
        if mask is not None:
            traces.masks[frame.seq] = mask

    def close_without(self, frame: OpenFrame, reason: Reason, detail: str = "") -> bool:
        """Close one frame with NO_VERDICT; returns as `close`."""
        evidence = Evidence(detail=detail) if detail else NO_EVIDENCE
        return self.close(frame, Finding(Decision.NO_VERDICT, reason), evidence)

    def _verdict(
        self, frame: OpenFrame, finding: Finding, evidence: Evidence, now_ns: int
    ) -> Verdict:
        record = frame.record
        causes = evidence.causes or self.causes
        box = frame.letterbox
        total_us = (now_ns - frame.captured_at_ns) // NS_PER_US
        stages = evidence.stages
        return Verdict(
            line=causes.line,
            epoch=self.spool.epoch,
            seq=frame.seq,
            clock_source=frame.clock_source,
            clock_stepped=self.steps.spans_step(frame.captured_at_ns, record.captured_at_utc_ns),
            decision=finding.decision,
            reason=finding.reason,
            detail=evidence.detail,
            degraded=finding.degraded,
            defect_prob=evidence.defect_prob,
            regions=finding.regions,
            regions_total=finding.regions_total,
            severity=finding.severity,
            reject_code=finding.reject_code,
            letterbox=LetterboxRef(box.scale_ratio, box.left_px, box.top_px) if box else None,
            gate=causes.gate if evidence.gate_ran else None,
            segmenter=causes.segmenter if evidence.segmenter_ran else None,
            config_hash=causes.config_hash,
            stages=StageTimes(
                stages.queue_us, stages.gate_us, stages.segmenter_us, stages.regions_us, total_us
            ),
            budget_us=causes.budget_us,
            **_labels(record),
        )


def restart_verdict(
    causes: Causes, seq: int, epoch: int, record: OpenRecord | None, now_utc_ns: int
) -> Verdict:
    """The verdict of a frame that a dead daemon left open.

    It keeps the epoch that captured the frame, so that a gateway can fence it.
    """
    known = record or OpenRecord("unknown", 0, 0, now_utc_ns, now_utc_ns, now_utc_ns)
    return Verdict(
        line=causes.line,
        epoch=epoch,
        seq=seq,
        decision=Decision.NO_VERDICT,
        reason=Reason.RESTART,
        detail="" if record else "the record of this frame is damaged",
        config_hash=causes.config_hash,
        budget_us=causes.budget_us,
        **_labels(known),
    )


def _labels(record: OpenRecord) -> dict[str, Any]:
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


def _cut(verdict: Verdict) -> Verdict:
    """The verdict small enough for any slot: fewer regions, a shorter detail."""
    return msgspec.structs.replace(
        verdict, regions=verdict.regions[:1], detail=verdict.detail[:200]
    )
