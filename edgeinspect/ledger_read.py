"""Reading a ledger: prove it, search it, take it away."""

from __future__ import annotations

import csv
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect.errors import DataError, MissingExtraError
from edgeinspect.ledger import SCHEMA_VERSION, verdict_row
from edgeinspect.spool_format import scan_file
from edgeinspect.wire import decode_verdict

COLUMNS = ("seq", "epoch", "captured_at_utc_ns", "camera", "decision", "reason", "part_id",
           "encoder_count", "defect_prob", "reject_code", "classes", "degraded", "simulated",
           "total_us")  # fmt: skip
"""What queries and exports give, in order."""


@dataclass(slots=True)
class EpochCheck:
    """One epoch's account."""

    epoch: int
    started_at_utc_ns: int | None = None
    first_seq: int = 0
    last_seq: int = 0
    passed: int = 0
    reject: int = 0
    no_verdict: int = 0
    late: int = 0
    gaps: int = 0
    """Seqs of this epoch that nobody has."""
    damaged: int = 0
    """Rows whose body cannot be read or contradicts its columns."""

    @property
    def captured(self) -> int:
        """Frames that the seqs of this epoch speak of."""
        return self.last_seq - self.first_seq + 1 if self.last_seq else 0

    @property
    def holds(self) -> bool:
        """True if `captured == pass + reject + no_verdict`, without gap or damage."""
        judged = self.passed + self.reject + self.no_verdict
        return self.captured == judged and not self.gaps and not self.damaged


