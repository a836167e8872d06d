"""The rule that a skip is a failure where CI demands everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist", reason="pytest-xdist is not installed: extra test")

CONFTEST = Path(__file__).parents[1] / "conftest.py"

MODULE = """
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no such component")

@pytest.mark.skip(reason="by mark")
def test_marked(): pass

@pytest.fixture
def component(): pytest.skip("in a fixture")

def test_in_fixture(component): pass

@pytest.mark.data
def test_of_data(): pytest.skip("no pictures")

def test_of_shared(shared_data): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


def outcomes(tmp_path: Path, require: str, expected: int, processes: str) -> str:
    tests = tmp_path / "tests"
    (tests / "gpu").mkdir(parents=True)
    (tests / "conftest.py").write_text(CONFTEST.read_text())
    (tests / "test_a.py").write_text(MODULE)
    (tests / "test_b.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    (tests / "gpu" / "test_c.py").write_text(
        "import pytest\ndef test_gpu(): pytest.skip('no GPU')\n"
    )
    (tests / "gpu" / "test_d.py").write_text("import pytest\npytest.importorskip('no_such_cuda')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    data:\n    gpu:\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "-n",
            processes,
            "-p",
            "no:cacheprovider",
            "tests",
            "--continue-on-collection-errors",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(CONFTEST.parents[1]),
            "EDGEINSPECT_REQUIRE": require,
            "EDGEINSPECT_DATA": str(tmp_path / "absent"),
        },
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def test_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert "1 passed, 8 skipped, 1 xfailed" in outcomes(tmp_path, "", 0, "0")


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_skip_is_a_failure_where_everything_is_required(tmp_path: Path, processes: str) -> None:
    text = outcomes(tmp_path, "all", 1, processes)
    # A skip before the test's own body counts as an error, which fails the run as well.
    assert "1 failed, 1 passed, 4 skipped, 1 xfailed, 3 errors" in text
    for words in ("no such component", "by mark", "in a fixture", "no_such_module"):
        assert words in text
    assert text.count("EDGEINSPECT_REQUIRE=all forbids this skip. ") >= 4
    for name in ("test_of_data", "test_of_shared", "test_c.py", "test_d.py"):
        assert f"FAILED tests/test_a.py::{name}" not in text
