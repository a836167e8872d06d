"""The command line in child processes: exit codes, output, real models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import graphs, needs
from tests.system.plant import free_port

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = graphs.SHAPE.height_px, graphs.SHAPE.width_px


def free_ports() -> tuple[int, int]:
    return free_port(), free_port()


class Plant:
    """A folder with a store of tiny models, images, and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports()
        self.address = f"tcp://127.0.0.1:{self.ports[0]}"
        self.children: list[subprocess.Popen[str]] = []
        graphs.install(folder / "store", graphs.gate(), name="tiny-gate", kind="gate")
        (folder / "in").mkdir()
        for index in range(12):
            level = 250 if index % 4 == 3 else 60 + index
            picture = np.full((HEIGHT, WIDTH), level, np.uint8)
            picture[0, index % WIDTH] += 1  # all different: frozen images are not inspected
            cv2.imwrite(str(folder / "in" / f"{index:02}.png"), picture)
        self.config = folder / "line.yaml"
        self.write()

    def write(self, **changes: Any) -> None:
        config = {
            "schema": 1,
            "line": "plant",
            "budget_ms": 3000,
            "store": str(self.folder / "store"),
            "cameras": {"top": {"type": "folder", "path": str(self.folder / "in"), "rate_hz": 40}},
            "engines": {"gate": {"type": "ov", "model": "tiny-gate", "threads": 1}},
            "optics": {"mm_per_px_x": 1, "mm_per_px_y": 1},
            "decide": {
                "gate": {
                    "suspect_at": 0.9,
                    "reject_at": 0.9,
                    "degraded_reject_at": 0.9,
                    "reject_code": 5,
                },
            },
            "publish": {
                "verdicts": self.address,
                "replay": f"tcp://127.0.0.1:{self.ports[1]}",
            },
            "spool": {"folder": str(self.folder / "run")},
            "ledger": {"folder": str(self.folder / "ledger")},
        }
        self.config.write_text(json.dumps(config | changes))

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgeinspect", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )
        self.children.append(child)
        return child

    def run(self, *words: str, timeout_s: float = 60, **environment: str) -> tuple[int, str, str]:
        child = self.start(*words, **environment)
        out, err = child.communicate(timeout=timeout_s)
        return child.returncode, out, err

    def ledger(self) -> dict[str, Any]:
        path = str(self.folder / "ledger" / "plant.ledger.sqlite")
        code, out, err = self.run("ledger", "verify", path, "--json")
        assert code in (0, 65), err
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    needs.library("openvino")
    one = Plant(tmp_path)
    yield one
    for child in one.children:
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def test_a_folder_is_inspected_to_its_end(plant: Plant) -> None:
    code, out, err = plant.run("run", str(plant.config))
    assert code == 0, err
    assert "captured 12 = pass 9 + reject 3 + no verdict 0" in out
    account = plant.ledger()
    assert account["holds"]
    assert account["epochs"][0]["captured"] == 12


