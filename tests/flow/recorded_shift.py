"""A short recorded shift with every kind of verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import ClockSource, Grab, Part, Pixels
from edgeinspect.domain.latency import LatencyEstimate
from edgeinspect.domain.model import model_ref
from edgeinspect.domain.verdict import ModelRef, Reason
from edgeinspect.errors import EngineFault
from edgeinspect.pipeline.verdicts.closer import Provenance, restart_verdict
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.ports import Engine
from edgeinspect.storage.recording.messages import (
    ClockReading,
    FrameRecord,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, PixelPacker
from edgeinspect.storage.recording.writer import RecordingWriter
from edgeinspect.testing.doubles import (
    ScriptedEngine,
    brightness_gate,
    last_pixel_unknown,
    pixel_segmenter,
)
from edgeinspect.wire.messages import encode_message
from tests.flow.line_harness import SHAPE, LineHarness

CONFIG = """\
schema: 1
line: bench
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
capture: {{wrong_shape: {wrong_shape}, health: {{dark_level: 0, bright_level: 255,
                                               frozen_frames: {frozen_frames}}}}}
engines: {{gate: {{type: ov, model: scripted-gate}},
          segmenter: {{type: ov, model: scripted-segmenter}}}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
act_by: {{gate_distance_counts: 1000}}
decide:
  gate: {{suspect_at: 0.5, reject_at: 0.95, degraded_reject_at: 0.7, reject_code: 99}}
  classes:
    dark: {{score: 0.5, area_px: 4, severity: 2, reject_code: 11}}
    bright: {{score: 0.5, area_px: 2, severity: 5, reject_code: 12}}
  max_regions: 4
"""
HASH = "recorded0000"


UNKNOWN_RULE = """\
  unknown: {reject_at: 0.5, area_px: 3, action: reject, severity: 6, reject_code: 66}
"""


def config(
    frozen_frames: int = 0, wrong_shape: str = "no_verdict", *, with_unknown: bool = False
) -> str:
    text = CONFIG.format(frozen_frames=frozen_frames, wrong_shape=wrong_shape)
    if not with_unknown:
        return text
    engine = "{type: ov, model: scripted-unknown}"
    text = text.replace("engines: {gate", f"engines: {{unknown: {engine}, gate")
    return text.replace("  max_regions: 4\n", f"  max_regions: 4\n{UNKNOWN_RULE}")


def scripted(choice: Any, _clock: object, _store: object) -> Engine:
    """Replace `load_engine`: return the engines of `LineHarness`."""
    name = choice.options.model.partition("/")[0]
    makers = {
        "scripted-gate": brightness_gate,
        "scripted-unknown": last_pixel_unknown,
        "scripted-segmenter": pixel_segmenter,
    }
    return makers[name](SHAPE)


class RecordedShift:
    """Drives a bench and records what it decides, as the recorder would."""

    def __init__(self, folder: Path, path: Path, **changes: Any) -> None:
        frozen_frames = changes.pop("frozen_frames", 0)
        self.harness = LineHarness(folder, **changes)
        letterbox = "letterbox" if changes.get("letterbox") else "no_verdict"
        with_unknown = bool(changes.get("with_unknown"))
        self.text = config(frozen_frames, letterbox, with_unknown=with_unknown)
        self._packer = PixelPacker()
        self._pixels: dict[int, Pixels | None] = {}
        self._next = 1
        harness = self.harness
        gate, segmenter = model_ref(harness.gate.spec), model_ref(harness.segmenter.spec)
        self.set_models(gate, segmenter)
        about = RecordingInfo(line="bench", edgeinspect="1", began_utc_ns=1, machine={})
        self.writer = RecordingWriter(path, about)
        self.writer.write_configuration(
            RecordedConfiguration(
                hash=HASH, text=self.text, gate=gate, segmenter=segmenter, unknown=self.unknown
            ),
            1,
        )
        clock = harness.clock
        self.writer.write_clock(ClockReading(mono_ns=clock.now_ns(), utc_ns=clock.utc_ns()))

    def set_models(self, gate: ModelRef | None, segmenter: ModelRef | None) -> None:
        unknown = self.harness.unknown
        self.unknown = None if unknown is None else model_ref(unknown.spec)
        causes = Provenance("bench", ("top",), HASH, 100_000, gate, segmenter, self.unknown)
        self.harness.worker.inspector.provenance = causes
        self.harness.closer.provenance = causes

    # -- frames ----------------------------------------------------------------------

    def accept(self, grab: Grab) -> OpenFrame:
        pixels = None if grab.pixels is None else grab.pixels.copy()
        frame = self.harness.capture.accept(grab)
        self._pixels[frame.seq] = pixels
        return frame

    def inspect(self, grab: Grab) -> OpenFrame:
        frame = self.accept(grab)
        while self.harness.run_worker():
            pass
        self.harness.guard.close_due()
        self.harness.clock.advance(20 * NS_PER_MS)
        self.write()
        return frame

    def defect(self, first_pixel: int, value: int, **part: Any) -> Grab:
        """Return a suspect image with a region of a class."""
        grab = self.harness.grab(first_pixel)
        assert grab.pixels is not None
        grab.pixels[2:4, 3:6, 0] = value
        return Grab(grab.pixels, grab.camera_frame_id, grab.captured_at_ns, Part(**part))

    def write(self, *, without_image: bool = False) -> None:
        """Record every frame that is closed by now."""
        while (body := self.harness.spool.read(self._next)) is not None:
            pixels = None if without_image else self._pixels.get(self._next)
            record = FrameRecord(verdict=body, why_not="none")
            if pixels is not None:
                height, width, channels = pixels.shape
                packed = self._packer.pack(pixels)
                record = FrameRecord(
                    verdict=body, dims=(height, width, channels), packing=LEFT_ZSTD, pixels=packed
                )
            self.writer.write_frame(record, "top", self._next, self._next)
            self._next += 1

    def finish(self) -> None:
        self.write()
        self.writer.finish(RecordingEnd(why="stopped", frames=0, without_picture=0, missed=0), 9)
        self.harness.close()


def everything(shift: RecordedShift) -> None:
    """One frame, at least, of each reason that there is."""
    harness = shift.harness
    judge = harness.worker.inspector
    shift.inspect(harness.grab(10))
    shift.inspect(shift.defect(180, 2, part_id="p-2", encoder_count=7))
    shift.inspect(shift.defect(150, 1))
    shift.inspect(harness.grab(130))
    shift.inspect(harness.grab(250))
    shift.inspect(
        Grab(
            np.full(SHAPE.dims, 9, np.uint8),
            6,
            harness.clock.now_ns(),
            clock_source=ClockSource.PTP,
            label="a.png",
            part=Part("challenge:x", simulated=True),
        )
    )
    judge.segmenter_time = LatencyEstimate()
    judge.segmenter_time.add(95 * NS_PER_MS)  # no time left to segment
    for level in (150, 200):
        shift.inspect(harness.grab(level))
    judge.segmenter_time = LatencyEstimate()
    late = shift.accept(harness.grab(180))  # the engine hangs, and the guard closes
    harness.clock.advance(100 * NS_PER_MS)
    harness.guard.close_due()
    assert not harness.run_worker()
    assert harness.verdict(late.seq) is not None
    judge.gate_time = LatencyEstimate()
    judge.gate_time.add(90 * NS_PER_MS)
    shift.accept(harness.grab(20))
    harness.clock.advance(50 * NS_PER_MS)
    harness.run_worker()  # not started
    judge.gate_time = LatencyEstimate()
    for _ in range(6):  # two more than there are slots
        shift.accept(harness.grab(30))
    shift.inspect(harness.grab(30))
    _fail_once(harness.gate)
    shift.inspect(harness.grab(30))
    shift.inspect(harness.grab(1, (8, 17, 1)))
    now_ns = harness.clock.now_ns()
    number = harness.frame_id
    harness.frame_id += 2
    shift.inspect(Grab(None, number + 1, now_ns, problem="half of it is missing"))
    shift.inspect(Grab(None, number + 2, now_ns, Part("p-61"), problem="never came", lost=True))
    shift.accept(harness.grab(30))
    harness.guard.close_all(Reason.SHUTDOWN)
    left = shift.accept(harness.grab(30))
    again = restart_verdict(
        harness.closer.provenance,
        left.seq,
        harness.spool.epoch,
        left.record,
        harness.clock.utc_ns(),
    )
    harness.spool.close(left.seq, encode_message(again))
    shift.write()


def _fail_once(engine: ScriptedEngine) -> None:
    take_time = engine._take_time

    def fail() -> None:
        engine._take_time = take_time
        raise EngineFault("injected", where="gate")

    engine._take_time = fail
