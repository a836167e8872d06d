"""Proving a ledger: every frame has one verdict, and nothing contradicts."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect.domain import Decision
from edgeinspect.errors import DataError, is_transient
from edgeinspect.storage.ledger.schema import (
    OWN_COLUMNS,
    SCHEMA_VERSION,
    Cause,
    decompress,
    last_accounted_seq,
    read_removals,
    skipped_ranges,
    verdict_columns,
)
from edgeinspect.storage.spool import SpoolScan, scan_spool
from edgeinspect.storage.sqlite_file import find_irregular_file, find_unexpected_object
from edgeinspect.wire import decode_verdict

_SPOOL_ATTEMPTS = 5
_SPOOL_PAUSE_S = 0.05


@dataclass(slots=True)
class EpochCheck:
    """One epoch's account."""

    epoch: int
    started_at_utc_ns: int | None = None
    ended_at_utc_ns: int | None = None
    """None while it runs, and for ever after a `kill -9`."""
    first_seq: int = 0
    last_seq: int = 0
    passed: int = 0
    reject: int = 0
    no_verdict: int = 0
    late: int = 0
    gaps: int = 0
    """Seqs before or within this epoch that nobody has."""
    damaged: int = 0
    """Rows whose body cannot be read or contradicts its columns."""

    @property
    def captured(self) -> int:
        """Frames that the seqs of this epoch speak of."""
        return self.last_seq - self.first_seq + 1 if self.last_seq else 0

    @property
    def is_consistent(self) -> bool:
        """True if `captured == pass + reject + no_verdict`, without gap or damage."""
        judged = self.passed + self.reject + self.no_verdict
        return self.captured == judged and not self.gaps and not self.damaged


