"""Retention: the oldest verdicts of a ledger go, a few at a time, and the ledger says so.

Age is time that has really passed (`timekeeping.RetentionClock`), never a date: the table `ages`
has, some two hundred times in a keeping time, which seq was the last at that age. The order is
that of the seqs. So a clock that stands in 2099, or in 1970, removes nothing.
Source: docs/decisions/0021-wall-clock-steps.md
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
"""Verdicts removed at once: some 10 ms of a disk's time."""
_VACUUM_PAGES = 2_000
_AGE_MARKS_PER_PERIOD = 200
"""Entries of `ages` in a keeping time: a verdict stays at most so much longer than asked."""
_CHECK_INTERVAL_NS = 10 * NS_PER_S
_STORE_INTERVAL_NS = 60 * NS_PER_S
_EVENT_SPAN_NS = 3600 * NS_PER_S
"""Removals of so long share one event."""
_LOG_INTERVAL_NS = 60 * NS_PER_S
"""And of so long one line in the log."""
_AGES_TABLE = """CREATE TABLE IF NOT EXISTS ages (
    seq INTEGER PRIMARY KEY, kept_ns INTEGER NOT NULL)"""
_KEPT, _KEPT_UTC, _FIRST, _FLOOR = "kept_ns", "kept_at_utc_ns", "first_seq", "floor_seq"


@dataclass(slots=True)
class _RemovalEvent:
    """The event that removals are now added to."""

    id: int
    removed: RemovedVerdicts
    since_ns: int


