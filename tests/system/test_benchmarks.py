"""The benchmarks still fit the code: all can be read, and those that are quick run in small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_every_script_loads() -> None:
    """In one process: what they import is loaded once."""
    assert len(SCRIPTS) > 12
    code = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='loaded')"
    done = run("-c", code, *map(str, SCRIPTS))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("ledger.py", "--rows", "3000", "--verify"),
        ("cameras.py", "--seconds", "0.4", "--cameras", "1", "2"),
        ("soak.py", "--frames", "2000", "--round", "500"),
    ],
    ids=lambda words: words[0],
)
def test_the_quick_ones_run(words: tuple[str, ...]) -> None:
    done = run(f"benchmarks/{words[0]}", *words[1:])
    assert done.returncode == 0, done.stderr
    found, _end = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{"))
    assert found