@pytest.mark.parametrize(("stdout", "code"), [("closed pipe", 141), ("/dev/full", 75)])
def test_a_line_continues_without_stdout(plant: Plant, stdout: str, code: int) -> None:
    if stdout == "closed pipe":
        read_end, write_end = os.pipe()
        os.close(read_end)
    else:
        write_end = os.open(stdout, os.O_WRONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgeinspect", "run", str(plant.config)],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("edgeinspect: error") == (code == 75), "once"
    account = plant.ledger()
    assert account["holds"]
    assert account["epochs"][0]["captured"] == 12
    assert account["epochs"][0]["no_verdict"] == 0


def test_watch_prints_or_counts_every_verdict(plant: Plant) -> None:
    """The line runs on while it watches: what it sees does not hang on how soon it connects."""
    plant.write(
        cameras={
            "top": {
                "type": "folder",
                "path": str(plant.folder / "in"),
                "rate_hz": 40,
                "repeat": True,
            }
        },
    )
    watcher = plant.start("watch", plant.address, "--json", "--count", "24", "--timeout", "60")
    line = plant.start("run", str(plant.config))
    lines, notes = watcher.communicate(timeout=90)
    assert watcher.returncode == 0, notes
    line.send_signal(signal.SIGTERM)
    out, err = line.communicate(timeout=30)
    assert line.returncode == 0, err
    verdicts = [json.loads(line) for line in lines.splitlines()]
    seqs = [verdict["seq"] for verdict in verdicts]
    assert len(seqs) == 24
    missed = seqs[-1] - seqs[0] + 1 - 24
    assert missed >= 0
    assert (f"{missed} verdicts were missed" in notes) == (missed > 0)
    for verdict in verdicts:
        index = (verdict["seq"] - 1) % 12
        assert verdict["label"] == f"{index:02}.png"
        assert verdict["decision"] == ("REJECT" if index % 4 == 3 else "PASS")
        assert verdict.get("reject_code", 0) == (5 if index % 4 == 3 else 0)
        assert verdict["gate"]["name"] == "tiny-gate"
    assert "+ no verdict 0" in out
    assert plant.ledger()["holds"]


def test_a_removed_folder_ends_with_75_and_a_complete_ledger(plant: Plant) -> None:
    plant.write(
        cameras={
            "top": {
                "type": "folder",
                "path": str(plant.folder / "in"),
                "rate_hz": 40,
                "repeat": True,
            }
        },
        capture={"reconnect": {"attempts": 2, "first_ms": 50}},
    )
    child = plant.start("run", str(plant.config), "--log-format", "json")
    assert child.stdout is not None
    assert "inspecting" in child.stdout.readline()
    time.sleep(0.5)
    shutil.rmtree(plant.folder / "in")
    _, err = child.communicate(timeout=30)
    assert child.returncode == 75, err
    events = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert events.count("camera.lost") == 3
    account = plant.ledger()
    assert account["holds"]
    assert account["epochs"][0]["captured"] > 5


def test_after_kill_9_and_restart_every_frame_has_a_verdict(plant: Plant) -> None:
    plant.write(
        cameras={
            "top": {
                "type": "folder",
                "path": str(plant.folder / "in"),
                "rate_hz": 150,
                "repeat": True,
            }
        },
    )
    for _ in range(3):
        child = plant.start("run", str(plant.config))
        assert child.stdout is not None
        assert "inspecting" in child.stdout.readline()
        time.sleep(0.6)
        child.kill()
        child.wait()
    child = plant.start("run", str(plant.config))
    assert child.stdout is not None
    assert "inspecting" in child.stdout.readline()
    time.sleep(0.4)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    account = plant.ledger()
    assert account["holds"], account["problems"]
    assert len(account["epochs"]) == 4
    firsts = [epoch["first_seq"] for epoch in account["epochs"]]
    lasts = [epoch["last_seq"] for epoch in account["epochs"]]
    assert firsts[0] == 1
    assert firsts[1:] == [last + 1 for last in lasts[:-1]]


def test_five_mistakes_are_five_faults(plant: Plant) -> None:
    plant.write(
        budget_ms=-5,
        line="Bad Name",
        budgetms=3,
        optics={"mm_per_px_x": 0.5},
        publish={"heartbeat_ms": "fast"},
    )
    code, _, err = plant.run("run", str(plant.config))
    assert code == 78
    assert "5 faults" in err
    for path in ("budget_ms", "line", "budgetms", "optics.mm_per_px_y", "publish.heartbeat_ms"):
        assert path in err


def test_corrupt_model_is_65(plant: Plant) -> None:
    model = plant.folder / "store" / "tiny-gate" / "1" / "model.onnx"
    sound = model.read_bytes()
    model.write_bytes(sound[:-7])
    code, _, err = plant.run("run", str(plant.config))
    assert code == 65
    assert "tiny-gate" in err
    shutil.rmtree(plant.folder / "store" / "tiny-gate")
    graphs.install(plant.folder / "store", b"\x08\x07junk" * 50, name="tiny-gate", kind="gate")
    code, _, err = plant.run("check", str(plant.config))
    assert code == 65, err


def test_missing_extra_is_69_and_named(plant: Plant) -> None:
    hide = plant.folder / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import sys

            class Hide:
                def find_spec(self, name, path=None, target=None):
                    if name.split(".")[0] == "openvino":
                        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

            sys.meta_path.insert(0, Hide())
            """
        )
    )
    code, _, err = plant.run("run", str(plant.config), PYTHONPATH=str(hide))
    assert code == 69
    assert "edgeinspect[cpu]" in err


def test_a_second_daemon_for_a_line_is_rejected(plant: Plant) -> None:
    plant.write(
        cameras={"top": {"type": "folder", "path": str(plant.folder / "in"), "repeat": True}}
    )
    child = plant.start("run", str(plant.config))
    assert child.stdout is not None
    assert "inspecting" in child.stdout.readline()
    code, _, err = plant.run("run", str(plant.config))
    assert code == 75
    assert "runs already" in err
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=20)
    assert child.returncode == 0


def test_the_demo_keeps_the_invariant_and_reports(plant: Plant) -> None:
    report = plant.folder / "r.json"
    code, out, err = plant.run(
        "demo", "--frames", "60", "--rate", "100", "--json-file", str(report), timeout_s=110
    )
    assert code == 0, err
    assert "held" in out
    found = json.loads(report.read_text())
    assert found["captured"] == found["passed"] + found["reject"] + found["no_verdict"] == 60
    assert found["received"] == 60
    for name in ("latency_us", "engine_us", "overhead_us"):
        assert set(found[name]) == {"p50", "p99", "p999", "max"}


def test_a_challenge_passes_through_the_running_line(plant: Plant) -> None:
    (plant.folder / "known").mkdir()
    cv2.imwrite(str(plant.folder / "known" / "bad.png"), np.full((HEIGHT, WIDTH), 255, np.uint8))
    plant.write(
        cameras={"top": {"type": "folder", "path": str(plant.folder / "in"), "pace": "trigger"}},
        capture={"challenge_folder": str(plant.folder / "known")},
    )
    child = plant.start("run", str(plant.config))
    assert child.stdout is not None
    assert "inspecting" in child.stdout.readline()
    watcher = plant.start("watch", plant.address, "--json", "--count", "1", "--timeout", "30")
    replay = f"tcp://127.0.0.1:{plant.ports[1]}"
    time.sleep(0.5)
    code, _, err = plant.run("challenge", replay, "bad.png")
    assert code == 0, err
    out, _ = watcher.communicate(timeout=30)
    verdict = json.loads(out)
    assert (verdict["simulated"], verdict["decision"]) == (True, "REJECT")
    code, _, err = plant.run("challenge", replay, "../line.yaml")
    assert code == 64
    assert "no file of the line's challenge folder" in err
