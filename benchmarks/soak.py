"""Growth of the daemon: memory, handles and threads over a million frames, with a fitted slope.

In the short form the line is complete (ring, spool, ledger, wire, a subscriber in another
process), but its engines return recorded results of the shipped models at once, so that a million
frames take minutes. `--real` runs the shipped models.

The slope is fitted by least squares over the second half, after the allocations of the warm-up;
its interval is computed from blocks, because neighbouring samples are not independent.

    python benchmarks/soak.py [--frames 1000000]
    python benchmarks/soak.py --real --frames 20000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import zmq

from edgeinspect.tools.bench import Benchmark, BenchmarkConfig, FullLineRun, describe_host
from edgeinspect.tools.memory_folder import temporary_memory_folder

BLOCKS = 20


class RecordedOutputsEngine:
    """An engine that returns recorded outputs of another, in turn."""

    def __init__(self, engine: Any, images: list[np.ndarray]) -> None:
        self.spec = engine.spec
        self._answers = [
            tuple(np.array(each) for each in engine.infer(picture)) for picture in images[:16]
        ]
        self._calls = 0

    def infer(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        self._calls += 1
        return self._answers[self._calls % len(self._answers)]

    def close(self) -> None:
        pass


def listen(address: str) -> None:
    """Run a subscriber that counts verdicts."""
    socket = zmq.Context().socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(address)
    while True:
        socket.recv_multipart()


def resident_kib() -> int:
    """Return the anonymous memory of this process, without spool and ring."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise RuntimeError("no RssAnon")


def resident_mib() -> float:
    """Return all resident memory, including files in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(frames: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Return (slope per 100,000 frames, low, high), 95 %, by a block jackknife."""
    blocks = np.array_split(np.arange(len(frames)), BLOCKS)

    def fit(keep: np.ndarray) -> float:
        return float(np.polyfit(frames[keep], values[keep], 1)[0]) * 100_000

    whole = fit(np.arange(len(frames)))
    left = np.array([fit(np.setdiff1d(np.arange(len(frames)), block)) for block in blocks])
    spread = 2.09 * np.sqrt((BLOCKS - 1) / BLOCKS * ((left - left.mean()) ** 2).sum())
    return whole, whole - float(spread), whole + float(spread)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--round", type=int, default=4_000)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    bench = Benchmark(BenchmarkConfig(frames=args.round, rounds=1, image_count=32))
    bench.prepare()
    samples: list[tuple[int, int, int, int]] = []
    with temporary_memory_folder("bench") as folder:
        loaded = bench.load_config(
            folder, f"ledger.folder={folder}", "ledger.max_mib=64", "capture.overload=block"
        )
        line = FullLineRun(loaded, bench.images)
        if not args.real:
            for inspector in line.line.workers:
                judge = inspector.inspector
                judge.gate = RecordedOutputsEngine(judge.gate, bench.images)
                judge.segmenter = RecordedOutputsEngine(judge.segmenter, bench.images)
        ear = multiprocessing.get_context("spawn").Process(
            target=listen, args=(line.line.publisher.address,), daemon=True
        )
        ear.start()
        began = time.monotonic()
        done = 0
        try:
            while done < args.frames:
                count = min(args.round, args.frames - done)
                line.run(done, count)
                done += count
                handles = len(os.listdir("/proc/self/fd"))
                samples.append((done, resident_kib(), handles, threading.active_count()))
                if done % (args.round * 25) == 0:
                    print(f"{done} frames, {samples[-1][1] >> 10} MiB", file=sys.stderr)
            whole = resident_mib()
            counts = line.line.closer.counters.counts()
        finally:
            ear.kill()
            line.close()
    table = np.array(samples, np.float64)
    half = table[len(table) // 2 :]
    per, low, high = slope(half[:, 0], half[:, 1])
    out = {
        "machine": describe_host(),
        "frames": done,
        "seconds": round(time.monotonic() - began, 1),
        "law": counts.captured == counts.passed + counts.reject + counts.no_verdict,
        "private_mib": [round(value / 1024, 1) for value in (table[0, 1], half[0, 1], half[-1, 1])],
        "slope_kib_per_100000_frames": [round(value, 1) for value in (per, low, high)],
        "whole_mib": round(whole, 1),
        "handles": [int(half[:, 2].min()), int(half[:, 2].max())],
        "threads": [int(half[:, 3].min()), int(half[:, 3].max())],
    }
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
