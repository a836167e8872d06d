"""Rescoring on a real Ray, here: the same results as one process, and on after `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from edgeinspect.imaging.synthetic_strip import render_strip
from edgeinspect.registry import is_installed

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not is_installed("ray"), reason="ray is not installed: extra ray"),
]


def start(source: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "edgeinspect",
        "rescore",
        str(source),
        "--model",
        "strip-gate/1",
        "--store",
        str(ROOT / "engines"),
        "--out",
        str(out),
        "--backend",
        "ort",
        "--chunk",
        "2",
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    log = (out.parent / f"{out.name}.log").open("ab")
    with log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


@pytest.mark.timeout(300)
def test_ray_gives_what_one_process_gives_and_goes_on_after_kill_9(tmp_path: Path) -> None:
    source = tmp_path / "strips"
    source.mkdir()
    for index in range(60):
        cv2.imwrite(str(source / f"{index}.png"), render_strip(77, index).image)
    assert start(source, tmp_path / "plain", "--plain").wait(120) == 0
    out = tmp_path / "ray"
    first = start(source, out, "--workers", "2")
    end = time.monotonic() + 120
    while len(list(out.glob("parts/*.jsonl"))) < 3:
        assert first.poll() is None, (tmp_path / "ray.log").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)  # its own session: Ray's processes of this run too
    first.wait(20)
    assert not (out / "results.csv").exists()
    assert start(source, out, "--workers", "2").wait(180) == 0, (tmp_path / "ray.log").read_text()
    said = (tmp_path / "ray.log").read_text()
    assert "frames were done before" in said
    assert (out / "results.csv").read_bytes() == (tmp_path / "plain/results.csv").read_bytes()
    assert (out / "results.csv").read_text().count("\n") == 61