@dataclass(slots=True)
class VerificationReport:
    """What `verify` found."""

    epochs: list[EpochCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What to know, though nothing is wrong with it."""
    skipped: int = 0
    """Seqs that are used by nobody, since the spool had been lost."""
    removed: int = 0
    """Verdicts that retention removed, with an entry for each time."""

    @property
    def is_consistent(self) -> bool:
        """True if nothing is missing and nothing contradicts."""
        return not self.problems and all(epoch.is_consistent for epoch in self.epochs)


def open_ledger(path: Path) -> sqlite3.Connection:
    """A ledger for reading, while a daemon may be writing it.

    Raises:
        DataError: There is no ledger, or it is of another version or damaged.
    """
    try:
        if not path.is_file():
            raise DataError("there is no ledger", where=str(path), remedy="Has the line run yet?")
        if (other := find_irregular_file(path)) is not None:
            raise DataError("is not an ordinary file", where=str(other), remedy="Remove it")
        base = _connect(path)
    except OSError as error:
        raise DataError(
            f"cannot be reached: {error.strerror}",
            where=str(path),
            remedy="Let this user read the ledger's folder; to write there is not needed",
        ) from error
    except sqlite3.OperationalError as error:
        raise DataError(
            f"cannot be opened: {error}",
            where=str(path),
            remedy="Let this user read all files "
            "of its folder. After a power cut start the line first: it alone can clear up",
        ) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(f"is not a ledger: {error}", where=str(path)) from error
    try:
        foreign = find_unexpected_object(base)
        version = base.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        base.close()
        raise DataError(f"is not a ledger: {error}", where=str(path)) from error
    if foreign is not None:
        base.close()
        raise DataError(f"has {foreign!r}, which no ledger has", where=str(path))
    if version is None or version[0] != SCHEMA_VERSION:
        base.close()
        raise DataError(
            f"is of version {version and version[0]}; this program reads {SCHEMA_VERSION}",
            where=str(path),
        )
    return base


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    base = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5)
    try:
        base.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        base.close()
        wal = path.with_name(path.name + "-wal")
        if is_transient(error) or (wal.exists() and wal.stat().st_size):
            raise  # whoever holds it may be writing
        # A copy in a folder that may not be written to: nobody else writes it either.
        base = sqlite3.connect(f"{uri}?immutable=1", uri=True)
    except BaseException:
        base.close()
        raise
    return base


def verify_ledger(path: Path, spool_path: Path | None = None) -> VerificationReport:
    """Check contiguity, the equation, every body, and the spool; a daemon may be running.

    Args:
        path: The ledger.
        spool_path: The line's spool. What both hold must be equal, what the ledger does
            not hold yet must be in the spool, sound.

    Raises:
        DataError: The ledger cannot be read at all.
    """
    account = VerificationReport()
    # The spool first: the ledger only grows, so what was in neither is missing.
    scan = scan_spool(spool_path) if spool_path is not None else None
    with closing(open_ledger(path)) as base:
        try:
            _VerdictScan(base, account, scan).run()
            if spool_path is not None:
                account.problems += _check_spool(spool_path, base)
        except (sqlite3.Error, OverflowError, TypeError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", where=str(path)) from error
    return account


class _VerdictScan:
    """One pass over the verdicts of a ledger."""

    def __init__(
        self, base: sqlite3.Connection, account: VerificationReport, scan: SpoolScan | None
    ) -> None:
        self._db = base
        self._report = account
        self._spooled = scan.frames if scan is not None else {}
        self._epochs: dict[int, EpochCheck] = {}
        self._skipped: dict[int, int] = {}
        self._provenances: dict[int, tuple[Cause, bytes]] = {
            number: (tuple(cause), dictionary)
            for number, *cause, dictionary in base.execute("SELECT * FROM causes")
        }

    def run(self) -> None:
        base = self._db
        # One snapshot, or an epoch that begins meanwhile would be seen by halves.
        base.execute("BEGIN")
        self._skipped = skipped_ranges(base)
        for row in base.execute("SELECT epoch, started_at_utc_ns, ended_at_utc_ns FROM epochs"):
            epoch, started, ended = msgspec.convert(row, tuple[int, int, int | None])
            self._epochs[epoch] = EpochCheck(epoch, started, ended)
        previous, last_epoch = self._check_removals() - 1, 0
        for row in base.execute(
            f"SELECT {', '.join(OWN_COLUMNS)}, cause, body FROM verdicts ORDER BY seq"
        ):
            seq, epoch = row[0], row[1]
            check = self._epoch(epoch)
            previous = self._pass_skipped(previous, seq)
            if seq != previous + 1:
                check.gaps += max(0, seq - previous - 1)
                self._add_problem(f"verdicts {previous + 1} to {seq - 1} are missing")
            if epoch < last_epoch:
                self._add_problem(f"verdict {seq} is of an epoch that had ended")
            previous, last_epoch = seq, max(epoch, last_epoch)
            self._count(check, row)
        self._pass_skipped(previous, 1 << 63)
        for epoch, late in base.execute("SELECT epoch, count(*) FROM late GROUP BY epoch"):
            self._epoch(epoch).late = late
        base.execute("COMMIT")
        self._report.epochs = [self._epochs[number] for number in sorted(self._epochs)]

    def _check_removals(self) -> int:
        """The seq from which on the ledger answers; what is below must be accounted for."""
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        floor = meta.get("floor_seq", 1)
        first = meta.get("first_seq")
        if first is None:  # of a version that did not write what it removed
            return int(floor)
        removed = read_removals(self._db)
        for each in removed:
            if each.from_seq > first:
                self._add_problem(
                    f"verdicts {first} to {each.from_seq - 1} were removed, and no entry says why"
                )
            first = max(first, each.to_seq + 1)
        if floor > first:
            self._add_problem(
                f"verdicts {first} to {floor - 1} were removed, and no entry says why"
            )
        if removed:
            counts = Counter({"age": 0, "size": 0})
            for each in removed:
                counts[each.why] += each.verdicts
            self._report.removed = sum(counts.values())
            self._report.notes.append(
                f"ids {removed[0].from_seq} to {removed[-1].to_seq} were removed on purpose: "
                f"{counts['age']} verdicts for their age, {counts['size']} for the file's size"
            )
        return int(max(floor, first))

    def _pass_skipped(self, previous: int, seq: int) -> int:
        """The last seq before `seq` that was left out on purpose; `previous` if none was."""
        while (last := self._skipped.get(previous + 1, seq)) < seq:
            self._report.notes.append(
                f"the spool was lost: ids {previous + 1} to {last} are not used, in which "
                "frames may be that were judged last and not written"
            )
            self._report.skipped += last - previous
            previous = last
        return previous

    def _epoch(self, number: int) -> EpochCheck:
        return self._epochs.setdefault(number, EpochCheck(number))

    def _add_problem(self, words: str) -> None:
        self._report.problems.append(words)

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
            self._add_problem(f"verdict {seq}: its body is damaged or contradicts its row")
        elif spooled is not None and spooled.payload not in (None, body):
            check.damaged += 1
            self._add_problem(f"verdict {seq}: the ledger has another than the spool")

    def _check_body(self, row: tuple[Any, ...]) -> bytes | None:
        """The body, if it can be read and says what the columns say."""
        cause, dictionary = self._provenances.get(row[-2], ((), b""))
        try:
            body = decompress(row[-1], dictionary)
            decode_verdict(body)  # the whole of it, not only what the columns need
            return body if verdict_columns(body) == (tuple(row[:-2]), cause) else None
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, TypeError):
            return None


def _check_spool(path: Path, base: sqlite3.Connection) -> list[str]:
    """What is wrong with the spool beside this ledger.

    A running daemon writes while we look, so that a frame can be seen half written: only
    what is wrong each time is wrong.
    """
    problems: list[str] = []
    for look in range(_SPOOL_ATTEMPTS):
        if look:
            time.sleep(_SPOOL_PAUSE_S)
        before = _last_seq(base)
        scan = scan_spool(path)
        if scan is None:
            return [f"there is no spool at {path}"]
        found = _spool_problems(scan, before, _last_seq(base))
        problems = [words for words in found if not look or words in problems]
        if not problems:
            return []
    return problems


def _last_seq(base: sqlite3.Connection) -> int:
    return last_accounted_seq(base) or 0


def _spool_problems(scan: SpoolScan, before: int, after: int) -> list[str]:
    """Problems of one look; the ledger's last seq was `before` it and is `after` it."""
    problems = [] if scan.is_valid else ["the spool's header is damaged"]
    if scan.last_seq < before:
        problems.append(f"the spool ends with {scan.last_seq}, the ledger with {before}")
    if after + 1 < scan.oldest_seq <= scan.last_seq:
        problems.append(
            f"verdicts {after + 1} to {scan.oldest_seq - 1} are neither in ledger nor spool"
        )
    for seq in range(scan.oldest_seq, scan.last_seq + 1):
        found = scan.frames.get(seq)
        if found is None or (found.record is None and found.payload is None):
            problems.append(f"frame {seq} in the spool is damaged")
        elif found.payload is None:
            if seq <= before:
                problems.append(f"frame {seq} in the spool has lost its verdict")
        elif seq > after:
            try:
                decode_verdict(found.payload)
            except msgspec.DecodeError:
                problems.append(f"frame {seq} in the spool holds no verdict")
    return problems
