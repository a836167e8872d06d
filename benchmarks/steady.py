"""A long run at a steady rate: distance of the slow frames from the usual ones, and misses.

First the highest rate of the full line, then p50 and p99 of capture to sent at a ratio of it, then
many more frames with a budget of several times that p99: how many had no decision in time? Frames
with segmentation take several times as long as the others, so both kinds are reported separately.

With `--alone` the segmenter runs on every frame: all frames need the same work, and the remaining
difference is that of the line and the PC.

    python benchmarks/steady.py [--alone] [--frames 100000] [--load 0.7] [--times 2] [--setting 2x1]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.tools.bench import (
    Benchmark,
    BenchmarkConfig,
    FrameSamples,
    FullLineRun,
    WorkerSetting,
    concatenate,
    describe_host,
)
from edgeinspect.tools.bench.measurement import NO_VERDICT
from edgeinspect.tools.bench.results import quantiles
from edgeinspect.tools.memory_folder import temporary_memory_folder

ROUND = 2_000


SEGMENTER_ONLY = """\
schema: 1
line: steady
budget_ms: 1000
cameras: {{top: {{type: synthetic}}}}
engines: {{segmenter: {{type: ov, model: strip-segmenter}}}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide: {{classes: {classes}}}
"""


def alone(folder: str) -> Path:
    """Write the configuration of a line with only the segmenter; return its path."""
    rule = {"score": 0.5, "area_px": 200, "severity": 1, "reject_code": 1}
    spec = ModelStore(default_root()).resolve("strip-segmenter")
    path = Path(folder) / "alone.yaml"
    path.write_text(SEGMENTER_ONLY.format(classes=json.dumps(dict.fromkeys(spec.classes, rule))))
    return path


def latency_statistics(samples: FrameSamples) -> dict[str, Any]:
    """Return the latency of all frames, and of both kinds."""
    judged = samples.is_inspected
    parts = {
        "all": judged,
        "gate only": judged & ~samples.is_segmented,
        "segmenter too": samples.is_segmented,
    }
    out: dict[str, Any] = {}
    for name, rows in parts.items():
        if rows.any():
            found = quantiles(samples.latency_us[rows])
            out[name] = {
                "frames": int(rows.sum()),
                "p50_us": found.p50,
                "p99_us": found.p99,
                "p999_us": found.p999,
                "max_us": found.max,
                "p99_by_p50": round(found.p99 / found.p50, 2),
            }
    return out


def run_line(
    bench: Benchmark, setting: WorkerSetting, rate: float, frames: int, *more: str
) -> FrameSamples:
    """Run one line for `frames` frames at a rate."""
    parts = []
    with temporary_memory_folder("bench") as folder:
        line = FullLineRun(
            bench.load_config(folder, *setting.overrides(bench.threaded_engines), *more),
            bench.images,
        )
        try:
            line.run(0, 50, rate)
            for first in range(0, frames, ROUND):
                parts.append(line.run(first, min(ROUND, frames - first), rate)[0])
                print(f"\r{first + ROUND:,} of {frames:,}", end="", file=sys.stderr, flush=True)
        finally:
            print(file=sys.stderr)
            line.close()
    return concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--times", type=float, default=2.0, help="budget, in p99s")
    parser.add_argument("--alone", action="store_true", help="the segmenter on every frame")
    parser.add_argument("--setting", default="2x1", help="WORKERSxTHREADS; 0 threads: all")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    workers, threads = map(int, args.setting.split("x"))
    setting = WorkerSetting(workers, threads)
    with temporary_memory_folder("bench") as folder:
        config = alone(folder) if args.alone else None
        out = measure(args, setting, config)
    text = json.dumps(out, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


def measure(
    args: argparse.Namespace, setting: WorkerSetting, config: Path | None
) -> dict[str, Any]:
    """Measure everything on one line's configuration."""
    bench = Benchmark(BenchmarkConfig(config=config, frames=ROUND, rounds=1, overrides=args.set))
    fast = Benchmark(BenchmarkConfig(config=config, frames=300, rounds=3, overrides=args.set))
    highest_hz = statistics.median(fast.measure_throughput(setting).line_hz)
    rate = args.load * highest_hz
    bench.prepare()
    learnt = run_line(bench, setting, rate, 2 * ROUND)
    p99_us = float(np.percentile(learnt.latency_us[learnt.is_inspected], 99))
    budget_ms = round(args.times * p99_us / 1000, 1)
    long = run_line(bench, setting, rate, args.frames, f"budget_ms={budget_ms}")
    return {
        "machine": describe_host(),
        "setting": str(setting),
        "alone": args.alone,
        "set": args.set,
        "highest_hz": round(highest_hz, 1),
        "rate_hz": round(rate, 1),
        "learnt": latency_statistics(learnt),
        "budget_ms": budget_ms,
        "shift": latency_statistics(long),
        "misses": long.miss_count,
        "no_verdict": int(np.count_nonzero(long.kind == NO_VERDICT)),
        "sent_late": int(np.count_nonzero(long.past_deadline_us > 0)),
        "latest_ms": round(float(long.past_deadline_us.max()) / 1000, 2),
    }


if __name__ == "__main__":
    main()
