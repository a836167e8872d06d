"""With several processes, what measures time runs beside nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

needs.library("xdist")

from tests import parallel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFTEST = """
from tests.parallel import SideBySideThenAlone

def pytest_xdist_make_scheduler(config, log):
    return SideBySideThenAlone(config, log)
"""
MODULE = """
import os, time, pytest

@pytest.mark.parametrize("number", range(3))
def test_sleeps(number, request):
    start = time.monotonic_ns()
    time.sleep(0.05)
    with open(os.environ["TIMES"], "a") as times:
        print(request.node.nodeid, start, time.monotonic_ns(), os.getpid(), file=times)
"""
CRASH = """
import os, pathlib
def test_crashes(): os._exit(3)
def test_after(): pass
"""


def run_in_parallel(folder: Path, *names: str, crash: bool = False) -> list[tuple[str, int, int]]:
    """Return the tests with start and end; fail if any did not run once."""
    (folder / "conftest.py").write_text(CONFTEST)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(MODULE)
    if crash:
        (folder / "tests/unit/test_crash.py").write_text(CRASH)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ | {"TIMES": str(folder / "times"), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == crash, done.stdout + done.stderr
    rows = [line.split() for line in (folder / "times").read_text().splitlines()]
    assert sorted(row[0] for row in rows) == sorted(
        f"{name}::test_sleeps[{number}]" for name in names for number in range(3)
    )
    return [(name, int(start), int(end)) for name, start, end, _ in rows]


@pytest.mark.parametrize(("files", "crash"), [(1, False), (2, False), (5, False), (1, True)])
def test_a_test_that_must_run_alone_does(tmp_path: Path, files: int, crash: bool) -> None:
    names = [f"tests/unit/test_{number}.py" for number in range(files)]
    alone = ["tests/flow/test_line.py", "tests/later/test_new_folder.py"]
    times = run_in_parallel(tmp_path, *alone, *names, crash=crash)
    for name, start, end in times:
        if not name.startswith("tests/unit"):
            for other, other_start, other_end in times:
                beside = other != name and other_start < end and start < other_end
                assert not beside, f"{name} ran beside {other}"


def test_what_must_run_alone_runs_without_the_rest(tmp_path: Path) -> None:
    assert len(run_in_parallel(tmp_path, "tests/flow/test_a.py", "tests/system/test_b.py")) == 6


def test_every_named_file_is_there() -> None:
    names = (*parallel.FIRST, *parallel.LAST, *parallel.BUT)
    assert [name for name in names if not (ROOT / name).is_file()] == []
