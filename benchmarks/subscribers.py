"""Cost of additional subscribers: one line, 1 to 50 subscribers on loopback.

The subscribers are sockets of one other process, which discards what it receives. Measured are the
time inside the publisher's send, per verdict, and the overhead of the line beyond its engines.

    python benchmarks/subscribers.py [--frames 300] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from typing import Any

import numpy as np
import structlog
import zmq

from edgeinspect.tools.bench import Benchmark, BenchmarkConfig, FullLineRun, describe_host
from edgeinspect.tools.memory_folder import temporary_memory_folder

COUNTS = (1, 10, 25, 50)


def listen(address: str, count: int, ready: Any) -> None:
    """Run subscribers of all topics in one process."""
    context = zmq.Context()
    poller = zmq.Poller()
    for _ in range(count):
        socket = context.socket(zmq.SUB)
        socket.subscribe(b"")
        socket.connect(address)
        poller.register(socket, zmq.POLLIN)
    ready.set()
    while True:
        for socket, _events in poller.poll(1000):
            while True:
                try:
                    socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=40.0)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    bench = Benchmark(BenchmarkConfig(frames=args.frames, rounds=1))
    bench.prepare()
    context = multiprocessing.get_context("spawn")
    sends: dict[int, list[int]] = {count: [] for count in COUNTS}
    overhead: dict[int, list[np.ndarray]] = {count: [] for count in COUNTS}
    with temporary_memory_folder("bench") as folder:
        line = FullLineRun(bench.load_config(folder), bench.images)
        publisher = line.line.publisher
        say, times = publisher._send_multipart, []

        def timed(parts: list[bytes]) -> None:
            before_ns = time.perf_counter_ns()
            say(parts)
            if parts[0].startswith(b"verdict"):
                times.append(time.perf_counter_ns() - before_ns)

        publisher._send_multipart = timed  # type: ignore[method-assign]
        try:
            for turn in range(args.rounds):
                for count in COUNTS:
                    print(f"round {turn + 1}: {count} subscribers", file=sys.stderr)
                    ready = context.Event()
                    work = (publisher.address, count, ready)
                    other = context.Process(target=listen, args=work, daemon=True)
                    other.start()
                    ready.wait(30)
                    time.sleep(1)
                    times.clear()
                    samples, _use = line.run(0, args.frames, args.rate)
                    sends[count] += times
                    overhead[count].append(samples.overhead_us[samples.is_inspected])
                    other.kill()
                    other.join()
                    time.sleep(0.5)
        finally:
            line.close()
    out: dict[str, Any] = {"machine": describe_host(), "rate_hz": args.rate, "subscribers": []}
    for count in COUNTS:
        beside = np.concatenate(overhead[count])
        p50, p99 = np.quantile(sends[count], (0.5, 0.99)) / 1000
        out["subscribers"].append(
            {
                "subscribers": count,
                "send_us": [round(float(p50), 1), round(float(p99), 1)],
                "overhead_us": [int(value) for value in np.quantile(beside, (0.5, 0.99))],
            }
        )
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
