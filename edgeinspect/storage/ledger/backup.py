"""Backs up a ledger while it is written, and restores it on this PC or another.

A backup is one SQLite file of one instant, without a write-ahead log. After it the line gave
more numbers, which the backup does not know: a restore therefore skips as many as the line can
have given, so that no `seq` is used twice, and records which.
Source: docs/explanation/decisions/0009-ledger.md, https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import DataError, OutputError, TransientError, UsageError
from edgeinspect.storage.ledger.query import read_body
from edgeinspect.storage.ledger.schema import RESTORED, RestoredBackup, last_accounted_seq
from edgeinspect.storage.ledger.verification import VerificationReport, open_ledger, verify_ledger
from edgeinspect.storage.spool import SpoolScan, scan_spool
from edgeinspect.system import FileLock, atomic_file
from edgeinspect.wire import decode_verdict

_MARGIN = 2
"""A line may run faster after a backup than it ever did before."""
_CLOCK_DIFFERENCE_S = 86_400
"""The clock of the PC that is gone may have been ahead, as with another time zone."""
_LOCK_TIMEOUT_S = 0.05
"""A client that tests whether the line is running holds its lock for some microseconds."""


@dataclass(frozen=True, slots=True)
class LedgerCopy:
    """A backup that was written, or a ledger that was restored from one."""

    path: Path
    size_bytes: int
    verdicts: int
    last_seq: int
    """The last seq of a verdict in it, or skipped; 0 if it has none."""
    last_utc_ns: int | None
    """When its last verdict was captured; None if it has none."""
    report: VerificationReport
    """What `verify_ledger` found in the copy. A gap that the ledger itself has is in the copy."""


@dataclass(frozen=True, slots=True)
class RestoredLedger:
    """A restored ledger, and where the line continues."""

    copy: LedgerCopy
    skipped: tuple[int, int] | None
    """First and last seq that the line will not use; None if it continues without a gap."""


def back_up_ledger(path: Path, target: Path) -> LedgerCopy:
    """Copy a ledger, which a daemon may be writing, and verify the copy.

    Args:
        path: The ledger. It is only read; the daemon does not wait.
        target: The backup. A file of this name is replaced once the new one is verified. If
            the ledger has problems and that file has none, it is kept, as `target`.consistent.

    Raises:
        DataError: There is no ledger, it is damaged, or of another version.
        OutputError: The copy cannot be written, `target` is no backup of this line, or a file of
            another database is beside it.
        UsageError: `target` is the ledger itself.
    """
    if target.exists() and path.exists() and target.samefile(path):
        raise UsageError("this is the ledger itself", where=str(target))
    with _new_copy(path, target) as copy:
        with closing(open_ledger(copy)) as db:
            _check_replaced(target, _line_of(db, path))
        found = _describe(copy, target)
        if not found.report.is_consistent and target.exists() and _is_consistent(target):
            os.replace(target, consistent_copy(target))
        return found


def consistent_copy(target: Path) -> Path:
    """Return where the last backup without problems is kept."""
    return target.with_name(f"{target.name}.consistent")


def _is_consistent(path: Path) -> bool:
    try:
        return verify_ledger(path).is_consistent
    except DataError:
        return False


def restore_ledger(
    backup: Path,
    path: Path,
    *,
    line: str,
    spool_path: Path,
    clock: Clock,
    actor: str,
    after: int | None = None,
) -> RestoredLedger:
    """Make a backup a line's ledger; the line must not run, and must have no ledger.

    Args:
        backup: Written by `back_up_ledger`.
        path: The ledger.
        line: The line's name.
        spool_path: The line's spool. If this PC still has one with later verdicts, the line
            continues after those, and writes them into the ledger when it starts.
        clock: For the wall time, from which the number of verdicts since is estimated.
        actor: Who restores it, for the ledger's event.
        after: The last seq that the line gave, where it is known. By default it is estimated:
            twice the busiest second of the backup, for each second since its last verdict and
            for a day more, by which the clocks of two PCs may differ.

    Raises:
        DataError: The backup is damaged, or of another version.
        UsageError: The backup is of another line, or the spool of another run of this one;
            `after`, or the PC's clock, is before the backup's last verdict; or there is nothing
            to estimate from.
        TransientError: The line runs.
        OutputError: There is a ledger already, or it cannot be written.
    """
    with ExitStack() as locks:
        is_locked = _lock_line(line, spool_path, locks)
        with _locked_for_restore(path), _new_copy(backup, path, for_line=True) as copy:
            found = _describe(copy, path)
            scan = scan_spool(spool_path)
            with closing(open_ledger(copy)) as db:
                _check_line(db, backup, line)
                _check_spool(db, scan, spool_path)
                last = _last_used_seq(db, found, scan, clock.utc_ns(), after)
            skipped = (found.last_seq + 1, last) if last > found.last_seq else None
            _record(copy, found, skipped, clock.utc_ns(), actor, backup)
            if not is_locked:  # it may have started meanwhile; if so, without a ledger
                _lock_line(line, spool_path, locks)
    return RestoredLedger(found, skipped)


@contextmanager
def _new_copy(source: Path, target: Path, *, for_line: bool = False) -> Iterator[Path]:
    """Copy a ledger to a temporary file, which becomes `target` when the block ends.

    Args:
        source: The ledger.
        target: The copy.
        for_line: A line will write it; it must be able to.
    """
    _refuse_leftovers(target)
    with closing(open_ledger(source)) as db:
        try:
            with atomic_file(target, mode=0o640, durable=True) as file:
                copy = Path(file.name)
                _copy_pages(db, source, copy)
                yield copy
                try:
                    _give_to_owner_of_folder(file.fileno(), target.parent)
                except PermissionError:  # a network share that trusts no root
                    if for_line:
                        raise
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from error
        except sqlite3.OperationalError as error:  # a disk that is full or fails, or a lock
            raise OutputError(f"{source} cannot be copied: {error}", where=str(target)) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DataError(f"is damaged: {error}", where=str(source)) from error


def _refuse_leftovers(target: Path) -> None:
    """Refuse to write beside the log of another database: SQLite would replay it into the copy."""
    for suffix in ("-wal", "-journal"):
        log = target.with_name(target.name + suffix)
        if os.path.lexists(log):
            raise OutputError(
                f"belongs to another {target.name}, whose last changes it holds",
                where=str(log),
                remedy="Move it away, with the file that it belongs to",
            )


def _copy_pages(db: sqlite3.Connection, source: Path, copy: Path) -> None:
    with closing(sqlite3.connect(copy, isolation_level=None)) as out:
        # Of its own file nobody else knows; `durable` flushes it before it is renamed.
        out.execute("PRAGMA journal_mode=OFF")
        out.execute("PRAGMA synchronous=OFF")
        db.backup(out)  # in one step: of one instant, whatever is written meanwhile
        out.execute("PRAGMA journal_mode=DELETE")  # one file: its header says WAL
        damage = out.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise DataError(f"is damaged: {damage}", where=str(source))


def _describe(copy: Path, target: Path) -> LedgerCopy:
    report = verify_ledger(copy)
    with closing(open_ledger(copy)) as db:
        last_seq = last_accounted_seq(db) or 0
        verdicts, last_utc_ns = db.execute(
            "SELECT count(*), max(captured_at_utc_ns) FROM verdicts"
        ).fetchone()
    return LedgerCopy(target, copy.stat().st_size, verdicts, last_seq, last_utc_ns, report)


def _lock_line(line: str, spool_path: Path, locks: ExitStack) -> bool:
    """Keep a line from starting; False if its spool has no folder, or this user may not lock it.

    Raises:
        TransientError: It runs.
    """
    lock_path = spool_path.with_name(spool_path.name + ".lock")
    try:
        lock = locks.enter_context(FileLock(lock_path, timeout_s=_LOCK_TIMEOUT_S))
        _give_to_owner_of_folder(lock.fileno(), spool_path.parent)
    except BlockingIOError:
        raise TransientError("the line is running", where=line, remedy="Stop it first") from None
    except OSError:
        return False
    return True


@contextmanager
def _locked_for_restore(path: Path) -> Iterator[None]:
    """Lock the ledger against a daemon; refuse to replace one."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_path) as lock:
            _give_to_owner_of_folder(lock.fileno(), path.parent)
            if os.path.lexists(path):
                raise OutputError(
                    "there is a ledger already", where=str(path), remedy="Move it away first"
                )
            yield
    except BlockingIOError:
        raise TransientError("a daemon writes it", where=str(path), remedy="Stop it") from None
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def _give_to_owner_of_folder(fd: int, folder: Path) -> None:
    """Give a file that root made to the owner of its folder: the line must be able to write it."""
    if os.geteuid() == 0:
        status = folder.stat()
        os.fchown(fd, status.st_uid, status.st_gid)


