"""A hanging engine: is every frame's NO_VERDICT(deadline) published on time?

A complete line with threads and a scripted gate that hangs for `--hang` seconds, at `--rate`
frames a second. Prints the delay of verdicts after their deadline.

    python benchmarks/deadline.py [--fifo] [--load] [--hang 10]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time

from edgeinspect.config import RealTimeConfig, parse_config
from edgeinspect.domain import FrameShape, SystemClock
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.system import configure, realtime
from edgeinspect.testing import NoiseCamera, brightness_gate

SHAPE = FrameShape(64, 256, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fifo", action="store_true", help="SCHED_FIFO 20 for the time-critical threads"
    )
    parser.add_argument("--load", action="store_true", help="a busy process on every core")
    parser.add_argument("--hang", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0)
    options = parser.parse_args()
    configure("console", "error")
    burners = []
    if options.load:
        for _ in range(os.cpu_count() or 1):
            burner = multiprocessing.Process(target=keep_processor_busy, daemon=True)
            burner.start()
            burners.append(burner)
    try:
        print(json.dumps(run(options), indent=2))
    finally:
        for burner in burners:
            burner.kill()


def keep_processor_busy() -> None:
    while True:
        sum(range(10_000))


def run(options: argparse.Namespace) -> dict[str, object]:
    frames = round(options.rate * (options.hang + 2))
    hung = threading.Event()

    def hang_once() -> None:
        if not hung.is_set() and started.is_set():
            hung.set()
            time.sleep(options.hang)

    started = threading.Event()
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        fifo = "fifo_priority: 20" if options.fifo else ""
        loaded = parse_config(
            f"""\
schema: 1
line: deadline
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
capture: {{ring_slots: 16}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}}}
real_time: {{{fifo}}}
"""
        )
        realtime.apply(loaded.config.real_time if options.fifo else RealTimeConfig())
        ended = threading.Event()
        line = Line(
            loaded.config,
            config_hash=loaded.hash,
            cameras={"top": NoiseCamera(SHAPE, options.rate, frames)},
            worker_engines=[WorkerEngines(brightness_gate(SHAPE, hang_once), None)],
            clock=SystemClock(),
            on_failure=lambda error: (print(error), ended.set()),
            on_end=ended.set,
        )
        line.start()
        started.set()
        ended.wait(options.hang + 30)
        counts = line.stop()
        late = line.publisher.past_deadline
        line.close()
    return {
        "fifo": options.fifo,
        "load": options.load,
        "captured": counts.captured,
        "no_verdict": counts.no_verdict,
        "reasons": counts.reasons,
        "late_results": counts.late,
        "law": counts.captured == counts.passed + counts.reject + counts.no_verdict,
        "published_after_deadline_us": late.summary(),
    }


if __name__ == "__main__":
    main()
