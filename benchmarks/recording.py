"""Recording of a faulty line, `kill -9` of the recorder, replay: verdicts must be reproduced.

A complete line with the shipped models in one process: wrong sizes, black and frozen images, lost
and unreadable frames, engines that fail or take too long, and a `kill -9` of the daemon.
`edgeinspect record` in another process is paused once and killed with -9 before the end. Then the
recording is compared with the ledger (each verdict byte for byte) and the camera (each pixel), and
replayed.

    python benchmarks/recording.py [--frames 2000] [--rate 50]
    python benchmarks/recording.py --cost 4      4 times 10 s without and 10 s with the recorder
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.cameras import FramePacer
from edgeinspect.config import load_config
from edgeinspect.domain import Grab, ModelSpec, Part, Pixels, SystemClock
from edgeinspect.errors import EdgeInspectError, EngineFault
from edgeinspect.imaging import render_strip
from edgeinspect.pipeline.factory import load_engines
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.ports import CameraFinished, Engine
from edgeinspect.storage.ledger import open_ledger, read_body
from edgeinspect.storage.recording import RecordedFrame, open_recording
from edgeinspect.storage.spool import SpoolReader
from edgeinspect.system import configure
from edgeinspect.tools.replay import ReplayOverrides, replay_recording

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH, PICTURES = 256, 1600, 12
LINE = """\
schema: 1
line: recorded
budget_ms: {budget_ms}
cameras: {{top: {{type: synthetic}}}}
engines:
  gate: {{type: ov, model: strip-gate}}
  segmenter: {{type: ov, model: strip-segmenter}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide:
  gate: {{suspect_at: 0.04, reject_at: 0.9999, degraded_reject_at: 0.99, reject_code: 99}}
  classes:
    pit: {{score: 0.5, area_px: 48, severity: 3, reject_code: 11}}
    inclusion: {{score: 0.5, area_px: 48, severity: 5, reject_code: 12}}
    scratch: {{score: 0.85, area_px: 48, severity: 4, reject_code: 13}}
    patch: {{score: 0.8, area_px: 48, severity: 2, reject_code: 14}}
act_by: {{travel_ms: 800, gate_distance_counts: 4000}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}/run}}
ledger: {{folder: {folder}/ledger}}
"""


def picture(number: int, pictures: list[Pixels]) -> Pixels | None:
    """Return the image of frame `number`, with its faults; None for an unreadable one."""
    if number % 47 == 0:
        return np.full((HEIGHT - 16, WIDTH, 1), 90, np.uint8)
    if number % 53 == 0:
        return np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    if number % 59 == 0:
        return None
    if number % 200 >= 190:  # frozen: from the sixth of ten equal images on
        number -= number % 10
    return np.roll(pictures[number % len(pictures)], number // len(pictures) % WIDTH, axis=1)


class FaultyCamera:
    """Delivers the frames from `first` on; see `ports.Camera`."""

    def __init__(self, rate_hz: float, first: int, last: int) -> None:
        self._pictures = strips()
        self._pace = FramePacer("rate", rate_hz, SystemClock())
        self._number, self._last = first - 1, last

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        if self._number >= self._last:
            raise CameraFinished
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        self._number += 1
        number = self._number
        # Skip a number now and then: a frame lost in the network.
        return Grab(
            picture(number, self._pictures),
            number + number // 61,
            due[0],
            part=Part(f"part-{number}", encoder_count=100 * number),
            problem="half of it is missing",
        )

    def release(self, grab: Grab) -> None:
        """Nothing to release: each image has its own memory."""

    def trigger(self, part: Part) -> None:
        """Ignored: free-running."""

    def close(self) -> None:
        """Nothing to close."""


class FaultyEngine:
    """Fails now and then, and now and then exceeds the budget."""

    def __init__(self, engine: Engine, slow_s: float) -> None:
        self._engine = engine
        self._calls = 0
        self._slow_s = slow_s

    @property
    def spec(self) -> ModelSpec:
        return self._engine.spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        self._calls += 1
        if self._calls % 71 == 0:
            raise EngineFault("injected", where="gate")
        if self._calls % 97 == 0:
            time.sleep(self._slow_s)
        return self._engine.infer(image)

    def close(self) -> None:
        self._engine.close()


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, including its threads and start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def strips() -> list[Pixels]:
    """Return the images that all frames are made of."""
    return [
        np.ascontiguousarray(render_strip(77, index, HEIGHT, WIDTH).image)[:, :, None]
        for index in range(PICTURES)
    ]


def daemon(folder: Path, rate_hz: float, first: int, last: int, budget_ms: float) -> None:
    """Run the line until its last frame, or until it is killed."""
    configure("console", "critical")
    loaded = load_config(folder / "line.yaml")
    clock = SystemClock()
    ended = threading.Event()
    workers = [
        WorkerEngines(FaultyEngine(pair.gate, 1.5 * budget_ms / 1000), pair.segmenter)
        for pair in load_engines(loaded, clock)
        if pair.gate is not None
    ]
    line = Line(
        loaded.config,
        config_hash=loaded.hash,
        cameras={"top": FaultyCamera(rate_hz, first, last)},
        worker_engines=workers,
        clock=clock,
        on_failure=lambda error: os._exit(1),
        on_end=ended.set,
    )
    line.start()
    ended.wait()
    line.stop()
    line.close()


class Campaign:
    """One run; all its files are in `folder`."""

    def __init__(self, folder: Path, frames: int, rate_hz: float, budget_ms: float) -> None:
        self.folder = folder
        self.frames, self.rate_hz, self.budget_ms = frames, rate_hz, budget_ms
        self.recording = folder / "shift.mcap"
        (folder / "line.yaml").write_text(LINE.format(folder=folder, budget_ms=budget_ms))
        self.log = (folder / "log").open("wb")

    def start_daemon(self, first: int) -> subprocess.Popen[bytes]:
        words = [str(value) for value in (self.rate_hz, first, self.frames, self.budget_ms)]
        return self._start(__file__, "--daemon", str(self.folder), *words)

    def start_recorder(self) -> subprocess.Popen[bytes]:
        config = str(self.folder / "line.yaml")
        recorder = self._start("-m", "edgeinspect", "record", config, "--out", str(self.recording))
        self.wait(lambda: self.recording.exists(), "the recorder")
        return recorder

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT
        )

    def published(self) -> int:
        try:
            return SpoolReader(self.folder / "run" / "recorded.spool").published_seq
        except EdgeInspectError:
            return 0

    def wait(self, until: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        end = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def last_number(self) -> int:
        """Return the number of the camera's last frame in ledger or spool, by its part."""
        spool = SpoolReader(self.folder / "run" / "recorded.spool")
        for seq in range(spool.last_seq, max(0, spool.last_seq - 50), -1):
            body = spool.read(seq)
            part = json.loads(body).get("part_id") if body else None
            if part:
                return int(part.partition("-")[2]) + (spool.last_seq - seq)
        return 0

    def run(self, seed: int) -> dict[str, Any]:
        chance = random.Random(seed)
        children = []
        try:
            children.append(recorder := self.start_recorder())
            children.append(line := self.start_daemon(1))
            half = self.frames * 0.45
            self.wait(lambda: self.published() >= half or line.poll() is not None, "half")
            line.kill()
            line.wait()
            children.append(line := self.start_daemon(self.last_number() + 1))
            self.wait(lambda: self.published() >= self.frames * 0.65, "two thirds")
            recorder.send_signal(signal.SIGSTOP)
            time.sleep(0.4)
            recorder.send_signal(signal.SIGCONT)
            until = self.frames * chance.uniform(0.85, 0.95)
            self.wait(lambda: self.published() >= until, "the kill")
            time.sleep(chance.uniform(0, 0.05))
            cpu_s = cpu_seconds(recorder.pid)
            recorder.kill()
            recorder.wait()
            self.wait(lambda: line.poll() is not None, "the end of the line")
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                    child.wait()
            self.log.close()
        found = self.judge()
        found["recorder_cpu_ms_per_frame"] = round(1000 * cpu_s / found["recorded"], 2)
        return found

    def judge(self) -> dict[str, Any]:
        """Compare the recording with ledger and camera, and replay it."""
        pictures = strips()
        seqs, bodies, other_pixels, with_picture = [], 0, 0, 0
        recording = open_recording(self.recording)
        with closing(open_ledger(self.folder / "ledger" / "recorded.ledger.sqlite")) as base:
            last_of_ledger = base.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
            for item in recording.items():
                if not isinstance(item, RecordedFrame):
                    continue
                verdict = item.verdict
                seqs.append(verdict.seq)
                bodies += read_body(base, verdict.seq) == item.record.verdict
                pixels = item.pixels()
                if pixels is None or verdict.part_id is None:
                    continue
                with_picture += 1
                want = picture(int(verdict.part_id.partition("-")[2]), pictures)
                other_pixels += want is None or not np.array_equal(pixels, want)
        began = time.monotonic()
        found = replay_recording(self.recording, ReplayOverrides())
        return {
            "published": last_of_ledger,
            "recorded": len(seqs),
            "contiguous": seqs == list(range(seqs[0], seqs[0] + len(seqs))),
            "verdicts_as_in_the_ledger": bodies,
            "with_picture": with_picture,
            "pictures_that_differ_from_the_camera": other_pixels,
            "mib": round(self.recording.stat().st_size / 2**20, 1),
            "cuts": found.cuts,
            "compared": found.compared,
            "equal": found.equal,
            "different": found.different,
            "decided_by": found.decided_by,
            "degraded": found.degraded,
            "decisions": found.decisions,
            "not_compared": found.not_compared,
            "opinions": found.opinions,
            "differences": [str(each) for each in found.differences[:5]],
            "replayed_per_second": round(found.frames / (time.monotonic() - began), 1),
        }


