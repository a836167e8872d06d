"""Overhead of the line beyond its engines, with and without SCHED_FIFO, on an idle and a busy PC.

Four lines, interleaved: default scheduler and FIFO, each on an idle PC and on one whose other
processor is busy. Each round is a process of its own, because the scheduler is set once per
process. Clean and rejected frames are reported separately.

    python benchmarks/overhead.py [--rounds 5] [--frames 400] [--setting 2x1]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from typing import Any

import numpy as np
import structlog

from edgeinspect.tools.bench import (
    Benchmark,
    BenchmarkConfig,
    FrameSamples,
    WorkerSetting,
    concatenate,
    describe_host,
)
from edgeinspect.tools.bench.measurement import REJECT
from edgeinspect.tools.bench.results import quantiles

CASES = {
    "default": ([], False),
    "FIFO": (["real_time.fifo_priority=50"], False),
    "default, PC busy": ([], True),
    "FIFO, PC busy": (["real_time.fifo_priority=50"], True),
}


def run_line(
    overrides: list[str], setting: WorkerSetting, frames: int, rate_hz: float, first: int
) -> FrameSamples:
    """Run one line for `frames` frames, in its own process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    bench = Benchmark(BenchmarkConfig(frames=frames, rounds=1, overrides=overrides))
    (samples,) = bench.measure_latency([rate_hz], setting)
    return samples


def keep_processor_busy() -> None:
    """Keep one processor busy."""
    value = 1
    while True:
        value = value * 3 % 1_000_003


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--setting", default="2x1", help="WORKERSxTHREADS; 0 threads: all")
    parser.add_argument("--json")
    args = parser.parse_args()
    workers, threads = map(int, args.setting.split("x"))
    setting = WorkerSetting(workers, threads)
    context = multiprocessing.get_context("spawn")
    results: dict[str, list[FrameSamples]] = {name: [] for name in CASES}
    for number in range(args.rounds):
        for name, (overrides, busy) in CASES.items():
            print(f"round {number + 1}: {name}", file=sys.stderr)
            other = context.Process(target=keep_processor_busy, daemon=True) if busy else None
            if other is not None:
                other.start()
            try:
                with context.Pool(1) as pool:
                    work = (overrides, setting, args.frames, args.rate, number * args.frames)
                    results[name].append(pool.apply(run_line, work))
            finally:
                if other is not None:
                    other.kill()
                    other.join()
    document: dict[str, Any] = {
        "machine": describe_host(),
        "setting": str(setting),
        "rate_hz": args.rate,
    }
    for name, parts in results.items():
        samples = concatenate(parts)
        overhead = samples.overhead_us
        clean = samples.is_inspected & ~samples.is_segmented
        reject = samples.is_inspected & (samples.kind == REJECT)
        document[name] = {
            "clean": _plain(overhead[clean]),
            "reject": _plain(overhead[reject]),
            "misses": samples.miss_count,
        }
    print(json.dumps(document, indent=2))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)


def _plain(values: np.ndarray) -> dict[str, int]:
    results = quantiles(values)
    return {name: getattr(results, name) for name in ("frames", "p50", "p90", "p99", "p999", "max")}


if __name__ == "__main__":
    main()
