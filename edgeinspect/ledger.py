"""The ledger: every verdict, epoch, late result and event of a line, in one SQLite file.

It reads the spool with a cursor of its own, in a thread of its own, and commits in
batches. A disk that is slow, full or gone delays nothing but the ledger: the backlog waits
in the spool, an alarm stands, and what the spool overwrote meanwhile is counted as lost.
Source: docs/decisions/0009-ledger.md
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from edgeinspect import events
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Verdict
from edgeinspect.spool import Spool
from edgeinspect.wire import decode_verdict, encode

SCHEMA_VERSION = 1
_log = structlog.get_logger()
_BATCH = 512
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (
    epoch INTEGER PRIMARY KEY, started_at_utc_ns INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    config_hash TEXT NOT NULL, gate TEXT, segmenter TEXT, ended_at_utc_ns INTEGER);
CREATE TABLE IF NOT EXISTS verdicts (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, captured_at_utc_ns INTEGER NOT NULL,
    camera TEXT NOT NULL, decision TEXT NOT NULL, reason TEXT NOT NULL, part_id TEXT,
    encoder_count INTEGER, defect_prob REAL, reject_code INTEGER NOT NULL, classes TEXT NOT NULL,
    degraded INTEGER NOT NULL, simulated INTEGER NOT NULL, total_us INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS verdicts_part ON verdicts (part_id) WHERE part_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS verdicts_time ON verdicts (captured_at_utc_ns);
CREATE INDEX IF NOT EXISTS verdicts_bad ON verdicts (decision, seq) WHERE decision != 'PASS';
CREATE TABLE IF NOT EXISTS late (
    seq INTEGER NOT NULL, epoch INTEGER NOT NULL, at_utc_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at_utc_ns INTEGER NOT NULL, epoch INTEGER NOT NULL,
    kind TEXT NOT NULL, actor TEXT NOT NULL, detail TEXT NOT NULL);
"""
_INSERT = "INSERT OR IGNORE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to the line, beside its verdicts."""

    at_utc_ns: int
    epoch: int
    kind: str
    """As `line.started`, `config.loaded`, `engine.changed`, `alarm.raised`, `operator.acted`."""
    actor: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What a ledger knows before the spool is opened."""

    last_seq: int = 0
    last_epoch: int = 0


def known(path: Path) -> Known:
    """The last seq and epoch in a ledger; zeros if there is none that can be read."""
    if not path.exists():
        return Known()
    try:
        base = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)
        try:
            seq = base.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
            epoch = base.execute("SELECT max(epoch) FROM epochs").fetchone()[0]
        finally:
            base.close()
    except sqlite3.Error:
        return Known()
    return Known(seq or 0, epoch or 0)


def verdict_row(body: bytes) -> tuple[Any, ...]:
    """A verdict's row in the table, from its JSON."""
    verdict = decode_verdict(body)
    return (
        verdict.seq,
        verdict.epoch,
        verdict.captured_at_utc_ns,
        verdict.camera,
        verdict.decision.value,
        verdict.reason.value,
        verdict.part_id,
        verdict.encoder_count,
        verdict.defect_prob,
        verdict.reject_code,
        ",".join(sorted({region.class_name for region in verdict.regions if region.fatal})),
        verdict.degraded,
        verdict.simulated,
        verdict.stages.total_us,
        zlib.compress(body, 1),
    )


