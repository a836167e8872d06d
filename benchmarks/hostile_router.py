"""Effect of 100,000 random and mutated messages to the ROUTER on the latency of verdicts.

A complete line (noise camera, scripted gate) in this process; a subscriber that measures capture
to receipt, and an attacker, each in its own process. Blocks of three kinds alternate in one run:
quiet; the attacker at another ROUTER, which costs the machine the same but not the line; and the
attacker at the line. Between blocks there are pauses in which queues drain and nothing is counted.

    python benchmarks/hostile_router.py --messages 100000 --rate 200
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import zmq

from edgeinspect.client import Subscriber
from edgeinspect.config import parse_config
from edgeinspect.domain import FrameShape, SystemClock, Verdict
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.system import configure, realtime
from edgeinspect.testing import NoiseCamera, brightness_gate, fuzz_message

SHAPE = FrameShape(64, 256, 1)
KINDS = ("quiet", "elsewhere", "attack")
PAUSE_S = 2.0
CONFIG = """\
schema: 1
line: hostile
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
capture: {{ring_slots: 16}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}}}
real_time: {{{real_time}}}
"""


def receive_verdicts(address: str, done: Event, answer: Connection) -> None:
    """Run the subscriber: (seq, µs from capture to receipt) of every verdict."""
    heard = []
    with Subscriber(address, topics=("verdict",)) as listener:
        answer.send("ready")
        while not done.is_set():
            got = listener.receive(100)
            if got is not None and isinstance(got.message, Verdict):
                late_ns = time.time_ns() - got.message.captured_at_utc_ns
                heard.append((got.message.seq, late_ns // 1000))
    answer.send(heard)


def attack(seed: int, commands: Connection) -> None:
    """Run the attacker: receives (address, seconds, messages), replies with the number sent."""
    rng = random.Random(seed)
    crowd = [fuzz_message(rng) for _ in range(10_000)]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    doors: dict[str, zmq.Socket[bytes]] = {}
    while (order := commands.recv()) is not None:
        address, seconds, limit = order
        sent, until = 0, time.monotonic() + seconds
        while sent < limit and time.monotonic() < until:
            if address not in doors:
                doors[address] = connect_dealer(context, address)
            try:
                doors[address].send_multipart(crowd[rng.randrange(len(crowd))])
            except zmq.Again:  # disconnected because it reads nothing: reconnect
                doors.pop(address).close(0)
                continue
            sent += 1
        commands.send(sent)
    context.destroy(0)


def connect_dealer(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """A connection with short queues: what is sent in a block is also taken in it.

    Answers are never read.
    """
    socket = context.socket(zmq.DEALER)
    socket.sndhwm = 100
    socket.sndbuf = 1 << 14
    socket.sndtimeo = 500
    socket.connect(address)
    return socket


def sink(answer: Connection, done: Event) -> None:
    """Run another ROUTER, which receives messages as fast as the line's."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.rcvhwm = 256
    answer.send(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
    while not done.is_set():
        if socket.poll(100):
            for _ in range(16):
                try:
                    socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
            time.sleep(0.004)
    context.destroy(0)


def run(
    folder: Path, messages: int, rate_hz: float, block_s: float, fifo: bool
) -> dict[str, object]:
    """Run all blocks and return the results."""
    configure("console", "error")
    real_time = "fifo_priority: 20" if fifo else ""
    loaded = parse_config(CONFIG.format(folder=folder, real_time=real_time))
    realtime.apply(loaded.config.real_time)
    failures: list[str] = []
    line = Line(
        loaded.config,
        config_hash=loaded.hash,
        cameras={"top": NoiseCamera(SHAPE, rate_hz)},
        worker_engines=[WorkerEngines(brightness_gate(SHAPE, lambda: time.sleep(0.001)), None)],
        clock=SystemClock(),
        on_failure=lambda error: failures.append(repr(error)),
    )
    spawn = multiprocessing.get_context("spawn")
    done = spawn.Event()
    ours, theirs = zip(*(spawn.Pipe() for _ in range(3)), strict=True)
    peers = [
        spawn.Process(target=receive_verdicts, args=(line.publisher.address, done, theirs[0])),
        spawn.Process(target=attack, args=(7, theirs[1])),
        spawn.Process(target=sink, args=(theirs[2], done)),
    ]
    for peer in peers:
        peer.start()
    ours[0].recv()
    targets = {"elsewhere": ours[2].recv(), "attack": line.replay_server.address}
    line.start()
    time.sleep(PAUSE_S)
    sent = dict.fromkeys(KINDS, 0)
    spans: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    while sent["attack"] < messages and not failures:
        for kind in KINDS:
            first = line.spool.last_seq + 1
            if kind == "quiet":
                time.sleep(block_s)
            else:
                ours[1].send((targets[kind], block_s, messages - sent["attack"]))
                sent[kind] += ours[1].recv()
            spans[kind].append((first, line.spool.last_seq))
            print(f"{kind}: {sent[kind]} sent", file=sys.stderr)
            time.sleep(PAUSE_S)
    while (before := line.replay_server.dropped_count) >= 0:
        time.sleep(1.0)
        if line.replay_server.dropped_count == before:
            break
    threads = {thread.name for thread in threading.enumerate()}
    counts = line.stop()
    done.set()
    heard = dict(ours[0].recv())
    ours[1].send(None)
    for peer in peers:
        peer.join(10)
    last, dropped, replayed = (
        line.spool.last_seq,
        line.replay_server.dropped_count,
        line.replay_server.replayed_count,
    )
    line.close()
    latency = {}
    for kind in KINDS:
        values = [heard[seq] for a, b in spans[kind] for seq in range(a, b + 1) if seq in heard]
        latency[kind] = summary(values)
    return {
        "messages_at_the_line": sent["attack"],
        "messages_elsewhere": sent["elsewhere"],
        "dropped": dropped,
        "replayed_by_valid_mutants": replayed,
        "blocks_of_each_kind": len(spans["attack"]),
        "captured_to_received_us": latency,
        "crashed": failures,
        "replay_lives": "replay" in threads,
        "captured": counts.captured,
        "law": counts.captured == counts.passed + counts.reject + counts.no_verdict,
        "no_verdict": counts.no_verdict,
        "not_received": last - len(heard),
    }


def summary(values: list[int]) -> dict[str, float]:
    """Return quantiles of values in µs."""
    quantiles = np.quantile(values, [0.5, 0.99, 0.999])
    names = ("p50", "p99", "p99.9")
    found = {name: round(float(value)) for name, value in zip(names, quantiles, strict=True)}
    return {"verdicts": len(values), **found, "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--block", type=float, default=4.0, help="seconds per block")
    parser.add_argument(
        "--fifo", action="store_true", help="SCHED_FIFO 20 for the time-critical threads"
    )
    options = parser.parse_args()
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        found = run(Path(folder), options.messages, options.rate, options.block, options.fifo)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
