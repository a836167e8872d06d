"""Time from the start of the process to READY=1, as systemd measures it.

`edgeinspect run` with the shipped models and a notification socket of this script. Cold is the
first start with an empty folder for compiled models, warm the following ones; without such a
folder each start compiles.

    python benchmarks/startup.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgeinspect.tools.bench import describe_host

EXAMPLE = Path(__file__).parents[1] / "examples" / "strip.yaml"


def start(folder: Path, cache: Path | None) -> float:
    """Return the seconds to READY=1 of one start."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(address))
    listener.settimeout(60)
    command = [sys.executable, "-m", "edgeinspect", "run", str(EXAMPLE)]
    overrides = [
        f"spool.folder={folder}",
        f"ledger.folder={folder}",
        "publish.verdicts=tcp://127.0.0.1:*",
        "publish.replay=tcp://127.0.0.1:*",
    ]
    if cache is not None:
        overrides += [f"engines.{name}.cache_dir={cache}" for name in ("gate", "segmenter")]
    for each in overrides:
        command += ["--set", each]
    began = time.monotonic()
    child = subprocess.Popen(
        command,
        env={**os.environ, "NOTIFY_SOCKET": str(address)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while b"READY=1" not in listener.recv(4096):
            pass
        return time.monotonic() - began
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    warm, plain = [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder, cache = Path(name), Path(name) / "cache"
        cache.mkdir()
        cold = start(folder, cache)
        for _ in range(args.rounds):
            warm.append(start(folder, cache))
            plain.append(start(folder, None))
    figures = {
        "machine": describe_host(),
        "cold_s": round(cold, 2),
        "warm_s": [round(value, 2) for value in sorted(warm)],
        "warm_median_s": round(statistics.median(warm), 2),
        "without_cache_median_s": round(statistics.median(plain), 2),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
