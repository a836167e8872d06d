"""The ledger: equal to the spool, whatever the disk does, and provable by anyone."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeinspect.cli.ledger import ledger as ledger_cli
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.verdict import Box, Decision, Reason, Region, Verdict
from edgeinspect.errors import DataError, UsageError
from edgeinspect.ledger import LedgerWriter, known
from edgeinspect.ledger_read import (
    COLUMNS,
    Filter,
    export_csv,
    export_parquet,
    open_ledger,
    query,
    read_body,
    verify,
)
from edgeinspect.spool import Spool
from edgeinspect.spool_format import OpenRecord
from edgeinspect.testing import ManualClock
from edgeinspect.wire import encode

SCRATCH = Region(3, "scratch", 0.9, 40, 10.0, Box(1, 2, 3, 4), (1.0, 2.0), (0.5, 1.0), True)


class Desk:
    """A spool, a ledger on it, and a clock."""

    def __init__(self, folder: Path, slots: int = 4096, **limits: float) -> None:
        self.clock = ManualClock()
        self.path = folder / "t.ledger.sqlite"
        self.spool_path = folder / "t.spool"
        before = known(self.path)
        self.spool = Spool(
            self.spool_path, line="t", slots=slots, utc_ns=self.clock.utc_ns(),
            at_least_seq=before.last_seq, at_least_epoch=before.last_epoch,
        )  # fmt: skip
        self.late: deque[Verdict] = deque()
        self.writer = LedgerWriter(
            self.path, spool=self.spool, late=self.late, clock=self.clock,
            keep_days=limits.get("keep_days", 100), max_mib=limits.get("max_mib", 1000),
        )  # fmt: skip
        self.writer.begin_epoch("hash", "gate/1", None)
        for left in self.spool.unfinished:
            ended = verdict(self, left.seq, Decision.NO_VERDICT)
            self.spool.close(left.seq, encode(ended))
        self.spool.mark_published(self.spool.last_seq)

    def judge(
        self, count: int, decision: Decision = Decision.PASS, part: str | None = None
    ) -> None:
        for _ in range(count):
            self.clock.advance(10 * NS_PER_MS)
            record = OpenRecord("top", 1, 1, self.clock.utc_ns(), 0, 0, part_id=part)
            seq = self.spool.open(record)
            self.spool.close(seq, encode(verdict(self, seq, decision, part)))
            self.spool.mark_published(seq)

    def restart(self) -> Desk:
        self.dispose()
        return Desk(self.path.parent)

    def dispose(self) -> None:
        self.writer._close()
        self.spool.dispose()


def verdict(desk: Desk, seq: int, decision: Decision, part: str | None = None) -> Verdict:
    reject = decision is Decision.REJECT
    return Verdict(
        line="t", camera="top", epoch=desk.spool.epoch, seq=seq, frame=seq, camera_frame_id=seq,
        captured_at_utc_ns=desk.clock.utc_ns(), deadline_utc_ns=0, act_by_utc_ns=0,
        decision=decision, reason=Reason.DEFECT if reject else Reason.CLEAN, part_id=part,
        regions=(SCRATCH,) if reject else (), reject_code=7 if reject else 0, budget_us=1,
    )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(ledger_cli, list(words), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), result.output


def test_ledger_equals_the_spool_and_verifies(desk: Desk) -> None:
    desk.judge(600)
    desk.judge(3, Decision.REJECT, part="p-1")
    desk.judge(2, Decision.NO_VERDICT)
    assert desk.writer._turn()
    assert desk.spool.ledgered_seq == 605
    account = verify(desk.path, desk.spool_path)
    assert account.holds
    (epoch,) = account.epochs
    assert (epoch.captured, epoch.passed, epoch.reject, epoch.no_verdict) == (605, 600, 3, 2)
    with closing(open_ledger(desk.path)) as base:
        assert read_body(base, 601) == desk.spool.read(601)
        assert read_body(base, 9999) is None
    desk.dispose()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["judge", "turn", "restart", "lose spool"]), max_size=14))
def test_any_history_is_contiguous(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    for step in steps:
        if step == "judge":
            desk.judge(7)
        elif step == "turn":
            assert desk.writer._turn()
        elif step == "restart":
            desk = desk.restart()
        else:
            assert desk.writer._turn()
            desk.dispose()
            desk.spool_path.unlink()
            desk = Desk(desk.path.parent)
    assert desk.writer._turn()
    account = verify(desk.path, desk.spool_path)
    assert account.holds, account.problems
    assert sum(epoch.captured for epoch in account.epochs) == desk.spool.last_seq
    desk.dispose()


def test_full_disk_is_alarmed_and_the_backlog_comes_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.judge(5)

    def full() -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(desk.writer, "_connect", full)
    assert not desk.writer._turn()
    assert "disk is full" in desk.writer.alarm
    assert desk.spool.ledgered_seq == 0
    desk.judge(5)
    monkeypatch.undo()
    assert desk.writer._turn()
    assert desk.writer.alarm == ""
    assert verify(desk.path).epochs[0].passed == 10
    desk.dispose()


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A child whose files may not grow: the ledger fails, the alarm stands, verdicts go on."""
    program = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import importlib.util