def campaign(
    folder: Path, *, frames: int, rate_hz: float, budget_ms: float = 150, seed: int = 1
) -> dict[str, Any]:
    """Run one campaign; see the module."""
    return Campaign(folder, frames, rate_hz, budget_ms).run(seed)


def cost(folder: Path, blocks: int, rate_hz: float, budget_ms: float) -> dict[str, Any]:
    """Measure the cost of the recorder: blocks without and with it alternate."""
    run = Campaign(folder, 1 << 30, rate_hz, budget_ms)
    text = (
        (folder / "line.yaml")
        .read_text()
        .replace(
            "{type: synthetic}", f"{{type: synthetic, pictures: {PICTURES}, rate_hz: {rate_hz}}}"
        )
    )
    (folder / "line.yaml").write_text(text)
    totals: dict[str, list[int]] = {"without": [], "with": []}
    no_verdict = {"without": 0, "with": 0}
    line = run._start("-m", "edgeinspect", "run", str(folder / "line.yaml"))
    try:
        run.wait(lambda: run.published() > 50, "the line")
        for block in range(2 * blocks):
            kind = ("without", "with")[block % 2]
            recorder = None
            if kind == "with":
                run.recording = folder / f"{block}.mcap"
                recorder = run.start_recorder()
                time.sleep(3)  # its start is not measured
            first = run.published()
            time.sleep(10)
            last = run.published()
            if recorder is not None:
                recorder.terminate()
                recorder.wait()
                run.recording.unlink()
            spool = SpoolReader(folder / "run" / "recorded.spool")
            for seq in range(first + 1, last + 1):
                verdict = json.loads(spool.read(seq) or b"{}")
                if verdict.get("decision") in ("PASS", "REJECT"):
                    totals[kind].append(verdict["stages"]["total_us"])
                else:
                    no_verdict[kind] += 1
    finally:
        line.terminate()
        line.wait()
        run.log.close()
    return {
        kind: {
            "frames": len(times),
            "no_verdict": no_verdict[kind],
            **{f"p{q}_ms": round(float(np.percentile(times, q)) / 1000, 1) for q in (50, 90, 99)},
        }
        for kind, times in totals.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--budget-ms", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cost", type=int, metavar="BLOCKS")
    parser.add_argument("--daemon", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.daemon:
        folder, rate_hz, first, last, budget_ms = options.daemon
        daemon(Path(folder), float(rate_hz), int(first), int(last), float(budget_ms))
        return
    configure("console", "critical")
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="recording-", dir=shared) as folder:
        if options.cost:
            found = cost(Path(folder), options.cost, options.rate, options.budget_ms)
            print(json.dumps(found, indent=2))
            return
        found = campaign(
            Path(folder),
            frames=options.frames,
            rate_hz=options.rate,
            budget_ms=options.budget_ms,
            seed=options.seed,
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
