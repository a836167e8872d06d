"""The ledger: equal to the spool whatever the history, searchable, and provable by anyone."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeinspect.cli.ledger import ledger as ledger_cli
from edgeinspect.cli.main import main
from edgeinspect.config.loader import load_config
from edgeinspect.config.schema import LineConfig
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.verdict import Decision
from edgeinspect.errors import (
    DataError,
    MissingExtraError,
    OutputError,
    StorageError,
    TransientError,
    UsageError,
    exit_code_of,
)
from edgeinspect.pipeline.recovery import open_spool
from edgeinspect.storage.ledger.database import LedgerTail, read_tail
from edgeinspect.storage.ledger.query import (
    COLUMNS,
    VerdictFilter,
    export_csv,
    export_parquet,
    find_verdicts,
    read_body,
    read_events,
)
from edgeinspect.storage.ledger.schema import SCHEMA_VERSION, compress, decompress
from edgeinspect.storage.ledger.verification import open_ledger, verify_ledger
from edgeinspect.storage.spool.format import HEADER_BYTES, SLOT_BYTES
from edgeinspect.system import format_utc
from edgeinspect.system.untrusted_text import escape_cell
from tests import needs
from tests.ledger_fixture import LedgerFixture

HOSTILE = "plate'; DROP TABLE verdicts; -- [red]\x1b[2J[/]"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerFixture]:
    ledger = LedgerFixture(tmp_path)
    yield ledger
    ledger.dispose()


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(ledger_cli, list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), result.stdout


def search(path: Path, **arguments: object) -> list[int]:
    with closing(open_ledger(path)) as db:
        return [row[0] for row in find_verdicts(db, VerdictFilter(**arguments))]  # type: ignore[arg-type]


# -- what is written ----------------------------------------------------------------------


def test_ledger_equals_the_spool_and_verifies(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(600)
    ledger.add_verdicts(3, Decision.REJECT, part="p-1")
    ledger.add_verdicts(2, Decision.NO_VERDICT)
    assert ledger.writer.write_backlog()
    assert ledger.spool.ledgered_seq == ledger.writer.written == 605
    report = verify_ledger(ledger.path, ledger.spool_path)
    assert report.is_consistent
    (epoch,) = report.epochs
    assert (epoch.captured, epoch.passed, epoch.reject, epoch.no_verdict) == (605, 600, 3, 2)
    with closing(open_ledger(ledger.path)) as db:
        assert read_body(db, 601) == ledger.spool.read(601)
        assert read_body(db, 9999) is None


def test_only_what_is_published_is_written(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(3)
    ledger.close_frame(ledger.open())
    assert ledger.writer.write_backlog()
    assert read_tail(ledger.path).last_seq == 3


HISTORY = st.lists(
    st.sampled_from(
        [
            "open",
            "open",
            "end first",
            "end last",
            "end again",
            "publish",
            "catch up",
            "restart",
            "lose spool",
            "disk fails",
            "file moves",
        ]
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORY, st.lists(st.sampled_from(list(Decision)), min_size=1))
def test_after_any_history_the_ledger_equals_the_spool(
    steps: list[str], decisions: list[Decision]
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest would keep the one of each example
        live_through(Path(folder), steps, decisions)


def live_through(folder: Path, steps: list[str], decisions: list[Decision]) -> None:
    ledger = LedgerFixture(folder, slots=64)
    try:
        for number, step in enumerate(steps):
            ledger = advance(ledger, step, decisions[number % len(decisions)])
        for seq in range(ledger.spool.oldest_seq, ledger.spool.last_seq + 1):
            ledger.close_frame(seq)
        ledger.publish_closed()
        assert ledger.writer.write_backlog(last=True), ledger.writer.alarm
        report = verify_ledger(ledger.path, ledger.spool_path)
        assert report.is_consistent, report.problems
        captured = sum(epoch.captured for epoch in report.epochs)
        assert captured + report.skipped == ledger.spool.last_seq
        with closing(open_ledger(ledger.path)) as db:
            for seq in range(ledger.spool.oldest_seq, ledger.spool.last_seq + 1):
                assert read_body(db, seq) == ledger.spool.read(seq)
    finally:
        ledger.dispose()


def advance(ledger: LedgerFixture, step: str, decision: Decision) -> LedgerFixture:
    held = range(ledger.spool.oldest_seq, ledger.spool.last_seq + 1)
    waiting = [seq for seq in held if ledger.spool.is_open(seq)]
    if step == "open":
        ledger.open()
    elif step.startswith("end") and waiting:
        ledger.close_frame(waiting[0 if step == "end first" else -1], decision)
    elif step == "end again" and len(waiting) < len(held):
        closed = next(seq for seq in held if seq not in waiting)
        assert not ledger.spool.close(closed, b"another verdict")
    elif step == "publish":
        ledger.publish_closed()
    elif step == "catch up":
        assert ledger.writer.write_backlog()
    elif step == "restart":
        return ledger.restart(slots=64)
    elif step == "lose spool" and not waiting:
        ledger.publish_closed()
        assert ledger.writer.write_backlog()
        ledger.dispose()
        ledger.spool_path.unlink()
        return LedgerFixture(ledger.folder, slots=64)
    elif step == "disk fails":
        ledger.writer.close()
        os.chmod(ledger.folder, 0o500)
        blocker = ledger.path.with_name(ledger.path.name + ".lock")
        kept = blocker.with_name("kept")
        if blocker.exists():
            blocker.rename(kept)
        blocker.mkdir()  # root minds no permissions
        assert not ledger.writer.write_backlog()
        assert ledger.writer.alarm
        blocker.rmdir()
        os.chmod(ledger.folder, 0o700)
    elif step == "file moves" and ledger.path.exists() and ledger.spool.oldest_seq == 1:
        ledger.path.unlink()
    return ledger


@pytest.mark.parametrize("ledgered", [5, 0])
def test_a_lost_spool_repeats_no_seq_although_the_ledger_was_behind(
    ledger: LedgerFixture, ledgered: int
) -> None:
    ledger.add_verdicts(ledgered)
    assert ledger.writer.write_backlog()
    ledger.add_verdicts(3)  # on the wire, and not in the ledger
    given_out = ledger.spool.last_seq
    for losses in (1, 2):  # the second before the first new verdict is in the ledger
        ledger = lose_spool(ledger)
        assert ledger.writer.write_backlog()
        ledger.add_verdicts(2)
        assert ledger.spool.last_seq - 1 > given_out
        given_out = ledger.spool.last_seq
        assert ledger.spool.last_seq == ledgered + losses * 64 + 2
    assert ledger.writer.write_backlog(last=True)
    assert ledger.writer.lost == 0
    assert ledger.writer.alarm == ""
    report = verify_ledger(ledger.path, ledger.spool_path)
    assert report.is_consistent, report.problems
    assert report.skipped == 128
    assert report.notes == [
        f"the spool was lost: ids {first} to {first + 63} are not used; the last inspected "
        "frames may be among them and not be recorded"
        for first in (ledgered + 1, ledgered + 65)
    ]
    ledger = lose_spool(ledger)  # a clean shutdown: nothing is unknown, so no seq is skipped
    ledger.add_verdicts(1)
    assert ledger.spool.last_seq == ledgered + 128 + 3
    assert ledger.writer.write_backlog()
    assert verify_ledger(ledger.path, ledger.spool_path).skipped == 128
    ledger.execute("DELETE FROM events WHERE kind = 'spool.lost'")
    report = verify_ledger(ledger.path, ledger.spool_path)
    assert not report.is_consistent, "only recorded seqs count as skipped"
    ledger.dispose()


def lose_spool(ledger: LedgerFixture) -> LedgerFixture:
    ledger.dispose()
    ledger.spool_path.unlink()
    return LedgerFixture(ledger.folder, slots=64)


@given(st.binary(max_size=4000), st.binary(min_size=1, max_size=6000))
def test_a_body_survives_compression(body: bytes, dictionary: bytes) -> None:
    assert decompress(compress(body, dictionary), dictionary) == body


def test_each_change_of_provenance_has_a_row_and_a_dictionary(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(5)
    ledger.calibration = "entropy-2"
    ledger.add_verdicts(5)
    ledger.calibration = None
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    with closing(open_ledger(ledger.path)) as db:
        found = [
            row[COLUMNS.index("gate_calibration")] for row in find_verdicts(db, VerdictFilter())
        ]
    assert found == [None] * 5 + ["entropy-2"] * 5 + ["entropy-1"] * 5
    assert verify_ledger(ledger.path, ledger.spool_path).is_consistent
    packed = ledger.query("SELECT avg(length(body)), count(DISTINCT cause) FROM verdicts")
    assert packed[0][1] == 3
    assert float(str(packed[0][0])) < 150  # of some 900 bytes of JSON


def test_epochs_late_results_and_events(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(4)
    ledger.late.append(ledger.verdict(2, Decision.REJECT))
    ledger.writer.record_event("config.loaded", {"config_hash": "abc"}, actor="someone")
    ledger.writer.write_backlog(last=True)
    (epoch,) = verify_ledger(ledger.path).epochs
    assert epoch.late == 1
    assert epoch.ended_at_utc_ns == ledger.clock.utc_ns()
    with closing(open_ledger(ledger.path)) as db:
        (event,) = read_events(db, 10)
    assert (event.kind, event.actor, json.loads(event.detail)) == (
        "config.loaded",
        "someone",
        {"config_hash": "abc"},
    )


def test_a_killed_epoch_has_no_end(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(1)
    ledger.writer.write_backlog()
    again = ledger.restart()
    again.add_verdicts(1)
    again.writer.write_backlog(last=True)
    killed, ended = verify_ledger(again.path).epochs
    assert killed.ended_at_utc_ns is None
    assert ended.ended_at_utc_ns is not None
    assert "was killed" in run("verify", str(again.path))[1]
    again.dispose()


def test_the_tail_is_where_the_next_epoch_continues(tmp_path: Path) -> None:
    path = tmp_path / "t.ledger.sqlite"
    assert read_tail(path).last_seq == 0
    path.write_bytes(b"junk" * 4096)
    assert read_tail(path).last_seq == 0
    path.unlink()
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3)
    ledger.writer.write_backlog()
    assert (read_tail(path).last_seq, read_tail(path).last_epoch) == (3, ledger.spool.epoch)
    ledger.dispose()


def test_a_tail_of_text_counts_as_damaged(tmp_path: Path) -> None:
    """SQLite keeps text in any column of a foreign file; the spool must still start."""
    path = tmp_path / "foreign.ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE verdicts (seq, epoch, captured_at_utc_ns)")
        db.execute("CREATE TABLE epochs (epoch, first_seq, ended_at_utc_ns)")
        db.execute("INSERT INTO verdicts VALUES (5, 'a', 1)")
        db.execute("INSERT INTO epochs VALUES ('b', 1, NULL)")
    assert read_tail(path) == LedgerTail()


def line_config(tmp_path: Path) -> LineConfig:
    text = f"""