class LedgerWriter:
    """Writes one line's ledger. `run` is its thread; `note` and `stop` are thread-safe."""

    def __init__(
        self,
        path: Path,
        *,
        spool: Spool,
        late: deque[Verdict],
        clock: Clock,
        keep_days: float,
        max_mib: float,
        period_s: float = 0.2,
    ) -> None:
        """Prepare; the file is opened by the thread, and again after each fault.

        Args:
            path: The ledger's file.
            spool: Read from `spool.ledgered_seq` on, up to what has been published.
            late: Results that came too late, filled by the closer.
            clock: For times and the retention.
            keep_days: Verdicts older than this are removed.
            max_mib: The oldest verdicts are removed when the file grows beyond this.
            period_s: Pause between batches.
        """
        self.alarm = ""
        """Why the ledger is behind, in words; empty while it keeps up."""
        self.lost = 0
        """Verdicts that the spool overwrote before they could be written."""
        self.written = 0
        self._path = path
        self._spool = spool
        self._late = late
        self._clock = clock
        self._keep_ns = round(keep_days * 86_400 * NS_PER_S)
        self._max_bytes = round(max_mib * (1 << 20))
        self._period_s = period_s
        self._notes: deque[Note] = deque(maxlen=4096)
        self._stop = threading.Event()
        self._base: sqlite3.Connection | None = None
        self._prune_at_ns = 0
        self._started: tuple[Any, ...] | None = None

    # -- from any thread --------------------------------------------------------------

    def note(self, kind: str, detail: dict[str, Any] | None = None, actor: str = "daemon") -> None:
        """Record an event. Thread-safe; never blocks."""
        self._notes.append(Note(self._clock.utc_ns(), self._spool.epoch, kind, actor, detail or {}))

    def begin_epoch(self, config_hash: str, gate: str | None, segmenter: str | None) -> None:
        """Name the epoch that begins; before `run`."""
        spool = self._spool
        self._started = (
            spool.epoch, self._clock.utc_ns(), spool.last_seq + 1, config_hash, gate, segmenter,
        )  # fmt: skip

    def stop(self) -> None:
        """End the thread after one more batch. Thread-safe."""
        self._stop.set()

    # -- thread -----------------------------------------------------------------------

    def run(self) -> None:
        """The thread, until `stop`; what is published by then is written, if it can be."""
        pause_s = self._period_s
        while not self._stop.wait(pause_s):
            pause_s = self._period_s if self._turn() else min(pause_s * 2, 5.0)
        self._turn(last=True)
        self._close()

    def _turn(self, last: bool = False) -> bool:
        """Write all there is; False after a fault, with the alarm set."""
        try:
            base = self._open()
            while self._write_batch(base):
                pass
            if last:
                base.execute(
                    "UPDATE epochs SET ended_at_utc_ns = ? WHERE epoch = ?",
                    (self._clock.utc_ns(), self._spool.epoch),
                )
                base.commit()
            self._prune(base)
        except (sqlite3.Error, OSError) as error:
            self._close()
            self._fault(f"ledger cannot be written: {error}")
            return False
        if self.alarm:
            _log.info(events.LEDGER_RECOVERED, behind=self._spool.last_seq - self.written)
            self.alarm = ""
        return True

    def _fault(self, alarm: str) -> None:
        if not self.alarm:
            _log.error(events.LEDGER_FAILED, problem=alarm, where=str(self._path))
        self.alarm = alarm

    def _write_batch(self, base: sqlite3.Connection) -> bool:
        """One transaction; True if there may be more."""
        spool = self._spool
        seq = spool.ledgered_seq + 1
        end = min(spool.published_seq, seq + _BATCH - 1)
        oldest = spool.oldest_seq
        gone = max(0, min(oldest, end + 1) - seq)
        bodies = [spool.read(number) for number in range(seq + gone, end + 1)]
        rows = [verdict_row(body) for body in bodies if body is not None]
        missing = end + 1 - seq - len(rows)  # those gone, and those that went while we read
        if missing:
            self.lost += missing
            self.note("ledger.lost", {"from_seq": seq, "to_seq": end, "verdicts": missing})
        late = [self._late.popleft() for _ in range(len(self._late))]
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        try:
            with base:
                base.executemany(_INSERT, rows)
                if late:
                    base.executemany("INSERT INTO late VALUES (?,?,?,?)", map(_late_row, late))
                if notes:
                    base.executemany("INSERT INTO events VALUES (NULL,?,?,?,?,?)",
                                     map(_note_row, notes))  # fmt: skip
        except sqlite3.Error:
            self._late.extendleft(reversed(late))
            self._notes.extendleft(reversed(notes))
            raise
        if end >= seq:
            self.written = end
            spool.mark_ledgered(end)
        return end < spool.published_seq

    def _open(self) -> sqlite3.Connection:
        if self._base is not None:
            return self._base
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = _set_aside(self._path)
            self._base = self._connect()
            self.note("ledger.set_aside", {"file": str(aside), "problem": str(error)})
        return self._base

    def _connect(self) -> sqlite3.Connection:
        base = sqlite3.connect(self._path, timeout=2)
        try:
            base.execute("PRAGMA auto_vacuum=INCREMENTAL")
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=NORMAL")
            base.executescript(_TABLES)
            base.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
            if self._started is not None:
                base.execute(
                    "INSERT OR IGNORE INTO epochs VALUES (?,?,?,?,?,?,NULL)", self._started
                )
            base.commit()
        except BaseException:
            base.close()
            raise
        return base

    def _close(self) -> None:
        if self._base is not None:
            try:
                self._base.close()
            except sqlite3.Error:
                pass  # what is committed is safe; the rest is still in the spool
            self._base = None

    # -- retention --------------------------------------------------------------------

    def _prune(self, base: sqlite3.Connection) -> None:
        """Remove what is too old or too much, a little every ten seconds."""
        now_ns = self._clock.now_ns()
        if now_ns < self._prune_at_ns:
            return
        self._prune_at_ns = now_ns + 10 * NS_PER_S
        floor = self._floor(base)
        if floor is None:
            return
        with base:
            base.execute("DELETE FROM verdicts WHERE seq < ?", (floor,))
            base.execute("DELETE FROM late WHERE seq < ?", (floor,))
            base.execute("INSERT OR REPLACE INTO meta VALUES ('floor_seq', ?)", (floor,))
        base.execute("PRAGMA incremental_vacuum(4096)").fetchall()

    def _floor(self, base: sqlite3.Connection) -> int | None:
        """The first seq to keep, at most 20,000 above the lowest; None to keep all."""
        lowest = base.execute("SELECT min(seq) FROM verdicts").fetchone()[0]
        if lowest is None:
            return None
        until = lowest + 20_000
        oldest_ns = self._clock.utc_ns() - self._keep_ns
        young = base.execute(
            "SELECT min(seq) FROM verdicts WHERE captured_at_utc_ns >= ? AND seq < ?",
            (oldest_ns, until),
        ).fetchone()[0]
        floor = until if young is None else int(young)
        pages = int(base.execute("PRAGMA page_count").fetchone()[0])
        free = int(base.execute("PRAGMA freelist_count").fetchone()[0])
        size = (pages - free) * int(base.execute("PRAGMA page_size").fetchone()[0])
        if size > self._max_bytes:
            held = base.execute("SELECT max(seq) - min(seq) + 1 FROM verdicts").fetchone()[0]
            excess = int(held * (size - self._max_bytes) / size) + 1
            floor = max(floor, min(lowest + excess, until))
        last = base.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
        floor = min(floor, int(last))
        return floor if floor > lowest else None


def _set_aside(path: Path) -> Path:
    """Move a file away that is no database, with its journal."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.rename(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return aside
    raise AssertionError


def _late_row(verdict: Verdict) -> tuple[Any, ...]:
    at_ns = verdict.captured_at_utc_ns + verdict.stages.total_us * 1000
    return verdict.seq, verdict.epoch, at_ns, zlib.compress(encode(verdict), 1)


def _note_row(note: Note) -> tuple[Any, ...]:
    detail = msgspec.json.encode(note.detail).decode()
    return note.at_utc_ns, note.epoch, note.kind, note.actor, detail
