"""The ledger's file on its way from a path to an open database, and out of the way."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import StorageError, is_transient
from edgeinspect.storage.ledger.schema import SCHEMA_VERSION, TABLES, RowEncoder
from edgeinspect.storage.sqlite_file import find_irregular_file
from edgeinspect.system import FileLock


@dataclass(frozen=True, slots=True)
class LedgerTail:
    """What a ledger knows before the spool is opened."""

    last_seq: int = 0
    """The last that was surely given out: of a verdict, or left out before an epoch."""
    last_epoch: int = 0
    last_utc_ns: int | None = None
    """When the last verdict was captured, by the wall clock of then."""
    clean_shutdown: bool = False
    """True if the last epoch was stopped in order: no frame of it is missing here."""


def read_tail(path: Path) -> LedgerTail:
    """The last seq and epoch in a ledger; zeros if there is none that can be read.

    Raises:
        StorageError: There is one, and it can be read later: another program holds it.
    """
    try:
        if not path.exists() or find_irregular_file(path) is not None:
            return LedgerTail()
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
        try:
            seq, epoch, utc_ns = base.execute(
                "SELECT seq, epoch, captured_at_utc_ns FROM verdicts ORDER BY seq DESC LIMIT 1"
            ).fetchone() or (0, 0, None)
            begun, first, ended = base.execute(
                "SELECT epoch, first_seq, ended_at_utc_ns FROM epochs ORDER BY epoch DESC LIMIT 1"
            ).fetchone() or (0, 1, None)
        finally:
            base.close()
        stopped = ended is not None and epoch <= begun
        return LedgerTail(max(seq, first - 1), max(epoch, begun - 0), utc_ns, stopped)
    except (OSError, sqlite3.Error, TypeError, ValueError) as error:
        if is_transient(error):
            raise StorageError(
                f"the ledger cannot be read now: {error}",
                where=str(path),
                remedy="Another program may hold it",
            ) from error
        return LedgerTail()  # damaged: the writer sets it aside


class UnusableLedgerError(Exception):
    """The file cannot be continued; it is to be set aside.

    Args:
        problem: Why, in words.
        suffix: What its name gets, before a number.
    """

    def __init__(self, problem: str, suffix: str = "damaged") -> None:
        self.suffix = suffix
        super().__init__(problem)


class LedgerDatabase:
    """A ledger open for writing, locked against a second daemon. One thread; commits by hand."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it with its folder.

        Raises:
            UnusableLedgerError: It is damaged, of another version, or something else's database.
            sqlite3.OperationalError: The disk, the folder or a lock is in the way, perhaps
                for a while.
            OSError: As above; or another daemon holds the ledger.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_ledger(path)
        try:
            if (other := find_irregular_file(path)) == path:
                raise UnusableLedgerError("is not an ordinary file", suffix="other")
            if other is not None:
                raise OSError(f"{other.name} beside it is not an ordinary file: remove it")
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
        """False once the file was moved, removed or exchanged under its name."""
        return self._inode == _inode(self._path)

    def close(self) -> None:
        """Close and unlock."""
        try:
            self.db.close()
        except sqlite3.Error:
            pass  # what is committed is safe; the rest is still in the spool
        finally:
            self._lock.release()


def _open_database(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=2, isolation_level=None)
    try:
        version = _version(base)
        if version not in (None, SCHEMA_VERSION):
            raise UnusableLedgerError(f"is of version {version}", suffix=f"version-{version}")
        base.execute("PRAGMA auto_vacuum=INCREMENTAL")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute("PRAGMA wal_autocheckpoint=16000")
        base.execute("PRAGMA journal_size_limit=67108864")
        base.execute("PRAGMA cache_size=-32768")
        if version is None:
            made = f"INSERT OR IGNORE INTO meta VALUES ('schema', {SCHEMA_VERSION});"
            base.executescript(f"BEGIN IMMEDIATE; {TABLES} {made} COMMIT;")
    except BaseException:
        base.close()
        raise
    return base


def _version(base: sqlite3.Connection) -> int | None:
    """The schema's version; None for a file that is empty."""
    tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "meta" not in tables:
        raise UnusableLedgerError("is a database, but no ledger", suffix="other")
    found = base.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    return int(found[0]) if found else 0


def is_corruption(error: BaseException) -> bool:
    """True for a file that is no database or a broken one, not for a disk that may recover."""
    # sqlite3 gives SQLITE_CORRUPT and SQLITE_NOTADB, and only these, the bare class.
    # Its words may quote the damaged bytes, and then it raises UnicodeDecodeError instead.
    # A value of another type than the column's is damage as well.
    return type(error) is sqlite3.DatabaseError or isinstance(error, (TypeError, ValueError))


def quarantine(path: Path, suffix: str) -> Path:
    """Give the file another name, its write-ahead log with it; returns the new path."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.{suffix}-{number}")
        if not aside.exists():
            break
    path.rename(aside)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        wal.rename(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def _inode(path: Path) -> int:
    """Which file stands under the name; 0 for none."""
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
