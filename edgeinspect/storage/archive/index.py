"""The index of an archive: what there is, how much room it takes, where to go on.

It holds nothing that the sidecars do not say, but for the cursor and the losses; so it is made
again from them when it is lost or damaged, and what happened since its last commit is looked
up in the folders that have changed since.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.storage.archive.format import (
    INDEX,
    Kind,
    hour_folders,
)
from edgeinspect.storage.archive.index_file import AGE, open_to_write, set_aside
from edgeinspect.storage.archive.index_rows import COLUMNS, Row, frames_in, row_from
from edgeinspect.storage.archive.progress import Missed
from edgeinspect.system.systemd import notify

_LOOK_BACK_NS = 60 * NS_PER_S
"""Folders that changed so long before the last commit are looked into again: a power cut may
have taken back what the disk had not written yet."""
_INSERT = (
    f"INSERT INTO frames ({', '.join(COLUMNS)}, {AGE}) VALUES ({', '.join('?' * 12)}) "
    f"ON CONFLICT (epoch, seq) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])
)
"""A frame that is looked up again keeps its age."""


class Index:
    """For one thread, which is the only one that changes the archive."""

    def __init__(self, root: Path) -> None:
        """Open, or make anew from the sidecars.

        Raises:
            OSError, sqlite3.Error: The disk does not let us.
        """
        self.root = root
        self.rebuilt = ""
        """Why it was made anew; empty if it was not."""
        self._changes: list[tuple[str, tuple[object, ...]]] = []
        """Since the last commit."""
        self._torn = False
        """A transaction has failed: `_changes` must be made again."""
        self._touched: set[str] = set()
        """Folders that changed since the last commit."""
        path = root / INDEX
        missing = not path.exists()
        try:
            self._base = open_to_write(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.rebuilt = str(error)
            set_aside(path)
            missing = True
            self._base = open_to_write(path)
        self._look_through()
        if missing and self.frames:
            self.rebuilt = self.rebuilt or "there was none"

    # -- what there is ----------------------------------------------------------------

    @property
    def frames(self) -> int:
        """How many."""
        return int(self._base.execute("SELECT count(*) FROM frames").fetchone()[0])

    def state(self, name: str) -> int | None:
        """One number that was stored with `commit`; None if there was none to store."""
        found = self._base.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def sizes(self) -> dict[tuple[Kind, str], int]:
        """Bytes by kind and label."""
        rows = self._base.execute("SELECT kind, label, sum(size_bytes) FROM frames GROUP BY 1, 2")
        return {(Kind(kind), label): int(size) for kind, label, size in rows}

    def after(self, seq: int) -> set[tuple[int, int]]:
        """(epoch, seq) of the frames after a seq, of any epoch."""
        return set(self._base.execute("SELECT epoch, seq FROM frames WHERE seq > ?", (seq,)))

    def oldest(self, kind: Kind, label: str, limit: int = 1) -> list[Row]:
        """The first frames of a kind and label."""
        return self._rows(
            f"WHERE kind = ? AND label = ? ORDER BY {AGE}, epoch, seq LIMIT ?",
            (kind.value, label, limit),
        )

    def kept_before(self, kept_ns: int, limit: int) -> list[Row]:
        """The first frames that came in at or before a kept time."""
        return self._rows(f"WHERE {AGE} <= ? ORDER BY {AGE}, epoch, seq LIMIT ?", (kept_ns, limit))

    def _rows(self, words: str, values: tuple[object, ...]) -> list[Row]:
        query = f"SELECT {', '.join(COLUMNS)} FROM frames {words}"
        return [row_from(values) for values in self._base.execute(query, values)]

    # -- changes ----------------------------------------------------------------------

    def add(self, row: Row, kept_ns: int) -> None:
        """A frame was saved at a kept time; stored by the next `commit`."""
        self._touched.add(row.path.rpartition("/")[0])
        self._change(_INSERT, (*row.values(), kept_ns))

    def remove(self, row: Row) -> None:
        """A frame was removed; stored by the next `commit`."""
        self._touched.add(row.path.rpartition("/")[0])
        self._change("DELETE FROM frames WHERE epoch = ? AND seq = ?", (row.epoch, row.seq))

    def _change(self, words: str, values: tuple[object, ...]) -> None:
        self._changes.append((words, values))
        if not self._torn:
            try:
                self._base.execute(words, values)
            except sqlite3.Error:  # `commit` tries again, and says so
                self._torn = True

    def commit(self, cursor: int | None, missed: Counter[Missed], kept: tuple[int, int]) -> None:
        """Store everything since the last one.

        Args:
            cursor: Where the feed is.
            missed: Frames that were not saved since the last commit.
            kept: Of `KeptTime.store`.

        Raises:
            sqlite3.Error: It could not be; the next call stores it.
        """
        entries = [
            (what.hour_utc, what.kind, what.why.value, count) for what, count in missed.items()
        ]
        try:
            if self._torn:  # SQLite may have taken back what it had of this transaction
                self._base.rollback()
                for words, values in self._changes:
                    self._base.execute(words, values)
                self._torn = False
            self._base.executemany(
                "INSERT INTO missed VALUES (?, ?, ?, ?) ON CONFLICT (hour_utc, kind, why) "
                "DO UPDATE SET count = count + excluded.count",
                entries,
            )
            stamps = [("cursor", cursor), ("kept_ns", kept[0]), ("kept_at_utc_ns", kept[1])]
            self._base.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", stamps)
            for below in self._touched:
                self._stamp(below, kept[0])
            self._base.commit()
        except sqlite3.Error:
            self._torn = True
            raise
        self._changes.clear()
        self._touched.clear()

    def _stamp(self, below: str, kept_ns: int) -> None:
        """Note when a folder last changed: what changes it later is not committed yet."""
        try:
            mtime_ns = (self.root / below).stat().st_mtime_ns
        except OSError:  # it was emptied, and is gone
            self._base.execute("DELETE FROM folders WHERE path = ?", (below,))
            return
        self._base.execute(
            "INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", (below, mtime_ns, kept_ns)
        )

    def close(self) -> None:
        """What is not committed is found again in the folders."""
        self._base.close()

    # -- from the folders ---------------------------------------------------------------

    def _look_through(self) -> None:
        """Take in the folders that are not as the last commit left them.

        Their times are compared for being the same, never for being later: the clock may
        have been set in between.
        """
        kept_ns = self.state("kept_ns") or 0
        known = dict(
            self._base.execute(
                "SELECT path, mtime_ns FROM folders WHERE kept_ns < ?", (kept_ns - _LOOK_BACK_NS,)
            )
        )
        for folder in hour_folders(self.root):
            below = folder.relative_to(self.root).as_posix()
            if known.get(below) != folder.stat().st_mtime_ns:
                # A million frames take minutes: whoever waits for our start is told.
                notify("EXTEND_TIMEOUT_USEC=60000000")
                self._look_into(folder)
                self._stamp(below, kept_ns)
                self._base.commit()
                self._changes.clear()
        self._touched.clear()

    def _look_into(self, folder: Path) -> None:
        below = folder.relative_to(self.root).as_posix()
        whole = {row.path: row for row in frames_in(self.root, folder)}
        known = self._rows("WHERE path GLOB ?", (f"{below}/*",))
        for row in known:
            if row.path not in whole:
                self.remove(row)
        kept_ns = self.state("kept_ns") or 0
        for row in whole.values():
            self.add(row, kept_ns)