@dataclass(slots=True)
class Account:
    """What `verify` found."""

    epochs: list[EpochCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """True if nothing is missing and nothing contradicts."""
        return not self.problems and all(epoch.holds for epoch in self.epochs)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which verdicts; a field that is None does not matter."""

    since_utc_ns: int | None = None
    until_utc_ns: int | None = None
    decision: str | None = None
    reason: str | None = None
    class_name: str | None = None
    camera: str | None = None
    part_id: str | None = None
    seq: int | None = None
    limit: int | None = None


def open_ledger(path: Path) -> sqlite3.Connection:
    """A ledger for reading, while a daemon may be writing it.

    Raises:
        DataError: There is no ledger, or it is of another version or damaged.
    """
    if not path.is_file():
        raise DataError("there is no ledger", where=str(path), remedy="Has the line run yet?")
    try:
        base = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=5)
        version = base.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    except sqlite3.Error as error:
        raise DataError(f"is not a ledger: {error}", where=str(path)) from error
    if version is None or version[0] != SCHEMA_VERSION:
        base.close()
        raise DataError(
            f"is of version {version and version[0]}; this program reads {SCHEMA_VERSION}",
            where=str(path),
        )
    return base


def verify(path: Path, spool_path: Path | None = None) -> Account:
    """Check contiguity, the equation, every body, and the spool's checksums.

    Raises:
        DataError: The ledger cannot be read at all.
    """
    account = Account()
    epochs: dict[int, EpochCheck] = {}
    with closing(open_ledger(path)) as base:
        try:
            _check_rows(base, epochs, account)
        except sqlite3.Error as error:
            raise DataError(f"cannot be read: {error}", where=str(path)) from error
        last = max((epoch.last_seq for epoch in epochs.values()), default=0)
    if spool_path is not None:
        _check_spool(spool_path, last, account)
    account.epochs = [epochs[number] for number in sorted(epochs)]
    return account


def _check_rows(base: sqlite3.Connection, epochs: dict[int, EpochCheck], account: Account) -> None:
    for epoch, started, _first in base.execute(
        "SELECT epoch, started_at_utc_ns, first_seq FROM epochs"
    ):
        epochs[epoch] = EpochCheck(epoch, started)
    floor = base.execute("SELECT value FROM meta WHERE name = 'floor_seq'").fetchone()
    previous = floor[0] - 1 if floor else None
    for row in base.execute(f"SELECT {', '.join(COLUMNS)}, body FROM verdicts ORDER BY seq"):
        seq, epoch = row[0], row[1]
        check = epochs.setdefault(epoch, EpochCheck(epoch))
        if previous is not None and seq != previous + 1:
            check.gaps += seq - previous - 1
            account.problems.append(f"verdicts {previous + 1} to {seq - 1} are missing")
        if previous is None and seq != 1 and not floor:
            account.problems.append(f"the ledger begins with verdict {seq}")
        previous = seq
        check.first_seq = check.first_seq or seq
        check.last_seq = seq
        if row[4] == "PASS":
            check.passed += 1
        elif row[4] == "REJECT":
            check.reject += 1
        else:
            check.no_verdict += 1
        if not _body_agrees(row):
            check.damaged += 1
            account.problems.append(f"verdict {seq}: its body contradicts its row")
    for epoch, late in base.execute("SELECT epoch, count(*) FROM late GROUP BY epoch"):
        epochs.setdefault(epoch, EpochCheck(epoch)).late = late


def _body_agrees(row: tuple[Any, ...]) -> bool:
    try:
        return verdict_row(zlib.decompress(row[-1]))[:-1] == tuple(row[:-1])
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError):
        return False


def _check_spool(path: Path, last_seq: int, account: Account) -> None:
    """The frames that the ledger does not have yet must stand in the spool, sound."""
    scan = scan_file(path)
    if scan is None:
        account.problems.append(f"there is no spool at {path}")
        return
    if not scan.sound:
        account.problems.append("the spool's header is damaged")
    for seq in range(max(last_seq + 1, scan.oldest_seq), scan.last_seq + 1):
        found = scan.frames.get(seq)
        if found is None:
            account.problems.append(f"frame {seq} in the spool is damaged")
        elif found.payload is not None:
            try:
                decode_verdict(found.payload)
            except (msgspec.DecodeError, UnicodeDecodeError):
                account.problems.append(f"frame {seq} in the spool holds no verdict")
    if scan.oldest_seq > last_seq + 1 and scan.last_seq > last_seq:
        account.problems.append(
            f"verdicts {last_seq + 1} to {scan.oldest_seq - 1} are neither in ledger nor spool"
        )


def query(base: sqlite3.Connection, wanted: Filter) -> Iterator[tuple[Any, ...]]:
    """Rows of `COLUMNS`, the newest first."""
    clauses, values = _where(wanted)
    limit = f" LIMIT {int(wanted.limit)}" if wanted.limit is not None else ""
    text = f"SELECT {', '.join(COLUMNS)} FROM verdicts{clauses} ORDER BY seq DESC{limit}"
    yield from base.execute(text, values)


def read_body(base: sqlite3.Connection, seq: int) -> bytes | None:
    """The JSON of one verdict, as it was published."""
    row = base.execute("SELECT body FROM verdicts WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else zlib.decompress(row[0])


def _where(wanted: Filter) -> tuple[str, list[Any]]:
    """SQL with placeholders only: what a person types never becomes part of it."""
    terms = (
        ("captured_at_utc_ns >= ?", wanted.since_utc_ns),
        ("captured_at_utc_ns < ?", wanted.until_utc_ns),
        ("decision = ?", wanted.decision),
        ("reason = ?", wanted.reason),
        ("instr(',' || classes || ',', ',' || ? || ',') > 0", wanted.class_name),
        ("camera = ?", wanted.camera),
        ("part_id = ?", wanted.part_id),
        ("seq = ?", wanted.seq),
    )
    used = [(clause, value) for clause, value in terms if value is not None]
    if not used:
        return "", []
    return " WHERE " + " AND ".join(clause for clause, _ in used), [value for _, value in used]


def export_csv(base: sqlite3.Connection, wanted: Filter, path: Path) -> int:
    """Write a CSV file with a header; returns the number of verdicts."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in query(base, wanted):
            writer.writerow(row)
            count += 1
    return count


def export_parquet(base: sqlite3.Connection, wanted: Filter, path: Path) -> int:
    """Write a Parquet file; returns the number of verdicts.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", where=str(path)) from error
    whole, real = pyarrow.int64(), pyarrow.float64()
    text, flag = pyarrow.string(), pyarrow.bool_()
    types = (whole, whole, whole, text, text, text, text, whole, real, whole, text, flag, flag,
             whole)  # fmt: skip
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        rows = query(base, wanted)
        while batch := list(islice(rows, 10_000)):
            columns = [list(column) for column in zip(*batch, strict=True)]
            columns[11] = [bool(value) for value in columns[11]]
            columns[12] = [bool(value) for value in columns[12]]
            arrays = [pyarrow.array(c, t) for c, t in zip(columns, types, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema=schema))
            count += len(batch)
    return count
