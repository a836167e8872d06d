"""A backup of a ledger that is being written, and what the line does with a restored one."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeinspect.cli.main import main
from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.errors import (
    DataError,
    OutputError,
    SpoolError,
    TransientError,
    UsageError,
    exit_code_of,
)
from edgeinspect.storage.ledger.backup import RestoredLedger, back_up_ledger, restore_ledger
from edgeinspect.storage.ledger.database import LedgerDatabase, read_tail
from edgeinspect.storage.ledger.query import read_events
from edgeinspect.storage.ledger.verification import open_ledger, verify_ledger
from tests.ledger_fixture import LedgerFixture
from tests.unit.storage.ledger.test_ledger import run


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerFixture]:
    folder = tmp_path / "old"
    folder.mkdir()
    ledger = LedgerFixture(folder)
    yield ledger
    ledger.dispose()


def restore(
    ledger: LedgerFixture,
    backup: Path,
    folder: Path,
    *,
    after: int | None = None,
    later_s: float = 0,
    line: str = "t",
) -> RestoredLedger:
    clock = ManualClock()
    clock.utc_offset_ns += ledger.clock.utc_ns() - clock.utc_ns() + round(later_s * NS_PER_S)
    return restore_ledger(
        backup,
        folder / "t.ledger.sqlite",
        line=line,
        spool_path=folder / "t.spool",
        clock=clock,
        actor="user anna",
        after=after,
    )


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- backup -------------------------------------------------------------------------------


def test_a_backup_is_one_file_that_verifies(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(600)
    ledger.add_verdicts(3, Decision.REJECT, part="p-1")
    assert ledger.writer.write_backlog()
    (tmp_path / "to").mkdir()
    copy = back_up_ledger(ledger.path, tmp_path / "to" / "b.sqlite")
    assert (copy.verdicts, copy.last_seq, copy.report.is_consistent) == (603, 603, True)
    assert copy.last_utc_ns == ledger.clock.utc_ns()
    assert entries(tmp_path / "to") == ["b.sqlite"]
    with closing(open_ledger(copy.path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


def test_the_line_writes_while_it_is_backed_up(
    ledger: LedgerFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon neither waits for the copy, nor does what it writes meanwhile damage it."""
    ledger.add_verdicts(2000)
    assert ledger.writer.write_backlog()
    from edgeinspect.storage.ledger import backup as module

    describe = module._describe

    def write_meanwhile(copy: Path, target: Path) -> object:
        ledger.add_verdicts(500)
        assert ledger.writer.write_backlog()
        return describe(copy, target)

    monkeypatch.setattr(module, "_describe", write_meanwhile)
    copy = back_up_ledger(ledger.path, tmp_path / "b.sqlite")
    assert (copy.last_seq, copy.report.is_consistent) == (2000, True)
    assert read_tail(ledger.path).last_seq == 2500


