"""Effect of many HMI clients on the line.

    python benchmarks/hmi_load.py [--seconds 30] [--clients 50] [--rounds 3]

One line on the synthetic camera, with its HMI. Alternating in the same run: the HMI idle, then
under load by many clients, half of them on the stream with the live image like browsers, half
sending requests as fast as they get responses. The line's latency, capture to decision, is taken
from every verdict on the wire. The clients run in their own processes at idle priority, as if on
other machines.

Prints for each phase: frames, median, p99, p99.9 and maximum; number of responses. Relevant is the
difference between both, compared with that between rounds of the same kind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.client import Subscriber
from edgeinspect.domain import Decision, Verdict

ROOT = Path(__file__).resolve().parent.parent
PORT, VERDICTS, REPLAY = 18_480, 18_481, 18_482
PATHS = ("/", "/api/state", "/api/trend", "/api/search?limit=50", "/metrics", "/api/engines")


async def _request(path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read(-1)
    finally:
        writer.close()


async def _ask_all_the_time(done: list[int]) -> None:
    turn = 0
    while True:
        try:
            await _request(PATHS[turn % len(PATHS)])
            done[0] += 1
        except OSError:
            await asyncio.sleep(0.05)
        turn += 1


async def _watch(done: list[int]) -> None:
    """Act as a browser: read the stream, and each image that it names."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        live = False
        while line := await reader.readline():
            if line.startswith(b"event: "):
                live = line.strip() == b"event: live"
            elif live and line.startswith(b"data: "):
                for told in json.loads(line[6:]).values():
                    await _request(f"/picture/{told['seq']}.jpg")
                    done[0] += 1
        writer.close()


def run_clients(clients: int, seconds: float, answered: Any) -> None:
    """Run one process of clients."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    done = [0]

    async def run() -> None:
        tasks = [
            asyncio.create_task(_watch(done) if index % 2 else _ask_all_the_time(done))
            for index in range(clients)
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    with answered.get_lock():
        answered.value += done[0]


def measure_phase(name: str, listener: Subscriber, seconds: float, clients: int) -> dict[str, Any]:
    """Return the line's latency during one phase with this many HMI clients."""
    answered = multiprocessing.Value("q", 0)
    children = [
        multiprocessing.Process(target=run_clients, args=(clients // 2, seconds, answered))
        for _ in range(2 if clients else 0)
    ]
    for child in children:
        child.start()
    if clients:
        time.sleep(1)
    while listener.receive(0) is not None:
        pass
    times, without = [], 0
    until = time.monotonic() + seconds - (1 if clients else 0)
    while time.monotonic() < until:
        got = listener.receive(100)
        if got is None or not isinstance(got.message, Verdict):
            continue
        if got.message.decision is Decision.NO_VERDICT:
            without += 1
        else:
            times.append(got.message.stages.total_us)
    for child in children:
        child.join()
    times.sort()

    def at(share: float) -> float:
        return times[min(len(times) - 1, int(share * len(times)))] / 1000

    told = {
        "phase": name,
        "frames": len(times),
        "no_verdict": without,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "p999_ms": at(0.999),
        "max_ms": at(1.0),
        "answered_per_s": round(answered.value / seconds),
    }
    print(
        f"{name:<10} {told['frames']:>6} frames, {without} without verdict   "
        f"p50 {told['p50_ms']:6.1f}  p99 {told['p99_ms']:6.1f}  p99.9 {told['p999_ms']:6.1f}  "
        f"longest {told['max_ms']:6.1f} ms   {told['answered_per_s']} answers/s",
        flush=True,
    )
    return told


def _files(folder: Path, rate_hz: float, nice: int) -> tuple[Path, Path]:
    line = yaml.safe_load((ROOT / "examples" / "strip.yaml").read_text(encoding="utf-8"))
    line["cameras"]["top"]["rate_hz"] = rate_hz
    line["capture"].pop("challenge_folder")
    line["publish"] |= {
        "verdicts": f"tcp://127.0.0.1:{VERDICTS}",
        "replay": f"tcp://127.0.0.1:{REPLAY}",
    }
    line["spool"] = {"folder": str(folder / "memory")}
    line["ledger"] = {"folder": str(folder / "ledger")}
    (folder / "strip.yaml").write_text(yaml.safe_dump(line), encoding="utf-8")
    page = {
        "schema": 1,
        "nice": nice,
        "line": str(folder / "strip.yaml"),
        "bind": f"127.0.0.1:{PORT}",
    }
    (folder / "hmi.yaml").write_text(yaml.safe_dump(page), encoding="utf-8")
    return folder / "strip.yaml", folder / "hmi.yaml"


def wait_for_hmi() -> None:
    """Wait until the HMI reports that the line is inspected; 30 s at most."""
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/state", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--nice", type=int, default=19)
    parser.add_argument("--report", type=Path)
    wanted = parser.parse_args()
    told = []
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="edgeinspect-hmi-load-", dir=memory) as name:
        files = _files(Path(name), wanted.rate, wanted.nice)
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "edgeinspect", command, str(file), "--log-level", "error"],
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
            )
            for command, file in zip(("run", "hmi"), files, strict=True)
        ]
        try:
            with Subscriber(f"tcp://127.0.0.1:{VERDICTS}", topics=("verdict",)) as listener:
                assert listener.receive(60_000) is not None, "the line does not start"
                time.sleep(3)
                wait_for_hmi()
                for _ in range(wanted.rounds):
                    told.append(measure_phase("idle", listener, wanted.seconds, 0))
                    told.append(measure_phase("hammered", listener, wanted.seconds, wanted.clients))
        finally:
            for child in children[::-1]:
                child.terminate()
                child.wait(20)
    if wanted.report is not None:
        wanted.report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
