"""The index of an archive: its frames, their sizes, and the position in the feed.

Except for the cursor and the losses it only repeats the sidecars. So it is rebuilt from them if
it is lost or damaged, and after a crash the folders that changed since the last commit are
scanned again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from edgeinspect.domain import NS_PER_S
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    ArchiveCategory,
    hour_folders,
)
from edgeinspect.storage.archive.index_file import AGE_COLUMN, open_to_write
from edgeinspect.storage.archive.index_rows import (
    COLUMNS,
    IndexEntry,
    entry_from_row,
    scan_hour_folder,
)
from edgeinspect.storage.archive.progress import LostFrames
from edgeinspect.storage.sqlite_file import quarantine
from edgeinspect.system import sd_notify

_RESCAN_NS = 60 * NS_PER_S
"""Folders that changed this long before the last commit are scanned again: a power cut may have
undone what the disk had not written yet."""
_INSERT = (
    f"INSERT INTO frames ({', '.join(COLUMNS)}, {AGE_COLUMN}) VALUES ({', '.join('?' * 12)}) "
    f"ON CONFLICT (epoch, seq) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])
)
"""A frame that is scanned again keeps its age."""


class ArchiveIndex:
    """The index open for writing. One thread, the only one that changes the archive."""

    def __init__(self, root: Path) -> None:
        """Open it, or rebuild it from the sidecars.

        Raises:
            OSError, sqlite3.Error: The disk cannot be read or written.
        """
        self.root = root
        self.rebuild_reason = ""
        """Why it was rebuilt; empty if it was not."""
        self._changes: list[tuple[str, tuple[object, ...]]] = []
        """Statements since the last commit."""
        self._is_rolled_back = False
        """A transaction has failed: `_changes` must be applied again."""
        self._changed_folders: set[str] = set()
        """Folders that changed since the last commit."""
        path = root / INDEX_FILE
        missing = not path.exists()
        try:
            self._db = open_to_write(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.rebuild_reason = str(error)
            quarantine(path)
            missing = True
            self._db = open_to_write(path)
        self._scan_changed_folders()
        if missing and self.frame_count:
            self.rebuild_reason = self.rebuild_reason or "there was none"

    # -- what there is ----------------------------------------------------------------

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return int(self._db.execute("SELECT count(*) FROM frames").fetchone()[0])

    def stored_number(self, name: str) -> int | None:
        """Return one number that `commit` stored; None if it stored none."""
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def sizes_by_category(self) -> dict[tuple[ArchiveCategory, str], int]:
        """Return bytes by category and label."""
        rows = self._db.execute("SELECT kind, label, sum(size_bytes) FROM frames GROUP BY 1, 2")
        return {(ArchiveCategory(kind), label): int(size) for kind, label, size in rows}

    def frames_after(self, seq: int) -> set[tuple[int, int]]:
        """Return (epoch, seq) of the frames after a seq, of any epoch."""
        return set(self._db.execute("SELECT epoch, seq FROM frames WHERE seq > ?", (seq,)))

    def oldest(self, kind: ArchiveCategory, label: str, limit: int = 1) -> list[IndexEntry]:
        """Return the oldest frames of a category and label."""
        return self._rows(
            f"WHERE kind = ? AND label = ? ORDER BY {AGE_COLUMN}, epoch, seq LIMIT ?",
            (kind.value, label, limit),
        )

    def kept_before(self, kept_ns: int, limit: int) -> list[IndexEntry]:
        """Return the oldest frames that were archived at or before a retention time."""
        return self._rows(
            f"WHERE {AGE_COLUMN} <= ? ORDER BY {AGE_COLUMN}, epoch, seq LIMIT ?", (kept_ns, limit)
        )

    def _rows(self, sql: str, values: tuple[object, ...]) -> list[IndexEntry]:
        query = f"SELECT {', '.join(COLUMNS)} FROM frames {sql}"
        return [entry_from_row(values) for values in self._db.execute(query, values)]

    # -- changes ----------------------------------------------------------------------

    def add(self, row: IndexEntry, kept_ns: int) -> None:
        """Add a frame that was saved at a retention time; the next `commit` stores it."""
        self._changed_folders.add(row.path.rpartition("/")[0])
        self._apply(_INSERT, (*row.values(), kept_ns))

    def remove(self, row: IndexEntry) -> None:
        """Remove a frame; the next `commit` stores it."""
        self._changed_folders.add(row.path.rpartition("/")[0])
        self._apply("DELETE FROM frames WHERE epoch = ? AND seq = ?", (row.epoch, row.seq))

    def _apply(self, sql: str, values: tuple[object, ...]) -> None:
        self._changes.append((sql, values))
        if not self._is_rolled_back:
            try:
                self._db.execute(sql, values)
            except sqlite3.Error:  # `commit` retries and reports it
                self._is_rolled_back = True

    def commit(
        self, cursor: int | None, missed: Counter[LostFrames], kept: tuple[int, int]
    ) -> None:
        """Store everything since the last commit.

        Args:
            cursor: Position in the feed.
            missed: Frames that were lost since the last commit.
            kept: Of `RetentionClock.store`.

        Raises:
            sqlite3.Error: It was not stored; the next call stores it.
        """
        entries = [
            (lost.hour_utc, lost.kind, lost.reason.value, count) for lost, count in missed.items()
        ]
        try:
            if self._is_rolled_back:  # SQLite may have rolled back a part of this transaction
                self._db.rollback()
                for sql, values in self._changes:
                    self._db.execute(sql, values)
                self._is_rolled_back = False
            self._db.executemany(
                "INSERT INTO missed VALUES (?, ?, ?, ?) ON CONFLICT (hour_utc, kind, why) "
                "DO UPDATE SET count = count + excluded.count",
                entries,
            )
            stamps = [("cursor", cursor), ("kept_ns", kept[0]), ("kept_at_utc_ns", kept[1])]
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", stamps)
            for relative in self._changed_folders:
                self._store_folder_mtime(relative, kept[0])
            self._db.commit()
        except sqlite3.Error:
            self._is_rolled_back = True
            raise
        self._changes.clear()
        self._changed_folders.clear()

    def _store_folder_mtime(self, relative: str, kept_ns: int) -> None:
        """Store when a folder last changed, to detect changes that are not committed."""
        try:
            mtime_ns = (self.root / relative).stat().st_mtime_ns
        except OSError:  # it was emptied and removed
            self._db.execute("DELETE FROM folders WHERE path = ?", (relative,))
            return
        self._db.execute(
            "INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", (relative, mtime_ns, kept_ns)
        )

    def close(self) -> None:
        """Close it; uncommitted changes are found again in the folders."""
        self._db.close()

    # -- from the folders ---------------------------------------------------------------

    def _scan_changed_folders(self) -> None:
        """Scan the folders that have changed since the last commit.

        Their modification times are compared for equality, not order: the clock may have been
        set in between.
        """
        kept_ns = self.stored_number("kept_ns") or 0
        known = dict(
            self._db.execute(
                "SELECT path, mtime_ns FROM folders WHERE kept_ns < ?", (kept_ns - _RESCAN_NS,)
            )
        )
        for folder in hour_folders(self.root):
            relative = folder.relative_to(self.root).as_posix()
            if known.get(relative) != folder.stat().st_mtime_ns:
                # A million frames take minutes: extend systemd's start timeout.
                sd_notify("EXTEND_TIMEOUT_USEC=60000000")
                self._scan_folder(folder)
                self._store_folder_mtime(relative, kept_ns)
                self._db.commit()
                self._changes.clear()
        self._changed_folders.clear()

    def _scan_folder(self, folder: Path) -> None:
        relative = folder.relative_to(self.root).as_posix()
        complete = {row.path: row for row in scan_hour_folder(self.root, folder)}
        known = self._rows("WHERE path GLOB ?", (f"{relative}/*",))
        for row in known:
            if row.path not in complete:
                self.remove(row)
        kept_ns = self.stored_number("kept_ns") or 0
        for row in complete.values():
            self.add(row, kept_ns)
