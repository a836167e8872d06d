"""The ledger against its disk: full, slow, read-only, gone, damaged, shared; and `kill -9`."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.verdict import Decision
from edgeinspect.errors import DataError
from edgeinspect.storage.ledger.database import LedgerDatabase, read_tail
from edgeinspect.storage.ledger.verification import verify_ledger
from tests.ledger_fixture import LedgerFixture


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[LedgerFixture]:
    desk = LedgerFixture(tmp_path)
    yield desk
    desk.dispose()


def wait(until: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def kinds(desk: LedgerFixture) -> list[object]:
    return [kind for (kind,) in desk.query("SELECT kind FROM events ORDER BY id")]


# -- full, slow, gone -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        OSError(5, "Input/output error"),
        RuntimeError("a bug"),
    ],
    ids=str,
)
def test_every_failure_is_an_alarm_and_the_backlog_is_written_later(
    desk: LedgerFixture, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    desk.add_verdicts(5)

    def fail(path: Path) -> None:
        raise problem

    monkeypatch.setattr("edgeinspect.storage.ledger.writer.LedgerDatabase", fail)
    desk.late.append(desk.verdict(2, Decision.REJECT))
    desk.writer.record_event("operator.acted")
    for _ in range(3):
        assert not desk.writer.write_backlog()
    assert str(problem) in desk.writer.alarm
    assert desk.spool.ledgered_seq == 0
    desk.add_verdicts(5)
    monkeypatch.undo()
    assert desk.writer.write_backlog()
    assert desk.writer.alarm == ""
    (epoch,) = verify_ledger(desk.path, desk.spool_path).epochs
    assert (epoch.passed, epoch.late, kinds(desk)) == (10, 1, ["operator.acted"])


def test_a_transaction_that_fails_at_its_end_is_written_once_more_and_once(
    desk: LedgerFixture,
) -> None:
    desk.add_verdicts(5)
    assert desk.writer.write_backlog()
    desk.add_verdicts(5)
    desk.late.append(desk.verdict(2, Decision.REJECT))
    desk.writer.record_event("operator.acted")
    with closing(sqlite3.connect(desk.path)) as other:
        # Fails after the verdicts were inserted.
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT raise(FAIL, 'no'); END"
        )
        for _ in range(3):
            assert not desk.writer.write_backlog()
        assert desk.spool.ledgered_seq == 5
        other.execute("DROP TRIGGER no")
    assert desk.writer.write_backlog()
    (epoch,) = verify_ledger(desk.path, desk.spool_path).epochs
    assert (epoch.passed, epoch.late, kinds(desk)) == (10, 1, ["operator.acted"])
    assert desk.writer.lost == 0


def with_small_files(desk: LedgerFixture) -> None:
    """In a child: no file may grow, then it may again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    desk.add_verdicts(50)
    assert desk.writer.write_backlog()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (desk.path.stat().st_size + 4096, hard))
    while not desk.writer.alarm and desk.spool.last_seq < 20_000:
        desk.add_verdicts(200)
        desk.writer.write_backlog()
    assert desk.writer.alarm, "the disk was never full"
    assert desk.spool.last_seq > desk.spool.ledgered_seq
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert desk.writer.write_backlog()
    assert not desk.writer.alarm
    assert verify_ledger(desk.path, desk.spool_path).is_consistent