schema: 1
line: t
budget_ms: 100
cameras: {{top: {{type: folder, path: {tmp_path}}}}}
engines: {{gate: {{type: ov, model: strip-gate}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
spool: {{folder: {tmp_path}}}
ledger: {{folder: {tmp_path}}}
"""
    (tmp_path / "t.yaml").write_text(text)
    return load_config(tmp_path / "t.yaml").config


def test_a_ledger_restored_during_the_start_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line found no ledger; then a restore put it there and released the spool."""
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3)
    ledger.writer.write_backlog()
    ledger.dispose()
    ledger.spool_path.unlink()
    config = line_config(tmp_path)
    tails = [LedgerTail()]
    monkeypatch.setattr(
        "edgeinspect.pipeline.recovery.read_tail",
        lambda path: tails.pop() if tails else read_tail(path),
    )
    with pytest.raises(TransientError, match="changed while the line was started"):
        open_spool(config, ledger.clock)
    spool = open_spool(config, ledger.clock)
    assert spool.last_seq >= 3
    spool.release()


def test_ids_do_not_restart_while_another_program_holds_the_ledger(tmp_path: Path) -> None:
    """After a power cut the spool is gone, and a backup may have the ledger."""
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3)
    ledger.writer.write_backlog()
    config = line_config(tmp_path)
    ledger.dispose()
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        open_spool(config, ledger.clock).release()  # the spool is enough
        ledger.spool_path.unlink()
        with pytest.raises(StorageError, match="database is locked") as refused:
            open_spool(config, ledger.clock)
        assert exit_code_of(refused.value) == 75
    spool = open_spool(config, ledger.clock)
    assert spool.last_seq >= 3
    spool.release()


def test_a_disk_without_locks_is_not_another_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3)

    def flock(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        assert not ledger.writer.write_backlog()
    assert "No locks available" in ledger.writer.alarm
    assert ledger.writer.write_backlog()
    assert not ledger.writer.alarm
    ledger.writer.close()
    assert verify_ledger(ledger.path).is_consistent
    ledger.dispose()


@pytest.mark.parametrize(
    "name", ["t.ledger.sqlite", "t.ledger.sqlite-journal", "t.ledger.sqlite-wal"]
)
def test_a_pipe_in_place_of_the_ledger_blocks_nothing(tmp_path: Path, name: str) -> None:
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3)
    ledger.writer.write_backlog()
    ledger.writer.close()
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert read_tail(ledger.path).last_seq == 0
    with pytest.raises(DataError):
        open_ledger(ledger.path)
    ledger.add_verdicts(1)
    if name == "t.ledger.sqlite":  # quarantined: another is created
        assert ledger.writer.write_backlog()
    else:
        assert not ledger.writer.write_backlog()
        assert "is no regular file" in ledger.writer.alarm
        (tmp_path / name).unlink()
        assert ledger.writer.write_backlog()
    ledger.writer.close()
    assert verify_ledger(ledger.path).is_consistent
    ledger.dispose()


