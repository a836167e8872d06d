"""A line without threads, sockets and real time, for replaying recorded frames.

Each frame passes the real capture, inspection, decision and closing, one after another, on a
manual clock. Where the recording shows that time, the camera or the end of the daemon decided,
that condition is created again and the pipeline produces the verdict.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.config import LineConfig
from edgeinspect.domain import (
    NS_PER_MS,
    ClockSource,
    FrameShape,
    Grab,
    LatencyEstimate,
    ManualClock,
    ModelSpec,
    Part,
    Pixels,
    Reason,
    UnknownState,
    Verdict,
)
from edgeinspect.errors import CameraLostError, DataError, EngineFault, InternalError
from edgeinspect.imaging import letterbox_image
from edgeinspect.pipeline.capture import CaptureThread, capture_rules
from edgeinspect.pipeline.inspection import FrameInspector, InspectionWorker, UntimedResult
from edgeinspect.pipeline.verdicts import (
    DeadlineGuard,
    FrameQueue,
    OpenFrame,
    VerdictCloser,
    restart_verdict,
)
from edgeinspect.ports import CameraFinished, Engine
from edgeinspect.storage.recording import RecordedFrame
from edgeinspect.storage.shared_memory import FrameRing
from edgeinspect.storage.spool import OpenRecord, Spool
from edgeinspect.wire import decode_verdict, encode_message

_SPOOL_SLOTS = 64
_RING_SLOTS = 2
_NEXT_TOO_LATE_NS = NS_PER_MS - 1
"""Time before the deadline that is too short for another engine but enough for a verdict."""


class ReplayedEngine:
    """An engine that takes no time, or too long, or fails, as recorded."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.problem = ""
        """Why the next inference fails; empty to run it."""
        self.ends_at_ns: int | None = None
        """When the next inference ends; None for immediately."""
        self._engine = engine
        self._clock = clock

    @property
    def spec(self) -> ModelSpec:
        return self._engine.spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        if self.problem:
            raise EngineFault(self.problem)
        outputs = self._engine.infer(image)
        if self.ends_at_ns is not None:
            self._clock.sleep_until(self.ends_at_ns)
        return outputs

    def close(self) -> None:
        """Nothing to do: the caller closes the wrapped engine."""


class _NullCamera:
    """Placeholder for a camera; frames come from the recording."""

    reports_lost_frames = True
    period_ns = None

    def open(self) -> None:
        """Nothing to open."""

    def grab(self, timeout_ns: int) -> Grab | None:
        raise CameraFinished

    def release(self, grab: Grab) -> None:
        """Nothing to release: each image has its own memory."""

    def trigger(self, part: Part) -> None:
        raise CameraLostError("takes no trigger")

    def close(self) -> None:
        """Nothing to close."""


