"""Crash test: kill -9 of daemon and gateway at random; the PLC's log must equal the ledger.

A complete line (noise camera, scripted gate, spool, ledger, wire) in one process, a real
`edgeinspect gateway` with a Modbus server in another, and here a PLC that reads its block and
acknowledges according to the structured text of docs/howto/plc.md. Both processes are killed
and restarted while frames arrive; the gateway is also paused now and then, with small queues. The
PLC keeps running, and its log is compared with the ledger row by row.

    python benchmarks/crash_campaign.py --kills 200 --rate 200
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from edgeinspect.domain import Verdict
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.storage.ledger import open_ledger, read_body, verify_ledger
from edgeinspect.testing import ModbusPlc, PlcResultRecord
from edgeinspect.wire import decode_verdict

ROOT = Path(__file__).resolve().parent.parent
STALL_S = (0.05, 0.4)
FINISH_S = 60.0
"""Far longer than a PLC needs to read what these queues contain."""
LINE = """\
schema: 1
line: campaign
budget_ms: 50
cameras: {{top: {{type: synthetic}}}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
act_by: {{travel_ms: 20000}}
publish: {{verdicts: "{verdicts}", replay: "{replay}", high_water_mark: 50}}
spool: {{folder: {folder}, slots: {slots}}}
ledger: {{folder: {folder}}}
"""
GATEWAY = """\
schema: 1
gateway: plc-1
feed: {{line: campaign, verdicts: "{verdicts}", replay: "{replay}", high_water_mark: 50}}
link: {{type: modbus, port: {port}}}
cursor: {folder}/plc-1.journal
ack_timeout_ms: 10000
buffer: 4096
"""


def daemon(folder: Path, rate_hz: float) -> None:
    """Run the line until it is killed or stopped."""
    from edgeinspect.config import parse_config
    from edgeinspect.domain import FrameShape, SystemClock
    from edgeinspect.pipeline.line import Line, WorkerEngines
    from edgeinspect.system import configure
    from edgeinspect.testing import NoiseCamera, brightness_gate

    configure("console", "error")
    shape = FrameShape(16, 32, 1)
    loaded = parse_config((folder / "line.yaml").read_text())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    line = Line(
        loaded.config,
        config_hash=loaded.hash,
        cameras={"top": NoiseCamera(shape, rate_hz, parts=f"{os.getpid()}-")},
        worker_engines=[WorkerEngines(brightness_gate(shape, lambda: time.sleep(0.002)), None)],
        clock=SystemClock(),
        on_failure=lambda error: os._exit(70),
    )
    line.start()
    while not ended.wait(0.1):
        pass
    line.stop()
    line.close()


class Plc:
    """A PLC in a thread; it scans as fast as the gateway responds."""

    def __init__(self, port: int) -> None:
        self.master = ModbusPlc(port)
        self.failure: BaseException | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop:
                taken = len(self.master.program.log)
                if not self.master.cycle():
                    time.sleep(0.01)
                elif taken == len(self.master.program.log):
                    time.sleep(0.001)
        except BaseException as error:  # both bits at once, or a bit without a result
            self.failure = error

    @property
    def log(self) -> list[PlcResultRecord]:
        return self.master.program.log

    def close(self) -> None:
        self._stop = True
        self._thread.join(5)
        self.master.close()


class Campaign:
    """Starts, kills and pauses the processes."""

    def __init__(self, folder: Path, rate_hz: float, seed: int, slots: int) -> None:
        self.folder = folder
        self.rate_hz = rate_hz
        self.rng = random.Random(seed)
        self.stalls = 0
        ports = free_ports(3)
        names = {
            "folder": folder,
            "slots": slots,
            "verdicts": f"tcp://127.0.0.1:{ports[0]}",
            "replay": f"tcp://127.0.0.1:{ports[1]}",
            "port": ports[2],
        }
        (folder / "line.yaml").write_text(LINE.format_map(names))
        (folder / "gateway.yaml").write_text(GATEWAY.format_map(names))
        # From the first frame on; otherwise a new gateway starts with the current one.
        journal = GatewayJournal(folder / "plc-1.journal", name="plc-1", capacity=100_000)
        journal.set_cursor(0, 0, time.time_ns())
        journal.close()
        self.plc = Plc(ports[2])
        self.running = {role: self.start(role) for role in ("daemon", "gateway")}

    def start(self, role: str, rate_hz: float | None = None) -> subprocess.Popen[bytes]:
        if role == "daemon":
            words = [
                __file__,
                "--role",
                "daemon",
                "--folder",
                str(self.folder),
                "--rate",
                str(rate_hz or self.rate_hz),
            ]
        else:
            words = ["-m", "edgeinspect", "gateway", str(self.folder / "gateway.yaml")]
        with (self.folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                stderr=log,
                stdout=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def kill(self, roles: tuple[str, ...]) -> None:
        for role in roles:
            self.running[role].kill()
        for role in roles:
            self.running[role].wait()
            self.running[role] = self.start(role)

    def wait_until_up(self) -> None:
        """Until the PLC takes results again, and then a while for it to catch up.

        One time in eight not: then the start itself is hit.
        """
        if self.rng.random() < 1 / 8:
            return
        taken, now = len(self.plc.log), time.monotonic()
        while len(self.plc.log) == taken and time.monotonic() < now + 15.0:
            time.sleep(0.01)
        while self.plc.master.values.get("Buffered", 1000) > 100 and time.monotonic() < now + 1.5:
            time.sleep(0.01)

    def wait(self, seconds: float) -> None:
        """Let the line run; pause the gateway in two of three waits."""
        if self.rng.random() < 2 / 3:
            stall_s = self.rng.uniform(*STALL_S)
            time.sleep(max(0.0, seconds - stall_s) * self.rng.random())
            self.running["gateway"].send_signal(signal.SIGSTOP)
            self.stalls += 1
            time.sleep(stall_s)
            if self.rng.random() < 0.9:  # otherwise it is killed while paused
                self.running["gateway"].send_signal(signal.SIGCONT)
        else:
            time.sleep(seconds)

    def finish(self) -> None:
        """Wait until the PLC has read all results; a slow daemon keeps the line active."""
        self.running["gateway"].send_signal(signal.SIGCONT)
        self.stop("daemon")
        self.running["daemon"] = self.start("daemon", 2.0)
        still, until = 0, time.monotonic() + FINISH_S
        while still < 20:
            if time.monotonic() > until:
                raise TimeoutError(f"not all taken after {FINISH_S} s: {self.state()}")
            time.sleep(0.1)
            values = self.plc.master.values
            still = still + 1 if values and values["Online"] and not values["Buffered"] else 0
        self.stop("daemon")
        time.sleep(0.2)
        self.stop("gateway")
        self.plc.close()

    def state(self) -> str:
        """Return the state of PLC and processes, for a campaign that makes no progress."""
        said = [
            f"{role}: exit status {self.running[role].poll()}\n"
            + (self.folder / f"{role}.log").read_text()[-4000:]
            for role in ("daemon", "gateway")
        ]
        return "\n".join([str(self.plc.master.values), repr(self.plc.failure), *said])

    def stop(self, role: str) -> None:
        process = self.running[role]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def abort(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self.plc.close()


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def campaign(
    folder: Path,
    kills: int,
    rate_hz: float,
    seed: int,
    between_s: tuple[float, float] = (0.05, 0.8),
    slots: int = 4096,
    note: Callable[[str], None] = print,
) -> dict[str, object]:
    """Run a campaign and return its result."""
    running = Campaign(folder, rate_hz, seed, slots)
    victims = {"daemon": ("daemon",), "gateway": ("gateway",), "both": ("daemon", "gateway")}
    killed = dict.fromkeys(victims, 0)
    try:
        for number in range(kills):
            running.wait_until_up()
            running.wait(running.rng.uniform(*between_s))
            victim = running.rng.choice(list(victims))
            killed[victim] += 1
            running.kill(victims[victim])
            if (number + 1) % 20 == 0:
                note(f"{number + 1} kills, {len(running.plc.log)} taken by the PLC")
        running.finish()
    except BaseException:
        running.abort()
        raise
    account = verify_ledger(folder / "campaign.ledger.sqlite", folder / "campaign.spool")
    return {
        "kills": killed,
        "stalls": running.stalls,
        "captured": sum(epoch.captured for epoch in account.epochs),
        "epochs": len(account.epochs),
        **compared(running.plc.log, ledger(folder)),
        "plc_failure": repr(running.plc.failure or ""),
        "no_verdict": sum(epoch.no_verdict for epoch in account.epochs),
        "ledger_holds": account.is_consistent,
        "problems": account.problems[:5],
    }


def ledger(folder: Path) -> dict[int, Verdict]:
    """Return every verdict of the ledger by seq."""
    found = {}
    with closing(open_ledger(folder / "campaign.ledger.sqlite")) as base:
        for (seq,) in base.execute("SELECT seq FROM verdicts ORDER BY seq"):
            body = read_body(base, seq)
            assert body is not None
            found[seq] = decode_verdict(body)
    return found


def compared(log: list[PlcResultRecord], verdicts: Mapping[int, Verdict]) -> dict[str, object]:
    """Compare the PLC's log with the ledger, row by row."""
    ids = [taken.result_id for taken in log]
    lost = {
        seq
        for taken in log
        if taken.is_lost
        for seq in range(taken.result_id - taken.frames_covered + 1, taken.result_id + 1)
    }
    plain = [taken for taken in log if not taken.is_lost]
    wrong = [
        taken.result_id
        for taken in plain
        if taken.result_id not in verdicts or not taken.matches(verdicts[taken.result_id])
    ]
    return {
        "taken": len(log),
        "passed": sum(taken.passed for taken in log),
        "passes_shown_as_reject": sum(taken.cause in (101, 102) for taken in log),
        "applied_twice": len(ids) - len(set(ids)),
        "out_of_order": sum(b <= a for a, b in pairwise(ids)),
        "lost_explicitly": len(lost),
        "unaccounted": len(set(verdicts) - set(ids) - lost),
        "not_in_ledger": len(set(ids) - set(verdicts)),
        "contradict_ledger": len(wrong),
        "passed_without_pass": sum(
            taken.passed and verdicts[taken.result_id].decision.value != "PASS"
            for taken in plain
            if taken.result_id in verdicts
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--slots",
        type=int,
        default=12_288,
        help="spool slots, which buffer verdicts while the PLC catches up",
    )
    parser.add_argument("--role", choices=["daemon"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "daemon":
        daemon(options.folder, options.rate)
    else:
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            found = campaign(
                Path(folder), options.kills, options.rate, options.seed, slots=options.slots
            )
            print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