spec = importlib.util.spec_from_file_location("t", {str(__file__)!r})
t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)
desk = t.Desk(Path({str(tmp_path)!r}))
desk.judge(50); assert desk.writer._turn()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (desk.path.stat().st_size + 4096, hard))
while not desk.writer.alarm and desk.spool.last_seq < 20000:
    desk.judge(200); desk.writer._turn()
assert desk.writer.alarm, "the disk was never full"
behind = desk.spool.last_seq - desk.spool.ledgered_seq
assert behind > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert desk.writer._turn() and not desk.writer.alarm
assert t.verify(desk.path, desk.spool_path).holds
print("recovered")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.strip().endswith("recovered"), done.stderr


def test_what_the_spool_overwrote_is_a_gap_that_verify_names(tmp_path: Path) -> None:
    desk = Desk(tmp_path, slots=64)
    desk.judge(10)
    desk.writer._turn()
    desk.judge(100)
    desk.writer._turn()
    assert desk.writer.lost == 110 - 64 - 10
    account = verify(desk.path)
    assert not account.holds
    assert account.problems == ["verdicts 11 to 46 are missing"]
    code, _ = run("verify", str(desk.path))
    assert code == 65
    desk.dispose()


def test_damage_is_found(desk: Desk) -> None:
    desk.judge(5)
    desk.writer._turn()
    desk.writer._close()
    with closing(sqlite3.connect(desk.path)) as base, base:
        base.execute("UPDATE verdicts SET decision = 'PASS', reject_code = 4 WHERE seq = 2")
        base.execute("UPDATE verdicts SET body = x'00' WHERE seq = 3")
    account = verify(desk.path)
    assert account.epochs[0].damaged == 2
    assert not account.holds
    desk.dispose()


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "t.ledger.sqlite").write_bytes(b"not a database at all" * 400)
    desk = Desk(tmp_path)
    desk.judge(3)
    assert desk.writer._turn()
    assert (tmp_path / "t.ledger.sqlite.damaged-1").exists()
    assert verify(desk.path).holds
    desk.dispose()


def test_kill_9_of_the_writer_leaves_a_ledger_that_verifies(tmp_path: Path) -> None:
    for _ in range(4):
        child = os.fork()
        if child == 0:
            desk = Desk(tmp_path)
            while True:
                desk.judge(40)
                desk.writer._turn()
        time.sleep(0.25)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    desk = Desk(tmp_path)
    desk.writer._turn()
    account = verify(desk.path, desk.spool_path)
    assert account.holds, account.problems
    desk.dispose()


