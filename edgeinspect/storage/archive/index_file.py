"""Opens the index's file for its one writer or for readers, and validates every row.

The file has no checksums, and SQLite stores any value in any column: a flipped bit can produce
an invalid category, size or path. Such an index counts as damaged.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edgeinspect.storage.archive.format import INDEX_FILE, ArchiveCategory
from edgeinspect.storage.archive.index_rows import COLUMNS
from edgeinspect.storage.sqlite_file import (
    check_plain_schema,
    check_regular_files,
    connect_read_only,
)

AGE_COLUMN = "kept_since_ns"
"""Time of the `RetentionClock` at which a frame was archived: its age and its order, whatever
the wall clock was when it was captured."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, camera TEXT NOT NULL,
    captured_at_utc_ns INTEGER NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL,
    decision TEXT NOT NULL, reason TEXT NOT NULL, defect_prob REAL,
    size_bytes INTEGER NOT NULL, path TEXT NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folders (
    path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, kept_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS missed (
    hour_utc INTEGER NOT NULL, kind TEXT NOT NULL, why TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (hour_utc, kind, why)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_INDICES = f"""
DROP INDEX IF EXISTS by_use;
DROP INDEX IF EXISTS by_time;
CREATE INDEX IF NOT EXISTS by_use_and_age ON frames (kind, label, {AGE_COLUMN}, epoch, seq);
CREATE INDEX IF NOT EXISTS by_age ON frames ({AGE_COLUMN}, epoch, seq);
CREATE INDEX IF NOT EXISTS by_time_captured ON frames (captured_at_utc_ns);
"""
_TABLES = {
    "frames": {*COLUMNS, AGE_COLUMN},
    "folders": {"path", "mtime_ns", "kept_ns"},
    "state": {"name", "value"},
    "missed": {"hour_utc", "kind", "why", "count"},
}
_KINDS = ", ".join(f"'{kind.value}'" for kind in ArchiveCategory)
_DIGITS = "[0-9]"
_HOUR_GLOB = f"{_DIGITS * 4}-{_DIGITS * 2}-{_DIGITS * 2}/{_DIGITS * 2}/"


def _integer_check(name: str, most: int, least: int = 0) -> str:
    return f"typeof({name}) = 'integer' AND {name} BETWEEN {least} AND {most}"


def _text_check(name: str) -> str:
    return f"typeof({name}) = 'text' AND {name} NOT GLOB '*[^ -~]*'"


_FRAME_CHECK = " AND ".join(
    (
        _integer_check("epoch", 1 << 62),
        _integer_check("seq", 1 << 62),
        _text_check("camera"),
        _integer_check("captured_at_utc_ns", (1 << 63) - 1, -(1 << 63)),
        f"kind IN ({_KINDS})",
        "typeof(label) = 'text'",
        _text_check("decision"),
        _text_check("reason"),
        "typeof(defect_prob) IN ('real', 'null')",
        _integer_check("size_bytes", 1 << 40),
        _text_check("path"),
        # Frames are removed by this path, so it must be in the folder of an hour.
        f"path GLOB '{_HOUR_GLOB}*.json' AND instr(substr(path, 15), '/') = 0",
    )
)
_ROW_CHECKS = {
    "frames": _FRAME_CHECK,
    "state": f"value IS NULL OR {_integer_check('value', 1 << 62, -(1 << 62))}",
    "folders": f"{_integer_check('mtime_ns', 1 << 62, -(1 << 62))} AND "
    f"{_integer_check('kept_ns', 1 << 62)}",
    "missed": f"{_integer_check('hour_utc', 1 << 22, -(1 << 22))} AND {_text_check('kind')}"
    f" AND {_text_check('why')} AND {_integer_check('count', 1 << 62)}",
}


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the index, or create it.

    Raises:
        sqlite3.OperationalError: The disk cannot be read or written.
        sqlite3.DatabaseError: It is damaged, of another version, or another database.
    """
    check_regular_files(path)
    db = sqlite3.connect(path, timeout=2, check_same_thread=False)
    try:
        check_plain_schema(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, 1):
            raise sqlite3.DatabaseError(f"is of version {version}")
        db.executescript(_SCHEMA)
        if _table_columns(db, "frames") == set(COLUMNS):
            # Frames of a version without this column start at age 0.
            db.execute(f"ALTER TABLE frames ADD COLUMN {AGE_COLUMN} INTEGER NOT NULL DEFAULT 0")
        _check_tables(db)
        db.executescript(_INDICES)
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("is damaged")
        _check_rows(db, _integer_check(AGE_COLUMN, 1 << 62))
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(root: Path) -> sqlite3.Connection:
    """Open the index to read; the archive may be running.

    Raises:
        sqlite3.OperationalError: There is none, or the disk cannot be read.
        sqlite3.DatabaseError: It is damaged, or another database.
    """
    path = (root / INDEX_FILE).absolute()
    if not path.is_file():
        raise sqlite3.OperationalError("there is no index")
    check_regular_files(path)
    db = connect_read_only(path, 2)
    try:
        check_plain_schema(db)
        db.execute("BEGIN")  # reads see what was checked
        _check_rows(db, "1")
    except BaseException:
        db.close()
        raise
    return db


def _table_columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {column[1] for column in db.execute(f"PRAGMA table_info({table})")}


def _check_tables(db: sqlite3.Connection) -> None:
    for table, columns in _TABLES.items():
        if _table_columns(db, table) != columns:
            raise sqlite3.DatabaseError(f"has a different table {table!r}")


def _check_rows(db: sqlite3.Connection, frame_check: str) -> None:
    """Check that every value is valid, so that readers of a row need not."""
    for table, check in _ROW_CHECKS.items():
        row_check = f"({check}) AND {frame_check}" if table == "frames" else check
        if db.execute(f"SELECT 1 FROM {table} WHERE NOT ({row_check}) LIMIT 1").fetchone():
            raise sqlite3.DatabaseError(f"a row of {table!r} is damaged")
    try:
        db.execute("SELECT DISTINCT label FROM frames").fetchall()
    except sqlite3.OperationalError as error:  # invalid UTF-8
        raise sqlite3.DatabaseError(f"a row of 'frames' is damaged: {error}") from error
