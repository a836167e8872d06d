"""Checks and quarantine of SQLite files, which other users may have written.

SQLite would wait for a pipe in place of a file, and a view may yield rows without end.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SQLITE_SUFFIXES = ("", "-journal", "-wal", "-shm")
"""Suffixes of a database's name: the files that SQLite opens by itself."""


def find_irregular_file(path: Path) -> Path | None:
    """Return the first existing file of a database that is not a regular file.

    Raises:
        OSError: One cannot be examined.
    """
    for suffix in SQLITE_SUFFIXES:
        file = path.with_name(path.name + suffix)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return file
        except FileNotFoundError:
            pass
    return None


def find_unexpected_object(db: sqlite3.Connection) -> str | None:
    """Return the name of a view, trigger or virtual table, of which our databases have none."""
    db.execute("PRAGMA trusted_schema = OFF")
    row = db.execute(
        "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
        " OR type = 'table' AND rootpage = 0"
    ).fetchone()
    return None if row is None else str(row[0])


def connect_read_only(path: Path, timeout_s: float = 5) -> sqlite3.Connection:
    """Connect to a database that another process may be writing, and leave nothing beside it.

    SQLite makes `-wal` and `-shm` to read a database of that mode, and a connection that may only
    read leaves them.

    Args:
        path: The database.
        timeout_s: Time to wait for a lock.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        timeout=timeout_s,
        uri=True,
        factory=_ReadOnlyConnection,
    )


class _ReadOnlyConnection(sqlite3.Connection):
    """Removes at its end the files that it made, if no other process has opened the database."""

    def __init__(self, database: str, *args: Any, **options: Any) -> None:
        self._uri = database
        self._had_log = _has_log(database)
        super().__init__(database, *args, **options)

    def close(self) -> None:
        super().close()
        if self._had_log or not _has_log(self._uri):
            return
        # The last connection that may write removes them, and only if it is the last.
        with contextlib.suppress(sqlite3.Error):
            uri = self._uri.replace("?mode=ro", "?mode=rw")
            with contextlib.closing(sqlite3.connect(uri, timeout=0, uri=True)) as db:
                db.execute("SELECT 1 FROM sqlite_master")


def _has_log(uri: str) -> bool:
    path = Path(unquote(urlsplit(uri).path))
    return any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm"))


def check_regular_files(path: Path) -> None:
    """Check the files of a database before it is opened.

    Raises:
        sqlite3.DatabaseError: One of them is not a regular file.
        OSError: One cannot be examined.
    """
    if (irregular := find_irregular_file(path)) is not None:
        raise sqlite3.DatabaseError(f"{irregular.name} is no regular file")


def check_plain_schema(db: sqlite3.Connection) -> None:
    """Check an open database before anything is read from it.

    Raises:
        sqlite3.Error: It is no database, or has a view, a trigger or a virtual table.
    """
    if (unexpected := find_unexpected_object(db)) is not None:
        raise sqlite3.DatabaseError(f"has {unexpected!r}, which no database of edgeinspect has")


def quarantine(path: Path, suffix: str = "damaged", *, keep_wal: bool = False) -> Path:
    """Rename a database to `NAME.SUFFIX-NUMBER`; return the new path.

    Args:
        path: The database, closed.
        suffix: Why, in a word.
        keep_wal: Rename its write-ahead log and rollback journal with it; otherwise they are
            removed.
    """
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.{suffix}-{number}")
        if not target.exists():
            break
    path.rename(target)
    for companion in SQLITE_SUFFIXES[1:]:
        file = path.with_name(path.name + companion)
        if keep_wal and companion != "-shm" and file.exists():
            file.rename(target.with_name(target.name + companion))
        else:
            file.unlink(missing_ok=True)
    return target