def test_a_backup_replaces_the_previous_one_only_if_it_can_be_written(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    ledger.add_verdicts(10)
    assert ledger.writer.write_backlog()
    target = tmp_path / "b.sqlite"
    back_up_ledger(ledger.path, target)
    first = target.read_bytes()
    ledger.writer.close()
    # A page in the middle is damaged: the copy is refused, and the older one stays.
    data = bytearray(ledger.path.read_bytes())
    data[4096 * 3 : 4096 * 4] = bytes(range(256)) * 16
    ledger.path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        back_up_ledger(ledger.path, target)
    assert target.read_bytes() == first
    assert entries(tmp_path) == ["b.sqlite", "old"]


def test_a_full_disk_leaves_the_older_backup(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(1000)
    assert ledger.writer.write_backlog()
    target = tmp_path / "b.sqlite"
    back_up_ledger(ledger.path, target)
    older = target.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be copied"):
            back_up_ledger(ledger.path, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert target.read_bytes() == older
    assert entries(tmp_path) == ["b.sqlite", "old"]
    with pytest.raises(OutputError, match="No such file"):
        back_up_ledger(ledger.path, tmp_path / "missing" / "b.sqlite")


def test_the_ledger_itself_is_not_its_backup(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(1)
    assert ledger.writer.write_backlog()
    with pytest.raises(UsageError, match="the ledger itself"):
        back_up_ledger(ledger.path, ledger.path)


@pytest.mark.parametrize("kind", ["text", "damaged", "another line", "another database"])
def test_nothing_but_a_backup_of_this_line_is_replaced(
    ledger: LedgerFixture, tmp_path: Path, kind: str
) -> None:
    ledger.add_verdicts(3)
    assert ledger.writer.write_backlog()
    target = tmp_path / "b.sqlite"
    if kind == "another database":
        with closing(sqlite3.connect(target)) as db:
            db.execute("CREATE TABLE orders (number)")
    elif kind == "another line":
        (tmp_path / "other").mkdir()
        other = LedgerFixture(tmp_path / "other", line="press")
        other.add_verdicts(1)
        assert other.writer.write_backlog()
        back_up_ledger(other.path, target)
        other.dispose()
    else:
        header = b"line: press\n" if kind == "text" else b"SQLite format 3\0"
        target.write_bytes(header + bytes(5000))
    before = target.read_bytes()
    with pytest.raises(OutputError, match="would be replaced"):
        back_up_ledger(ledger.path, target)
    assert target.read_bytes() == before


def test_a_gap_of_the_ledger_is_saved_and_reported(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(10)
    assert ledger.writer.write_backlog()
    ledger.execute("DELETE FROM verdicts WHERE seq = 5")
    copy = back_up_ledger(ledger.path, tmp_path / "b.sqlite")
    assert copy.report.problems == ["verdicts 5 to 5 are missing"]
    assert copy.path.exists()


def test_the_last_backup_without_problems_is_kept(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(10)
    assert ledger.writer.write_backlog()
    target = tmp_path / "b.sqlite"
    back_up_ledger(ledger.path, target)
    before = target.read_bytes()
    ledger.execute("DELETE FROM verdicts WHERE seq = 5")
    for _night in range(2):
        assert back_up_ledger(ledger.path, target).report.problems
        assert (tmp_path / "b.sqlite.consistent").read_bytes() == before
        assert not verify_ledger(target).is_consistent


# -- restore ------------------------------------------------------------------------------


def backed_up(ledger: LedgerFixture, tmp_path: Path, verdicts: int = 100) -> Path:
    """Return a backup, after which the line inspects 50 more frames."""
    ledger.add_verdicts(verdicts)
    assert ledger.writer.write_backlog()
    backup = back_up_ledger(ledger.path, tmp_path / "b.sqlite").path
    ledger.add_verdicts(50)
    assert ledger.writer.write_backlog()
    return backup


def test_on_a_spare_pc_no_number_is_used_twice(ledger: LedgerFixture, tmp_path: Path) -> None:
    backup = backed_up(ledger, tmp_path)
    spare = tmp_path / "spare"
    restored = restore(ledger, backup, spare, later_s=1)
    # One every 10 ms, 99 in the first second, twice; the second one since has begun; and a day.
    last = 100 + 2 * 99 * (2 + 86_400)
    assert restored.skipped == (101, last)
    assert restored.skipped[1] >= ledger.spool.last_seq
    started = LedgerFixture(spare, utc_offset_ns=200 * NS_PER_S)
    started.add_verdicts(5)
    assert started.writer.write_backlog()
    report = verify_ledger(started.path, started.spool_path)
    assert report.is_consistent, report.problems
    assert report.skipped == last - 100
    assert started.spool.last_seq == last + 5
    assert report.notes == [
        f"the ledger was restored from a backup: ids 101 to {last} are not used again; frames "
        "inspected after the backup are among them, and not recorded"
    ]
    assert [epoch.captured for epoch in report.epochs] == [100, 5]
    with closing(open_ledger(started.path)) as db:
        (event,) = [each for each in read_events(db, 10) if each.kind == "ledger.restored"]
    assert event.actor == "user anna"
    assert json.loads(event.detail) == {"from_seq": 101, "to_seq": last, "backup": "b.sqlite"}
    started.dispose()


def test_a_known_last_number_is_continued(ledger: LedgerFixture, tmp_path: Path) -> None:
    backup = backed_up(ledger, tmp_path)
    assert restore(ledger, backup, tmp_path / "spare", after=150).skipped == (101, 150)
    started = LedgerFixture(tmp_path / "spare")
    assert started.open() == 151
    started.dispose()


def test_a_planned_swap_has_no_gap(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(100)
    assert ledger.writer.write_backlog(last=True)
    backup = back_up_ledger(ledger.path, tmp_path / "b.sqlite").path
    assert restore(ledger, backup, tmp_path / "spare", after=100).skipped is None
    started = LedgerFixture(tmp_path / "spare")
    assert started.open() == 101
    started.close_frame(101)
    started.publish_closed()
    assert started.writer.write_backlog()
    assert verify_ledger(started.path, started.spool_path).is_consistent
    started.dispose()


def test_a_later_loss_of_the_spool_still_skips(ledger: LedgerFixture, tmp_path: Path) -> None:
    """The restore answers for the numbers before it, not for those of later epochs."""
    restore(ledger, backed_up(ledger, tmp_path), tmp_path / "spare", after=150)
    started = LedgerFixture(tmp_path / "spare", slots=64)
    started.add_verdicts(5)
    assert started.writer.write_backlog()
    started.add_verdicts(3)  # sent, and lost with the spool
    started.dispose()
    started.spool_path.unlink()
    again = LedgerFixture(tmp_path / "spare", slots=64)
    assert again.spool.skipped == (156, 155 + 64)
    assert again.writer.write_backlog()
    assert verify_ledger(again.path, again.spool_path).is_consistent
    again.dispose()


def test_on_the_same_pc_a_spool_that_ends_with_the_backup_leaves_no_gap(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    """The last number is known: nothing is estimated, also a day later."""
    ledger.add_verdicts(100)
    assert ledger.writer.write_backlog()
    backup = back_up_ledger(ledger.path, tmp_path / "b.sqlite").path
    ledger.dispose()
    for file in ledger.folder.glob("t.ledger.sqlite*"):
        file.unlink()
    assert restore(ledger, backup, ledger.folder, later_s=90_000).skipped is None
    again = LedgerFixture(ledger.folder)
    again.add_verdicts(5)
    assert again.spool.last_seq == 105
    again.dispose()


def test_on_the_same_pc_the_spool_fills_the_gap(ledger: LedgerFixture, tmp_path: Path) -> None:
    """The disk of the ledger was replaced: the spool still has what the backup lacks."""
    backup = backed_up(ledger, tmp_path)
    ledger.dispose()
    for file in ledger.folder.glob("t.ledger.sqlite*"):
        file.unlink()
    assert restore(ledger, backup, ledger.folder).skipped is None
    again = LedgerFixture(ledger.folder)
    again.add_verdicts(5)
    assert again.writer.write_backlog()
    report = verify_ledger(again.path, again.spool_path)
    assert report.is_consistent, report.problems
    assert (report.notes, again.spool.last_seq, report.skipped) == ([], 155, 0)
    again.dispose()


def test_what_the_spool_no_longer_has_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    ledger = LedgerFixture(folder, slots=32)
    for _ in range(10):
        ledger.add_verdicts(10)
        assert ledger.writer.write_backlog()
    backup = back_up_ledger(ledger.path, tmp_path / "b.sqlite").path
    for _ in range(10):
        ledger.add_verdicts(10)
        assert ledger.writer.write_backlog()
    ledger.dispose()
    ledger.path.unlink()
    assert restore(ledger, backup, folder).skipped == (101, 200 - 32)
    with pytest.raises(OutputError, match="there is a ledger already"):
        restore(ledger, backup, folder)
    again = LedgerFixture(folder, slots=32)
    assert again.writer.write_backlog()
    report = verify_ledger(again.path, again.spool_path)
    assert report.is_consistent, report.problems
    assert report.skipped == 68
    again.dispose()


def test_what_restore_refuses(ledger: LedgerFixture, tmp_path: Path) -> None:
    backup = backed_up(ledger, tmp_path)
    spare = tmp_path / "spare"
    with pytest.raises(UsageError, match="of the line 't', not of 'press'"):
        restore(ledger, backup, spare, line="press")
    with pytest.raises(UsageError, match="the backup has verdict 100"):
        restore(ledger, backup, spare, after=99)
    with pytest.raises(UsageError, match="clock is before"):
        restore(ledger, backup, spare, later_s=-3600)
    with pytest.raises(DataError, match="there is no ledger"):
        restore(ledger, tmp_path / "missing", spare)
    with pytest.raises(TransientError, match="the line is running"):
        restore(ledger, backup, ledger.folder)
    cut = tmp_path / "cut.sqlite"
    cut.write_bytes(backup.read_bytes()[:-4096])
    with pytest.raises(DataError):
        restore(ledger, cut, spare)
    assert entries(spare) == ["t.ledger.sqlite.lock", "t.spool.lock"]  # nothing was left behind
    database = LedgerDatabase(spare / "t.ledger.sqlite")
    with pytest.raises(TransientError, match="a daemon writes it"):
        restore(ledger, backup, spare)
    database.close()


def test_the_log_of_another_ledger_is_not_replayed_into_a_copy(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    """After a power cut the old ledger was moved away, and its write-ahead log was not."""
    backup = backed_up(ledger, tmp_path)
    spare = tmp_path / "spare"
    spare.mkdir()
    log = spare / "t.ledger.sqlite-wal"
    shutil.copy(ledger.path.with_name("t.ledger.sqlite-wal"), log)
    for copy in (
        lambda: restore(ledger, backup, spare, after=1000),
        lambda: back_up_ledger(backup, spare / "t.ledger.sqlite"),
    ):
        with pytest.raises(OutputError, match="Move it away") as refused:
            copy()
        assert refused.value.where == str(log)
    log.unlink()
    restore(ledger, backup, spare, after=1000)
    assert read_tail(spare / "t.ledger.sqlite").last_seq == 1000


def test_a_line_does_not_start_while_its_ledger_is_restored(
    ledger: LedgerFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would find no ledger and count from 1 again."""
    from edgeinspect.storage.ledger import backup as module

    backup = backed_up(ledger, tmp_path)
    started: list[LedgerFixture] = []
    record = module._record

    def start_meanwhile(*arguments: Any) -> None:
        record(*arguments)
        started.append(LedgerFixture(tmp_path / "spare"))

    monkeypatch.setattr(module, "_record", start_meanwhile)
    (tmp_path / "spare").mkdir()  # as /run/edgeinspect, if a line ran since the PC was started
    with pytest.raises(SpoolError, match="is held by another process"):
        restore(ledger, backup, tmp_path / "spare")
    shutil.rmtree(tmp_path / "spare")
    with pytest.raises(TransientError, match="the line is running"):
        restore(ledger, backup, tmp_path / "spare")
    assert not (tmp_path / "spare" / "t.ledger.sqlite").exists()
    started[0].dispose()


def test_a_spool_of_another_run_is_refused(ledger: LedgerFixture, tmp_path: Path) -> None:
    """On the spare PC the line was tried, and counted from 1."""
    backup = backed_up(ledger, tmp_path)
    spare = tmp_path / "spare"
    spare.mkdir()
    trial = LedgerFixture(spare, utc_offset_ns=NS_PER_S)
    trial.add_verdicts(120)
    trial.dispose()
    with pytest.raises(UsageError, match=r"t\.spool: has another verdict 1 than the backup"):
        restore(ledger, backup, spare)
    trial.spool_path.unlink()
    restore(ledger, backup, spare)


def test_an_empty_backup_tells_no_number(ledger: LedgerFixture, tmp_path: Path) -> None:
    """The line ran after it, and nobody knows for how long."""
    assert ledger.writer.write_backlog()
    backup = back_up_ledger(ledger.path, tmp_path / "b.sqlite").path
    with pytest.raises(UsageError, match="--after; 0 if it used none"):
        restore(ledger, backup, tmp_path / "spare")
    assert restore(ledger, backup, tmp_path / "spare", after=5000).skipped == (1, 5000)
    assert read_tail(tmp_path / "spare" / "t.ledger.sqlite").last_seq == 5000


def test_a_share_that_trusts_no_root_takes_a_backup_but_no_ledger(
    ledger: LedgerFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line could not write such a ledger."""

    def refuse(*_arguments: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    backup = backed_up(ledger, tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.fchown", refuse)
    assert back_up_ledger(backup, tmp_path / "again.sqlite").verdicts == 100
    with pytest.raises(OutputError, match="Operation not permitted"):
        restore(ledger, backup, tmp_path / "spare")


def test_a_disk_that_fills_up_is_named_and_may_be_tried_again(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    ledger.add_verdicts(1000)
    assert ledger.writer.write_backlog()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        with pytest.raises(OutputError) as full:
            back_up_ledger(ledger.path, tmp_path / "b.sqlite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.where == str(tmp_path / "b.sqlite")
    assert exit_code_of(full.value) == 75


def test_a_backup_with_a_foreign_object_is_refused(ledger: LedgerFixture, tmp_path: Path) -> None:
    backup = backed_up(ledger, tmp_path)
    with closing(sqlite3.connect(backup)) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM verdicts; END")
    with pytest.raises(DataError, match="which no ledger has"):
        restore(ledger, backup, tmp_path / "spare")


# -- the commands -------------------------------------------------------------------------


def line_file(folder: Path) -> Path:
    text = (Path(__file__).parents[4] / "examples" / "strip.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text) | {"line": "t"}
    config["spool"] = {"folder": str(folder)}
    config["ledger"] = {"folder": str(folder)}
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_the_commands_name_what_they_did(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(100)
    assert ledger.writer.write_backlog()
    (tmp_path / "to").mkdir()
    code, out = run("backup", str(line_file(ledger.folder)), str(tmp_path / "to"))
    assert code == 0
    assert "to/t.ledger.sqlite: 100 verdicts, the last 100 of 20" in out
    spare = tmp_path / "spare"
    shutil.copytree(tmp_path / "to", spare)
    backup = (spare / "t.ledger.sqlite").rename(tmp_path / "b.sqlite")
    code, out = run("restore", str(line_file(spare)), str(backup), "--after", "150", "--json")
    assert json.loads(out)["skipped"] == [101, 150]


def test_a_kept_copy_is_named_only_where_there_is_one(
    ledger: LedgerFixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(10)
    assert ledger.writer.write_backlog()
    ledger.execute("DELETE FROM verdicts WHERE seq = 5")
    target = tmp_path / "b.sqlite"
    assert main(["ledger", "backup", str(ledger.path), str(target)]) == 0
    assert ".consistent" not in capsys.readouterr().err
    (tmp_path / "b.sqlite.consistent").touch()
    assert main(["ledger", "backup", str(ledger.path), str(target)]) == 0
    assert "b.sqlite.consistent" in capsys.readouterr().err