class OfflineLine:
    """The pipeline of one epoch. Not thread-safe."""

    def __init__(
        self,
        folder: Path,
        config: LineConfig,
        shape: FrameShape,
        inspector: FrameInspector,
        clock: ManualClock,
    ) -> None:
        """Create spool and rings.

        Args:
            folder: Empty folder in memory.
            config: The line's configuration at the start of the epoch.
            shape: Frame shape of the models.
            inspector: The first inspector.
            clock: Advanced only by this object.
        """
        self.config = config
        self._clock = clock
        self._spool = Spool(
            folder / "replay.spool", line=config.line, slots=_SPOOL_SLOTS, utc_ns=clock.utc_ns()
        )
        cameras = tuple(config.cameras)
        self._frame_queue = FrameQueue(len(cameras))
        self.closer = VerdictCloser(self._spool, clock, inspector.provenance, lambda: None)
        self._guard = DeadlineGuard(self._frame_queue, self.closer, clock)
        self._rings = {
            name: FrameRing(folder / f"{name}.ring", _RING_SLOTS, shape) for name in cameras
        }
        self._captures = {
            name: CaptureThread(
                camera=_NullCamera(),
                ring=self._rings[name],
                rules=capture_rules(config, name, camera_index),
                frame_queue=self._frame_queue,
                guard=self._guard,
                closer=self.closer,
                clock=clock,
            )
            for camera_index, name in enumerate(cameras)
        }
        self._worker = InspectionWorker(
            frame_queue=self._frame_queue,
            closer=self.closer,
            inspector=inspector,
            keep_warm_ns=0,
        )

    def replay_frame(
        self,
        recorded: RecordedFrame,
        pixels: Pixels | None,
        inspector: FrameInspector,
        mono_ns: int,
    ) -> Verdict:
        """Return the new verdict of one recorded frame.

        Args:
            recorded: The frame; frames are passed in their order.
            pixels: Its image, None if the camera delivered none.
            inspector: The inspector to use.
            mono_ns: When it was captured; the clock is never set back.

        Raises:
            DataError: The frame names a camera that its configuration does not have.
        """
        verdict = recorded.verdict
        self._clock.sleep_until(mono_ns)
        now_ns = self._clock.now_ns()
        self._clock.utc_offset_ns = verdict.captured_at_utc_ns - now_ns
        self._worker.inspector = inspector
        self.closer.provenance = inspector.provenance
        if verdict.reason is Reason.RESTART:
            return self._restart_verdict(verdict)
        if verdict.camera not in self._captures:
            raise DataError(
                f"frame {verdict.seq} is of camera {verdict.camera[:40]!r}, which its "
                "configuration does not have",
                where=recorded.where,
            )
        grab = _to_grab(verdict, pixels, now_ns)
        if verdict.reason is Reason.OVERRUN:
            frame = self._accept_overrun(grab, verdict.camera)
        else:
            frame = self._captures[verdict.camera].accept(grab)
        if self._spool.is_open(frame.seq):
            self._close_open_frame(frame, verdict)
        self._guard.close_due()
        return self._read_verdict(frame.seq)

    def inspect_untimed(self, pixels: Pixels, inspector: FrameInspector) -> UntimedResult | None:
        """Return the result for an image without a time limit; None if its shape is rejected."""
        shape = next(iter(self._rings.values())).shape
        if pixels.shape != shape.dims:
            if self.config.capture.wrong_shape != "letterbox" or 0 in pixels.shape:
                return None
            pixels = letterbox_image(pixels, shape.height_px, shape.width_px)[0].reshape(shape.dims)
        return inspector.inspect_untimed(pixels)

    def close(self) -> None:
        """Release files and memory."""
        self._frame_queue.close()
        for ring in self._rings.values():
            ring.remove_file()
        self._spool.release()

    def _close_open_frame(self, frame: OpenFrame, verdict: Verdict) -> None:
        """Close an open frame for the recorded reason."""
        if verdict.reason is Reason.DEADLINE:
            self._clock.sleep_until(frame.deadline_ns)
            self._guard.close_due()
        elif verdict.reason is Reason.SHUTDOWN:
            self._guard.close_all(Reason.SHUTDOWN)
        else:
            self._inspect(frame, verdict)

    def _inspect(self, frame: OpenFrame, verdict: Verdict) -> None:
        inspector = self._worker.inspector
        engines = [e for _role, e in inspector.engines.by_role() if isinstance(e, ReplayedEngine)]
        for engine in engines:
            engine.problem = ""
            engine.ends_at_ns = None
        if verdict.reason is Reason.ENGINE_ERROR:
            for engine in engines:
                engine.problem = verdict.detail or "failed"
        elif (late := _engine_that_took_the_time(inspector, verdict)) is not None:
            late.ends_at_ns = frame.deadline_ns - _NEXT_TOO_LATE_NS
        acquired = self._frame_queue.pop_earliest()
        if acquired is not frame:
            raise InternalError("the queue returned another frame than the accepted one")
        segmenter_time = inspector.segmenter_time
        if _only_segmenter_lacked_time(verdict):
            inspector.segmenter_time = _endless_time()
        self._worker.inspect(frame)
        inspector.segmenter_time = segmenter_time
        for engine in engines:
            engine.problem = ""
            engine.ends_at_ns = None

    def _accept_overrun(self, grab: Grab, camera: str) -> OpenFrame:
        """Accept a frame while every slot is in use."""
        ring, acquired = self._rings[camera], []
        while (slot := ring.acquire()) is not None:
            acquired.append(slot)
        try:
            return self._captures[camera].accept(grab)
        finally:
            for slot in acquired:
                ring.release(slot)

    def _restart_verdict(self, verdict: Verdict) -> Verdict:
        """Return the verdict of a restarted daemon for a frame that was left open."""
        record = OpenRecord(
            verdict.camera,
            verdict.frame,
            verdict.camera_frame_id,
            verdict.captured_at_utc_ns,
            verdict.deadline_utc_ns,
            verdict.act_by_utc_ns,
            verdict.encoder_count,
            verdict.act_by_encoder,
            verdict.part_id,
            verdict.label,
            verdict.simulated,
        )
        provenance = self.closer.provenance
        restarted = restart_verdict(
            provenance, verdict.seq, verdict.epoch, record, self._clock.utc_ns()
        )
        return decode_verdict(encode_message(restarted))

    def _read_verdict(self, seq: int) -> Verdict:
        body = self._spool.read(seq)
        if body is None:
            raise InternalError("a replayed frame has no verdict")
        return decode_verdict(body)


def _only_segmenter_lacked_time(verdict: Verdict) -> bool:
    """Whether there was no time for the segmenter, and enough for the good-parts model."""
    check = verdict.unknown_check
    return verdict.degraded and check is not None and check.state is UnknownState.ASKED


def _endless_time() -> LatencyEstimate:
    """Return the estimate of an engine that fits no budget."""
    estimate = LatencyEstimate()
    estimate.add(1 << 60)
    return estimate


def _engine_that_took_the_time(
    inspector: FrameInspector, verdict: Verdict
) -> ReplayedEngine | None:
    """Return the engine after which there was no time for the next one; None if there was."""
    check = verdict.unknown_check
    not_asked = check is not None and check.state is UnknownState.NO_TIME
    if not (verdict.degraded or not_asked) or _only_segmenter_lacked_time(verdict):
        return None
    last = inspector.gate if verdict.segmenter is None else inspector.segmenter
    return last if isinstance(last, ReplayedEngine) else None


def _to_grab(verdict: Verdict, pixels: Pixels | None, now_ns: int) -> Grab:
    """Return the frame as the camera delivered it."""
    return Grab(
        pixels=pixels,
        camera_frame_id=verdict.camera_frame_id,
        captured_at_ns=now_ns,
        part=Part(verdict.part_id, verdict.encoder_count, verdict.simulated),
        clock_source=ClockSource(verdict.clock_source),
        label=verdict.label,
        problem=verdict.detail if pixels is None else "",
        lost=verdict.reason is Reason.CAPTURE_LOST,
    )