def test_retention_is_no_gap(tmp_path: Path) -> None:
    desk = Desk(tmp_path, keep_days=1)
    desk.judge(100)
    desk.writer._turn()
    desk.clock.advance(2 * 86_400 * NS_PER_S)
    desk.judge(5)
    desk.writer._turn()
    desk.clock.advance(20 * NS_PER_S)
    desk.writer._turn()
    account = verify(desk.path)
    assert account.holds, account.problems
    assert account.epochs[0].captured == 5
    desk.dispose()


def test_size_is_bounded(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_mib=1)
    for _ in range(12):
        desk.judge(1500)
        desk.writer._turn()
        desk.clock.advance(11 * NS_PER_S)
        desk.writer._turn()
    with closing(open_ledger(desk.path)) as base:
        pages, size = (
            base.execute(f"PRAGMA {n}").fetchone()[0] for n in ("page_count", "page_size")
        )
    assert pages * size < 3 << 20
    assert verify(desk.path).holds
    desk.dispose()


def test_queries_and_exports(desk: Desk, tmp_path: Path) -> None:
    desk.judge(5)
    desk.judge(2, Decision.REJECT, part="plate'; DROP TABLE verdicts; --")
    desk.writer._turn()
    with closing(open_ledger(desk.path)) as base:

        def seqs(**words: object) -> list[int]:
            return [row[0] for row in query(base, Filter(**words))]  # type: ignore[arg-type]

        assert seqs(decision="REJECT") == [7, 6]
        assert seqs(class_name="scratch", limit=1) == [7]
        assert seqs(class_name="scrat") == []
        assert seqs(part_id="plate'; DROP TABLE verdicts; --") == [7, 6]
        assert seqs(seq=3) == [3]
        assert seqs(since_utc_ns=desk.clock.utc_ns()) == [7]
        assert seqs(until_utc_ns=desk.clock.utc_ns() - 15 * NS_PER_MS, limit=1) == [5]
        assert export_csv(base, Filter(), tmp_path / "out.csv") == 7
        pyarrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        assert export_parquet(base, Filter(decision="PASS"), tmp_path / "out.parquet") == 5
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 8
    table = pyarrow.read_table(tmp_path / "out.parquet")
    assert table.column("seq").to_pylist() == [5, 4, 3, 2, 1]
    desk.dispose()


def test_large_export_loses_no_row(desk: Desk, tmp_path: Path) -> None:
    for _ in range(11):
        desk.judge(2_000)
        desk.writer._turn()
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with closing(open_ledger(desk.path)) as base:
        assert export_parquet(base, Filter(), tmp_path / "all.parquet") == 22_000
    desk.dispose()


def test_command_line(desk: Desk, tmp_path: Path) -> None:
    desk.judge(4)
    desk.late.append(verdict(desk, 2, Decision.REJECT))
    desk.writer.note("config.loaded", {"config_hash": "abc"}, actor="someone")
    desk.writer._turn(last=True)
    code, output = run("verify", str(desk.path), "--spool", str(desk.spool_path), "--json")
    assert code == 0
    told = json.loads(output)
    assert told["holds"]
    assert told["epochs"][0]["late"] == 1
    _, output = run("query", str(desk.path), "--json", "--limit", "2", "--since", "-9999d")
    assert [json.loads(line)["seq"] for line in output.splitlines()] == [4, 3]
    assert "holds" in run("verify", str(desk.path))[1]
    assert "top" in run("query", str(desk.path))[1]
    with pytest.raises(UsageError, match="no time"):
        run("query", str(desk.path), "--since", "yesterday")
    with pytest.raises(UsageError, match="one of"):
        run("export", str(desk.path))
    with pytest.raises(DataError, match="no ledger"):
        run("verify", str(tmp_path / "none"))
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(DataError, match="not a ledger"):
        run("verify", str(tmp_path / "junk"))
    desk.dispose()
