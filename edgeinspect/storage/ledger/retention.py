"""Retention: removes the oldest verdicts of a ledger, a few at a time, and records it.

Age is time that has really passed (`RetentionClock`), never a date: the table `ages`
stores, some two hundred times in a retention period, which seq was the last at that age. The
order is that of the seqs. So a clock that is set to 2099, or to 1970, removes nothing.
Source: docs/explanation/decisions/0021-wall-clock-steps.md
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.storage.ledger.schema import PRUNED, RemovedVerdicts
from edgeinspect.system import RetentionClock, is_synchronised, log_events

_log = structlog.get_logger()
_MAX_REMOVED_AT_ONCE = 2_000
"""Verdicts removed in one step: some 10 ms of disk time."""
_VACUUM_PAGES = 2_000
_AGE_MARKS_PER_PERIOD = 200
"""Rows of `ages` in a retention period: a verdict stays at most 1/200 of it longer."""
_CHECK_INTERVAL_NS = 10 * NS_PER_S
_STORE_INTERVAL_NS = 60 * NS_PER_S
_EVENT_SPAN_NS = 3600 * NS_PER_S
"""Removals within this time share one event."""
_LOG_INTERVAL_NS = 60 * NS_PER_S
"""Removals within this time share one line in the log."""
_AGES_TABLE = """CREATE TABLE IF NOT EXISTS ages (
    seq INTEGER PRIMARY KEY, kept_ns INTEGER NOT NULL)"""
_KEPT, _KEPT_UTC, _FIRST, _FLOOR = "kept_ns", "kept_at_utc_ns", "first_seq", "floor_seq"


@dataclass(slots=True)
class _RemovalEvent:
    """The event to which removals are being added."""

    id: int
    removed: RemovedVerdicts
    since_ns: int


class LedgerRetention:
    """Removes verdicts by age and by file size from one ledger. The writer's thread."""

    def __init__(
        self,
        clock: Clock,
        *,
        keep_days: float,
        max_mib: float,
        synchronised: Callable[[], bool] = is_synchronised,
    ) -> None:
        """Create it without opening a file.

        Args:
            clock: Monotonic time for all decisions; UTC for the timestamps of events.
            keep_days: Older verdicts are removed; only time that really passed counts.
            max_mib: The oldest verdicts are removed when the file grows beyond this.
            synchronised: Whether the wall clock counts for the time that the PC was off.
        """
        self._clock = clock
        self._keep_ns = round(keep_days * 86_400 * NS_PER_S)
        self._max_bytes = round(max_mib * (1 << 20))
        self._kept_time = RetentionClock(clock, synchronised)
        self._event: _RemovalEvent | None = None
        self._next_check_ns = self._next_store_ns = 0
        self._marked_ns: int | None = None
        self._unlogged: RemovedVerdicts | None = None
        self._next_log_ns = 0

    def resume(self, db: sqlite3.Connection) -> None:
        """Continue in a file that was just opened; inside a transaction.

        In a file of a version without `ages` all verdicts start at age 0.
        """
        db.execute(_AGES_TABLE)
        if _read_meta(db, _FIRST) is None:
            lowest = db.execute("SELECT min(seq) FROM verdicts").fetchone()[0]
            _write_meta(db, _FIRST, max(lowest or 1, _read_meta(db, _FLOOR) or 1))
        self._kept_time.resume(_read_meta(db, _KEPT) or 0, _read_meta(db, _KEPT_UTC))
        self._event, self._next_check_ns = None, 0
        self._marked_ns = db.execute("SELECT max(kept_ns) FROM ages").fetchone()[0]

    def prune_if_due(self, db: sqlite3.Connection, epoch: int) -> None:
        """Remove some verdicts that are too old or too many, if a check is due.

        Args:
            db: The ledger, outside a transaction.
            epoch: For the events.
        """
        now_ns = self._clock.now_ns()
        if now_ns < self._next_check_ns:
            return
        kept_ns = self._kept_time.now_ns()
        self._record_age_mark(db, kept_ns, now_ns)
        more = self._prune(db, epoch, kept_ns, now_ns)
        if now_ns >= self._next_log_ns:
            self._next_log_ns = now_ns + (_LOG_INTERVAL_NS if self._unlogged else 0)
            self._log_removed()
        self._next_check_ns = now_ns if more else now_ns + _CHECK_INTERVAL_NS

    def save_age(self, db: sqlite3.Connection) -> None:
        """Store the age before the file is closed."""
        self._kept_time.now_ns()
        self._store_age(db)
        self._log_removed()

    # -- age --------------------------------------------------------------------------

    def _record_age_mark(self, db: sqlite3.Connection, kept_ns: int, now_ns: int) -> None:
        """Record the age of the newest verdict, and store the ledger's age, when due."""
        marked_ns = self._marked_ns
        if marked_ns is None or kept_ns - marked_ns >= self._keep_ns // _AGE_MARKS_PER_PERIOD:
            last = db.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
            if last is not None:
                db.execute("INSERT OR IGNORE INTO ages VALUES (?, ?)", (last, kept_ns))
                self._marked_ns = kept_ns
        if now_ns >= self._next_store_ns:
            self._store_age(db)
            self._next_store_ns = now_ns + _STORE_INTERVAL_NS

    def _store_age(self, db: sqlite3.Connection) -> None:
        kept_ns, at_utc_ns = self._kept_time.store()
        _write_meta(db, _KEPT, kept_ns)
        _write_meta(db, _KEPT_UTC, at_utc_ns)

    def _oldest_kept_by_age(self, db: sqlite3.Connection, kept_ns: int) -> int:
        """Return the first seq that is not too old."""
        old = db.execute(
            "SELECT max(seq) FROM ages WHERE kept_ns <= ?", (kept_ns - self._keep_ns,)
        ).fetchone()[0]
        return 0 if old is None else int(old) + 1

    # -- removal ----------------------------------------------------------------------

    def _prune(self, db: sqlite3.Connection, epoch: int, kept_ns: int, now_ns: int) -> bool:
        """Remove one step, never the newest verdict; return whether there is more."""
        lowest, last = db.execute(
            "SELECT (SELECT min(seq) FROM verdicts), (SELECT max(seq) FROM verdicts)"
        ).fetchone()
        if lowest is None:
            return False
        until = min(lowest + _MAX_REMOVED_AT_ONCE, last)
        old = self._oldest_kept_by_age(db, kept_ns)
        floor = min(max(old, self._oldest_kept_by_size(db, lowest, last)), until)
        if floor > lowest:
            self._remove(db, floor, "age" if old >= floor else "size", epoch, now_ns)
        _shrink_file(db)
        return bool(floor == until < last)

    def _oldest_kept_by_size(self, db: sqlite3.Connection, lowest: int, last: int) -> int:
        pages, free, page_bytes = _page_counts(db)
        used_bytes = (pages - free) * page_bytes
        if used_bytes <= self._max_bytes:
            return 0
        return lowest + int((last - lowest + 1) * (used_bytes - self._max_bytes) / used_bytes) + 1

    def _remove(
        self, db: sqlite3.Connection, floor: int, reason: str, epoch: int, now_ns: int
    ) -> None:
        """Remove below `floor` and record it, both in one transaction."""
        db.execute("BEGIN IMMEDIATE")
        with db:
            # From where the last removal ended: skipped seqs have no row.
            first = max(_read_meta(db, _FLOOR) or 1, _read_meta(db, _FIRST) or 1)
            count = db.execute("DELETE FROM verdicts WHERE seq < ?", (floor,)).rowcount
            db.execute("DELETE FROM late WHERE seq < ?", (floor,))
            db.execute(
                "DELETE FROM epochs WHERE epoch < (SELECT epoch FROM verdicts ORDER BY seq LIMIT 1)"
            )
            # The newest mark below stays: it has the age of the verdicts after it.
            db.execute("DELETE FROM ages WHERE seq < ?", (floor - 1,))
            _write_meta(db, _FLOOR, floor)
            event = self._record_removal(
                db, RemovedVerdicts(first, floor - 1, count, reason), epoch, now_ns
            )
        self._event = event
        pending = self._unlogged or RemovedVerdicts(first, floor - 1, 0, reason)
        self._unlogged = RemovedVerdicts(
            pending.from_seq, floor - 1, pending.verdicts + count, reason
        )

    def _record_removal(
        self, db: sqlite3.Connection, removed: RemovedVerdicts, epoch: int, now_ns: int
    ) -> _RemovalEvent:
        """Extend the last event of the same reason, or insert another."""
        event = self._event
        if (
            event is not None
            and event.removed.why == removed.why
            and event.removed.to_seq + 1 == removed.from_seq
            and now_ns - event.since_ns < _EVENT_SPAN_NS
        ):
            removed = RemovedVerdicts(
                event.removed.from_seq,
                removed.to_seq,
                event.removed.verdicts + removed.verdicts,
                removed.why,
            )
            detail = msgspec.json.encode(removed).decode()
            db.execute("UPDATE events SET detail = ? WHERE id = ?", (detail, event.id))
            return _RemovalEvent(event.id, removed, event.since_ns)
        detail = msgspec.json.encode(removed).decode()
        cursor = db.execute(
            "INSERT INTO events VALUES (NULL,?,?,?,?,?)",
            (self._clock.utc_ns(), epoch, PRUNED, "daemon", detail),
        )
        assert cursor.lastrowid is not None
        return _RemovalEvent(cursor.lastrowid, removed, now_ns)

    def _log_removed(self) -> None:
        """Log what was removed since the last log line."""
        if self._unlogged is not None:
            _log.info(log_events.LEDGER_PRUNED, **msgspec.structs.asdict(self._unlogged))
        self._unlogged = None


def _read_meta(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _write_meta(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _shrink_file(db: sqlite3.Connection) -> None:
    """Shrink the file if it has more free pages than the next verdicts will fill."""
    pages, free, _ = _page_counts(db)
    if free > pages // 10:
        db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()


def _page_counts(db: sqlite3.Connection) -> tuple[int, int, int]:
    pages, free, page_bytes = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, page_bytes
