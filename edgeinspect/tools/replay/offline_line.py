"""One line without its threads, its sockets and its time: each recorded frame goes through the
real capture, judge, decision and closing, one after another, on a manual clock.

Time costs nothing here. Where the recording says that time decided, or the camera, or the end
of the daemon, that cause is made again and the flow gives the verdict for it.
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
    ManualClock,
    ModelSpec,
    Part,
    Pixels,
    Reason,
    Verdict,
)
from edgeinspect.errors import CameraLostError, DataError, EngineFault, InternalError
from edgeinspect.imaging.letterbox import letterbox
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
_SEGMENTER_TOO_LATE_NS = NS_PER_MS - 1
"""Before the deadline: too late for a segmenter, and not yet for a verdict."""


class ReplayedEngine:
    """An engine that takes no time, unless the recording says that it took too much or failed."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.problem = ""
        """Why the next inference fails; empty to run it."""
        self.ends_at_ns: int | None = None
        """When the next inference is over; None for at once."""
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
        """The engine is closed by whoever made it."""


class _NullCamera:
    """Stands where a line has its camera; frames come from the recording."""

    tells_losses = True
    period_ns = None

    def open(self) -> None:
        """Nothing to open."""

    def grab(self, timeout_ns: int) -> Grab | None:
        raise CameraFinished

    def release(self, grab: Grab) -> None:
        """Each picture has its own memory."""

    def trigger(self, part: Part) -> None:
        raise CameraLostError("takes no trigger")

    def close(self) -> None:
        """Nothing to close."""


class OfflineLine:
    """The flow of one epoch. One thread."""

    def __init__(
        self,
        folder: Path,
        config: LineConfig,
        shape: FrameShape,
        judge: FrameInspector,
        clock: ManualClock,
    ) -> None:
        """Build it.

        Args:
            folder: In memory; nothing else may be in it.
            config: The line's, as it was when the epoch began.
            shape: Of the models' frames.
            judge: The first one.
            clock: Turned by this stage alone.
        """
        self.config = config
        self._clock = clock
        self._spool = Spool(
            folder / "replay.spool", line=config.line, slots=_SPOOL_SLOTS, utc_ns=clock.utc_ns()
        )
        cameras = tuple(config.cameras)
        self._inbox = FrameQueue(len(cameras))
        self.closer = VerdictCloser(self._spool, clock, judge.provenance, lambda: None)
        self._guard = DeadlineGuard(self._spool, self._inbox, self.closer, clock)
        self._rings = {
            name: FrameRing(folder / f"{name}.ring", _RING_SLOTS, shape) for name in cameras
        }
        self._captures = {
            name: CaptureThread(
                camera=_NullCamera(),
                ring=self._rings[name],
                rules=capture_rules(config, name, lane),
                spool=self._spool,
                frame_queue=self._inbox,
                guard=self._guard,
                closer=self.closer,
                clock=clock,
            )
            for lane, name in enumerate(cameras)
        }
        self._inspector = InspectionWorker(
            frame_queue=self._inbox,
            closer=self.closer,
            spool=self._spool,
            inspector=judge,
            keep_warm_ns=0,
        )

    def replay_frame(
        self, recorded: RecordedFrame, pixels: Pixels | None, judge: FrameInspector, mono_ns: int
    ) -> Verdict:
        """Have one recorded frame judged.

        Args:
            recorded: The frame; frames come in their order.
            pixels: Its picture, None where the camera delivered none.
            judge: Who judges.
            mono_ns: When it was captured; the clock never goes back for it.

        Raises:
            DataError: It names a camera that its configuration does not have.
        """
        verdict = recorded.verdict
        self._clock.sleep_until(mono_ns)
        now_ns = self._clock.now_ns()
        self._clock.utc_offset_ns = verdict.captured_at_utc_ns - now_ns
        self._inspector.inspector = judge
        self.closer.provenance = judge.provenance
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
            frame = self._admit_overrun(grab, verdict.camera)
        else:
            frame = self._captures[verdict.camera].accept(grab)
        if self._spool.is_open(frame.seq):
            self._close_open_frame(frame, verdict)
        self._guard.close_due()
        return self._read_verdict(frame.seq)

    def inspect_untimed(self, pixels: Pixels, judge: FrameInspector) -> UntimedResult | None:
        """What would be decided of a picture with all the time it takes; None if it cannot be."""
        shape = next(iter(self._rings.values())).shape
        if pixels.shape != shape.dims:
            if self.config.capture.wrong_shape != "letterbox" or 0 in pixels.shape:
                return None
            pixels = letterbox(pixels, shape.height_px, shape.width_px)[0].reshape(shape.dims)
        return judge.inspect_untimed(pixels)

    def close(self) -> None:
        """Free what the operating system lent."""
        self._inbox.close()
        for ring in self._rings.values():
            ring.remove_file()
        self._spool.release()

    # -- the causes ------------------------------------------------------------------

    def _close_open_frame(self, frame: OpenFrame, verdict: Verdict) -> None:
        """Close an open frame as the recording's cause demands."""
        if verdict.reason is Reason.DEADLINE:
            self._clock.sleep_until(frame.deadline_ns)
            self._guard.close_due()
        elif verdict.reason is Reason.SHUTDOWN:
            self._guard.close_all(Reason.SHUTDOWN)
        else:
            self._inspect(frame, verdict)

    def _inspect(self, frame: OpenFrame, verdict: Verdict) -> None:
        judge = self._inspector.inspector
        told = [e for e in (judge.gate, judge.segmenter) if isinstance(e, ReplayedEngine)]
        for engine in told:
            engine.problem = ""
            engine.ends_at_ns = None
        if verdict.reason is Reason.ENGINE_ERROR:
            for engine in told:
                engine.problem = verdict.detail or "failed"
        elif verdict.degraded and told:
            told[0].ends_at_ns = frame.deadline_ns - _SEGMENTER_TOO_LATE_NS
        taken = self._inbox.pop_earliest()
        if taken is not frame:
            raise InternalError("another frame waits than the one that was admitted")
        self._inspector.inspect(frame)
        for engine in told:
            engine.problem = ""
            engine.ends_at_ns = None

    def _admit_overrun(self, grab: Grab, camera: str) -> OpenFrame:
        """Admit a frame while every slot is taken."""
        ring, taken = self._rings[camera], []
        while (slot := ring.acquire()) is not None:
            taken.append(slot)
        try:
            return self._captures[camera].accept(grab)
        finally:
            for slot in taken:
                ring.release(slot)

    def _restart_verdict(self, verdict: Verdict) -> Verdict:
        """What the next daemon says of a frame that a dead one left open."""
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
        causes = self.closer.provenance
        again = restart_verdict(causes, verdict.seq, verdict.epoch, record, self._clock.utc_ns())
        return decode_verdict(encode_message(again))

    def _read_verdict(self, seq: int) -> Verdict:
        body = self._spool.read(seq)
        if body is None:
            raise InternalError("a replayed frame has no verdict")
        return decode_verdict(body)


def _to_grab(verdict: Verdict, pixels: Pixels | None, now_ns: int) -> Grab:
    """The frame as its camera handed it over."""
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
