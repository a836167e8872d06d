"""Retention: the oldest verdicts of a ledger go, a few at a time."""

from __future__ import annotations

import sqlite3

_STEP = 2_000
"""Verdicts removed at once: some 10 ms of a disk's time."""
_VACUUM_PAGES = 2_000


def prune(base: sqlite3.Connection, *, oldest_utc_ns: int, max_bytes: int) -> bool:
    """Remove some of what is too old or too much; the newest verdict always stays.

    `floor_seq` in `meta` then says from which seq on the ledger answers, so that what was
    removed on purpose is no gap.

    Args:
        base: The ledger, outside a transaction.
        oldest_utc_ns: Verdicts captured before are removed.
        max_bytes: The oldest are removed while the file's pages in use exceed this.

    Returns:
        True if there is more to remove.
    """
    lowest, last = base.execute(
        "SELECT (SELECT min(seq) FROM verdicts), (SELECT max(seq) FROM verdicts)"
    ).fetchone()
    if lowest is None:
        return False
    until = min(lowest + _STEP, last)
    floor = max(_by_age(base, until, oldest_utc_ns), _by_size(base, lowest, last, max_bytes))
    floor = min(floor, until)
    if floor > lowest:
        _remove(base, floor)
    _give_back(base)
    return bool(floor == until < last)


def _by_age(base: sqlite3.Connection, until: int, oldest_utc_ns: int) -> int:
    """The first young verdict below `until`."""
    # The plus keeps SQLite from the index by time, in which nearly every row is young.
    young = base.execute(
        "SELECT seq FROM verdicts WHERE seq < ? AND +captured_at_utc_ns >= ? ORDER BY seq LIMIT 1",
        (until, oldest_utc_ns),
    ).fetchone()
    return until if young is None else int(young[0])


def _by_size(base: sqlite3.Connection, lowest: int, last: int, max_bytes: int) -> int:
    pages, free, page_bytes = _pages(base)
    used_bytes = (pages - free) * page_bytes
    if used_bytes <= max_bytes:
        return 0
    return lowest + int((last - lowest + 1) * (used_bytes - max_bytes) / used_bytes) + 1


def _remove(base: sqlite3.Connection, floor: int) -> None:
    base.execute("BEGIN IMMEDIATE")
    with base:
        base.execute("DELETE FROM verdicts WHERE seq < ?", (floor,))
        base.execute("DELETE FROM late WHERE seq < ?", (floor,))
        base.execute(
            "DELETE FROM epochs WHERE epoch < (SELECT epoch FROM verdicts ORDER BY seq LIMIT 1)"
        )
        base.execute("INSERT OR REPLACE INTO meta VALUES ('floor_seq', ?)", (floor,))


def _give_back(base: sqlite3.Connection) -> None:
    """Shorten the file, where more is free than the next verdicts will fill."""
    pages, free, _ = _pages(base)
    if free > pages // 10:
        base.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()


def _pages(base: sqlite3.Connection) -> tuple[int, int, int]:
    pages, free, page_bytes = (
        int(base.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, page_bytes
