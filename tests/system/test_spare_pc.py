"""A line PC dies; a spare one continues from last night's backup, behind the same running PLC.

The commands are those of docs/howto/backup.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edgeinspect.domain import CAUSE_LOST
from edgeinspect.storage.ledger import open_ledger, read_body
from edgeinspect.storage.spool import scan_spool
from edgeinspect.testing.peers import ModbusPlc, PlcProgram
from edgeinspect.wire import decode_verdict
from tests import graphs, needs
from tests.system.plant import free_port

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = graphs.SHAPE.height_px, graphs.SHAPE.width_px


class Plant:
    """A camera and two PLCs, which outlive the PC: one PLC behind a gateway on that PC, one
    behind a gateway on another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(4)]
        self.plcs = [ModbusPlc(self.ports[2]), ModbusPlc(self.ports[3])]
        self.children: list[subprocess.Popen[str]] = []
        graphs.install(folder / "store", graphs.gate(), name="tiny-gate", kind="gate")
        (folder / "in").mkdir()
        for index in range(12):
            level = 250 if index % 4 == 3 else 60 + index
            picture = np.full((HEIGHT, WIDTH), level, np.uint8)
            picture[0, index % WIDTH] += 1
            cv2.imwrite(str(folder / "in" / f"{index:02}.png"), picture)

    def configure(self, pc: str) -> Path:
        """Write the files of a PC; return the line's."""
        root = self.folder / pc
        root.mkdir()
        verdicts, replay = (f"tcp://127.0.0.1:{port}" for port in self.ports[:2])
        camera = {
            "type": "folder",
            "path": str(self.folder / "in"),
            "rate_hz": 40,
            "repeat": True,
        }
        gate = {"suspect_at": 0.9, "reject_at": 0.9, "degraded_reject_at": 0.9, "reject_code": 5}
        line = {
            "schema": 1,
            "line": "press",
            "budget_ms": 3000,
            "store": str(self.folder / "store"),
            "cameras": {"top": camera},
            "engines": {"gate": {"type": "ov", "model": "tiny-gate", "threads": 1}},
            "optics": {"mm_per_px_x": 1, "mm_per_px_y": 1},
            "decide": {"gate": gate},
            "publish": {"verdicts": verdicts, "replay": replay},
            "spool": {"folder": str(root / "run")},
            "ledger": {"folder": str(root / "ledger")},
            "act_by": {"travel_ms": 60_000},
        }
        (root / "line.yaml").write_text(yaml.safe_dump(line))
        feed = {"line": "press", "verdicts": verdicts, "replay": replay, "unproven": True}
        gateways = {"here": (root, self.ports[2]), "there": (self.folder, self.ports[3])}
        for name, (where, port) in gateways.items():
            gateway = {
                "schema": 1,
                "gateway": f"plc-{name}",
                "feed": feed,
                "link": {"type": "modbus", "host": "127.0.0.1", "port": port},
                "cursor": str(where / f"{name}.journal"),
                "buffer": 2000,
                "ack_timeout_ms": 5000,
            }
            (where / f"{name}.yaml").write_text(yaml.safe_dump(gateway))
        return root / "line.yaml"

    def start(self, *words: str) -> subprocess.Popen[str]:
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "edgeinspect", *words],
                stdout=log,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.children.append(child)
        return child

    def command(self, *words: str) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-m", "edgeinspect", *words, "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def take_until(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Run the PLCs' cycles until a condition holds."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, "\n".join(
                log.read_text()[-2000:] for log in self.folder.glob("*.log")
            )
            for plc in self.plcs:
                plc.cycle()
            time.sleep(0.005)

    def log_lengths(self) -> list[int]:
        return [len(plc.program.log) for plc in self.plcs]


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    needs.library("openvino")
    needs.library("pymodbus")
    one = Plant(tmp_path)
    yield one
    for plc in one.plcs:
        plc.close()
    for child in one.children:
        child.kill()
        child.wait()


def test_a_spare_pc_continues_from_a_backup(plant: Plant) -> None:
    line = plant.configure("old")
    there = plant.start("gateway", str(plant.folder / "there.yaml"))
    on_the_pc = [
        plant.start("run", str(line)),
        plant.start("gateway", str(line.with_name("here.yaml"))),
    ]
    plant.take_until(lambda: min(plant.log_lengths()) >= 30)
    (plant.folder / "nas").mkdir()
    code, backup = plant.command("ledger", "backup", str(line), str(plant.folder / "nas"))
    assert (code, backup["holds"]) == (0, True)
    saved = int(str(backup["last_seq"]))
    assert saved >= 25
    plant.take_until(lambda: min(plant.log_lengths()) >= saved + 30)
    for child in on_the_pc:
        child.kill()
    plant.take_until(lambda: plant.plcs[1].values.get("RejectAll"))
    programs = [plc.program for plc in plant.plcs]
    last_ids = [program.last_id for program in programs]
    assert min(last_ids) > saved  # the backup does not know the newest numbers

    spare = plant.configure("spare")
    code, restored = plant.command(
        "ledger", "restore", str(spare), str(plant.folder / "nas" / "press.ledger.sqlite")
    )
    assert code == 0
    skipped = restored["skipped"]
    assert isinstance(skipped, list)
    assert skipped[0] == saved + 1
    assert skipped[1] >= max(last_ids)
    running = plant.start("run", str(spare))
    plant.start("gateway", str(spare.with_name("here.yaml")))
    # What waited in the gateway on the other PC is shown first.
    plant.take_until(lambda: min(program.last_id for program in programs) > skipped[1] + 20)
    assert plant.plcs[0].values["ErrorCode"] == 11, "NEW_JOURNAL, until FaultReset"
    running.terminate()
    assert running.wait(30) == 0
    assert there.poll() is None

    code, report = plant.command("ledger", "verify", str(spare))
    assert (code, report["problems"]) == (0, [])
    (note,) = report["notes"]  # type: ignore[misc]
    assert note.startswith(f"the ledger was restored from a backup: ids {saved + 1} to")
    verify_results(programs, line, spare)
    # The gateway on the other PC kept its journal: one reject for all that nobody knows.
    (index,) = [i for i, each in enumerate(programs[1].log) if each.cause == CAUSE_LOST]
    previous, lost, _first = programs[1].log[index - 1 : index + 2]
    assert (lost.rejected, lost.passed) == (True, False)
    assert (lost.result_id, lost.result_id - lost.frames_covered) == (
        skipped[1],
        previous.result_id,
    )


def verify_results(programs: list[PlcProgram], *lines: Path) -> None:
    """Check that no PLC took a number twice, and that each result is one of its PC's verdicts."""
    bodies: dict[int, set[bytes]] = defaultdict(set)
    for line in lines:
        with closing(open_ledger(line.parent / "ledger" / "press.ledger.sqlite")) as db:
            for (seq,) in db.execute("SELECT seq FROM verdicts").fetchall():
                bodies[seq].add(read_body(db, seq) or b"")
        scan = scan_spool(line.parent / "run" / "press.spool")  # the newest are only there
        assert scan is not None
        for seq, frame in scan.frames.items():
            bodies[seq].add(frame.payload or b"")
    for program in programs:
        ids = [each.result_id for each in program.log]
        assert ids == sorted(set(ids)), "a number was taken twice, or an old one again"
        for each in program.log:
            if each.cause != CAUSE_LOST:
                (body,) = bodies[each.result_id]
                assert each.matches(decode_verdict(body))