def test_a_ledger_that_begins_later_does_not_answer_for_earlier_verdicts(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, slots=64)
    ledger.add_verdicts(100)  # without a ledger
    again = ledger.restart(slots=64)
    again.add_verdicts(5)
    assert again.writer.alarm == ""
    assert again.writer.write_backlog()
    assert again.writer.lost == 0
    report = verify_ledger(again.path, again.spool_path)
    assert report.is_consistent, report.problems
    again.dispose()


# -- retention ----------------------------------------------------------------------------


def test_retention_by_age_is_no_gap(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, keep_days=1, slots=8192)
    ledger.add_verdicts(5000)
    ledger.late.append(ledger.verdict(2, Decision.REJECT))
    ledger.writer.write_backlog()
    ledger.clock.advance(2 * 86_400 * NS_PER_S)
    ledger.add_verdicts(5)
    for _ in range(4):
        ledger.writer.write_backlog()
    report = verify_ledger(ledger.path)
    assert report.is_consistent, report.problems
    assert report.epochs[0].captured == 5
    assert report.epochs[0].late == 0
    ledger.dispose()


def test_retention_forgets_epochs_without_verdicts(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    again = ledger.restart(keep_days=1)
    again.writer.write_backlog()  # age counts while the ledger is open
    again.clock.advance(2 * 86_400 * NS_PER_S)
    again.add_verdicts(5)
    again.writer.write_backlog()
    assert [epoch.captured for epoch in verify_ledger(again.path).epochs] == [5]
    again.dispose()


def seqs(ledger: LedgerFixture) -> list[int]:
    return [int(str(row[0])) for row in ledger.query("SELECT seq FROM verdicts ORDER BY seq")]


DAY_NS = 86_400 * NS_PER_S
JUMPS = (91 * DAY_NS, -91 * DAY_NS, 3650 * DAY_NS, -56 * 365 * DAY_NS)


@pytest.mark.parametrize("by_ns", JUMPS)
@pytest.mark.parametrize("keep_days", [90, 0.01])
@pytest.mark.parametrize("restart", [True, False])
def test_a_clock_that_jumps_removes_nothing(
    tmp_path: Path, by_ns: int, keep_days: float, restart: bool
) -> None:
    ledger = LedgerFixture(tmp_path, keep_days=keep_days)
    ledger.add_verdicts(100)
    ledger.writer.write_backlog()
    for jump_ns in (by_ns, -by_ns):
        if restart:
            offset_ns = ledger.clock.utc_offset_ns
            ledger = ledger.restart(keep_days=keep_days)
            ledger.clock.utc_offset_ns = offset_ns
        ledger.clock.utc_offset_ns += jump_ns
        for _ in range(12):
            ledger.add_verdicts(10)
            ledger.clock.advance(NS_PER_S)
            ledger.writer.write_backlog()
    assert seqs(ledger) == list(range(1, 341))
    report = verify_ledger(ledger.path)
    assert report.is_consistent, report.problems
    assert report.removed == 0
    ledger.dispose()


@pytest.mark.parametrize("by_ns", JUMPS)
def test_verdicts_from_a_wrong_clock_age_like_the_others(tmp_path: Path, by_ns: int) -> None:
    """Stamped 1970 it is not old, stamped 2036 it does not stand in the way for ten years."""
    ledger = LedgerFixture(tmp_path, keep_days=1)
    ledger.clock.utc_offset_ns += by_ns
    ledger.add_verdicts(50)
    ledger.writer.write_backlog()
    ledger.clock.utc_offset_ns -= by_ns
    ledger.add_verdicts(50)
    for _ in range(23):
        ledger.clock.advance(3600 * NS_PER_S)
        ledger.writer.write_backlog()
    assert seqs(ledger) == list(range(1, 101))
    for _ in range(3):
        ledger.clock.advance(3600 * NS_PER_S)
        ledger.writer.write_backlog()
    assert seqs(ledger) == [100]
    assert verify_ledger(ledger.path).is_consistent
    ledger.dispose()


def test_each_removal_has_an_entry_that_verify_reports(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, keep_days=1, slots=8192)
    ledger.add_verdicts(5000)
    ledger.writer.write_backlog()
    ledger.clock.advance(2 * DAY_NS)
    ledger.add_verdicts(5)
    for _ in range(4):
        ledger.writer.write_backlog()
    with closing(open_ledger(ledger.path)) as db:
        found = [json.loads(e.detail) for e in read_events(db, 50) if e.kind == "ledger.pruned"]
    assert found == [{"from_seq": 1, "to_seq": 5000, "verdicts": 5000, "why": "age"}]
    report = verify_ledger(ledger.path)
    assert report.is_consistent, report.problems
    assert report.removed == 5000
    assert any("5000 verdicts by age" in note for note in report.notes)
    ledger.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE kind = 'ledger.pruned'",
        "UPDATE events SET detail = 'x' WHERE kind = 'ledger.pruned'",
        "UPDATE meta SET value = 5003 WHERE name = 'floor_seq'",
    ],
)
def test_a_removal_without_an_entry_is_a_fault(tmp_path: Path, statement: str) -> None:
    ledger = LedgerFixture(tmp_path, keep_days=1, slots=8192)
    ledger.add_verdicts(5000)
    ledger.writer.write_backlog()
    ledger.clock.advance(2 * DAY_NS)
    ledger.add_verdicts(5)
    for _ in range(4):
        ledger.writer.write_backlog()
    ledger.execute("DELETE FROM verdicts WHERE seq < 5003", statement)
    report = verify_ledger(ledger.path)
    assert not report.is_consistent
    assert any("without an entry" in each for each in report.problems)
    ledger.dispose()