def _check_line(db: sqlite3.Connection, backup: Path, line: str) -> None:
    name = _line_of(db, backup)
    if name not in (line, None):
        raise UsageError(f"is of the line '{name}', not of '{line}'", where=str(backup))


def _line_of(db: sqlite3.Connection, path: Path) -> str | None:
    """Return the name of a ledger's line; None without verdicts."""
    row = db.execute("SELECT max(seq) FROM verdicts").fetchone()
    body = read_body(db, row[0]) if row[0] is not None else None
    try:
        return decode_verdict(body).line if body is not None else None
    except msgspec.DecodeError as error:
        raise DataError(f"its last verdict is damaged: {error}", where=str(path)) from error


def _check_replaced(target: Path, line: str | None) -> None:
    """Refuse to replace anything but an earlier backup of the same line."""
    if not target.exists() or target.stat().st_size == 0:
        return
    try:
        with closing(open_ledger(target)) as db:
            name = _line_of(db, target)
    except (DataError, sqlite3.Error) as error:
        raise OutputError(
            f"is no backup that can be read, and would be replaced: {error}", where=str(target)
        ) from error
    if None not in (name, line) and name != line:
        raise OutputError(
            f"is a backup of the line '{name}', and would be replaced by one of '{line}'",
            where=str(target),
            remedy="Give another file, or a folder",
        )


