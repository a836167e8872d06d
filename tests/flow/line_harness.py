"""One line without threads, on a manual clock: a test does each thread's work by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import FrameShape, Grab
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.model import model_ref
from edgeinspect.domain.verdict import Verdict
from edgeinspect.pipeline.capture.camera_thread import CaptureRules, CaptureThread
from edgeinspect.pipeline.inspection.decision import ClassLimits, DecisionRules, GateLimits
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector, WorkerEngines
from edgeinspect.pipeline.inspection.worker import InspectionWorker
from edgeinspect.pipeline.verdicts.closer import Provenance, VerdictCloser
from edgeinspect.pipeline.verdicts.deadline_guard import DeadlineGuard
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue
from edgeinspect.storage.shared_memory.frame_ring import FrameRing
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.testing.doubles import (
    ScriptedCamera,
    ScriptedEngine,
    brightness_gate,
    last_pixel_unknown,
    pixel_segmenter,
)
from edgeinspect.wire.messages import decode_verdict

SHAPE = FrameShape(8, 16, 1)
RULES = DecisionRules(
    gate=GateLimits(0.5, 0.95, 0.7, 99),
    classes={
        1: ClassLimits("dark", 0.5, 4, 2, 11),
        2: ClassLimits("bright", 0.5, 2, 5, 12),
    },
    stride=1,
    mm_per_px_x=0.5,
    mm_per_px_y=0.5,
    max_regions=4,
)


class LineHarness:
    """The components of a line with one camera and one worker."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 4,
        budget_ms: int = 100,
        overload: str = "drop_oldest",
        letterbox: bool = False,
        spool_slots: int = 64,
        script: list[Grab | Exception | None] | None = None,
        attempts: int = 2,
        gate: ScriptedEngine | None = None,
        rules: DecisionRules = RULES,
        with_unknown: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.gate_ms = 10
        self.segmenter_ms = 20
        self.unknown_ms = 15
        self.publish_calls = 0
        self.spool = Spool(
            folder / "bench.spool", line="bench", slots=spool_slots, utc_ns=self.clock.utc_ns()
        )
        self.ring = FrameRing(folder / "bench.ring", slots, SHAPE)
        self.frame_queue = FrameQueue(1)
        provenance = Provenance("bench", ("top",), "hash", budget_ms * 1000, None, None)
        self.closer = VerdictCloser(self.spool, self.clock, provenance, self._on_publish)
        self.guard = DeadlineGuard(self.frame_queue, self.closer, self.clock)
        self.gate = gate or brightness_gate(
            SHAPE, lambda: self.clock.advance(self.gate_ms * NS_PER_MS)
        )
        self.segmenter = pixel_segmenter(
            SHAPE, take_time=lambda: self.clock.advance(self.segmenter_ms * NS_PER_MS)
        )
        self.unknown = (
            last_pixel_unknown(SHAPE, lambda: self.clock.advance(self.unknown_ms * NS_PER_MS))
            if with_unknown
            else None
        )
        if self.unknown is not None:
            provenance = replace(provenance, unknown=model_ref(self.unknown.spec))
        self.worker = InspectionWorker(
            frame_queue=self.frame_queue,
            closer=self.closer,
            inspector=FrameInspector(
                WorkerEngines(self.gate, self.segmenter, self.unknown),
                rules,
                provenance,
                self.clock,
            ),
            keep_warm_ns=0,
        )
        self.camera = ScriptedCamera(script or [])
        self.capture = CaptureThread(
            camera=self.camera,
            ring=self.ring,
            rules=CaptureRules(
                "top",
                0,
                budget_ms * NS_PER_MS,
                overload,
                letterbox,
                200 * NS_PER_MS,
                attempts,
                NS_PER_MS,
                10 * NS_PER_MS,
                0,
                1000,
            ),
            frame_queue=self.frame_queue,
            guard=self.guard,
            closer=self.closer,
            clock=self.clock,
        )
        self.frame_id = 0

    def _on_publish(self) -> None:
        self.publish_calls += 1

    def grab(self, first_pixel: int = 0, shape: tuple[int, ...] = SHAPE.dims) -> Grab:
        """Return an image whose first pixel determines the gate's probability."""
        self.frame_id += 1
        pixels = np.zeros(shape, np.uint8)
        if pixels.size:
            pixels.flat[0] = first_pixel
        return Grab(pixels, self.frame_id, self.clock.now_ns())

    def run_worker(self) -> bool:
        """Have the worker inspect one frame; return False if none waits."""
        frame = self.frame_queue.pop_earliest()
        if frame is None:
            return False
        self.worker.inspect(frame)
        return True

    def verdict(self, seq: int) -> Verdict | None:
        """Return the verdict of a frame, if it has one."""
        body = self.spool.read(seq)
        return None if body is None else decode_verdict(body)

    def close(self) -> None:
        """Release files, memory and descriptors."""
        self.frame_queue.close()
        self.ring.remove_file()
        self.spool.release()