def test_a_ledger_of_the_previous_version_starts_at_age_zero(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, keep_days=1)
    ledger.add_verdicts(20)
    ledger.writer.write_backlog()
    ledger.execute(
        "DROP TABLE ages",
        "DELETE FROM meta WHERE name IN ('first_seq', 'kept_ns', 'kept_at_utc_ns')",
        "DELETE FROM verdicts WHERE seq < 5",
        "REPLACE INTO meta VALUES ('floor_seq', 5)",
    )
    assert verify_ledger(ledger.path).is_consistent
    ledger.clock.advance(2 * DAY_NS)
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    assert seqs(ledger) == list(range(5, 26))
    assert verify_ledger(ledger.path).is_consistent
    ledger.clock.advance(2 * DAY_NS)
    ledger.add_verdicts(1)
    ledger.writer.write_backlog()
    assert seqs(ledger) == [26]
    report = verify_ledger(ledger.path)
    assert report.is_consistent, report.problems
    ledger.dispose()


@pytest.mark.parametrize("year_ns", [-56 * 365 * DAY_NS, 73 * 365 * DAY_NS])
def test_ids_never_go_back_with_the_clock(tmp_path: Path, year_ns: int) -> None:
    """Dead RTC battery: 1970 or 2099 from boot on, corrected later; the spool lost as well."""
    ledger = LedgerFixture(tmp_path)
    seen: list[tuple[int, int]] = []
    for turn, offset_ns in enumerate((0, year_ns, 0, year_ns)):
        if turn:
            ledger.writer.write_backlog(last=True)
            ledger.dispose()
            if turn == 2:
                ledger.spool_path.unlink()
            ledger = LedgerFixture(tmp_path, utc_offset_ns=offset_ns)
        ledger.add_verdicts(10)
        ledger.writer.write_backlog()
        seen += [(ledger.spool.epoch, seq) for seq in seqs(ledger)[-10:]]
    assert seen == sorted(seen)
    assert len({seq for _, seq in seen}) == 40
    report = verify_ledger(ledger.path)
    assert report.is_consistent, report.problems
    ledger.dispose()


