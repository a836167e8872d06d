"""The ledger: every verdict, epoch, late result and event of a line, in one SQLite file.

It reads the spool with a cursor of its own, in a thread of its own, and commits in
batches. A disk that is slow, full or gone delays nothing but the ledger: the backlog waits
in the spool, an alarm stands, and what the spool overwrote meanwhile is counted as lost.
Source: docs/decisions/0009-ledger.md
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
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Verdict
from edgeinspect.storage.ledger.database import (
    OpenLedger,
    UnusableLedgerError,
    is_damage,
    set_aside,
)
from edgeinspect.storage.ledger.retention import Retention
from edgeinspect.storage.ledger.schema import INSERT_VERDICT, SPOOL_LOST, late_row, place
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system import log_events

_log = structlog.get_logger()
_BATCH = 512
_MAX_PAUSE_S = 5.0
_HANGS_NS = 10 * NS_PER_S
_LOST_STANDS_NS = 3600 * NS_PER_S
"""How long a loss stays an alarm; the event and the gap in `verify` stay for good."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to the line, beside its verdicts."""

    at_utc_ns: int
    epoch: int
    kind: str
    """As `line.started`, `config.loaded`, `engine.changed`, `alarm.raised`, `operator.acted`."""
    actor: str
    detail: dict[str, Any]