def _check_spool(db: sqlite3.Connection, scan: SpoolScan | None, path: Path) -> None:
    """Check that the verdicts that spool and backup share are the same."""
    for seq, slot in (scan.frames if scan is not None else {}).items():
        if slot.payload is not None and (read_body(db, seq) or slot.payload) != slot.payload:
            raise UsageError(
                f"has another verdict {seq} than the backup: it is of another run of this line",
                where=str(path),
                remedy="Move it away",
            )


def _last_used_seq(
    db: sqlite3.Connection,
    found: LedgerCopy,
    scan: SpoolScan | None,
    utc_ns: int,
    after: int | None,
) -> int:
    """Return the last seq that may have been used and is in neither ledger nor spool."""
    if scan is not None and scan.last_seq >= found.last_seq:
        if after is not None:
            raise UsageError(
                f"this PC's spool has verdict {scan.last_seq}, so the last one is known",
                where="--after",
                remedy="Leave the option out",
            )
        return max(found.last_seq, scan.oldest_seq - 1)
    if after is not None:
        if after < found.last_seq:
            raise UsageError(
                f"the backup has verdict {found.last_seq}, which is later", where="--after"
            )
        return after
    if found.last_utc_ns is None:
        raise UsageError(
            "the backup has no verdict from which the line's later numbers can be estimated",
            remedy="Give the last number that the line used with --after; 0 if it used none",
        )
    if utc_ns < found.last_utc_ns:
        raise UsageError(
            "this PC's clock is before the backup's last verdict",
            remedy="Set the clock, or give the last number that the line used with --after",
        )
    busiest: int = db.execute(
        "SELECT max(frames) FROM (SELECT count(*) AS frames FROM verdicts"
        " GROUP BY captured_at_utc_ns / ?)",
        (NS_PER_S,),
    ).fetchone()[0]
    seconds = (utc_ns - found.last_utc_ns) // NS_PER_S + 1 + _CLOCK_DIFFERENCE_S
    return found.last_seq + _MARGIN * busiest * seconds


def _record(
    copy: Path,
    found: LedgerCopy,
    skipped: tuple[int, int] | None,
    utc_ns: int,
    actor: str,
    backup: Path,
) -> None:
    """Record the restore in the ledger itself, under its newest epoch."""
    first, last = skipped or (found.last_seq + 1, found.last_seq)
    detail = RestoredBackup(first, last, backup.name)
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute(
            "INSERT INTO events SELECT NULL, ?, coalesce(max(epoch), 0), ?, ?, ? FROM epochs",
            (utc_ns, RESTORED, actor, msgspec.json.encode(detail).decode()),
        )
