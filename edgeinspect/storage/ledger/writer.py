"""Writes the ledger: every verdict, epoch, late result and event of a line, in one SQLite file.

Its thread reads the spool with its own cursor and commits in batches. A disk that is slow, full
or missing delays only the ledger: the backlog waits in the spool, an alarm is raised, and
verdicts that the spool overwrites meanwhile are counted as lost.
Source: docs/explanation/decisions/0009-ledger.md
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from edgeinspect import __version__
from edgeinspect.domain import NS_PER_S, Clock, Verdict
from edgeinspect.storage.ledger.database import (
    LedgerDatabase,
    UnusableLedgerError,
    is_corruption,
)
from edgeinspect.storage.ledger.retention import LedgerRetention
from edgeinspect.storage.ledger.schema import (
    INSERT_VERDICT,
    SPOOL_LOST,
    last_accounted_seq,
    late_row,
)
from edgeinspect.storage.spool import Spool
from edgeinspect.storage.sqlite_file import quarantine
from edgeinspect.system import log_events

_log = structlog.get_logger()
_BATCH = 512
_MAX_PAUSE_S = 5.0
_STALL_NS = 10 * NS_PER_S
_LOSS_ALARM_NS = 3600 * NS_PER_S
"""How long a loss raises the alarm; the event and the gap in `verify` are permanent."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """An event of the line, other than a verdict."""

    at_utc_ns: int
    epoch: int
    kind: str
    """Such as `line.started`, `config.loaded`, `engine.changed` or `alarm.raised`."""
    actor: str
    detail: dict[str, Any]


class LedgerWriter:
    """Writes one line's ledger.

    `run` is its thread, which calls `write_backlog` and `close`; the rest is thread-safe.
    """

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
        """Prepare; the thread opens the file, and again after each failure.

        Args:
            path: The ledger's file.
            spool: Read from the file's last seq up to the last published one.
            late: Late results, filled by the closer.
            clock: For timestamps and retention.
            keep_days: As `LedgerRetention` has it.
            max_mib: As `LedgerRetention` has it.
            period_s: Pause between batches.
        """
        self.lost = 0
        """Number of verdicts that the spool overwrote before they could be written."""
        self.written = 0
        """The last committed seq."""
        self._path = path
        self._spool = spool
        self._late = late
        self._clock = clock
        self._retention = LedgerRetention(clock, keep_days=keep_days, max_mib=max_mib)
        self._period_s = period_s
        self._events: deque[LedgerEvent] = deque(maxlen=4096)
        self._stop = threading.Event()
        self._database: LedgerDatabase | None = None
        self._epoch_row: tuple[Any, ...] | None = None
        self._problem = ""
        self._corruption = ""
        self._loss_alarm_until_ns = 0
        self._busy_since_ns = 0

    # -- from any thread --------------------------------------------------------------

    @property
    def alarm(self) -> str:
        """The problem of the ledger; empty while it keeps up."""
        if problem := self._problem:
            return problem
        behind = self._spool.published_seq - self._spool.ledgered_seq
        # A commit that hangs raises nothing. Before the file is open the cursor is not known.
        if behind > self._spool.slots // 2 and self._database is not None:
            return f"ledger is {behind} verdicts behind; the spool holds {self._spool.slots}"
        if (since_ns := self._busy_since_ns) and self._clock.now_ns() - since_ns > _STALL_NS:
            return "ledger stands still: verdicts wait in the spool"
        if self._clock.now_ns() < self._loss_alarm_until_ns:
            return f"ledger has lost {self.lost} verdicts"
        return ""

    def record_event(
        self, kind: str, detail: dict[str, Any] | None = None, actor: str = "daemon"
    ) -> None:
        """Record an event; never blocks."""
        self._events.append(
            LedgerEvent(self._clock.utc_ns(), self._spool.epoch, kind, actor, detail or {})
        )

    def begin_epoch(self, config_hash: str, gate: str | None, segmenter: str | None) -> None:
        """Set the row of the epoch that begins; before `run`."""
        spool = self._spool
        self._epoch_row = (
            spool.epoch,
            self._clock.utc_ns(),
            spool.last_seq + 1,
            config_hash,
            gate,
            segmenter,
            __version__,
        )

    def stop(self) -> None:
        """End the thread after one more batch."""
        self._stop.set()

    # -- thread -----------------------------------------------------------------------

    def run(self) -> None:
        """Run the thread until `stop`, then write what was published, if possible."""
        pause_s = self._period_s
        while not self._stop.wait(pause_s):
            pause_s = self._period_s if self.write_backlog() else min(pause_s * 2, _MAX_PAUSE_S)
        self.write_backlog(last=True)
        self.close()

    def write_backlog(self, last: bool = False) -> bool:
        """Write everything that was published; one step of the thread.

        Args:
            last: Also record that the epoch ended in order.

        Returns:
            False after a failure, with the alarm set.
        """
        self._busy_since_ns = self._clock.now_ns()
        try:
            database = self._open()
            while self._write_batch(database):
                self._busy_since_ns = self._clock.now_ns()
            if last:
                database.db.execute(
                    "UPDATE epochs SET ended_at_utc_ns = ? WHERE epoch = ?",
                    (self._clock.utc_ns(), self._spool.epoch),
                )
            self._retention.prune_if_due(database.db, self._spool.epoch)
            if last:
                self._retention.save_age(database.db)
        except Exception as error:  # the line continues after any failure; the alarm reports it
            self.close()
            self._corruption = str(error) if is_corruption(error) else ""
            self._fail(f"ledger cannot be written: {str(error) or type(error).__name__}")
            return False
        finally:
            self._busy_since_ns = 0
        if self._problem:
            _log.info(log_events.LEDGER_RECOVERED, behind=self._spool.last_seq - self.written)
            self._problem = ""
        return True

    def _fail(self, problem: str) -> None:
        if not self._problem:
            _log.error(log_events.LEDGER_FAILED, problem=problem, where=str(self._path))
        self._problem = problem

    def _write_batch(self, database: LedgerDatabase) -> bool:
        """Write one transaction; return whether there may be more."""
        spool = self._spool
        published = spool.published_seq
        first = spool.ledgered_seq + 1
        start = min(max(first, spool.oldest_seq), published + 1)
        end = min(published, start + _BATCH - 1)
        late = [self._late.popleft() for _ in range(len(self._late))]
        events = [self._events.popleft() for _ in range(len(self._events))]
        if end < first and not late and not events:
            return False
        bodies = [body for seq in range(start, end + 1) if (body := spool.read(seq)) is not None]
        db = database.db
        try:
            db.execute("BEGIN IMMEDIATE")
            with db:
                missing = max(0, end - first + 1) - self._insert(database, bodies)
                new_events = [*events, self._loss_event(first, end, missing)] if missing else events
                db.executemany("INSERT INTO late VALUES (?,?,?,?)", map(late_row, late))
                db.executemany(
                    "INSERT INTO events VALUES (NULL,?,?,?,?,?)", map(_event_row, new_events)
                )
        except BaseException:
            self._late.extendleft(reversed(late))
            self._events.extendleft(reversed(events))
            raise
        if end >= first:
            self.written = end
            spool.mark_ledgered(end)
        if missing:
            self._report_loss(first, end, missing)
        return end < published

    def _insert(self, database: LedgerDatabase, bodies: list[bytes]) -> int:
        """Insert verdicts, of which the first of a seq wins; return how many were inserted."""
        rows = []
        for body in bodies:
            try:
                rows.append(database.encoder.encode(body))
            except msgspec.DecodeError as error:
                self.record_event(
                    "ledger.unreadable", {"problem": str(error), "body": repr(body[:80])}
                )
        return database.db.executemany(INSERT_VERDICT, rows).rowcount if rows else 0

    def _loss_event(self, first: int, end: int, missing: int) -> LedgerEvent:
        detail = {"from_seq": first, "to_seq": end, "verdicts": missing}
        return LedgerEvent(self._clock.utc_ns(), self._spool.epoch, "ledger.lost", "daemon", detail)

    def _report_loss(self, first: int, end: int, verdicts: int) -> None:
        problem = f"ledger has lost {verdicts} verdicts of {first} to {end}"
        _log.error(log_events.LEDGER_FAILED, problem=problem, where=str(self._path))
        self.lost += verdicts
        self._loss_alarm_until_ns = self._clock.now_ns() + _LOSS_ALARM_NS

    # -- the file ---------------------------------------------------------------------

    def _open(self) -> LedgerDatabase:
        """Return the open file; reopen it if it was moved or replaced."""
        if self._database is not None:
            if self._database.is_current:
                return self._database
            self.close()
            self.record_event("ledger.replaced", {"file": self._path.name})
        if self._corruption and self._path.exists():
            self._quarantine("damaged", self._corruption)
        self._corruption = ""
        try:
            self._database = self._open_database()
        except UnusableLedgerError as error:
            self._quarantine(error.suffix, str(error))
            self._database = self._open_database()
        return self._database

    def _open_database(self) -> LedgerDatabase:
        database = LedgerDatabase(self._path)
        try:
            # Flushed to the disk: after a power cut this epoch must be known.
            database.db.execute("PRAGMA synchronous=FULL")
            database.db.execute("BEGIN IMMEDIATE")
            with database.db:
                self._position_cursor(database.db)
                self._retention.resume(database.db)
                if self._epoch_row is not None:
                    database.db.execute(
                        "INSERT OR IGNORE INTO epochs VALUES (?,?,?,?,?,?,?,NULL)", self._epoch_row
                    )
            database.db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _position_cursor(self, db: sqlite3.Connection) -> None:
        """Set the spool's cursor to the end of this file.

        The cursor may be ahead: a power cut undid a commit, or an older file was restored. What
        the spool still has is written again.
        """
        spool = self._spool
        last = last_accounted_seq(db)
        floor = db.execute("SELECT value FROM meta WHERE name = 'floor_seq'").fetchone()
        if last is None and floor is None and not spool.ledgered_seq:
            # The line's first ledger does not answer for verdicts before it.
            floor = (spool.oldest_seq,)
            db.execute("INSERT INTO meta VALUES ('floor_seq', ?)", floor)
        if last is None and spool.skipped is not None and spool.skipped[0] == 1:
            last = 0
        if last is None:
            last = (floor[0] if floor else spool.oldest_seq) - 1
        if last > spool.last_seq:
            raise UnusableLedgerError(
                f"has verdict {last}, but the line is at {spool.last_seq}", suffix="ahead"
            )
        if spool.skipped is not None and spool.skipped[0] == last + 1:
            last = spool.skipped[1]
            detail = {"from_seq": spool.skipped[0], "to_seq": last}
            event = LedgerEvent(self._clock.utc_ns(), spool.epoch, SPOOL_LOST, "daemon", detail)
            db.execute("INSERT INTO events VALUES (NULL,?,?,?,?,?)", _event_row(event))
        self.written = last
        spool.mark_ledgered(last)

    def _quarantine(self, suffix: str, problem: str) -> None:
        """Quarantine a file that cannot be continued; the next `_open` creates another."""
        target = quarantine(self._path, suffix, keep_wal=True)
        _log.error(log_events.LEDGER_FAILED, problem=f"{problem}; quarantined", where=str(target))
        self.record_event("ledger.set_aside", {"file": target.name, "problem": problem})

    def close(self) -> None:
        """Close the file; the next `write_backlog` opens it again. Only for its thread."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _event_row(event: LedgerEvent) -> tuple[Any, ...]:
    detail = msgspec.json.encode(event.detail).decode()
    return event.at_utc_ns, event.epoch, event.kind, event.actor, detail
