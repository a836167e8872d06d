"""Verifies a ledger: every frame has exactly one verdict, and nothing contradicts it."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect import __version__
from edgeinspect.domain import Decision
from edgeinspect.errors import DataError, is_transient
from edgeinspect.storage.ledger.schema import (
    OWN_COLUMNS,
    RESTORED,
    SCHEMA_VERSION,
    Provenance,
    decompress,
    last_accounted_seq,
    read_removals,
    skipped_ranges,
    verdict_columns,
)
from edgeinspect.storage.spool import SpoolScan, scan_spool
from edgeinspect.storage.sqlite_file import (
    connect_read_only,
    find_irregular_file,
    find_unexpected_object,
)
from edgeinspect.wire import decode_verdict

_SPOOL_ATTEMPTS = 5
_SPOOL_PAUSE_S = 0.05
_REPORT_EACH = 10_000


@dataclass(slots=True)
class EpochCheck:
    """The counts of one epoch."""

    epoch: int
    started_at_utc_ns: int | None = None
    ended_at_utc_ns: int | None = None
    """None while it runs, and permanently after a `kill -9`."""
    first_seq: int = 0
    last_seq: int = 0
    passed: int = 0
    reject: int = 0
    no_verdict: int = 0
    late: int = 0
    gaps: int = 0
    """Missing seqs before or within this epoch."""
    skipped: int = 0
    """Seqs within this epoch that a restored backup does not have, which is recorded."""
    damaged: int = 0
    """Rows whose body is unreadable or contradicts its columns."""

    @property
    def captured(self) -> int:
        """Number of frames by the seqs of this epoch, without those that were skipped."""
        return self.last_seq - self.first_seq + 1 - self.skipped if self.last_seq else 0

    @property
    def is_consistent(self) -> bool:
        """True if `captured == pass + reject + no_verdict`, without gap or damage."""
        verdicts = self.passed + self.reject + self.no_verdict
        return self.captured == verdicts and not self.gaps and not self.damaged


@dataclass(slots=True)
class VerificationReport:
    """The result of `verify_ledger`."""

    epochs: list[EpochCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks that are not problems."""
    skipped: int = 0
    """Number of seqs that were skipped because the spool had been lost, or a backup restored."""
    removed: int = 0
    """Number of verdicts that retention removed and recorded."""

    @property
    def is_consistent(self) -> bool:
        """True if nothing is missing or contradictory."""
        return not self.problems and all(epoch.is_consistent for epoch in self.epochs)


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading; a daemon may be writing it.

    Raises:
        DataError: There is no ledger, or it is of another version or damaged.
    """
    try:
        if not path.is_file():
            raise DataError("there is no ledger", where=str(path), remedy="Has the line run yet?")
        if (irregular := find_irregular_file(path)) is not None:
            raise DataError("is no regular file", where=str(irregular), remedy="Remove it")
        db = _connect(path)
    except OSError as error:
        raise DataError(
            f"cannot be accessed: {error.strerror}",
            where=str(path),
            remedy="Give this user read permission on the ledger's folder",
        ) from error
    except sqlite3.OperationalError as error:
        raise DataError(
            f"cannot be opened: {error}",
            where=str(path),
            remedy="Give this user read permission on all files of its folder. After a power "
            "cut start the line first: only the line can repair it",
        ) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _not_a_ledger(path, error) from error
    try:
        unexpected = find_unexpected_object(db)
        version = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        db.close()
        raise _not_a_ledger(path, error) from error
    if unexpected is not None:
        db.close()
        raise DataError(f"has {unexpected!r}, which no ledger has", where=str(path))
    if version is None or version[0] != SCHEMA_VERSION:
        db.close()
        raise DataError(
            f"is of version {version and version[0]}; edgeinspect {__version__} reads version "
            f"{SCHEMA_VERSION}",
            where=str(path),
            remedy="Read it with the edgeinspect that wrote it, or a later one",
        )
    return db


def _not_a_ledger(path: Path, error: Exception) -> DataError:
    return DataError(
        f"is not a ledger: {error}",
        where=str(path),
        remedy="Give the line's file or LINE.ledger.sqlite. If this is a ledger, it is damaged: "
        "see its backup",
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = connect_read_only(path)
    try:
        db.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        db.close()
        wal = path.with_name(path.name + "-wal")
        if is_transient(error) or (wal.exists() and wal.stat().st_size):
            raise  # another process may be writing
        # A copy in a read-only folder: no other process writes it either.
        db = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    except BaseException:
        db.close()
        raise
    return db


def verify_ledger(
    path: Path,
    spool_path: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VerificationReport:
    """Check contiguity, the counts, every body, and the spool; a daemon may be running.

    Args:
        path: The ledger.
        spool_path: The line's spool. Verdicts that both have must be equal, and verdicts that
            the ledger does not have yet must be valid in the spool.
        progress: Called now and then with the verdicts read, and their number.

    Raises:
        DataError: The ledger cannot be read at all.
    """
    report = VerificationReport()
    # The spool first: the ledger only grows, so a verdict that is in neither is missing.
    scan = scan_spool(spool_path) if spool_path is not None else None
    with closing(open_ledger(path)) as db:
        try:
            _VerdictScan(db, report, scan).run(progress)
            if spool_path is not None:
                report.problems += _check_spool(spool_path, db)
        except (sqlite3.Error, OverflowError, TypeError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", where=str(path)) from error
    return report


class _VerdictScan:
    """One pass over the verdicts of a ledger."""

    def __init__(
        self, db: sqlite3.Connection, report: VerificationReport, scan: SpoolScan | None
    ) -> None:
        self._db = db
        self._report = report
        self._spooled = scan.frames if scan is not None else {}
        self._epochs: dict[int, EpochCheck] = {}
        self._skipped: dict[int, int] = {}
        self._restored: dict[int, int] = {}
        self._provenances: dict[int, tuple[Provenance, bytes]] = {
            number: (tuple(cause), dictionary)
            for number, *cause, dictionary in db.execute("SELECT * FROM causes")
        }

    def run(self, progress: Callable[[int, int], None]) -> None:
        db = self._db
        # One snapshot, or an epoch that begins meanwhile would be read partially.
        db.execute("BEGIN")
        self._skipped = skipped_ranges(db)
        self._restored = skipped_ranges(db, (RESTORED,))
        for row in db.execute("SELECT epoch, started_at_utc_ns, ended_at_utc_ns FROM epochs"):
            epoch, started, ended = msgspec.convert(row, tuple[int, int, int | None])
            self._epochs[epoch] = EpochCheck(epoch, started, ended)
        previous, last_epoch = self._check_removals() - 1, 0
        total = db.execute("SELECT count(*) FROM verdicts").fetchone()[0]
        rows = db.execute(
            f"SELECT {', '.join(OWN_COLUMNS)}, cause, body FROM verdicts ORDER BY seq"
        )
        for done, row in enumerate(rows):
            if done % _REPORT_EACH == 0:
                progress(done, total)
            seq, epoch = row[0], row[1]
            check = self._epoch(epoch)
            before, previous = previous, self._pass_skipped(previous, seq)
            if check.first_seq:
                check.skipped += previous - before
            if seq != previous + 1:
                check.gaps += max(0, seq - previous - 1)
                self._add_problem(f"verdicts {previous + 1} to {seq - 1} are missing")
            if epoch < last_epoch:
                self._add_problem(f"verdict {seq} is of an epoch that had already ended")
            previous, last_epoch = seq, max(epoch, last_epoch)
            self._count(check, row)
        progress(total, total)
        self._pass_skipped(previous, 1 << 63)
        for epoch, late in db.execute("SELECT epoch, count(*) FROM late GROUP BY epoch"):
            self._epoch(epoch).late = late
        db.execute("COMMIT")
        self._report.epochs = [self._epochs[number] for number in sorted(self._epochs)]

    def _check_removals(self) -> int:
        """Return the first seq that must have a verdict; check that removals were recorded."""
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        floor = meta.get("floor_seq", 1)
        first = meta.get("first_seq")
        if first is None:  # of a version that did not record removals
            return int(floor)
        removed = read_removals(self._db)
        for each in removed:
            if each.from_seq > first:
                self._add_problem(
                    f"verdicts {first} to {each.from_seq - 1} were removed without an entry"
                )
            first = max(first, each.to_seq + 1)
        if floor > first:
            self._add_problem(f"verdicts {first} to {floor - 1} were removed without an entry")
        if removed:
            counts = Counter({"age": 0, "size": 0})
            for each in removed:
                counts[each.why] += each.verdicts
            self._report.removed = sum(counts.values())
            self._report.notes.append(
                f"ids {removed[0].from_seq} to {removed[-1].to_seq} were removed by retention: "
                f"{counts['age']} verdicts by age, {counts['size']} by file size"
            )
        return int(max(floor, first))

    def _pass_skipped(self, previous: int, seq: int) -> int:
        """Return the last seq before `seq` that was skipped; `previous` if none was."""
        while (last := self._skipped.get(previous + 1, seq)) < seq:
            is_backup = (previous + 1) in self._restored
            self._report.notes.append(
                f"the ledger was restored from a backup: ids {previous + 1} to {last} are not "
                "used again; frames inspected after the backup are among them, and not recorded"
                if is_backup
                else f"the spool was lost: ids {previous + 1} to {last} are not used; the last "
                "inspected frames may be among them and not be recorded"
            )
            self._report.skipped += last - previous
            previous = last
        return previous

    def _epoch(self, number: int) -> EpochCheck:
        return self._epochs.setdefault(number, EpochCheck(number))

    def _add_problem(self, problem: str) -> None:
        self._report.problems.append(problem)

    def _count(self, check: EpochCheck, row: tuple[Any, ...]) -> None:
        seq, decision = row[0], row[4]
        check.first_seq = check.first_seq or seq
        check.last_seq = seq
        if decision == Decision.PASS.value:
            check.passed += 1
        elif decision == Decision.REJECT.value:
            check.reject += 1
        elif decision == Decision.NO_VERDICT.value:
            check.no_verdict += 1
        body = self._check_body(row)
        spooled = self._spooled.get(seq)
        if body is None:
            check.damaged += 1
            self._add_problem(f"verdict {seq}: its body is damaged or contradicts its columns")
        elif spooled is not None and spooled.payload not in (None, body):
            check.damaged += 1
            self._add_problem(f"verdict {seq}: ledger and spool differ")

    def _check_body(self, row: tuple[Any, ...]) -> bytes | None:
        """Return the body, if it is readable and agrees with the columns."""
        cause, dictionary = self._provenances.get(row[-2], ((), b""))
        try:
            body = decompress(row[-1], dictionary)
            decode_verdict(body)  # all of it, not only the fields of the columns
            return body if verdict_columns(body) == (tuple(row[:-2]), cause) else None
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, TypeError):
            return None


def _check_spool(path: Path, db: sqlite3.Connection) -> list[str]:
    """Return the problems of the spool that belongs to this ledger.

    A running daemon writes meanwhile, so a frame can be read half written: only a problem
    that every attempt finds counts.
    """
    problems: list[str] = []
    for attempt in range(_SPOOL_ATTEMPTS):
        if attempt:
            time.sleep(_SPOOL_PAUSE_S)
        before = _last_seq(db)
        scan = scan_spool(path)
        if scan is None:
            return [f"there is no spool at {path}"]
        problems_now = _spool_problems(scan, before, _last_seq(db))
        problems = [each for each in problems_now if not attempt or each in problems]
        if not problems:
            return []
    return problems


def _last_seq(db: sqlite3.Connection) -> int:
    return last_accounted_seq(db) or 0


def _spool_problems(scan: SpoolScan, before: int, after: int) -> list[str]:
    """Return the problems of one scan, between two readings of the ledger's last seq."""
    problems = [] if scan.is_valid else ["the spool's header is damaged"]
    if scan.last_seq < before:
        problems.append(f"the spool ends with {scan.last_seq}, the ledger with {before}")
    if after + 1 < scan.oldest_seq <= scan.last_seq:
        problems.append(
            f"verdicts {after + 1} to {scan.oldest_seq - 1} are neither in ledger nor spool"
        )
    for seq in range(scan.oldest_seq, scan.last_seq + 1):
        slot = scan.frames.get(seq)
        if slot is None or (slot.record is None and slot.payload is None):
            problems.append(f"frame {seq} in the spool is damaged")
        elif slot.payload is None:
            if seq <= before:
                problems.append(f"frame {seq} in the spool has lost its verdict")
        elif seq > after:
            try:
                decode_verdict(slot.payload)
            except msgspec.DecodeError:
                problems.append(f"frame {seq} in the spool has an invalid verdict")
    return problems