class LedgerRetention:
    """Removes what is too old or too much from one line's ledger. The writer's thread."""

    def __init__(
        self,
        clock: Clock,
        *,
        keep_days: float,
        max_mib: float,
        synchronised: Callable[[], bool] = is_synchronised,
    ) -> None:
        """Nothing is opened.

        Args:
            clock: Monotonic for all that is decided; UTC for the entries' stamps.
            keep_days: Verdicts kept for longer are removed: days that this ledger has
                really seen.
            max_mib: The oldest verdicts are removed when the file grows beyond this.
            synchronised: Whether the wall clock may vouch for time that the PC was off.
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

    def resume(self, base: sqlite3.Connection) -> None:
        """Take over a file that was just opened; inside a transaction.

        A file of a version without `ages` is taken to be new: what is in it is kept once more.
        """
        base.execute(_AGES_TABLE)
        if _read_meta(base, _FIRST) is None:
            lowest = base.execute("SELECT min(seq) FROM verdicts").fetchone()[0]
            _write_meta(base, _FIRST, max(lowest or 1, _read_meta(base, _FLOOR) or 1))
        self._kept_time.resume(_read_meta(base, _KEPT) or 0, _read_meta(base, _KEPT_UTC))
        self._event, self._next_check_ns = None, 0
        self._marked_ns = base.execute("SELECT max(kept_ns) FROM ages").fetchone()[0]

    def prune_if_due(self, base: sqlite3.Connection, epoch: int) -> None:
        """Remove some of what is too old or too much, if it is time to look.

        Args:
            base: The ledger, outside a transaction.
            epoch: Named by the entries.
        """
        now_ns = self._clock.now_ns()
        if now_ns < self._next_check_ns:
            return
        kept_ns = self._kept_time.now_ns()
        self._record_age_mark(base, kept_ns, now_ns)
        more = self._prune(base, epoch, kept_ns, now_ns)
        if now_ns >= self._next_log_ns:
            self._next_log_ns = now_ns + (_LOG_INTERVAL_NS if self._unlogged else 0)
            self._log_removed()
        self._next_check_ns = now_ns if more else now_ns + _CHECK_INTERVAL_NS

    def save_age(self, base: sqlite3.Connection) -> None:
        """Store the age before the file is closed."""
        self._kept_time.now_ns()
        self._store_age(base)
        self._log_removed()

    # -- age --------------------------------------------------------------------------

    def _record_age_mark(self, base: sqlite3.Connection, kept_ns: int, now_ns: int) -> None:
        """Note how old what is here now is, and store the age, each from time to time."""
        marked_ns = self._marked_ns
        if marked_ns is None or kept_ns - marked_ns >= self._keep_ns // _AGE_MARKS_PER_PERIOD:
            last = base.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
            if last is not None:
                base.execute("INSERT OR IGNORE INTO ages VALUES (?, ?)", (last, kept_ns))
                self._marked_ns = kept_ns
        if now_ns >= self._next_store_ns:
            self._store_age(base)
            self._next_store_ns = now_ns + _STORE_INTERVAL_NS

    def _store_age(self, base: sqlite3.Connection) -> None:
        kept_ns, at_utc_ns = self._kept_time.store()
        _write_meta(base, _KEPT, kept_ns)
        _write_meta(base, _KEPT_UTC, at_utc_ns)

    def _oldest_kept_by_age(self, base: sqlite3.Connection, kept_ns: int) -> int:
        """The first seq that is young enough."""
        old = base.execute(
            "SELECT max(seq) FROM ages WHERE kept_ns <= ?", (kept_ns - self._keep_ns,)
        ).fetchone()[0]
        return 0 if old is None else int(old) + 1

    # -- removal ----------------------------------------------------------------------

    def _prune(self, base: sqlite3.Connection, epoch: int, kept_ns: int, now_ns: int) -> bool:
        """Remove one step; the newest verdict always stays. True if there is more."""
        lowest, last = base.execute(
            "SELECT (SELECT min(seq) FROM verdicts), (SELECT max(seq) FROM verdicts)"
        ).fetchone()
        if lowest is None:
            return False
        until = min(lowest + _MAX_REMOVED_AT_ONCE, last)
        old = self._oldest_kept_by_age(base, kept_ns)
        floor = min(max(old, self._oldest_kept_by_size(base, lowest, last)), until)
        if floor > lowest:
            self._remove(base, floor, "age" if old >= floor else "size", epoch, now_ns)
        _shrink_file(base)
        return bool(floor == until < last)

    def _oldest_kept_by_size(self, base: sqlite3.Connection, lowest: int, last: int) -> int:
        pages, free, page_bytes = _page_counts(base)
        used_bytes = (pages - free) * page_bytes
        if used_bytes <= self._max_bytes:
            return 0
        return lowest + int((last - lowest + 1) * (used_bytes - self._max_bytes) / used_bytes) + 1

    def _remove(
        self, base: sqlite3.Connection, floor: int, why: str, epoch: int, now_ns: int
    ) -> None:
        """Remove below `floor`, with the entry that accounts for it, or neither."""
        base.execute("BEGIN IMMEDIATE")
        with base:
            # From where the last removal ended: seqs that were left out are in no row.
            first = max(_read_meta(base, _FLOOR) or 1, _read_meta(base, _FIRST) or 1)
            count = base.execute("DELETE FROM verdicts WHERE seq < ?", (floor,)).rowcount
            base.execute("DELETE FROM late WHERE seq < ?", (floor,))
            base.execute(
                "DELETE FROM epochs WHERE epoch < (SELECT epoch FROM verdicts ORDER BY seq LIMIT 1)"
            )
            # The newest mark below stays: it tells the age of what comes after it.
            base.execute("DELETE FROM ages WHERE seq < ?", (floor - 1,))
            _write_meta(base, _FLOOR, floor)
            entry = self._record_removal(
                base, RemovedVerdicts(first, floor - 1, count, why), epoch, now_ns
            )
        self._event = entry
        before = self._unlogged or RemovedVerdicts(first, floor - 1, 0, why)
        self._unlogged = RemovedVerdicts(before.from_seq, floor - 1, before.verdicts + count, why)

    def _record_removal(
        self, base: sqlite3.Connection, removed: RemovedVerdicts, epoch: int, now_ns: int
    ) -> _RemovalEvent:
        """Add to the last event of the same cause, or begin another."""
        entry = self._event
        if (
            entry is not None
            and entry.removed.why == removed.why
            and entry.removed.to_seq + 1 == removed.from_seq
            and now_ns - entry.since_ns < _EVENT_SPAN_NS
        ):
            removed = RemovedVerdicts(
                entry.removed.from_seq,
                removed.to_seq,
                entry.removed.verdicts + removed.verdicts,
                removed.why,
            )
            detail = msgspec.json.encode(removed).decode()
            base.execute("UPDATE events SET detail = ? WHERE id = ?", (detail, entry.id))
            return _RemovalEvent(entry.id, removed, entry.since_ns)
        detail = msgspec.json.encode(removed).decode()
        done = base.execute(
            "INSERT INTO events VALUES (NULL,?,?,?,?,?)",
            (self._clock.utc_ns(), epoch, PRUNED, "daemon", detail),
        )
        assert done.lastrowid is not None
        return _RemovalEvent(done.lastrowid, removed, now_ns)

    def _log_removed(self) -> None:
        """Log what was removed since the last line about it."""
        if self._unlogged is not None:
            _log.info(log_events.LEDGER_PRUNED, **msgspec.structs.asdict(self._unlogged))
        self._unlogged = None


def _read_meta(base: sqlite3.Connection, name: str) -> int | None:
    found = base.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def _write_meta(base: sqlite3.Connection, name: str, value: int) -> None:
    base.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _shrink_file(base: sqlite3.Connection) -> None:
    """Shorten the file, where more is free than the next verdicts will fill."""
    pages, free, _ = _page_counts(base)
    if free > pages // 10:
        base.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()


def _page_counts(base: sqlite3.Connection) -> tuple[int, int, int]:
    pages, free, page_bytes = (
        int(base.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, page_bytes