def test_size_is_bounded(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, max_mib=1)
    for _ in range(20):
        ledger.add_verdicts(1500)
        ledger.writer.write_backlog()
        ledger.clock.advance(11 * NS_PER_S)
        ledger.writer.write_backlog()
    ledger.writer.close()
    assert ledger.path.stat().st_size < 1.6 * (1 << 20)
    assert verify_ledger(ledger.path).is_consistent
    assert len(search(ledger.path)) > 2000
    ledger.dispose()


# -- search -------------------------------------------------------------------------------


def test_queries(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(5)
    ledger.add_verdicts(2, Decision.REJECT, part=HOSTILE)
    ledger.add_verdicts(1, Decision.NO_VERDICT)
    ledger.writer.write_backlog()
    path, now_ns = ledger.path, ledger.clock.utc_ns()
    assert search(path) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert search(path, limit=2) == [8, 7]
    assert search(path, decision="REJECT") == [7, 6]
    assert search(path, decision="PASS", limit=2) == [5, 4]
    assert search(path, reason="deadline") == [8]
    assert search(path, reason="clean", limit=1) == [5]
    assert search(path, class_name="scratch", limit=1) == [7]
    assert search(path, class_name="scrat") == []
    assert search(path, camera="top", seq=2) == [2]
    assert search(path, camera="bottom") == []
    assert search(path, part_id=HOSTILE) == [7, 6]
    assert search(path, part_id=HOSTILE, decision="REJECT", seq=6) == [6]
    assert search(path, part_id="x' OR 1=1 --") == []
    assert search(path, seq=3) == [3]
    assert search(path, since_utc_ns=now_ns) == [8]
    assert search(path, since_utc_ns=now_ns - 20 * NS_PER_MS, decision="REJECT") == [7, 6]
    assert search(path, until_utc_ns=now_ns - 25 * NS_PER_MS, limit=1) == [5]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (VerdictFilter(part_id="p"), "verdicts_part"),
        (VerdictFilter(part_id="p", decision="REJECT"), "verdicts_part"),
        (VerdictFilter(decision="REJECT"), "verdicts_bad"),
        (VerdictFilter(decision="NO_VERDICT", since_utc_ns=1), "verdicts_bad"),
        (VerdictFilter(class_name="scratch"), "verdicts_bad"),
        (VerdictFilter(reason="deadline"), "verdicts_bad"),
        (VerdictFilter(since_utc_ns=1, until_utc_ns=2), "verdicts_time"),
        (VerdictFilter(limit=5), "verdicts_time"),
        (VerdictFilter(seq=5), "INTEGER PRIMARY KEY"),
    ],
)
def test_no_query_scans_the_whole_table(
    ledger: LedgerFixture, wanted: VerdictFilter, index: str
) -> None:
    ledger.add_verdicts(1)
    ledger.writer.write_backlog()
    asked: list[str] = []
    with closing(open_ledger(ledger.path)) as db:
        db.set_trace_callback(asked.append)
        list(find_verdicts(db, wanted))
        db.set_trace_callback(None)
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    assert index in plan[0], plan


# -- taking away --------------------------------------------------------------------------


