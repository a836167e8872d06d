"""The command `edgeinspect record`: refusals and exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import needs

needs.library("mcap")

from edgeinspect.cli.main import main
from edgeinspect.storage.recording.messages import RecordedConfiguration, RecordingEnd
from edgeinspect.storage.recording.reader import open_recording

LINE = {
    "schema": 1,
    "line": "taken",
    "budget_ms": 50,
    "cameras": {"top": {"type": "synthetic"}},
    "engines": {"gate": {"type": "ov", "model": "nobody"}},
    "optics": {"mm_per_px_x": 1, "mm_per_px_y": 1},
    "decide": {
        "gate": {"suspect_at": 0.9, "reject_at": 0.9, "degraded_reject_at": 0.9, "reject_code": 1}
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "line.yaml"
    path.write_text(json.dumps(LINE | {"spool": {"folder": str(tmp_path / "run")}}))
    return path


def test_waits_for_the_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mcap"
    words = ["record", str(config), "--out", str(out), "--for", "0.2", "--log-format", "console"]
    assert main(words) == 0
    assert "recorded 0 frames" in capsys.readouterr().out
    items = list(open_recording(out).items())
    assert isinstance(items[1], RecordedConfiguration)
    assert isinstance(items[-1], RecordingEnd)
    assert main(words) == 73
    assert "exists already" in capsys.readouterr().err
    assert main(["replay", str(out)]) == 65
    assert "contains no frame" in capsys.readouterr().err


def test_refuses_an_invalid_configuration(config: Path, tmp_path: Path) -> None:
    words = ["record", str(config), "--out", str(tmp_path / "a.mcap"), "--for", "0.1"]
    assert main([*words, "--set", "budget_ms=-1"]) == 64
    assert not (tmp_path / "a.mcap").exists()


def test_sigterm_finishes_the_recording(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder"
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeinspect", "record", str(config), "--out", str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 60
        while not list(out.glob("taken-*.mcap")):
            assert time.monotonic() < end
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGTERM)
        said, _ = child.communicate(timeout=60)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    assert child.returncode == 0
    assert "recorded 0 frames" in said
    items = list(open_recording(out).items())
    assert items[-1] == RecordingEnd(why="stopped", frames=0, without_picture=0, missed=0)
