"""The index of an archive: what there is, how much room it takes, where to go on.

It holds nothing that the sidecars do not say, but for the cursor and the losses; so it is made
again from them when it is lost or damaged, and what happened since its last commit is looked
up in the folders that have changed since.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.archive.account import Missed
from edgeinspect.archive_format import (
    INDEX,
    PART,
    SIDECAR,
    Kind,
    Sidecar,
    hour_folders,
    is_whole,
    read_sidecar,
    sidecars_in,
)
from edgeinspect.decoding import DecodeError, decode_json
from edgeinspect.errors import DataError
from edgeinspect.sdnotify import notify

COLUMNS = ("epoch", "seq", "camera", "captured_at_utc_ns", "kind", "label", "decision", "reason",
           "defect_prob", "size_bytes", "path")  # fmt: skip
"""Of a frame; `path` is its sidecar's, below the archive."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, camera TEXT NOT NULL,
    captured_at_utc_ns INTEGER NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL,
    decision TEXT NOT NULL, reason TEXT NOT NULL, defect_prob REAL,
    size_bytes INTEGER NOT NULL, path TEXT NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON frames (kind, label, captured_at_utc_ns);
CREATE INDEX IF NOT EXISTS by_time ON frames (captured_at_utc_ns);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS missed (
    hour_utc INTEGER NOT NULL, kind TEXT NOT NULL, why TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (hour_utc, kind, why)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_INSERT = f"INSERT OR REPLACE INTO frames ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * 11)})"
_LOOK_BACK_S = 60
"""A folder's time is compared with the last commit's, less this: clocks of disks differ."""


@dataclass(frozen=True, slots=True)
class Row:
    """One frame of the archive, as the index knows it; its fields are `COLUMNS`."""

    epoch: int
    seq: int
    camera: str
    captured_at_utc_ns: int
    kind: Kind
    label: str
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.path.rpartition("/")[2].removesuffix(SIDECAR)

    def values(self) -> tuple[object, ...]:
        """In the order of `COLUMNS`."""
        return (self.epoch, self.seq, self.camera, self.captured_at_utc_ns, self.kind.value,
                self.label, self.decision, self.reason, self.defect_prob, self.size_bytes,
                self.path)  # fmt: skip


def row_of(told: Sidecar, path: str, sidecar_bytes: int) -> Row:
    """What the index keeps of a sidecar."""
    verdict = told.verdict
    return Row(
        verdict.epoch, verdict.seq, verdict.camera, verdict.captured_at_utc_ns, told.kind,
        told.label, verdict.decision.value, verdict.reason.value, verdict.defect_prob,
        told.picture.size_bytes + sidecar_bytes, path,
    )  # fmt: skip


def row_from(values: Iterable[object]) -> Row:
    """A row as SQLite gives it."""
    row = list(values)
    row[4] = Kind(row[4])
    return Row(*row)  # type: ignore[arg-type]


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
        path = root / INDEX
        missing = not path.exists()
        try:
            self._base = _connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.rebuilt = str(error)
            _set_aside(path)
            missing = True
            self._base = _connect(path)
        since_ns = 0 if missing else self.state("committed_at_utc_ns") or 0
        self._look_through(since_ns)
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
        return self._rows("WHERE kind = ? AND label = ? ORDER BY captured_at_utc_ns LIMIT ?",
                          (kind.value, label, limit))  # fmt: skip

    def before(self, at_utc_ns: int, limit: int) -> list[Row]:
        """The first frames captured before an instant."""
        return self._rows("WHERE captured_at_utc_ns < ? ORDER BY captured_at_utc_ns LIMIT ?",
                          (at_utc_ns, limit))  # fmt: skip

    def _rows(self, words: str, values: tuple[object, ...]) -> list[Row]:
        query = f"SELECT {', '.join(COLUMNS)} FROM frames {words}"
        return [row_from(values) for values in self._base.execute(query, values)]

    # -- changes ----------------------------------------------------------------------

    def add(self, row: Row) -> None:
        """A frame was saved; stored by the next `commit`."""
        self._change(_INSERT, row.values())

    def remove(self, row: Row) -> None:
        """A frame was removed; stored by the next `commit`."""
        self._change("DELETE FROM frames WHERE epoch = ? AND seq = ?", (row.epoch, row.seq))

    def _change(self, words: str, values: tuple[object, ...]) -> None:
        self._changes.append((words, values))
        if not self._torn:
            try:
                self._base.execute(words, values)
            except sqlite3.Error:  # `commit` tries again, and says so
                self._torn = True

    def commit(self, cursor: int | None, missed: Counter[Missed], now_utc_ns: int) -> None:
        """Store everything since the last one.

        Raises:
            sqlite3.Error: It could not be; the next call stores it.
        """
        entries = [(what.hour_utc, what.kind, what.why.value, count)
                   for what, count in missed.items()]  # fmt: skip
        try:
            if self._torn:  # SQLite may have taken back what it had of this transaction
                self._base.rollback()
                for words, values in self._changes:
                    self._base.execute(words, values)
                self._torn = False
            self._base.executemany(
                "INSERT INTO missed VALUES (?, ?, ?, ?) ON CONFLICT (hour_utc, kind, why) "
                "DO UPDATE SET count = count + excluded.count", entries,
            )  # fmt: skip
            stamps = [("cursor", cursor), ("committed_at_utc_ns", now_utc_ns)]
            self._base.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", stamps)
            self._base.commit()
        except sqlite3.Error:
            self._torn = True
            raise
        self._changes.clear()

    def close(self) -> None:
        """What is not committed is found again in the folders."""
        self._base.close()

    # -- from the folders ---------------------------------------------------------------

    def _look_through(self, since_ns: int) -> None:
        """Take in what the folders hold that changed after an instant."""
        for folder in hour_folders(self.root):
            if folder.stat().st_mtime_ns >= since_ns - _LOOK_BACK_S * 1_000_000_000:
                # A million frames take minutes: whoever waits for our start is told.
                notify("EXTEND_TIMEOUT_USEC=60000000")
                self._look_into(folder)
                self._base.commit()
                self._changes.clear()

    def _look_into(self, folder: Path) -> None:
        below = folder.relative_to(self.root).as_posix()
        whole = {row.path: row for row in frames_in(self.root, folder)}
        known = self._rows("WHERE path GLOB ?", (f"{below}/*",))
        for row in known:
            if row.path not in whole:
                self.remove(row)
        for row in whole.values():
            self.add(row)


def frames_in(root: Path, folder: Path, *, clean: bool = True) -> Iterator[Row]:
    """The whole frames of one hour's folder.

    Args:
        root: The archive's.
        folder: Below it.
        clean: Remove what a crash left: parts, pictures without a sidecar, sidecars without
            their whole picture.
    """
    kept: set[str] = set()
    for path in sidecars_in(folder):
        try:
            told = read_sidecar(path)
        except DataError:
            if _is_json(path):  # of another version of this program: not ours to remove
                kept |= {f"{path.stem}{suffix}" for suffix in (SIDECAR, ".png", ".jpg")}
            continue
        if is_whole(path, told):
            kept |= {path.name, told.picture.file}
            yield row_of(told, path.relative_to(root).as_posix(), path.stat().st_size)
    if clean:
        for entry in list(os.scandir(folder)):
            if entry.name not in kept and _is_ours(entry.name):
                os.unlink(entry.path)


def _is_json(path: Path) -> bool:
    try:
        decode_json(path.read_bytes())
    except (OSError, DecodeError):
        return False
    return True


def _is_ours(name: str) -> bool:
    """True for a name that the archive gives: what a person put there is left alone."""
    stem = name.removesuffix(PART).rpartition(".")[0]
    parts = stem.split(".")
    return len(parts) == 4 and parts[2].isdecimal() and parts[3].isdecimal()


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=2, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute("PRAGMA journal_size_limit = 4194304")
        version = int(base.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, 1):
            raise sqlite3.DatabaseError(f"is of version {version}")
        base.executescript(_SCHEMA)
        if base.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("is damaged")
    except BaseException:
        base.close()
        raise
    return base


def _set_aside(path: Path) -> None:
    """Move a file that cannot be used out of the way, under a name that is free."""
    number = 1
    while (path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(path.with_name(f"{path.name}.damaged-{number}"))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
