"""The HMI as a separate user, which may read the line's files and write none of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger_fixture import LedgerFixture
from tests.unit.services.hmi.builders import ROOT

READ = """
import os, sys, urllib.parse  # imported now: the other user may not read the packages
from contextlib import closing
from pathlib import Path
from edgeinspect.errors import DataError
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.storage.ledger import VerdictFilter, find_verdicts, open_ledger
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path = Path(sys.argv[1])
try:
    with closing(open_ledger(path)) as base:
        print(len(list(find_verdicts(base, VerdictFilter()))), os.access(path.parent, os.W_OK))
except DataError as error:
    print(LedgerHistory(path).has_ledger, error)
"""


def read_as_another(path: Path) -> str:
    """The output of a user without write access who reads a ledger."""
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that other users may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_read_only_user_reads_the_ledger_in_each_state(open_to_all: Path) -> None:
    """While the daemon writes, after it was killed, and after it has exited."""
    folder = open_to_all / "kept"
    folder.mkdir(mode=0o755)
    ledger = LedgerFixture(folder)
    ledger.add_verdicts(3)
    assert ledger.writer.write_backlog()
    for path in folder.iterdir():
        path.chmod(0o644)
    assert read_as_another(ledger.path) == "3 False", "the daemon writes"
    copy = open_to_all / "killed"
    shutil.copytree(folder, copy)
    assert read_as_another(copy / ledger.path.name) == "3 False", "the daemon was killed"
    ledger.dispose()
    folder.chmod(0o700)
    assert "True" in read_as_another(ledger.path)
    assert "Give this user read permission" in read_as_another(ledger.path)
