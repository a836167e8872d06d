"""The archiver with a full disk and after `kill -9`, without an effect on the line."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.storage.archive.format import INDEX_FILE, PARTIAL_SUFFIX
from edgeinspect.storage.archive.reader import FrameQuery, check_integrity, find_frames, read_losses
from edgeinspect.storage.archive.status import read_status
from edgeinspect.storage.ledger.verification import verify_ledger
from tests.archive_fixture import NEAR, REJECT, LabelledCamera, archived_frames
from tests.faults.harness import RunningLine, wait_for

EVERY = 5
"""One of this many frames is a reject."""


class ArchiverProcess:
    """`edgeinspect archive run` as it runs in a plant."""

    def __init__(self, folder: Path, running: RunningLine, disk: Path) -> None:
        self.root = disk / "archive"
        self._log_path = folder / "archive.log"
        self._file = folder / "archive.yaml"
        self._file.write_text(f"""\
schema: 1
archive: a1
feed:
  line: rig
  verdicts: {running.line.publisher.address}
  replay: {running.line.replay_server.address}
folder: {self.root}
max_mib: 100
min_free_mib: 0
ring: {folder}
pass_ratio: 0
""")
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "edgeinspect",
            "archive",
            "run",
            str(self._file),
            "--log-format",
            "json",
        ]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    @property
    def cursor(self) -> int | None:
        """What it has stored."""
        try:
            with closing(
                sqlite3.connect(f"file:{self.root / INDEX_FILE}?mode=ro", uri=True)
            ) as base:
                found = base.execute("SELECT value FROM state WHERE name = 'cursor'").fetchone()
        except sqlite3.Error:
            return None
        return found[0] if found else None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0, self.log

    def end(self) -> None:
        if self._process.poll() is None:
            self.kill()


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[Path]:
    """Mount a small disk."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: needs root and CAP_SYS_ADMIN")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Fill a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def archive_problem(root: Path) -> str:
    """Return the problem that the archiver reports."""
    state = read_status(root)
    return "nothing is told" if state is None else state.problem


def account(process: ArchiverProcess, camera: LabelledCamera, verdicts: list[Verdict]) -> int:
    """Check that every reject has its own image or is counted as lost; return how many have one."""
    found = archived_frames(process.root)
    for seq, (_kind, pixels) in found.items():
        np.testing.assert_array_equal(pixels[:, :, None], camera.image(seq))
    rejects = {v.seq for v in verdicts if v.decision is Decision.REJECT}
    reported = sum(
        count for _hour, kind, _why, count in read_losses(process.root) if kind == "reject"
    )
    assert len(rejects & set(found)) + reported == len(rejects), (
        len(rejects),
        len(found),
        reported,
    )
    assert {row.seq for row in find_frames(process.root, FrameQuery())} == set(found)
    looked = check_integrity(process.root)
    assert (looked.frames, looked.broken, looked.unindexed) == (len(found), (), 0)
    assert not list(process.root.glob(f"**/*{PARTIAL_SUFFIX}"))
    return len(rejects & set(found))


def test_a_full_disk_under_archive_and_ledger(tmp_path: Path) -> None:
    camera = LabelledCamera(100, 1_000_000, {EVERY: REJECT})
    with tmpfs(tmp_path / "disk", "12m") as disk:
        running = RunningLine(
            tmp_path,
            camera=camera,
            budget_ms=1500,
            capture="{ring_slots: 64}",
            more=f"ledger: {{folder: {disk / 'ledger'}}}",
        )
        process = ArchiverProcess(tmp_path, running, disk)
        try:
            running.line.start()
            wait_for(lambda: process.cursor is not None)
            camera.begin.set()
            wait_for(lambda: (process.cursor or 0) > 20)
            fill(disk / "filler")
            # Alarms: the line's for the ledger, on every heartbeat; the archiver's in its log
            # and in its status file, which the HMI shows and which needs no free space.
            wait_for(lambda: "ledger" in running.line.alarms.text)
            wait_for(lambda: "archive.failed" in process.log)
            assert "No space left" in process.log
            wait_for(lambda: "No space left" in archive_problem(process.root))
            stuck = camera.sent
            wait_for(lambda: camera.sent > stuck + 100)
            (disk / "filler").unlink()
            wait_for(lambda: not running.line.alarms.text)
            wait_for(lambda: "archive.recovered" in process.log)
            wait_for(lambda: not archive_problem(process.root))
            camera.finish()
            assert running.ended.wait(30)
            wait_for(lambda: (process.cursor or 0) >= camera.sent)
            counts = running.stop()
            process.stop()
        finally:
            process.end()
        assert counts.late == 0
        assert "deadline" not in counts.reasons
        assert running.line.publisher.past_deadline.count == 0, "a verdict was published late"
        held = verify_ledger(disk / "ledger" / "rig.ledger.sqlite", tmp_path / "rig.spool")
        assert held.is_consistent, held.problems
        assert held.epochs[0].captured == counts.captured
        assert account(process, camera, running.verdicts) > 40


def test_kill_9_leaves_no_partial_image_and_loses_no_reject(tmp_path: Path) -> None:
    camera = LabelledCamera(100, 1_000_000, {EVERY: REJECT, 7: NEAR})
    running = RunningLine(tmp_path, camera=camera, budget_ms=1500, capture="{ring_slots: 64}")
    process = ArchiverProcess(tmp_path, running, tmp_path)
    try:
        running.line.start()
        wait_for(lambda: process.cursor is not None)
        camera.begin.set()
        for turn in range(3):
            before = process.cursor or 0
            wait_for(lambda before=before: (process.cursor or 0) > before + 5)  # type: ignore[misc]
            time.sleep(0.1 * turn)
            process.kill()
            process.start()
        camera.finish()
        assert running.ended.wait(30)
        wait_for(lambda: (process.cursor or 0) >= camera.sent)
        running.stop()
        process.stop()
    finally:
        process.end()
    assert account(process, camera, running.verdicts) > 10
