"""A named pipe, given where a file is expected, is refused by every command at once."""

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
    shutil.copytree(tmp_path / "set", tmp_path / "piped")
    os.mkfifo(tmp_path / "piped" / "good" / "z.png")
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
    "page {0}/pipe.yaml",
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
    "calibrate strip-gate/1 --images {0}/pictures --out {0}/store",
    "data split {0}/set --split {0}/pipe.json --out {0}/s.json",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_waits_for_a_pipe(folder: Path, words: str) -> None:
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


def test_a_pipe_among_the_pictures_of_a_set_is_said_to_be_unusable(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeinspect", "data", "inspect", str(folder / "piped")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "z.png" in done.stdout
    assert "named pipe" in " ".join(done.stdout.split())
