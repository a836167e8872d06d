"""Cost of a frame between the camera's buffer and the engine's input, for 1 to 8 cameras.

For each number of cameras: bytes copied per frame (by the camera's conversion, into the ring, and
by the line before the engine), processor time per frame, and missed frames. The engine is a stub
that only checks the address of its input, so all of the time is capture, ring, guard, decision,
spool and wire.

    python benchmarks/cameras.py [--rate 25] [--seconds 4] [--height 512 --width 512]
    python benchmarks/cameras.py --aravis NAME [--format BayerRG8]

The second form uses an existing camera; `arv-fake-gv-camera-0.8 -i 127.0.0.1 -s GV01` is a fake
one with the NAME Aravis-Fake-GV01.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeinspect.cameras import aravis
from edgeinspect.cameras.synthetic import Options, SyntheticCamera
from edgeinspect.config import parse_config
from edgeinspect.domain import FrameShape, Grab, Pixels, SystemClock
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.ports import Camera
from edgeinspect.system import configure
from edgeinspect.testing import ScriptedEngine, brightness_gate


class GrabRecorder:
    """A camera that records whether frames own their memory or are views of a buffer."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.views = self.frames = 0
        self.addresses: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def grab(self, timeout_ns: int) -> Grab | None:
        grab = self._camera.grab(timeout_ns)
        if grab is not None and grab.pixels is not None:
            self.frames += 1
            self.views += not grab.pixels.flags.owndata
            self.addresses.add(grab.pixels.ctypes.data)
        return grab


class InputCopyCounter:
    """A stub engine that counts inputs outside the rings: these were copied."""

    def __init__(self, shape: FrameShape) -> None:
        self.line: Line | None = None
        self.copied = self.inferences = 0
        self.engine: ScriptedEngine = brightness_gate(shape)
        infer_gate = self.engine.infer

        def infer(image: Pixels) -> tuple[np.ndarray, ...]:
            if self.line is not None:
                self.inferences += 1
                slots = self.line.config.capture.ring_slots
                self.copied += not any(
                    image.ctypes.data == ring.pixels(slot).ctypes.data
                    for ring in self.line.rings.values()
                    for slot in range(slots)
                )
            return infer_gate(image)

        self.engine.infer = infer  # type: ignore[method-assign]


def run(cameras: dict[str, GrabRecorder], shape: FrameShape, seconds: float) -> dict[str, object]:
    """Run one line on these cameras for some seconds."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        camera_keys = ", ".join(f"{name}: {{type: synthetic}}" for name in cameras)
        loaded = parse_config(
            f"""\
schema: 1
line: cameras
budget_ms: 500
cameras: {{{camera_keys}}}
engines: {{gate: {{type: ov, model: stub}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.999, reject_at: 1, degraded_reject_at: 1, reject_code: 1}}}}
inspect: {{keep_warm_ms: 0}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}}}
"""
        )
        copy_counter = InputCopyCounter(shape)
        line = Line(
            loaded.config,
            config_hash=loaded.hash,
            cameras=cameras,
            worker_engines=[WorkerEngines(copy_counter.engine, None)],
            clock=SystemClock(),
        )
        line.start()
        while any(capture.state != "live" for capture in line.capture_threads):
            time.sleep(0.01)
        copy_counter.line = line
        time.sleep(0.5)
        before, cpu_before_s = line.closer.counters.counts(), time.process_time()
        started_s = time.monotonic()
        time.sleep(seconds)
        cpu_s, wall_s = time.process_time() - cpu_before_s, time.monotonic() - started_s
        after = line.closer.counters.counts()
        final = line.stop()
        counts = [capture.counts for capture in line.capture_threads]
        line.close()
    frames = after.captured - before.captured
    delivered = sum(camera.frames for camera in cameras.values())
    converted = sum(count.copied_bytes for count in counts) / max(1, delivered)
    return {
        "cameras": len(cameras),
        "frames_per_s": round(frames / wall_s, 1),
        "frame_bytes": shape.size_bytes,
        "copied_by_camera_bytes": round(converted),
        "copied_into_ring_bytes": shape.size_bytes,
        "copied_before_engine_bytes": shape.size_bytes
        * copy_counter.copied
        // max(1, copy_counter.inferences),
        "frames": delivered,
        "frames_that_are_the_camera_s_memory": sum(camera.views for camera in cameras.values()),
        "camera_buffers": sum(len(camera.addresses) for camera in cameras.values()),
        "cpu_us_per_frame": round(cpu_s * 1e6 / max(1, frames)),
        "cpu_per_camera_ratio": round(cpu_s / wall_s / len(cameras), 4),
        "no_verdict": dict(final.reasons),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--aravis", metavar="NAME")
    parser.add_argument("--format", default="Mono8")
    options = parser.parse_args()
    configure("console", "error")
    clock = SystemClock()
    height, width = options.height, options.width
    if options.aravis:
        wanted = {
            "device": options.aravis,
            "Width": width,
            "Height": height,
            "PixelFormat": options.format,
            "AcquisitionFrameRate": options.rate,
            "packet_resend": False,
        }
        made = aravis.build(msgspec.convert(wanted, aravis.Options), clock)
        channels = 1 if options.format.startswith("Mono") else 3
        shape = FrameShape(height, width, channels)
        print(json.dumps(run({"a": GrabRecorder(made)}, shape, options.seconds)))
        return
    for count in options.cameras:
        settings = Options(height_px=height, width_px=width, pictures=4, rate_hz=options.rate)
        cameras = {f"c{n}": GrabRecorder(SyntheticCamera(settings, clock)) for n in range(count)}
        print(json.dumps(run(cameras, FrameShape(height, width, 1), options.seconds)))


if __name__ == "__main__":
    main()