class LedgerWriter:
    """Writes one line's ledger.

    `run` is its thread, in which `catch_up` and `close` are called; the rest is thread-safe.
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
        """Prepare; the file is opened by the thread, and again after each fault.

        Args:
            path: The ledger's file.
            spool: Read from the file's own last seq on, up to what has been published.
            late: Results that came too late, filled by the closer.
            clock: For times and the retention.
            keep_days: As `Retention` has it.
            max_mib: As `Retention` has it.
            period_s: Pause between batches.
        """
        self.lost = 0
        """Verdicts that the spool overwrote before they could be written."""
        self.written = 0
        """The last seq that is committed."""
        self._path = path
        self._spool = spool
        self._late = late
        self._clock = clock
        self._retention = Retention(clock, keep_days=keep_days, max_mib=max_mib)
        self._period_s = period_s
        self._notes: deque[Note] = deque(maxlen=4096)
        self._stop = threading.Event()
        self._file: OpenLedger | None = None
        self._started: tuple[Any, ...] | None = None
        self._problem = ""
        self._damage = ""
        self._lost_until_ns = 0
        self._at_work_since_ns = 0

    # -- from any thread --------------------------------------------------------------

    @property
    def alarm(self) -> str:
        """What is wrong with the ledger, in words; empty while it keeps up."""
        if problem := self._problem:
            return problem
        behind = self._spool.published_seq - self._spool.ledgered_seq
        # A commit that hangs raises nothing; before the file is open the cursor means little.
        if behind > self._spool.slots // 2 and self._file is not None:
            return f"ledger is {behind} verdicts behind; the spool holds {self._spool.slots}"
        if (since_ns := self._at_work_since_ns) and self._clock.now_ns() - since_ns > _HANGS_NS:
            return "ledger stands still: verdicts wait in the spool"
        if self._clock.now_ns() < self._lost_until_ns:
            return f"ledger has lost {self.lost} verdicts"
        return ""

    def note(self, kind: str, detail: dict[str, Any] | None = None, actor: str = "daemon") -> None:
        """Record an event; never blocks."""
        self._notes.append(Note(self._clock.utc_ns(), self._spool.epoch, kind, actor, detail or {}))

    def begin_epoch(self, config_hash: str, gate: str | None, segmenter: str | None) -> None:
        """Name the epoch that begins; before `run`."""
        spool = self._spool
        self._started = (
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
        """The thread, until `stop`; what is published by then is written, if it can be."""
        pause_s = self._period_s
        while not self._stop.wait(pause_s):
            pause_s = self._period_s if self.catch_up() else min(pause_s * 2, _MAX_PAUSE_S)
        self.catch_up(last=True)
        self.close()

    def catch_up(self, last: bool = False) -> bool:
        """Write all there is now; the thread's step.

        Args:
            last: Also note that the epoch ended in order.

        Returns:
            False after a fault, with the alarm set.
        """
        self._at_work_since_ns = self._clock.now_ns()
        try:
            file = self._open()
            while self._write_batch(file):
                self._at_work_since_ns = self._clock.now_ns()
            if last:
                file.base.execute(
                    "UPDATE epochs SET ended_at_utc_ns = ? WHERE epoch = ?",
                    (self._clock.utc_ns(), self._spool.epoch),
                )
            self._retention.tend(file.base, self._spool.epoch)
            if last:
                self._retention.end(file.base)
        except Exception as error:  # whatever it is, the line goes on, and the alarm says it
            self.close()
            self._damage = str(error) if is_damage(error) else ""
            self._fail(f"ledger cannot be written: {str(error) or type(error).__name__}")
            return False
        finally:
            self._at_work_since_ns = 0
        if self._problem:
            _log.info(log_events.LEDGER_RECOVERED, behind=self._spool.last_seq - self.written)
            self._problem = ""
        return True

    def _fail(self, problem: str) -> None:
        if not self._problem:
            _log.error(log_events.LEDGER_FAILED, problem=problem, where=str(self._path))
        self._problem = problem

    def _write_batch(self, file: OpenLedger) -> bool:
        """One transaction; True if there may be more."""
        spool = self._spool
        published = spool.published_seq
        first = spool.ledgered_seq + 1
        start = min(max(first, spool.oldest_seq), published + 1)
        end = min(published, start + _BATCH - 1)
        late = [self._late.popleft() for _ in range(len(self._late))]
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        if end < first and not late and not notes:
            return False
        bodies = [body for seq in range(start, end + 1) if (body := spool.read(seq)) is not None]
        base = file.base
        try:
            base.execute("BEGIN IMMEDIATE")
            with base:
                missing = max(0, end - first + 1) - self._insert(file, bodies)
                happened = [*notes, self._gap(first, end, missing)] if missing else notes
                base.executemany("INSERT INTO late VALUES (?,?,?,?)", map(late_row, late))
                base.executemany(
                    "INSERT INTO events VALUES (NULL,?,?,?,?,?)", map(_note_row, happened)
                )
        except BaseException:
            self._late.extendleft(reversed(late))
            self._notes.extendleft(reversed(notes))
            raise
        if end >= first:
            self.written = end
            spool.mark_ledgered(end)
        if missing:
            self._lose(first, end, missing)
        return end < published

    def _insert(self, file: OpenLedger, bodies: list[bytes]) -> int:
        """Insert verdicts, the first of a seq wins; returns how many it took."""
        rows = []
        for body in bodies:
            try:
                rows.append(file.rows.row(body))
            except msgspec.DecodeError as error:
                self.note("ledger.unreadable", {"problem": str(error), "body": repr(body[:80])})
        return file.base.executemany(INSERT_VERDICT, rows).rowcount if rows else 0

    def _gap(self, first: int, end: int, missing: int) -> Note:
        detail = {"from_seq": first, "to_seq": end, "verdicts": missing}
        return Note(self._clock.utc_ns(), self._spool.epoch, "ledger.lost", "daemon", detail)

    def _lose(self, first: int, end: int, verdicts: int) -> None:
        problem = f"ledger has lost {verdicts} verdicts of {first} to {end}"
        _log.error(log_events.LEDGER_FAILED, problem=problem, where=str(self._path))
        self.lost += verdicts
        self._lost_until_ns = self._clock.now_ns() + _LOST_STANDS_NS

    # -- the file ---------------------------------------------------------------------

    def _open(self) -> OpenLedger:
        """The file, opened anew if it does not stand under its name any more."""
        if self._file is not None:
            if self._file.in_place:
                return self._file
            self.close()
            self.note("ledger.replaced", {"file": self._path.name})
        if self._damage and self._path.exists():
            self._abandon("damaged", self._damage)
        self._damage = ""
        try:
            self._file = self._begin()
        except UnusableLedgerError as error:
            self._abandon(error.suffix, str(error))
            self._file = self._begin()
        return self._file

    def _begin(self) -> OpenLedger:
        file = OpenLedger(self._path)
        try:
            # To the disk itself: after a power cut this epoch must be known to have begun.
            file.base.execute("PRAGMA synchronous=FULL")
            file.base.execute("BEGIN IMMEDIATE")
            with file.base:
                self._find_place(file.base)
                self._retention.begin(file.base)
                if self._started is not None:
                    file.base.execute(
                        "INSERT OR IGNORE INTO epochs VALUES (?,?,?,?,?,?,?,NULL)", self._started
                    )
            file.base.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            file.close()
            raise
        return file

    def _find_place(self, base: sqlite3.Connection) -> None:
        """Put the cursor where this file ends.

        The spool's own cursor may be ahead: of a commit that a power cut took back, or of
        a file that was exchanged for an older one. What the spool still holds is written
        again.
        """
        spool = self._spool
        last = place(base)
        floor = base.execute("SELECT value FROM meta WHERE name = 'floor_seq'").fetchone()
        if last is None and floor is None and not spool.ledgered_seq:
            # The line's first ledger is not to blame for what was before it.
            floor = (spool.oldest_seq,)
            base.execute("INSERT INTO meta VALUES ('floor_seq', ?)", floor)
        if last is None and spool.skipped is not None and spool.skipped[0] == 1:
            last = 0
        if last is None:
            last = (floor[0] if floor else spool.oldest_seq) - 1
        if last > spool.last_seq:
            raise UnusableLedgerError(
                f"knows verdict {last}, but the line is at {spool.last_seq}", suffix="ahead"
            )
        if spool.skipped is not None and spool.skipped[0] == last + 1:
            last = spool.skipped[1]
            detail = {"from_seq": spool.skipped[0], "to_seq": last}
            note = Note(self._clock.utc_ns(), spool.epoch, SPOOL_LOST, "daemon", detail)
            base.execute("INSERT INTO events VALUES (NULL,?,?,?,?,?)", _note_row(note))
        self.written = last
        spool.mark_ledgered(last)

    def _abandon(self, suffix: str, problem: str) -> None:
        """Set a file aside that cannot be continued; the next `_open` begins another."""
        aside = set_aside(self._path, suffix)
        _log.error(log_events.LEDGER_FAILED, problem=f"{problem}; set aside", where=str(aside))
        self.note("ledger.set_aside", {"file": aside.name, "problem": problem})

    def close(self) -> None:
        """Close the file; the next `catch_up` opens it again. The thread's own."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _note_row(note: Note) -> tuple[Any, ...]:
    detail = msgspec.json.encode(note.detail).decode()
    return note.at_utc_ns, note.epoch, note.kind, note.actor, detail
