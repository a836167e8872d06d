"""Effect of hostile clients on a running line: floods of subscriptions, clients and replays.

Run a line with its own addresses first, for instance examples/strip.yaml, then

    python benchmarks/client_bounds.py VERDICTS REPLAY PID

A monitor in its own process measures the longest gap between two heartbeats during each attack,
and the verdicts that it received; the daemon's memory is read from /proc. The attackers are
processes of this script. Use it on loopback only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import zmq

from edgeinspect.testing import zmtp_client

Socket = zmq.Socket[bytes]
REPLAY = b'{"schema":"edgeinspect.replay/1","from_seq":1,"limit":4096}'
TRIGGER_REQUEST = b'{"schema":"edgeinspect.trigger/1","camera":"no-such-camera"}'


def monitor(address: str, seconds: float, told: Connection) -> None:
    """Measure the longest time without a heartbeat in ms, verdicts received, and gaps."""
    peer = zmq.Context().socket(zmq.SUB)
    peer.connect(address)
    peer.subscribe(b"")
    until, last, worst_s = time.monotonic() + seconds, None, 0.0
    verdicts = gaps = last_seq = 0
    while (now := time.monotonic()) < until:
        if not peer.poll(50):
            continue
        parts = peer.recv_multipart()
        if parts[0].startswith(b"heartbeat"):
            worst_s = max(worst_s, now - last if last else 0.0)
            last = now
        elif parts[0].startswith(b"verdict"):
            seq = json.loads(parts[1])["seq"]
            verdicts, gaps = verdicts + 1, gaps + (last_seq > 0 and seq != last_seq + 1)
            last_seq = seq
    tail_s = time.monotonic() - last if last else seconds
    told.send(
        {"worst_gap_ms": round(max(worst_s, tail_s) * 1000), "verdicts": verdicts, "gaps": gaps}
    )


def subscribe(address: str, clients: int, each: int, hold_s: float) -> None:
    """Run clients that send `each` subscriptions of 100 bytes, and reconnect when cut."""
    context: zmq.Context[Socket] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    sockets = [context.socket(zmq.XSUB) for _ in range(clients)]
    for peer in sockets:
        peer.sndhwm = 0
        peer.connect(address)
    for number in range(each):
        for client, peer in enumerate(sockets):
            peer.send(b"\x01verdict.line.%d.%d." % (client, number) + b"x" * 80)
    time.sleep(hold_s)
    context.destroy(0)


def replays(address: str, clients: int, each: int, hold_s: float) -> None:
    """Run clients that request everything `each` times, and read nothing."""
    context: zmq.Context[Socket] = zmq.Context()
    sockets = [context.socket(zmq.DEALER) for _ in range(clients)]
    for peer in sockets:
        peer.connect(address)
    for _ in range(each):
        for peer in sockets:
            peer.send(REPLAY)
    time.sleep(hold_s)
    context.destroy(0)


def endless(address: str, clients: int, seconds: float) -> None:
    """Run clients that send one endless message, and reconnect when cut."""
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            pool.submit(send_endless_message, address, until)


def send_endless_message(address: str, until: float) -> None:
    """Run one client without a library: libraries send parts only once the last is known."""
    part = (b"\x01\x64" + bytes(100)) * 100
    while time.monotonic() < until:
        with contextlib.suppress(OSError), zmtp_client(address, "DEALER") as client:
            client.settimeout(3)
            while time.monotonic() < until:
                client.sendall(part)
        time.sleep(0.05)


def request_ms(address: str, count: int = 20) -> float:
    """Return the longest time that a request of another client waited for its response."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(address)
        worst_s = 0.0
        for _ in range(count):
            began = time.monotonic()
            peer.send(TRIGGER_REQUEST)
            if not peer.poll(30_000):
                return float("inf")
            peer.recv_multipart()
            worst_s = max(worst_s, time.monotonic() - began)
            time.sleep(0.05)
        return round(worst_s * 1000, 1)


def resident_mib(pid: int) -> int:
    """Return the resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 >> 20


def attack(
    address: str,
    pid: int,
    target: Callable[..., None],
    words: tuple[Any, ...],
    seconds: float,
    meanwhile: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Run one attack while the monitor measures."""
    before = resident_mib(pid)
    here, there = multiprocessing.Pipe()
    ear = multiprocessing.Process(target=monitor, args=(address, seconds, there))
    ear.start()
    time.sleep(1)
    attacker = multiprocessing.Process(target=target, args=words)
    attacker.start()
    found = meanwhile()
    attacker.join()
    found |= here.recv()
    ear.join()
    return found | {"memory_mib": resident_mib(pid) - before}


def main() -> None:
    """Print a JSON object with a key per attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verdicts")
    parser.add_argument("replay")
    parser.add_argument("pid", type=int)
    args = parser.parse_args()
    out: dict[str, Any] = {}
    rounds: list[tuple[str, Callable[..., None], tuple[Any, ...], float]] = [
        ("nobody", time.sleep, (3,), 6),
        ("1 client, 200,000 subscriptions", subscribe, (args.verdicts, 1, 200_000, 8), 20),
        ("100 clients, 2,000 subscriptions", subscribe, (args.verdicts, 100, 2_000, 8), 20),
        ("20 clients, 50 replays of 4,096", replays, (args.replay, 20, 50, 5), 12),
        ("1 message without an end", endless, (args.replay, 1, 5.0), 10),
        ("50 messages without an end", endless, (args.replay, 50, 5.0), 10),
    ]
    for name, target, words, seconds in rounds:
        print(name, file=sys.stderr)
        out[name] = attack(
            args.verdicts,
            args.pid,
            target,
            words,
            seconds,
            lambda: {"order_ms": request_ms(args.replay)},
        )
    json.dump(out, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
