"""Opens, locks and quarantines the ledger's file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import StorageError, is_transient
from edgeinspect.storage.ledger.schema import (
    RESTORED,
    SCHEMA_VERSION,
    TABLES,
    RowEncoder,
    last_accounted_seq,
)
from edgeinspect.storage.sqlite_file import connect_read_only, find_irregular_file
from edgeinspect.system import FileLock


@dataclass(frozen=True, slots=True)
class LedgerTail:
    """The last seq and epoch in a ledger, read before the spool is opened."""

    last_seq: int = 0
    """The last seq that was certainly used: of a verdict, or skipped before an epoch."""
    last_epoch: int = 0
    last_utc_ns: int | None = None
    """When the last verdict was captured, by the wall clock at that time."""
    clean_shutdown: bool = False
    """True if no later seq can have been used: the last epoch was stopped in order, or the ledger
    was restored after it, which skips what may have been used."""


def read_tail(path: Path) -> LedgerTail:
    """Return the last seq and epoch in a ledger; zeros if there is none or it is damaged.

    Raises:
        StorageError: Another program holds it; it can be read later.
    """
    try:
        if not path.exists() or find_irregular_file(path) is not None:
            return LedgerTail()
        db = connect_read_only(path, 1)
        try:
            seq, epoch, utc_ns = db.execute(
                "SELECT seq, epoch, captured_at_utc_ns FROM verdicts ORDER BY seq DESC LIMIT 1"
            ).fetchone() or (0, 0, None)
            begun, first, ended = db.execute(
                "SELECT epoch, first_seq, ended_at_utc_ns FROM epochs ORDER BY epoch DESC LIMIT 1"
            ).fetchone() or (0, 1, None)
            (restored,) = db.execute(
                "SELECT max(epoch) FROM events WHERE kind = ?", (RESTORED,)
            ).fetchone()
            last = max(seq, first - 1, last_accounted_seq(db) or 0)
        finally:
            db.close()
        is_complete = ended is not None or (restored is not None and restored >= begun)
        # Adding 0 refuses text, which a damaged or foreign file may hold in a column.
        return LedgerTail(last, max(epoch + 0, begun + 0), utc_ns, is_complete and epoch <= begun)
    except (OSError, sqlite3.Error, TypeError, ValueError) as error:
        if is_transient(error):
            raise StorageError(
                f"the ledger cannot be read now: {error}",
                where=str(path),
                remedy="Another program may hold it",
            ) from error
        return LedgerTail()  # damaged: the writer quarantines it


class UnusableLedgerError(Exception):
    """The file cannot be continued and must be quarantined.

    Args:
        problem: Why.
        suffix: Appended to its name, with a number.
    """

    def __init__(self, problem: str, suffix: str = "damaged") -> None:
        self.suffix = suffix
        super().__init__(problem)


class LedgerDatabase:
    """A ledger open for writing, locked against a second daemon. One thread; explicit commits."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it with its folder.

        Raises:
            UnusableLedgerError: It is damaged, of another version, or another database.
            sqlite3.OperationalError: The disk, the folder or a lock prevents it, perhaps only
                for a while.
            OSError: As above; or another daemon holds the ledger.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_ledger(path)
        try:
            if (irregular := find_irregular_file(path)) == path:
                raise UnusableLedgerError("is no regular file", suffix="other")
            if irregular is not None:
                raise OSError(f"{irregular.name} beside it is no regular file: remove it")
            self.db = _open_database(path)
            try:
                self.encoder = RowEncoder(self.db)
                self._inode = _inode(path)
            except BaseException:
                self.db.close()
                raise
        except BaseException as error:
            self._lock.release()
            if is_corruption(error):
                raise UnusableLedgerError(str(error)) from error
            raise

    @property
    def is_current(self) -> bool:
        """False once the file was moved, removed or replaced."""
        return self._inode == _inode(self._path)

    def close(self) -> None:
        """Close and unlock."""
        try:
            self.db.close()
        except sqlite3.Error:
            pass  # committed rows are safe, and the spool has the others
        finally:
            self._lock.release()


def _open_database(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=2, isolation_level=None)
    try:
        version = _version(db)
        if version not in (None, SCHEMA_VERSION):
            raise UnusableLedgerError(f"is of version {version}", suffix=f"version-{version}")
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=16000")
        db.execute("PRAGMA journal_size_limit=67108864")
        db.execute("PRAGMA cache_size=-32768")
        if version is None:
            insert_version = f"INSERT OR IGNORE INTO meta VALUES ('schema', {SCHEMA_VERSION});"
            db.executescript(f"BEGIN IMMEDIATE; {TABLES} {insert_version} COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int | None:
    """Return the schema's version; None for an empty file."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "meta" not in tables:
        raise UnusableLedgerError("is a database but not a ledger", suffix="other")
    found = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return int(found[0]) if found else 0


def is_corruption(error: BaseException) -> bool:
    """Return whether an error means a damaged file, not a disk that may recover."""
    # sqlite3 raises the bare class for SQLITE_CORRUPT and SQLITE_NOTADB, and only for these. If
    # its message quotes damaged bytes, it raises UnicodeDecodeError instead. A value of another
    # type than its column's is damage as well.
    return type(error) is sqlite3.DatabaseError or isinstance(error, (TypeError, ValueError))


def _inode(path: Path) -> int:
    """Return the inode number of a file; 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _lock_ledger(path: Path) -> FileLock:
    """Lock the ledger against a second daemon."""
    try:
        return FileLock(path.with_name(path.name + ".lock"))
    except BlockingIOError as error:
        raise OSError("another daemon writes it: two lines of one name?") from error
