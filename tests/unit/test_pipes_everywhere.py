"""A named pipe in place of a file is rejected by every command immediately."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("good", "crack"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng(index).integers(0, 255, (32, 32), np.uint8)
            cv2.imwrite(str(tmp_path / "set" / kind / f"{kind}{index}.png"), pixels)
    for name in ("pipe.png", "pipe.yaml", "pipe.onnx", "pipe.json", "pipe.csv", "pipe.key", "pipe"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "pictures").mkdir()
    os.mkfifo(tmp_path / "pictures" / "a.png")
    shutil.copytree(tmp_path / "set", tmp_path / "set_with_pipe")
    os.mkfifo(tmp_path / "set_with_pipe" / "good" / "z.png")
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "run.json")
    (tmp_path / "indexed" / "images").mkdir(parents=True)
    os.mkfifo(tmp_path / "indexed" / "index.csv")
    (tmp_path / "keys" / "clients").mkdir(parents=True)
    os.mkfifo(tmp_path / "keys" / "server.key_secret")
    return tmp_path


COMMANDS = [
    "check {0}/pipe.yaml",
    "run {0}/pipe.yaml",
    "gateway {0}/pipe.yaml",
    "hmi {0}/pipe.yaml",
    "archive run {0}/pipe.yaml",
    "ledger verify {0}/pipe.yaml",
    "data inspect {0}/pipe.csv",
    "data inspect {0}/pictures",
    "data inspect {0}/indexed",
    "evaluate strip-gate/1 --data {0}/indexed",
    "evaluate strip-gate/1 --data {0}/pipe",
    "evaluate {0}/pipe.onnx --data {0}/set",
    "explain strip-gate/1 {0}/pipe.png --out {0}/out",
    "explain strip-gate/1 {0}/pictures --out {0}/out",
    "explain {0}/run {0}/set/good --out {0}/out",
    "models import {0}/pipe.onnx --name x --store {0}/store",
    "replay {0}/pipe",
    "calibrate strip-gate/1 --images {0}/pictures --store {0}/store",
    "data inspect {0}/set --split-file {0}/pipe.json",
]


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_blocks_on_a_pipe(folder: Path, words: str) -> None:
    command = words.format(folder).split()
    done = subprocess.run(
        [sys.executable, "-m", "edgeinspect", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in (64, 65, 75, 78), (done.returncode, done.stderr)


def test_a_pipe_in_a_data_set_is_reported(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeinspect", "data", "inspect", str(folder / "set_with_pipe")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "z.png" in done.stdout
    assert "named pipe" in " ".join(done.stdout.split())
