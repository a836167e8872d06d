"""Throughput of the full line and of the engines alone, both as fast as possible, interleaved.

For each setting of workers and threads: frames a second of both, their ratio round by round,
processor time beyond the engines, context switches.

    python benchmarks/throughput.py [--rounds 7] [--frames 300]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

import structlog

from edgeinspect.tools.bench import Benchmark, BenchmarkConfig, WorkerSetting, describe_host
from edgeinspect.tools.bench.measurement import available_cores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=300)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    bench = Benchmark(BenchmarkConfig(frames=args.frames, rounds=args.rounds))
    out = {"machine": describe_host(), "settings": []}
    for setting in (WorkerSetting(1, 1), WorkerSetting(1, 0), WorkerSetting(available_cores(), 1)):
        print(f"{setting}", file=sys.stderr)
        found = bench.measure_throughput(setting)
        out["settings"].append(
            {
                "setting": str(setting),
                "bare_hz": round(statistics.median(found.bare_hz), 1),
                "line_hz": round(statistics.median(found.line_hz), 1),
                "ratio": [round(each, 4) for each in sorted(found.ratio)],
                "median_ratio": round(statistics.median(found.ratio), 4),
                "extra_cpu_us": round(found.extra_cpu_us),
                "switches": round(found.switches, 1),
            }
        )
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
