"""A slow line triggered by its PLC, with the gateway killed repeatedly: no bad part may pass.

A complete line with a triggered camera, spool and ledger in one process, a real `edgeinspect
gateway` with a Modbus server in another, and here a PLC that follows the structured text of
docs/howto/plc.md exactly: a scan, a shift register, an ejector, its whole block written in
every scan, persistent memory. Every second frame is a reject, so a second frame of a defective
part would be good. The gateway is killed, and it and the line are paused, with parts at the
camera; then the PLC's log is compared with the ledger, part by part.

The PLC marks its parts twice: as documented now, and as documented earlier (a pass marks, and
nothing revokes it), to show what the gateway itself holds back.

    python benchmarks/slow_line.py --rounds 10
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
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeinspect.domain import Verdict
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._modbus.client import ModbusClient
from edgeinspect.storage.ledger import open_ledger, read_body, verify_ledger
from edgeinspect.wire import decode_verdict

ROOT = Path(__file__).resolve().parent.parent
SCAN_S = 0.03
MAX_AGE_S = 0.3
LINE = """\
schema: 1
line: slow
budget_ms: 150
cameras: {{top: {{type: synthetic, pace: trigger}}}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
act_by: {{travel_ms: {travel_ms}, gate_distance_counts: {travel_ms}}}
capture: {{health: {{frozen_frames: 0}}}}
publish: {{verdicts: "{verdicts}", replay: "{replay}"}}
spool: {{folder: {folder}, slots: 4096}}
ledger: {{folder: {folder}}}
"""
GATEWAY = """\
schema: 1
gateway: plc-1
feed: {{line: slow, verdicts: "{verdicts}", replay: "{replay}"}}
link: {{type: modbus, port: {port}}}
cursor: {folder}/plc-1.journal
trigger_camera: top
"""


def daemon(folder: Path) -> None:
    """Run the line until it is killed or stopped."""
    import numpy as np

    from edgeinspect.cameras import FramePacer
    from edgeinspect.config import parse_config
    from edgeinspect.domain import FrameShape, Grab, Part, SystemClock
    from edgeinspect.pipeline.line import Line, WorkerEngines
    from edgeinspect.system import configure
    from edgeinspect.testing import brightness_gate

    class Camera:
        """Every second image is bright, which is a defect."""

        period_ns = None

        def __init__(self) -> None:
            self._pace = FramePacer("trigger", 1.0, SystemClock())
            self._rng = np.random.default_rng(os.getpid())
            self._sent = os.getpid()

        def open(self) -> None:
            self._pace.start()

        def grab(self, timeout_ns: int) -> Grab | None:
            due = self._pace.wait(timeout_ns)
            if due is None:
                return None
            self._sent += 1
            pixels = self._rng.integers(20, 60, shape.dims, np.uint8)
            pixels[0, 0] = 255 if self._sent % 2 else 20
            return Grab(pixels, self._sent, due[0], part=due[1])

        def release(self, grab: Grab) -> None:
            """Nothing to release: each image has its own memory."""

        def trigger(self, part: Part) -> None:
            self._pace.trigger(part)

        def close(self) -> None:
            """Nothing to close."""

    configure("console", "error")
    shape = FrameShape(16, 32, 1)
    loaded = parse_config((folder / "line.yaml").read_text())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    line = Line(
        loaded.config,
        config_hash=loaded.hash,
        cameras={"top": Camera()},
        worker_engines=[WorkerEngines(brightness_gate(shape, lambda: time.sleep(0.002)), None)],
        clock=SystemClock(),
        on_failure=lambda error: os._exit(70),
    )
    line.start()
    while not ended.wait(0.1):
        pass
    line.stop()
    line.close()


@dataclass
class BeltPart:
    """One part on the belt, from the camera to the ejector."""

    name: str
    encoder: int
    wished_at_utc_s: float
    """When the program requested its frame; 0 if it could not."""
    good: bool = False
    bad: bool = False
    good_once: bool = False
    """Mark according to the earlier documentation: a pass marks, and nothing revokes it."""
    ejected: bool = True
    ejected_once: bool = True
    answers: list[bool] = field(default_factory=list)
    """Responses to the trigger: True for rejected. A changed response is a second entry."""


class Plc:
    """The structured text of docs/howto/plc.md, a scan every 30 ms. `run` is its thread."""

    def __init__(self, port: int, every_s: tuple[float, float], belt_s: float, seed: int) -> None:
        self.parts: list[BeltPart] = []
        self.failure: BaseException | None = None
        self.taken: Counter[tuple[int, int]] = Counter()
        """Number of times that each (numbering, id) was read."""
        self.feeding = True
        self._port = port
        self._every_s = every_s
        self._distance = round(belt_s * 1000)
        self._rng = random.Random(seed)
        self._client: ModbusClient | None = None
        self._connect_at_s = 0.0
        self._started_s = time.monotonic()
        self._next_part_s = self._started_s + 1.0
        self._values: dict[str, Any] = _register_codec.decode_outputs(
            bytes(2 * _register_map.OUTPUT_WORDS)
        )
        self._belt: list[BeltPart] = []
        self._last_beat, self._beat_at_s = False, self._started_s
        self._last_id = self._last_numbering = self._ack = 0
        self._trigger_id, self._trigger = 0, BeltPart("", 0, 0.0)
        self._pending = False
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop = True
        self._thread.join(5)
        if self._client is not None:
            self._client.close()

    def _run(self) -> None:
        try:
            while not self._stop:
                started_s = time.monotonic()
                self._read()
                self._program(started_s)
                self._write()
                time.sleep(max(0.0, started_s + SCAN_S - time.monotonic()))
        except BaseException as error:
            self.failure = error

    def _read(self) -> None:
        now_s = time.monotonic()
        try:
            if self._client is None:
                if now_s < self._connect_at_s:
                    return
                self._client = ModbusClient("127.0.0.1", self._port, 1, 0.25)
            block = self._client.read(0, _register_map.OUTPUT_WORDS)
            self._values = _register_codec.decode_outputs(block)
        except OSError:
            self._disconnect()

    def _write(self) -> None:
        if self._client is None:
            return
        trigger = self._trigger
        block = struct.pack(
            ">HHIi32s", 0, self._trigger_id, self._ack, trigger.encoder, trigger.name.encode()
        )
        try:
            self._client.write(200, block)
        except OSError:
            self._disconnect()

    def _disconnect(self) -> None:
        self._connect_at_s = time.monotonic() + 1.0
        if self._client is not None:
            self._client.close()
            self._client = None

    def _program(self, now_s: float) -> None:
        out = self._values
        encoder = round((now_s - self._started_s) * 1000)
        if out["Heartbeat"] != self._last_beat:
            self._beat_at_s = now_s
        self._last_beat = out["Heartbeat"]
        silent = now_s - self._beat_at_s >= 0.4
        reject_everything = silent or not out["Online"] or out["RejectAll"]
        if not reject_everything:
            self._read_results(out)
        self._read_trigger_response(out, reject_everything)
        if self.feeding and now_s >= self._next_part_s:
            self._next_part_s = now_s + self._rng.uniform(*self._every_s)
            part = BeltPart(f"E{len(self.parts) + 1:06d}", encoder, 0.0)
            self.parts.append(part)
            self._belt.append(part)
            if not reject_everything and out["TriggerReady"] and not self._pending:
                part.wished_at_utc_s = time.time()
                self._trigger = part
                self._trigger_id = 1 if self._trigger_id == 0xFFFF else self._trigger_id + 1
                self._pending = True
        while self._belt and encoder >= self._belt[0].encoder + self._distance:
            part = self._belt.pop(0)
            part.ejected = reject_everything or not part.good or part.bad
            part.ejected_once = reject_everything or not part.good_once

    def _read_results(self, out: dict[str, Any]) -> None:
        if not out["ResultsValid"] or out["ResultId"] != out["ResultIdCheck"]:
            return
        if out["Numbering"] != self._last_numbering:
            self._last_numbering, self._last_id = out["Numbering"], out["ResultId"] - 1
        if 0 < (out["ResultId"] - self._last_id) % (1 << 32) < 1 << 31:
            assert not (out["Pass"] and out["Reject"])
            self.taken[self._last_numbering, out["ResultId"]] += 1
            passed = out["Pass"] and not out["Reject"] and not out["NoVerdict"]
            for part in self._belt:
                if part.name == out["PartId"]:
                    part.good |= passed and not part.bad
                    part.good_once |= passed
                    part.bad |= not passed
            self._last_id = out["ResultId"]
        self._ack = out["ResultId"]

    def _read_trigger_response(self, out: dict[str, Any], reject_everything: bool) -> None:
        part = self._trigger
        if reject_everything or out["TriggerAck"] != self._trigger_id or not self._trigger_id:
            return
        refused = bool(out["TriggerRefused"])
        if not part.answers or part.answers[-1] != refused:
            part.answers.append(refused)
        self._pending = False
        part.bad |= refused


class Round:
    """Starts, kills and pauses the processes of one round."""

    def __init__(self, folder: Path, every_s: tuple[float, float], belt_s: float, seed: int):
        from crash_campaign import free_ports  # beside this file

        self.folder = folder
        ports = free_ports(3)
        names = {
            "folder": folder,
            "travel_ms": round(belt_s * 1000),
            "port": ports[2],
            "verdicts": f"tcp://127.0.0.1:{ports[0]}",
            "replay": f"tcp://127.0.0.1:{ports[1]}",
        }
        (folder / "line.yaml").write_text(LINE.format_map(names))
        (folder / "gateway.yaml").write_text(GATEWAY.format_map(names))
        self.running = {role: self.start(role) for role in ("line", "gateway")}
        self.plc = Plc(ports[2], every_s, belt_s, seed)

    def start(self, role: str) -> subprocess.Popen[bytes]:
        words = (
            [__file__, "--role", "daemon", "--folder", str(self.folder)]
            if role == "line"
            else ["-m", "edgeinspect", "gateway", str(self.folder / "gateway.yaml")]
        )
        with (self.folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                stderr=log,
                stdout=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def answered(self) -> int:
        return sum(bool(part.answers) for part in self.plc.parts)

    def wait_for_answers(self, count: int, timeout_s: float) -> None:
        """Wait until this many more triggers have a response: then the line is running."""
        wanted, until_s = self.answered() + count, time.monotonic() + timeout_s
        while self.answered() < wanted and time.monotonic() < until_s:
            time.sleep(0.01)

    def kill(self, role: str, away_s: float) -> None:
        self.running[role].kill()
        self.running[role].wait()
        time.sleep(away_s)
        self.running[role] = self.start(role)

    def stop_for(self, role: str, seconds: float) -> None:
        self.running[role].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.running[role].send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.plc.close()
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def campaign(
    folder: Path,
    *,
    kills: int = 14,
    seed: int = 1,
    every_s: tuple[float, float] = (1.2, 1.5),
    belt_s: float = 4.0,
    stop_s: float = 2.0,
    note: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """Run one round and return its result.

    Args:
        folder: Empty; for the spool, the ledger, the journal and the logs.
        kills: Of the gateway. The line is killed once, and both are stopped.
        seed: Of all that is random.
        every_s: From part to part, least and most.
        belt_s: From the camera to the ejector.
        stop_s: How long a stop lasts.
        note: Told how it goes.
    """
    rng = random.Random(seed)
    running = Round(folder, every_s, belt_s, seed)
    try:
        running.wait_for_answers(2, 60)
        faults = ["kill gateway"] * kills + ["stop line", "stop gateway", "stop line", "kill line"]
        rng.shuffle(faults)
        for fault in faults:
            what, role = fault.split()
            # At any moment of a part: before its trigger, during it, before its result.
            time.sleep(rng.uniform(0.0, every_s[1]))
            if what == "kill":
                running.kill(role, rng.choice((0.05, 0.3, 1.0)))
            else:
                running.stop_for(role, stop_s)
            note(f"{fault}: {running.answered()} answered of {len(running.plc.parts)}")
            if rng.random() < 0.8:  # otherwise the start is interrupted
                running.wait_for_answers(2, 30)
        running.wait_for_answers(2, 30)
        running.plc.feeding = False
        time.sleep(belt_s + 0.5)
    finally:
        running.end()
    return {"gateway_kills": kills, **compared(running.plc, folder)}


def ledger(folder: Path) -> dict[str, list[Verdict]]:
    """Return the verdicts of each part."""
    found: dict[str, list[Verdict]] = {}
    with closing(open_ledger(folder / "slow.ledger.sqlite")) as base:
        for (seq,) in base.execute("SELECT seq FROM verdicts ORDER BY seq"):
            body = read_body(base, seq)
            assert body is not None
            verdict = decode_verdict(body)
            found.setdefault(verdict.part_id or "", []).append(verdict)
    return found


def compared(plc: Plc, folder: Path) -> dict[str, Any]:
    """Compare the PLC's log with the ledger, part by part."""
    verdicts = ledger(folder)
    escapes, old_escapes, twice, unasked, late = [], [], [], [], []
    slowest_s = 0.0
    for part in plc.parts:
        rows = verdicts.get(part.name, [])
        all_passed = bool(rows) and all(row.decision.value == "PASS" for row in rows)
        if not part.ejected and not all_passed:
            escapes.append(part.name)
        if not part.ejected_once and not all_passed:
            old_escapes.append(part.name)
        if len(rows) > 1:
            twice.append(part.name)
        if rows and not part.wished_at_utc_s:
            unasked.append(part.name)
        for row in rows:
            after_s = row.captured_at_utc_ns / 1e9 - part.wished_at_utc_s
            slowest_s = max(slowest_s, after_s)
            if after_s > MAX_AGE_S + SCAN_S:
                late.append(part.name)
    account = verify_ledger(folder / "slow.ledger.sqlite", folder / "slow.spool")
    triggered = [part for part in plc.parts if part.wished_at_utc_s]
    return {
        "parts": len(plc.parts),
        "triggered": len(triggered),
        "refused": sum(part.answers == [True] for part in triggered),
        "passed": sum(not part.ejected for part in plc.parts),
        "good_parts_ejected": sum(
            part.ejected
            and bool(verdicts.get(part.name))
            and all(row.decision.value == "PASS" for row in verdicts[part.name])
            for part in plc.parts
        ),
        "rejected_in_ledger": sum(
            any(row.decision.value == "REJECT" for row in verdicts.get(part.name, []))
            for part in plc.parts
        ),
        "escapes": escapes,
        "escapes_without_mark_bad": old_escapes,
        "frames_taken_twice": twice,
        "frames_without_a_trigger": unasked,
        "frames_of_no_part": len(verdicts.get("", [])),
        "late_frames": late,
        "slowest_frame_ms": round(1000 * slowest_s),
        "triggers_with_two_answers": [p.name for p in triggered if len(p.answers) > 1],
        "triggers_without_an_answer": [p.name for p in triggered if not p.answers],
        "ids_taken_twice": sum(count > 1 for count in plc.taken.values()),
        "plc_failure": repr(plc.failure or ""),
        "ledger_holds": account.is_consistent,
    }


MUST_BE_EMPTY = (
    "escapes",
    "escapes_without_mark_bad",
    "frames_taken_twice",
    "frames_without_a_trigger",
    "late_frames",
    "triggers_with_two_answers",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["daemon"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "daemon":
        daemon(options.folder)
        return
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            found = campaign(Path(folder), kills=options.kills, seed=options.seed + number)
            print(json.dumps({"round": number + 1, **found}), flush=True)


if __name__ == "__main__":
    main()
