"""The index of an archive: what there is, how much room it takes, where to go on.

It holds nothing that the sidecars do not say, but for the cursor and the losses; so it is made
again from them when it is lost or damaged, and what happened since its last commit is looked
up in the folders that have changed since.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from edgeinspect.domain import NS_PER_S
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    Category,
    hour_folders,
)
from edgeinspect.storage.archive.index_file import AGE_COLUMN, open_to_write, quarantine
from edgeinspect.storage.archive.index_rows import (
    COLUMNS,
    IndexEntry,
    entry_from_row,
    scan_hour_folder,
)
from edgeinspect.storage.archive.progress import LostFrames
from edgeinspect.system import sd_notify

_RESCAN_NS = 60 * NS_PER_S
"""Folders that changed so long before the last commit are looked into again: a power cut may
have taken back what the disk had not written yet."""
_INSERT = (
    f"INSERT INTO frames ({', '.join(COLUMNS)}, {AGE_COLUMN}) VALUES ({', '.join('?' * 12)}) "
    f"ON CONFLICT (epoch, seq) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])
)
"""A frame that is looked up again keeps its age."""


class ArchiveIndex:
    """For one thread, which is the only one that changes the archive."""

    def __init__(self, root: Path) -> None:
        """Open, or make anew from the sidecars.

        Raises:
            OSError, sqlite3.Error: The disk does not let us.
        """
        self.root = root
        self.rebuild_reason = ""
        """Why it was made anew; empty if it was not."""
        self._changes: list[tuple[str, tuple[object, ...]]] = []
        """Since the last commit."""
        self._is_rolled_back = False
        """A transaction has failed: `_changes` must be made again."""
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
        """How many."""
        return int(self._db.execute("SELECT count(*) FROM frames").fetchone()[0])

    def stored_number(self, name: str) -> int | None:
        """One number that was stored with `commit`; None if there was none to store."""
        found = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def sizes_by_category(self) -> dict[tuple[Category, str], int]:
        """Bytes by kind and label."""
        rows = self._db.execute("SELECT kind, label, sum(size_bytes) FROM frames GROUP BY 1, 2")
        return {(Category(kind), label): int(size) for kind, label, size in rows}

    def frames_after(self, seq: int) -> set[tuple[int, int]]:
        """(epoch, seq) of the frames after a seq, of any epoch."""
        return set(self._db.execute("SELECT epoch, seq FROM frames WHERE seq > ?", (seq,)))

    def oldest(self, kind: Category, label: str, limit: int = 1) -> list[IndexEntry]:
        """The first frames of a kind and label."""
        return self._rows(
            f"WHERE kind = ? AND label = ? ORDER BY {AGE_COLUMN}, epoch, seq LIMIT ?",
            (kind.value, label, limit),
        )

    def kept_before(self, kept_ns: int, limit: int) -> list[IndexEntry]:
        """The first frames that came in at or before a kept time."""
        return self._rows(
            f"WHERE {AGE_COLUMN} <= ? ORDER BY {AGE_COLUMN}, epoch, seq LIMIT ?", (kept_ns, limit)
        )

    def _rows(self, words: str, values: tuple[object, ...]) -> list[IndexEntry]:
        query = f"SELECT {', '.join(COLUMNS)} FROM frames {words}"
        return [entry_from_row(values) for values in self._db.execute(query, values)]

    # -- changes ----------------------------------------------------------------------

    def add(self, row: IndexEntry, kept_ns: int) -> None:
        """A frame was saved at a kept time; stored by the next `commit`."""
        self._changed_folders.add(row.path.rpartition("/")[0])
        self._apply(_INSERT, (*row.values(), kept_ns))

    def remove(self, row: IndexEntry) -> None:
        """A frame was removed; stored by the next `commit`."""
        self._changed_folders.add(row.path.rpartition("/")[0])
        self._apply("DELETE FROM frames WHERE epoch = ? AND seq = ?", (row.epoch, row.seq))

    def _apply(self, words: str, values: tuple[object, ...]) -> None:
        self._changes.append((words, values))
        if not self._is_rolled_back:
            try:
                self._db.execute(words, values)
            except sqlite3.Error:  # `commit` tries again, and says so
                self._is_rolled_back = True

    def commit(
        self, cursor: int | None, missed: Counter[LostFrames], kept: tuple[int, int]
    ) -> None:
        """Store everything since the last one.

        Args:
            cursor: Where the feed is.
            missed: Frames that were not saved since the last commit.
            kept: Of `RetentionClock.store`.

        Raises:
            sqlite3.Error: It could not be; the next call stores it.
        """
        entries = [
            (what.hour_utc, what.kind, what.reason.value, count) for what, count in missed.items()
        ]
        try:
            if self._is_rolled_back:  # SQLite may have taken back what it had of this transaction
                self._db.rollback()
                for words, values in self._changes:
                    self._db.execute(words, values)
                self._is_rolled_back = False
            self._db.executemany(
                "INSERT INTO missed VALUES (?, ?, ?, ?) ON CONFLICT (hour_utc, kind, why) "
                "DO UPDATE SET count = count + excluded.count",
                entries,
            )
            stamps = [("cursor", cursor), ("kept_ns", kept[0]), ("kept_at_utc_ns", kept[1])]
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", stamps)
            for below in self._changed_folders:
                self._store_folder_mtime(below, kept[0])
            self._db.commit()
        except sqlite3.Error:
            self._is_rolled_back = True
            raise
        self._changes.clear()
        self._changed_folders.clear()

    def _store_folder_mtime(self, below: str, kept_ns: int) -> None:
        """Note when a folder last changed: what changes it later is not committed yet."""
        try:
            mtime_ns = (self.root / below).stat().st_mtime_ns
        except OSError:  # it was emptied, and is gone
            self._db.execute("DELETE FROM folders WHERE path = ?", (below,))
            return
        self._db.execute(
            "INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", (below, mtime_ns, kept_ns)
        )

    def close(self) -> None:
        """What is not committed is found again in the folders."""
        self._db.close()

    # -- from the folders ---------------------------------------------------------------

    def _scan_changed_folders(self) -> None:
        """Take in the folders that are not as the last commit left them.

        Their times are compared for being the same, never for being later: the clock may
        have been set in between.
        """
        kept_ns = self.stored_number("kept_ns") or 0
        known = dict(
            self._db.execute(
                "SELECT path, mtime_ns FROM folders WHERE kept_ns < ?", (kept_ns - _RESCAN_NS,)
            )
        )
        for folder in hour_folders(self.root):
            below = folder.relative_to(self.root).as_posix()
            if known.get(below) != folder.stat().st_mtime_ns:
                # A million frames take minutes: whoever waits for our start is told.
                sd_notify("EXTEND_TIMEOUT_USEC=60000000")
                self._scan_folder(folder)
                self._store_folder_mtime(below, kept_ns)
                self._db.commit()
                self._changes.clear()
        self._changed_folders.clear()

    def _scan_folder(self, folder: Path) -> None:
        below = folder.relative_to(self.root).as_posix()
        whole = {row.path: row for row in scan_hour_folder(self.root, folder)}
        known = self._rows("WHERE path GLOB ?", (f"{below}/*",))
        for row in known:
            if row.path not in whole:
                self.remove(row)
        kept_ns = self.stored_number("kept_ns") or 0
        for row in whole.values():
            self.add(row, kept_ns)
