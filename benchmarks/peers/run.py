"""Every peer on the same model and the same frames, in turns, in one run.

    python benchmarks/peers/run.py --venvs /tmp/peers      sets up what is missing, then measures

Each turn runs every peer once, paced and as fast as it goes; the figures are medians over
the turns. The overhead is a frame's time from capture to its message sent, less the time
inside the engine's own call. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.tools.bench import describe_host
from edgeinspect.tools.bench.memory_camera import synthetic_images

HERE = Path(__file__).parent
FAST = ["--workers", "2", "--threads", "1"]


@dataclass(frozen=True)
class Peer:
    """One compared library."""

    name: str
    script: str
    packages: tuple[str, ...] = ()
    """Packages of its own environment; empty: this environment."""
    paced: tuple[str, ...] = ()
    flat_out: tuple[str, ...] = ()
    version: int | None = None
    """Version of the model; the live one by default."""


PEERS = (
    Peer("bare engine, no peer", "bare.py", paced=("--threads", "1"), flat_out=tuple(FAST)),
    Peer("edgeinspect", "edgeinspect_line.py", paced=("--threads", "1"), flat_out=tuple(FAST)),
    Peer("plain script, FP32", "plain.py", version=1),
    Peer(
        "Model API AsyncPipeline",
        "intel_model_api.py",
        ("openvino-model-api==0.3.0.4", "onnx", "pyzmq"),
        paced=("--threads", "1"),
        flat_out=tuple(FAST),
    ),
    Peer("GStreamer appsrc/appsink", "gstreamer.py", paced=("--threads", "1")),
    Peer(
        "Roboflow InferencePipeline",
        "roboflow.py",
        ("inference-core==0.51.0", "onnxruntime", "openvino==2026.4.1", "pyzmq"),
        paced=("--threads", "1"),
    ),
)


def python_of(peer: Peer, venvs: Path) -> str:
    """Return the interpreter of a peer's environment, which is created if missing."""
    if not peer.packages:
        return sys.executable
    venv = venvs / peer.script.removesuffix(".py")
    python = venv / "bin" / "python"
    if not (venv / ".ready").exists():
        print(f"setting up {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *peer.packages], check=True)
        (venv / ".ready").touch()
    return str(python)


def run(peer: Peer, python: str, model: Path, frames: Path, count: int, rate: float) -> Any:
    """Run one round of one peer; None, with a message, if it fails."""
    out = frames.with_suffix(".json")
    out.unlink(missing_ok=True)
    command = [
        python,
        str(HERE / peer.script),
        "--frames",
        str(frames),
        "--model",
        str(model),
        "--count",
        str(count),
        "--rate",
        str(rate),
        "--out",
        str(out),
        *(peer.paced if rate else peer.flat_out),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    if done.returncode or not out.exists():
        print(f"{peer.name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(out.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--venvs", type=Path, default=HERE.parents[1] / ".venvs" / "peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rate", type=float, default=12.0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.venvs.mkdir(parents=True, exist_ok=True)
    store = ModelStore(default_root())
    live = store.resolve("strip-segmenter")
    peers = [peer for peer in PEERS if not args.only or any(w in peer.name for w in args.only)]
    pythons = {peer.name: python_of(peer, args.venvs) for peer in peers}
    turns: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
    about: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        frames = Path(folder) / "frames.npy"
        np.save(frames, np.stack(synthetic_images(64, live.shape)))
        for turn in range(args.rounds):
            for peer in peers:
                print(f"round {turn + 1}: {peer.name}", file=sys.stderr)
                python = pythons[peer.name]
                spec = live
                if peer.version is not None:
                    spec = store.resolve(f"strip-segmenter/{peer.version}")
                paced = run(peer, python, spec.path, frames, args.count, args.rate)
                flat = run(peer, python, spec.path, frames, args.count, 0.0)
                if paced and flat:
                    about[peer.name] = ", ".join(f"{k} {v}" for k, v in paced["about"].items())
                    turns[peer.name].append({"paced": paced, "flat": flat})
    document = {
        "machine": describe_host(),
        "rate_hz": args.rate,
        "count": args.count,
        "rounds": args.rounds,
        "peers": figures(turns, about),
    }
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def figures(turns: dict[str, list[dict[str, Any]]], about: dict[str, str]) -> list[dict[str, Any]]:
    """Return medians over the rounds and quantiles over the frames of all rounds."""
    out = []
    for name, runs in turns.items():
        if not runs:
            continue
        latency = np.concatenate([each["paced"]["latency_ns"] for each in runs])
        engine = np.concatenate([each["paced"]["engine_ns"] for each in runs])
        overhead = (latency - engine) / 1e6
        flat = [each["flat"]["answered"] * 1e9 / each["flat"]["wall_ns"] for each in runs]
        lost = sum(
            each[kind]["count"] - each[kind]["answered"]
            for each in runs
            for kind in ("paced", "flat")
        )
        out.append(
            {
                "peer": name,
                "about": about[name],
                "overhead_ms": [round(float(v), 3) for v in np.quantile(overhead, (0.5, 0.99))],
                "latency_ms": [round(float(v) / 1e6, 2) for v in np.quantile(latency, (0.5, 0.99))],
                "frames_per_s": round(statistics.median(flat), 1),
                "lost": lost,
            }
        )
    return out


def table(document: dict[str, Any]) -> str:
    """Return the table for RESULTS.md."""
    lines = [
        "| | overhead, ms p50 / p99 | latency, ms p50 / p99 | frames/s flat out | lost | version |",
        "|---|---|---|---|---|---|",
    ]
    for each in document["peers"]:
        overhead, latency = each["overhead_ms"], each["latency_ms"]
        lines.append(
            f"| {each['peer']} | {overhead[0]:.2f} / {overhead[1]:.2f} | "
            f"{latency[0]:.1f} / {latency[1]:.1f} | {each['frames_per_s']:.1f} | {each['lost']} | "
            f"{each['about']} |"
        )
    return "\n".join(lines)


main()