def test_csv_is_read_back_unchanged(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(2)
    ledger.add_verdicts(2, Decision.REJECT, part='a "quoted",\r\npart, é')
    ledger.writer.write_backlog()
    target = tmp_path / "out.csv"
    with closing(open_ledger(ledger.path)) as db:
        assert export_csv(db, VerdictFilter(), target) == 4
        rows = list(find_verdicts(db, VerdictFilter()))
    with target.open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert tuple(head) == (*COLUMNS, "captured_at")
    assert [line[:-1] for line in lines] == [
        ["" if value is None else str(escape_cell(value)) for value in row] for row in rows
    ]
    at = COLUMNS.index("captured_at_utc_ns")
    assert [line[-1] for line in lines] == [format_utc(row[at]) for row in rows]
    assert lines[0][COLUMNS.index("part_id")] == 'a "quoted",\\r\\npart, é'


@pytest.mark.parametrize("part", ['=HYPERLINK("http://x/?"&A1,"x")', "\t=1+1", "@x", "-2+3"])
def test_no_part_id_becomes_a_spreadsheet_formula(
    ledger: LedgerFixture, tmp_path: Path, part: str
) -> None:
    """The text stays what it was in JSON and Parquet; in CSV it is text for a spreadsheet too."""
    ledger.add_verdicts(1, part=part)
    ledger.writer.write_backlog()
    with closing(open_ledger(ledger.path)) as db:
        export_csv(db, VerdictFilter(), tmp_path / "out.csv")
        (row,) = find_verdicts(db, VerdictFilter())
    assert row[COLUMNS.index("part_id")] == part
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        cell = next(iter(csv.DictReader(file)))["part_id"]
    assert cell.startswith("'")
    assert cell.isprintable()


def test_parquet_is_read_back_unchanged(ledger: LedgerFixture, tmp_path: Path) -> None:
    parquet = needs.library("pyarrow.parquet")
    for _ in range(6):
        ledger.add_verdicts(2_000)
        ledger.add_verdicts(1, Decision.REJECT, part="p-é")
        ledger.writer.write_backlog()
    target = tmp_path / "out.parquet"
    with closing(open_ledger(ledger.path)) as db:
        assert export_parquet(db, VerdictFilter(), target) == 12_006  # more than one batch
        rows = list(find_verdicts(db, VerdictFilter()))
    table = parquet.read_table(target)
    assert tuple(table.column_names) == (*COLUMNS, "captured_at")
    assert list(zip(*table.select(COLUMNS).to_pydict().values(), strict=True)) == rows
    at = [row[COLUMNS.index("captured_at_utc_ns")] for row in rows]
    assert table.column("captured_at").cast("int64").to_pylist() == at
    assert str(table.schema.field("captured_at").type) == "timestamp[ns, tz=UTC]"
    assert str(table.schema.field("degraded").type) == "bool"


def test_parquet_without_pyarrow_names_the_extra(
    ledger: LedgerFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.writer.write_backlog()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with closing(open_ledger(ledger.path)) as db, pytest.raises(MissingExtraError, match="parquet"):
        export_parquet(db, VerdictFilter(), tmp_path / "out.parquet")


def test_a_failed_export_leaves_no_file_and_keeps_the_ledger(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    with closing(open_ledger(ledger.path)) as db:
        with pytest.raises(OutputError, match="cannot be written"):
            export_csv(db, VerdictFilter(), tmp_path / "nowhere" / "out.csv")
        with pytest.raises(UsageError, match="is the ledger itself"):
            export_csv(db, VerdictFilter(), ledger.path)
    assert verify_ledger(ledger.path).is_consistent
    ledger.execute(
        "DROP INDEX verdicts_time", "ALTER TABLE verdicts RENAME COLUMN total_us TO other"
    )
    with closing(open_ledger(ledger.path)) as db, pytest.raises(DataError):
        export_csv(db, VerdictFilter(), tmp_path / "out.csv")
    assert not list(tmp_path.glob("out.csv*"))


# -- proof --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM verdicts WHERE seq = 3", "verdicts 3 to 3 are missing"),
        ("DELETE FROM verdicts WHERE seq < 3", "verdicts 1 to 2 are missing"),
        ("UPDATE verdicts SET decision = 'REJECT' WHERE seq = 2", "verdict 2: its body"),
        ("UPDATE verdicts SET decision = 'MAYBE' WHERE seq = 2", "verdict 2: its body"),
        ("UPDATE verdicts SET part_id = 'other' WHERE seq = 2", "verdict 2: its body"),
        ("UPDATE verdicts SET body = x'00' WHERE seq = 2", "verdict 2: its body"),
        ("UPDATE verdicts SET body = 'text' WHERE seq = 2", "verdict 2: its body"),
        ("UPDATE verdicts SET cause = 99 WHERE seq = 2", "verdict 2: its body"),
        (
            "UPDATE verdicts SET epoch = epoch + 1 WHERE seq = 2",
            "of an epoch that had already ended",
        ),
        ("UPDATE causes SET gate_calibration = 'x'", "verdict 1: its body"),
        ("UPDATE causes SET dictionary = x'00'", "verdict 1: its body"),
    ],
)
def test_every_kind_of_damage_is_found(ledger: LedgerFixture, statement: str, problem: str) -> None:
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    ledger.execute(statement)
    report = verify_ledger(ledger.path)
    assert not report.is_consistent
    assert any(problem in each for each in report.problems), report.problems
    assert run("verify", str(ledger.path))[0] == 65


def test_a_ledger_that_differs_from_the_spool_is_found(ledger: LedgerFixture) -> None:
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    other = ledger.restart()
    with closing(open_ledger(other.path)) as db:
        rest = read_body(db, 4)
    assert rest is not None
    at = HEADER_BYTES + 4 * SLOT_BYTES
    with other.spool_path.open("r+b") as file:
        file.seek(at)
        slot = bytearray(file.read(SLOT_BYTES))
        slot[slot.index(rest) + 20] ^= 1
        file.seek(at)
        file.write(slot)
    report = verify_ledger(other.path, other.spool_path)
    assert report.problems == ["frame 4 in the spool has lost its verdict"]
    other.dispose()


def test_a_verdict_in_neither_ledger_nor_spool_is_found(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path, slots=64)
    ledger.add_verdicts(5)
    ledger.writer.write_backlog()
    ledger.add_verdicts(100)
    problems = verify_ledger(ledger.path, ledger.spool_path).problems
    assert problems == ["verdicts 6 to 41 are neither in ledger nor spool"]
    assert verify_ledger(ledger.path, tmp_path / "none").problems
    ledger.dispose()


# -- the command --------------------------------------------------------------------------


def test_command_line(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(4)
    ledger.add_verdicts(1, Decision.REJECT, part=HOSTILE)
    ledger.writer.record_event("operator.acted", {"what": "[/]\x1b"}, actor="[b]me")
    ledger.writer.write_backlog(last=True)
    path = str(ledger.path)
    code, output = run("verify", path, "--spool", str(ledger.spool_path), "--json")
    assert code == 0
    assert json.loads(output)["epochs"][0]["captured"] == 5
    assert "holds" in run("verify", path)[1]
    _, output = run("query", path, "--json", "--limit", "2", "--since", "-9999d")
    assert [json.loads(line)["seq"] for line in output.splitlines()] == [5, 4]
    _, output = run("query", path)
    assert "DROP TABLE verdicts; -- [red]" in output
    assert "\x1b" not in output
    _, output = run("query", path, "--seq", "5", "--whole")
    assert output.encode() == (ledger.spool.read(5) or b"") + b"\n"
    assert "[b]me" in run("events", path)[1]
    assert json.loads(run("events", path, "--json")[1])["detail"] == {"what": "[/]\x1b"}
    assert run("export", path, "--csv", str(tmp_path / "out.csv"))[1].startswith("5 verdicts in ")


def test_a_configuration_names_ledger_and_spool(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(4)
    ledger.writer.write_backlog()
    text = f"""\
schema: 1
line: t
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
spool: {{folder: {tmp_path}}}
"""
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="keeps no ledger"):
        run("verify", str(path))
    path.write_text(f"{text}ledger: {{folder: {tmp_path}}}\n")
    assert run("verify", str(path))[0] == 0
    ledger.spool.release()
    ledger.spool_path.unlink()
    assert run("verify", str(path))[0] == 65


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE verdicts SET total_us = 'x'",
        "UPDATE verdicts SET epoch = 'x'",
        "UPDATE verdicts SET captured_at_utc_ns = x'00'",
        "UPDATE verdicts SET part_id = x'ff00'",
        "UPDATE verdicts SET camera = x'ff'",
        "UPDATE verdicts SET decision = x'ff'",
        "UPDATE verdicts SET defect_prob = 'x'",
        "UPDATE verdicts SET degraded = 'x'",
        "UPDATE verdicts SET encoder_count = 1.5",
        "UPDATE verdicts SET part_id = CAST(x'ff1b' AS TEXT)",
        "UPDATE causes SET gate = x'ff'",
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [["query"], ["query", "--json"], ["export", "--csv", "o"], ["export", "--parquet", "o"]],
)
def test_a_row_of_another_type_is_damage(
    ledger: LedgerFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "--parquet" in arguments:
        needs.library("pyarrow")
    monkeypatch.chdir(tmp_path)
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    ledger.execute(statement)
    assert main(["ledger", arguments[0], str(ledger.path), *arguments[1:]]) == 65
    assert "unexpected" not in capsys.readouterr().err
    assert not Path("o").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE epochs SET started_at_utc_ns = 'x'",
        "UPDATE epochs SET ended_at_utc_ns = x'ff'",
        "UPDATE meta SET value = 'x' WHERE name = 'first_seq'",
        "INSERT INTO late VALUES ('x', 'y', 'z', 'w')",
        "CREATE VIEW other AS WITH RECURSIVE n (x) AS (SELECT 1 UNION SELECT x + 1 FROM n)"
        " SELECT * FROM n",
        "CREATE TRIGGER other AFTER INSERT ON late BEGIN SELECT 1; END",
    ],
)
def test_an_object_that_no_ledger_has_is_refused(
    ledger: LedgerFixture, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    ledger.execute(statement)
    assert main(["ledger", "verify", str(ledger.path)]) == 65
    assert "unexpected" not in capsys.readouterr().err


def test_bodies_and_events_of_another_type_are_reported(
    ledger: LedgerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.record_event("line.started")
    ledger.writer.write_backlog()
    for statement, arguments, code in (
        ("UPDATE verdicts SET body = 'text'", ["query"], 0),
        ("UPDATE verdicts SET body = 'text'", ["query", "--whole"], 65),
        ("UPDATE causes SET dictionary = 'text'", ["query"], 0),
        ("UPDATE causes SET dictionary = 'text'", ["query", "--whole"], 65),
        ("UPDATE events SET detail = '{'", ["events", "--json"], 0),
        ("UPDATE events SET detail = '" + "[" * 9_000 + "'", ["events", "--json"], 0),
        ("UPDATE events SET detail = x'ff'", ["events"], 65),
        ("UPDATE events SET detail = '', at_utc_ns = 'x'", ["events"], 65),
    ):
        ledger.execute(statement)
        assert main(["ledger", arguments[0], str(ledger.path), *arguments[1:]]) == code, statement
        assert "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["query", "export --csv x.csv", "events"])
@pytest.mark.parametrize(
    ("since", "until"),
    [("2h", "3h"), ("today", "yesterday"), ("2026-01-31", "2026-01-31"), ("now", "1s")],
)
def test_a_period_that_ends_before_it_begins_is_refused(
    command: str,
    since: str,
    until: str,
    ledger: LedgerFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    words = [command.split()[0], str(ledger.path), *command.split()[1:]]
    for period in (["--since", since, "--until", until], ["--until", until, "--since", since]):
        assert main(["ledger", *words, *period]) == 64
        assert "edgeinspect: error: --until: " in (err := capsys.readouterr().err)
        assert "is not after --since 20" in err


def test_reading_leaves_no_file_beside_a_ledger(
    ledger: LedgerFixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog(last=True)
    folder = tmp_path / "copied"
    folder.mkdir()
    bare = folder / "t.ledger.sqlite"
    writing = {path.name for path in ledger.path.parent.glob("t.ledger.sqlite*")}
    assert main(["ledger", "verify", str(ledger.path)]) == 0
    assert {path.name for path in ledger.path.parent.glob("t.ledger.sqlite*")} == writing
    ledger.writer.close()
    bare.write_bytes(ledger.path.read_bytes())
    before = (bare.read_bytes(), bare.stat().st_mtime_ns)
    for words in (["verify"], ["query"], ["events"], ["backup", f"{tmp_path}/b.sqlite"]):
        assert main(["ledger", words[0], str(bare), *words[1:]]) == 0
        assert list(folder.iterdir()) == [bare], words
    assert (bare.read_bytes(), bare.stat().st_mtime_ns) == before
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["query", "LEDGER", "--since", "some day"], 64),
        (["query", "LEDGER", "--since", "yesterday"], 0),
        (["query", "LEDGER", "--since", "-99999999999999d"], 64),
        (["query", "LEDGER", "--since", "-999999999d"], 64),
        (["query", "LEDGER", "--since", "2026-01-31T06:00Z"], 0),
        (["query", "LEDGER", "--until", "9999-12-31T23:59"], 0),
        (["query", "LEDGER", "--part", "\udcff"], 64),
        (["query", "LEDGER", "--seq", "99999999999999999999"], 64),
        (["query", "LEDGER", "--limit", "0"], 64),
        (["query", "LEDGER", "--decision", "maybe"], 64),
        (["export", "LEDGER"], 64),
        (["export", "LEDGER", "--csv", "a", "--parquet", "b"], 64),
        (["export", "LEDGER", "--csv", "/nowhere/out.csv"], 73),
        (["verify", "missing"], 65),
        (["verify", "junk"], 65),
        (["query", "junk"], 65),
        (["verify", "empty"], 65),
        (["verify", "other"], 65),
        (["query", "newer"], 65),
        (["events", "hollow"], 65),
        (["verify", "hollow"], 65),
        (["query", "hollow"], 65),
        (["verify", "missing.yaml"], 78),
    ],
)
def test_exit_codes(
    ledger: LedgerFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    Path("junk").write_bytes(b"junk" * 4096)
    Path("empty").touch()
    make("other", "CREATE TABLE things (x)")
    make("newer", "CREATE TABLE meta (name, value)", "INSERT INTO meta VALUES ('schema', 99)")
    schema = f"INSERT INTO meta VALUES ('schema', {SCHEMA_VERSION})"
    make("hollow", "CREATE TABLE meta (name, value)", schema)
    given_arguments = [str(ledger.path) if word == "LEDGER" else word for word in arguments]
    assert main(["ledger", *given_arguments]) == code
    assert "unexpected" not in capsys.readouterr().err


def make(name: str, *statements: str) -> None:
    with closing(sqlite3.connect(name)) as db, db:
        for statement in statements:
            db.execute(statement)


def test_a_read_only_copy_is_read(ledger: LedgerFixture, tmp_path: Path) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    ledger.writer.close()
    odd = tmp_path / "with ?#% in it"
    odd.mkdir()
    copy = odd / "t.ledger.sqlite"
    copy.write_bytes(ledger.path.read_bytes())
    copy.chmod(0o400)
    odd.chmod(0o500)
    assert verify_ledger(copy).is_consistent


@pytest.mark.slow
def test_a_ledger_that_is_locked_is_not_read(
    ledger: LedgerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(2)
    ledger.writer.write_backlog()
    ledger.writer.close()
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert main(["ledger", "verify", str(ledger.path)]) == 75
    assert "database is locked" in capsys.readouterr().err
    assert main(["ledger", "verify", str(ledger.path)]) == 0
