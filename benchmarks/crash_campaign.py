"""kill -9 of daemon, subscriber and both, at random moments: is every frame accounted for?

A whole line (noise camera, scripted gate, spool, ledger, wire) in one process, and in
another a subscriber whose log of applied verdicts is its cursor. Both are killed and
started again while frames come; the subscriber also stalls, on a small queue. At the end
the log must be 1, 2, 3, ... without a gap or a repeat, and the ledger must verify.

    python benchmarks/crash_campaign.py --kills 200 --rate 200
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

RECORD = struct.Struct("<QQ")  # seq, epoch


def daemon(folder: Path, ports: tuple[int, int], rate_hz: float) -> None:
    """The line, until killed or told to stop."""
    from edgeinspect.cameras._pace import Pace
    from edgeinspect.config.load import parse
    from edgeinspect.domain.clock import SystemClock
    from edgeinspect.domain.frame import FrameShape, Grab, Part
    from edgeinspect.log import configure
    from edgeinspect.pipeline.line import Engines, Line
    from edgeinspect.testing import brightness_gate

    configure("console", "error")
    shape = FrameShape(16, 32, 1)
    clock = SystemClock()

    class Noise:
        def __init__(self) -> None:
            self.pace = Pace("rate", rate_hz, clock)
            self.rng = np.random.default_rng()
            self.sent = 0

        @property
        def period_ns(self) -> int | None:
            return self.pace.period_ns

        def open(self) -> None:
            self.pace.start()

        def grab(self, timeout_ns: int) -> Grab | None:
            due = self.pace.wait(timeout_ns)
            if due is None:
                return None
            self.sent += 1
            pixels = self.rng.integers(20, 60, shape.dims, np.uint8)
            pixels[0, 0] = 255 if self.sent % 7 == 0 else 20
            return Grab(pixels, self.sent, due[0])

        def release(self, grab: Grab) -> None:
            pass

        def trigger(self, part: Part) -> None:
            pass

        def close(self) -> None:
            pass

    loaded = parse(
        f"""\
schema: 1
line: campaign
budget_ms: 50
cameras: {{top: {{type: synthetic}}}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish:
  verdicts: tcp://127.0.0.1:{ports[0]}
  replay: tcp://127.0.0.1:{ports[1]}
  high_water_mark: 50
spool: {{folder: {folder}, slots: 4096}}
ledger: {{folder: {folder}}}
"""
    )
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    line = Line(
        loaded.config,
        config_hash=loaded.hash,
        cameras={"top": Noise()},
        workers=[Engines(brightness_gate(shape, lambda: time.sleep(0.002)), None)],
        clock=clock,
        on_failure=lambda error: os._exit(70),
    )
    line.start()
    while not ended.wait(0.1):
        pass
    line.stop()
    line.dispose()


def subscriber(folder: Path, ports: tuple[int, int]) -> None:
    """Applies verdicts: one record in the log each, written whole or not at all."""
    from edgeinspect.client import Delivered, Feed, Lost, Renumbered

    path = folder / "applied.bin"
    done = path.read_bytes() if path.exists() else b""
    whole = len(done) // RECORD.size * RECORD.size
    os.truncate(path, whole) if path.exists() else path.touch()
    cursor = RECORD.unpack_from(done, whole - RECORD.size)[0] if whole else 0
    log = os.open(path, os.O_WRONLY | os.O_APPEND)
    rng = random.Random()
    stall_at = time.monotonic() + rng.random()
    with Feed(
        f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}", name="applier",
        cursor=cursor, high_water_mark=50,
    ) as feed:  # fmt: skip
        while True:
            event = feed.receive(100)
            if isinstance(event, Delivered):
                os.write(log, RECORD.pack(event.verdict.seq, event.verdict.epoch))
                feed.ack(event.verdict.seq)
            elif isinstance(event, Lost | Renumbered):
                (folder / "lost.txt").open("a").write(f"{event}\n")
            if time.monotonic() > stall_at:
                time.sleep(rng.uniform(0.05, 0.4))
                stall_at = time.monotonic() + rng.uniform(0.3, 2)


def start(
    role: str, folder: Path, ports: tuple[int, int], rate_hz: float
) -> subprocess.Popen[bytes]:
    words = [sys.executable, __file__, "--role", role, "--folder", str(folder),
             "--ports", *map(str, ports), "--rate", str(rate_hz)]  # fmt: skip
    return subprocess.Popen(words)


def applied(folder: Path) -> list[int]:
    data = (folder / "applied.bin").read_bytes() if (folder / "applied.bin").exists() else b""
    return [RECORD.unpack_from(data, at)[0] for at in range(0, len(data) - 15, RECORD.size)]


def campaign(
    folder: Path, kills: int, rate_hz: float, seed: int, note: Callable[[str], None] = print
) -> dict[str, object]:
    """Run it; returns what was found."""
    import socket

    from edgeinspect.ledger_read import verify

    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = (one.getsockname()[1], two.getsockname()[1])
    rng = random.Random(seed)
    running = {role: start(role, folder, ports, rate_hz) for role in ("daemon", "subscriber")}
    killed = {"daemon": 0, "subscriber": 0, "both": 0}
    for number in range(kills):
        time.sleep(rng.uniform(0.3, 1.3))
        victim = rng.choice(list(killed))
        killed[victim] += 1
        roles = ("daemon", "subscriber") if victim == "both" else (victim,)
        for role in roles:
            running[role].kill()
        for role in roles:
            running[role].wait()
            running[role] = start(role, folder, ports, rate_hz)
        if (number + 1) % 20 == 0:
            note(f"{number + 1} kills, {len(applied(folder))} applied")
    time.sleep(2.5)
    running["daemon"].send_signal(signal.SIGTERM)
    last_applied = -1
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # what was published last is still on its way
        time.sleep(0.5)
        now = len(applied(folder))
        if now == last_applied and running["daemon"].poll() is not None:
            break
        last_applied = now
    if running["daemon"].poll() is None:
        running["daemon"].kill()
    # The tail that went out while the subscriber stalled is asked for from a new daemon.
    running["daemon"] = start("daemon", folder, ports, 1.0)
    time.sleep(3)
    running["daemon"].send_signal(signal.SIGTERM)
    running["daemon"].wait(20)
    time.sleep(0.5)
    running["subscriber"].kill()
    running["subscriber"].wait()
    seqs = applied(folder)
    account = verify(folder / "campaign.ledger.sqlite", folder / "campaign.spool")
    captured = sum(epoch.captured for epoch in account.epochs)
    return {
        "kills": killed,
        "captured": captured,
        "epochs": len(account.epochs),
        "applied": len(seqs),
        "applied_twice": len(seqs) - len(set(seqs)),
        "out_of_order": sum(b <= a for a, b in pairwise(seqs)),
        "gaps": sum(b - a - 1 for a, b in pairwise([0, *seqs]) if b > a),
        "lost_events": (folder / "lost.txt").exists(),
        "unaccounted": captured - (seqs[-1] if seqs else 0),
        "no_verdict": sum(epoch.no_verdict for epoch in account.epochs),
        "ledger_holds": account.holds,
        "problems": account.problems[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["daemon", "subscriber"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "daemon":
        daemon(options.folder, tuple(options.ports), options.rate)
    elif options.role == "subscriber":
        subscriber(options.folder, tuple(options.ports))
    else:
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            print(json.dumps(campaign(Path(folder), options.kills, options.rate, options.seed),
                             indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