def in_child(body: Callable[[], None]) -> int:
    """Run in a fork; return the child's exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    assert in_child(lambda: with_small_files(LedgerFixture(tmp_path))) == 0


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: needs root and CAP_SYS_ADMIN")
    try:
        desk = LedgerFixture(tmp_path)
        desk.writer._path = desk.path = disk / "t.ledger.sqlite"
        while not desk.writer.alarm and desk.spool.last_seq < 20_000:
            desk.add_verdicts(100)
            desk.writer.write_backlog()
        assert "full" in desk.writer.alarm
        written = desk.spool.ledgered_seq
        desk.add_verdicts(100)
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        assert desk.writer.write_backlog()
        assert desk.writer.alarm == ""
        assert desk.spool.ledgered_seq == desk.spool.last_seq > written
        assert verify_ledger(desk.path, desk.spool_path).is_consistent
        desk.dispose()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_commit_that_hangs_delays_no_verdict_and_is_alarmed(tmp_path: Path) -> None:
    desk = LedgerFixture(tmp_path, slots=128)
    desk.add_verdicts(1)
    assert desk.writer.write_backlog()
    desk.writer.close()
    thread = threading.Thread(target=desk.writer.run)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer waits for us, up to two seconds
        thread.start()
        time.sleep(0.2)
        begun = time.monotonic()
        desk.add_verdicts(100)
        assert time.monotonic() - begun < 1
        assert desk.spool.ledgered_seq <= 1
        wait(lambda: desk.writer.alarm)
        other.execute("ROLLBACK")
    wait(lambda: desk.spool.ledgered_seq == 101)
    wait(lambda: not desk.writer.alarm)
    desk.writer.stop()
    thread.join(20)
    assert not thread.is_alive()
    account = verify_ledger(desk.path, desk.spool_path)
    assert account.is_consistent, account.problems
    assert account.epochs[0].ended_at_utc_ns is not None
    desk.dispose()


def test_a_disk_that_does_not_answer_is_alarmed_before_the_spool_is_half_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = LedgerFixture(tmp_path, slots=128)
    entered, free, step = threading.Event(), threading.Event(), desk.writer._open

    def hang() -> LedgerDatabase:
        entered.set()
        assert free.wait(30)
        return step()

    monkeypatch.setattr(desk.writer, "_open", hang)
    thread = threading.Thread(target=desk.writer.run)
    thread.start()
    try:
        desk.add_verdicts(1)
        assert entered.wait(20)
        assert desk.writer.alarm == ""
        desk.clock.advance(11 * NS_PER_S)
        assert desk.writer.alarm == "ledger stands still: verdicts wait in the spool"
        free.set()
        wait(lambda: not desk.writer.alarm and desk.spool.ledgered_seq == 1)
    finally:
        free.set()
        desk.writer.stop()
        thread.join(20)
    desk.dispose()


def test_a_writer_that_falls_behind_is_alarmed_before_it_loses(tmp_path: Path) -> None:
    desk = LedgerFixture(tmp_path, slots=128)
    desk.add_verdicts(1)
    desk.writer.write_backlog()
    desk.add_verdicts(60)
    assert desk.writer.alarm == ""
    desk.add_verdicts(10)
    assert desk.writer.alarm == "ledger is 70 verdicts behind; the spool holds 128"
    desk.writer.write_backlog()
    assert desk.writer.alarm == ""
    desk.dispose()


def test_overwritten_verdicts_are_counted_recorded_and_an_alarm(tmp_path: Path) -> None:
    desk = LedgerFixture(tmp_path, slots=64)
    desk.add_verdicts(10)
    desk.writer.write_backlog()
    desk.add_verdicts(2000)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT raise(FAIL, 'no'); END"
        )
        assert not desk.writer.write_backlog()
        assert desk.writer.lost == 0
        other.execute("DROP TRIGGER no")
    desk.writer.write_backlog()
    assert desk.writer.lost == 2010 - 64 - 10
    assert desk.writer.alarm == "ledger has lost 1936 verdicts"
    assert kinds(desk) == ["ledger.lost"]
    account = verify_ledger(desk.path, desk.spool_path)
    assert account.problems == ["verdicts 11 to 1946 are missing"]
    assert account.epochs[0].gaps == 1936
    desk.clock.advance(2 * 3600 * 10**9)
    assert desk.writer.alarm == ""
    desk.dispose()


def test_a_verdict_that_cannot_be_read_stops_nothing(desk: LedgerFixture) -> None:
    desk.spool.close(desk.open(), b"not a verdict")
    desk.add_verdicts(3)
    assert desk.writer.write_backlog()
    assert desk.writer.lost == 1
    assert desk.writer.write_backlog()
    assert set(kinds(desk)) == {"ledger.lost", "ledger.unreadable"}
    assert verify_ledger(desk.path).problems == ["verdicts 1 to 1 are missing"]


def test_the_folder_may_come_late(tmp_path: Path) -> None:
    desk = LedgerFixture(tmp_path)
    blocker = tmp_path / "disk"
    blocker.write_text("not a folder")
    desk.writer._path = desk.path = blocker / "deep" / "t.ledger.sqlite"
    desk.add_verdicts(3)
    assert not desk.writer.write_backlog()
    assert desk.writer.alarm
    blocker.unlink()
    assert desk.writer.write_backlog()
    assert verify_ledger(desk.path, desk.spool_path).is_consistent
    desk.dispose()


# -- damaged, exchanged, shared ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"not a database at all" * 400, "damaged"),
        (b"SQLite format 3\0" + b"\xff" * 8000, "damaged"),
        ("CREATE TABLE recipes (x)", "other"),
        ("CREATE TABLE meta (name, value)", "version-0"),
        ("CREATE TABLE meta AS SELECT 'schema' AS name, 77 AS value", "version-77"),
    ],
)
def test_an_unusable_file_is_quarantined(
    desk: LedgerFixture, content: bytes | str, suffix: str
) -> None:
    if isinstance(content, str):
        with closing(sqlite3.connect(desk.path)) as base, base:
            base.execute(content)
    else:
        desk.path.write_bytes(content)
    kept = desk.path.read_bytes()
    desk.add_verdicts(3)
    assert desk.writer.write_backlog()
    assert desk.path.with_name(f"{desk.path.name}.{suffix}-1").read_bytes() == kept
    assert verify_ledger(desk.path, desk.spool_path).is_consistent
    assert kinds(desk) == ["ledger.set_aside"]


def test_pages_that_are_corrupted_while_it_runs(desk: LedgerFixture) -> None:
    desk.add_verdicts(3000)
    assert desk.writer.write_backlog()
    desk.writer.close()
    size = desk.path.stat().st_size
    with desk.path.open("r+b") as file:
        for at in range(8192, size, 4096):
            file.seek(at)
            file.write(b"\xff" * 4096)
    with pytest.raises(DataError):
        verify_ledger(desk.path)
    desk.add_verdicts(100)
    wait(desk.writer.write_backlog)
    assert desk.writer.alarm == ""
    assert list(desk.path.parent.glob("*.damaged-1"))
    account = verify_ledger(desk.path, desk.spool_path)
    assert account.is_consistent, account.problems  # the spool had them all still
    assert account.epochs[0].captured == 3100


def test_a_quarantined_ledger_leaves_a_gap_that_is_reported(tmp_path: Path) -> None:
    desk = LedgerFixture(tmp_path, slots=64)
    desk.add_verdicts(50)
    desk.writer.write_backlog()
    desk.add_verdicts(50)
    desk.writer.write_backlog()
    desk.writer.close()
    desk.path.write_bytes(b"rot" * 5000)
    desk.add_verdicts(10)
    assert desk.writer.write_backlog()
    assert verify_ledger(desk.path, desk.spool_path).problems == ["verdicts 1 to 46 are missing"]
    desk.dispose()


@pytest.mark.parametrize("how", ["removed", "moved", "exchanged for an older one"])
def test_a_file_that_is_removed_while_it_runs(desk: LedgerFixture, how: str) -> None:
    desk.add_verdicts(10)
    desk.writer.write_backlog()
    older = desk.path.with_name("older")
    with closing(sqlite3.connect(desk.path)) as base, closing(sqlite3.connect(older)) as copy:
        base.backup(copy)
    desk.add_verdicts(10)
    desk.writer.write_backlog()
    if how == "removed":
        for path in desk.path.parent.glob("t.ledger.sqlite*"):
            path.unlink()
    elif how == "moved":
        desk.path.rename(desk.path.with_name("moved"))
    else:
        for suffix in ("-wal", "-shm"):
            desk.path.with_name(desk.path.name + suffix).unlink()
        older.replace(desk.path)
    desk.add_verdicts(10)
    assert desk.writer.write_backlog()
    account = verify_ledger(desk.path, desk.spool_path)
    assert account.is_consistent, account.problems
    assert account.epochs[0].captured == 30
    assert "ledger.replaced" in kinds(desk)


def test_a_commit_that_a_power_cut_reverted_is_written_again(desk: LedgerFixture) -> None:
    desk.add_verdicts(20)
    desk.writer.write_backlog()
    desk.execute("DELETE FROM verdicts WHERE seq > 12")
    again = desk.restart()
    assert again.spool.ledgered_seq == 20
    assert again.writer.write_backlog()
    assert verify_ledger(again.path, again.spool_path).is_consistent
    again.dispose()


def test_a_ledger_of_another_line_is_not_continued(desk: LedgerFixture, tmp_path: Path) -> None:
    other = LedgerFixture(tmp_path / "other")
    other.add_verdicts(30)
    other.writer.write_backlog()
    other.dispose()
    desk.add_verdicts(3)
    other.path.rename(desk.path)
    assert desk.writer.write_backlog()
    assert list(desk.path.parent.glob("*.ahead-1"))
    assert verify_ledger(desk.path, desk.spool_path).is_consistent


def test_two_daemons_do_not_share_a_ledger(desk: LedgerFixture, tmp_path: Path) -> None:
    desk.add_verdicts(3)
    assert desk.writer.write_backlog()
    other = LedgerFixture(tmp_path / "other")
    other.writer._path = desk.path
    other.add_verdicts(3)
    assert not other.writer.write_backlog()
    assert "another daemon" in other.writer.alarm
    desk.writer.close()
    other.dispose()
    assert verify_ledger(desk.path).epochs[0].captured == 3


# -- kill -9, and looking while it runs -------------------------------------------------------


def work(folder: Path, pause_s: float) -> None:
    """Close frames and write, until killed."""
    desk = LedgerFixture(folder)
    threading.Thread(target=desk.writer.run, daemon=True).start()
    while True:
        desk.add_verdicts(5, Decision.REJECT, part="p")
        desk.add_verdicts(20)
        desk.open()
        desk.close_frame(desk.spool.last_seq)
        desk.publish_closed()
        time.sleep(pause_s)


@contextmanager
def killed_after(body: Callable[[], None]) -> Iterator[None]:
    """A child that does `body`, killed at the end of the block."""
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_kill_9_of_the_writer_leaves_a_ledger_that_verifies(tmp_path: Path) -> None:
    path = tmp_path / "t.ledger.sqlite"
    for turn in range(8):
        before = read_tail(path)
        with killed_after(lambda: work(tmp_path, 0.001)):
            wait(lambda before=before: read_tail(path).last_epoch > before.last_epoch)
            time.sleep(0.03 * turn)
    desk = LedgerFixture(tmp_path)
    assert desk.writer.write_backlog(last=True)
    account = verify_ledger(desk.path, desk.spool_path)
    assert account.is_consistent, account.problems
    assert sum(epoch.captured for epoch in account.epochs) == desk.spool.last_seq > 500
    assert sum(epoch.ended_at_utc_ns is None for epoch in account.epochs) == 8
    desk.dispose()


def test_verify_beside_a_writer_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "t.ledger.sqlite"
    with killed_after(lambda: work(tmp_path, 0.02)):  # some thousand verdicts a second
        wait(lambda: read_tail(path).last_seq)
        for _ in range(8):
            account = verify_ledger(path, tmp_path / "t.spool")
            assert account.is_consistent, account.problems
