"""SQLite's files, looked at before they are believed.

A database of ours is a file that others may have written: SQLite waits for a pipe in its place,
and reads a view for as long as its maker likes.
"""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

SQLITE_SUFFIXES = ("", "-journal", "-wal", "-shm")
"""Behind a database's name: the files that SQLite opens by themselves."""


def find_irregular_file(path: Path) -> Path | None:
    """The first of a database's files that is there and no file.

    Raises:
        OSError: One cannot be looked at.
    """
    for companion in SQLITE_SUFFIXES:
        found = path.with_name(path.name + companion)
        try:
            if not stat.S_ISREG(found.stat().st_mode):
                return found
        except FileNotFoundError:
            pass
    return None


def find_unexpected_object(base: sqlite3.Connection) -> str | None:
    """The name of a view, a trigger or a module's table: none of our databases has one.

    A view has no end if its maker likes.
    """
    base.execute("PRAGMA trusted_schema = OFF")
    found = base.execute(
        "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
        " OR type = 'table' AND rootpage = 0"
    ).fetchone()
    return None if found is None else str(found[0])


def check_regular_files(path: Path) -> None:
    """Call before a database is opened.

    Raises:
        sqlite3.DatabaseError: One of its files is no ordinary file.
        OSError: One cannot be looked at.
    """
    if (foreign := find_irregular_file(path)) is not None:
        raise sqlite3.DatabaseError(f"{foreign.name} is not an ordinary file")


def check_plain_schema(base: sqlite3.Connection) -> None:
    """Call before anything is read from an open one.

    Raises:
        sqlite3.Error: It is none, or has a view, a trigger or a module's table.
    """
    if (foreign := find_unexpected_object(base)) is not None:
        raise sqlite3.DatabaseError(f"has {foreign!r}, which none of ours has")
