"""Searches a ledger, and exports verdicts and events from it."""

from __future__ import annotations

import io
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from edgeinspect.domain import Decision, Reason
from edgeinspect.errors import DataError, MissingExtraError, OutputError, UsageError
from edgeinspect.storage.ledger.schema import OWN_COLUMNS, decompress
from edgeinspect.system import (
    DecodeError,
    TableWriter,
    atomic_file,
    format_utc,
    json_decoder,
)

_STORED = (
    *OWN_COLUMNS,
    "gate",
    "gate_calibration",
    "segmenter",
    "segmenter_calibration",
    "config_hash",
)
COLUMNS = (*_STORED, "label")
"""The columns of queries and exports, in order."""
_CAPTURED_AT = COLUMNS.index("captured_at_utc_ns")
_REPORT_EACH = 10_000


_StoredRow = tuple[
    int,
    int,
    int,
    str,
    str,
    str,
    str | None,
    int | None,
    float | None,
    int,
    str,
    int,
    int,
    int,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
]
"""The types of `_STORED`, to be checked: SQLite stores any value in any column."""


class _LabelOnly(msgspec.Struct):
    """The field that is read from a verdict's body."""

    label: str | None = None


_decode_label = json_decoder(_LabelOnly)
_PASSING = {Reason.CLEAN.value, Reason.BELOW_THRESHOLDS.value}
_INTEGER_COLUMNS = {
    "seq",
    "epoch",
    "captured_at_utc_ns",
    "encoder_count",
    "reject_code",
    "total_us",
}
_BOOLEAN_COLUMNS = {"degraded", "simulated"}


@dataclass(frozen=True, slots=True)
class VerdictFilter:
    """Which verdicts to select; a field that is None matches all."""

    since_utc_ns: int | None = None
    until_utc_ns: int | None = None
    decision: str | None = None
    reason: str | None = None
    class_name: str | None = None
    """Class of a fatal region."""
    camera: str | None = None
    part_id: str | None = None
    seq: int | None = None
    limit: int | None = None


def find_verdicts(db: sqlite3.Connection, criteria: VerdictFilter) -> Iterator[tuple[Any, ...]]:
    """Yield rows of `COLUMNS`, the newest capture first.

    Raises:
        DataError: The ledger is damaged.
    """
    clauses, values = _where_clause(criteria)
    limit = f" LIMIT {int(criteria.limit)}" if criteria.limit is not None else ""
    text = (
        f"SELECT {', '.join(_STORED)}, body, dictionary FROM verdicts{_index_hint(criteria)}"
        f" LEFT JOIN causes USING (cause){clauses}"
        f" ORDER BY captured_at_utc_ns DESC, seq DESC{limit}"
    )
    try:
        for *row, body, dictionary in db.execute(text, values):
            yield (*_validated(row), _label(body, dictionary))
    except (sqlite3.Error, OverflowError) as error:
        raise DataError(f"the ledger cannot be read: {error}") from error


def _validated(row: list[Any]) -> _StoredRow:
    """Return a row with the types that the table declares.

    Raises:
        DataError: It has other values.
    """
    try:
        checked: _StoredRow = msgspec.convert(row, _StoredRow)
    except msgspec.ValidationError as error:
        raise DataError(
            f"the ledger's row of verdict {row[0]} is damaged: {error}",
            remedy="`edgeinspect ledger verify` names every such row",
        ) from error
    return checked


def _label(packed: bytes, dictionary: bytes) -> str | None:
    """Return the image's name, which only the verdict's body has."""
    try:
        return _decode_label(decompress(packed, dictionary)).label
    except (zlib.error, DecodeError, TypeError):  # `verify` reports it
        return None


def read_body(db: sqlite3.Connection, seq: int) -> bytes | None:
    """Return the JSON of one verdict, as it was published.

    Raises:
        DataError: It is damaged.
    """
    try:
        row = db.execute(
            "SELECT body, dictionary FROM verdicts JOIN causes USING (cause) WHERE seq = ?", (seq,)
        ).fetchone()
        return None if row is None else decompress(*row)
    except (sqlite3.Error, zlib.error, TypeError) as error:
        raise DataError(f"verdict {seq} cannot be read: {error}") from error


def _where_clause(criteria: VerdictFilter) -> tuple[str, list[Any]]:
    """Return SQL and its values: user input goes into placeholders only."""
    terms = (
        ("captured_at_utc_ns >= ?", criteria.since_utc_ns),
        ("captured_at_utc_ns < ?", criteria.until_utc_ns),
        ("decision = ?", criteria.decision),
        ("reason = ?", criteria.reason),
        ("instr(',' || classes || ',', ',' || ? || ',') > 0", criteria.class_name),
        ("camera = ?", criteria.camera),
        ("part_id = ?", criteria.part_id),
        ("seq = ?", criteria.seq),
    )
    used = [(clause, value) for clause, value in terms if value is not None]
    clauses = [clause for clause, _ in used]
    if _excludes_passes(criteria):
        clauses.append("decision != 'PASS'")  # explicit, or SQLite may not use that index
    return " WHERE " + " AND ".join(clauses) if clauses else "", [value for _, value in used]


def _index_hint(criteria: VerdictFilter) -> str:
    """Return a hint for the small index of non-passes: SQLite would take the large one."""
    use_index = criteria.part_id is None and criteria.seq is None and _excludes_passes(criteria)
    return " INDEXED BY verdicts_bad" if use_index else ""


def _excludes_passes(criteria: VerdictFilter) -> bool:
    return (
        criteria.decision not in (None, Decision.PASS.value)
        or criteria.class_name is not None
        or criteria.reason not in (None, *_PASSING)
    )


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the line, as it was stored."""

    at_utc_ns: int
    epoch: int
    kind: str
    actor: str
    detail: str
    """A JSON object."""


_EVENT_COLUMNS = ("at_utc_ns", "epoch", "kind", "actor", "detail")


def read_events(
    db: sqlite3.Connection,
    limit: int,
    *,
    since_utc_ns: int | None = None,
    until_utc_ns: int | None = None,
) -> list[StoredEvent]:
    """Return the newest events of a period, the newest first.

    Raises:
        DataError: The ledger is damaged.
    """
    since = -(1 << 63) if since_utc_ns is None else since_utc_ns
    until = (1 << 63) - 1 if until_utc_ns is None else until_utc_ns
    text = (
        f"SELECT {', '.join(_EVENT_COLUMNS)} FROM events"
        " WHERE at_utc_ns >= ? AND at_utc_ns < ? OR typeof(at_utc_ns) != 'integer'"
        " ORDER BY id DESC LIMIT ?"
    )
    try:
        rows = db.execute(text, (since, until, limit)).fetchall()
        return msgspec.convert(
            [dict(zip(_EVENT_COLUMNS, row, strict=True)) for row in rows], list[StoredEvent]
        )
    except (sqlite3.Error, OverflowError, msgspec.ValidationError) as error:
        raise DataError(f"the ledger cannot be read: {error}") from error


def export_csv(
    db: sqlite3.Connection,
    criteria: VerdictFilter,
    path: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write a CSV file with a header; return the number of verdicts.

    A column `captured_at` (UTC, ISO 8601) is added: a spreadsheet rounds a number of
    nanoseconds.

    Args:
        db: From `open_ledger`.
        criteria: Which verdicts.
        path: The file to write.
        progress: Called now and then with the number of verdicts written.

    Raises:
        OutputError: The file cannot be written.
        DataError: The ledger is damaged; no file is left.
    """

    def write(file: BinaryIO) -> int:
        count = 0
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = TableWriter(text, "\r\n")
        writer.writerow([*COLUMNS, "captured_at"])
        for row in find_verdicts(db, criteria):
            writer.writerow([*row, format_utc(row[_CAPTURED_AT])])
            count += 1
            if count % _REPORT_EACH == 0:
                progress(count)
        text.detach()
        return count

    return _export(db, path, write)


def export_parquet(
    db: sqlite3.Connection,
    criteria: VerdictFilter,
    path: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write a Parquet file as `export_csv`, `captured_at` as a timestamp; return the number.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OutputError: The file cannot be written.
        DataError: The ledger is damaged; no file is left.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", where=str(path)) from error

    def column_type(name: str) -> Any:
        if name in _INTEGER_COLUMNS:
            return pyarrow.int64()
        if name in _BOOLEAN_COLUMNS:
            return pyarrow.bool_()
        return pyarrow.float64() if name == "defect_prob" else pyarrow.string()

    fields = [(name, column_type(name)) for name in COLUMNS]
    at_type = pyarrow.timestamp("ns", tz="UTC")
    schema = pyarrow.schema([*fields, ("captured_at", at_type)])

    def write(file: BinaryIO) -> int:
        count = 0
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            verdicts = find_verdicts(db, criteria)
            while batch := list(islice(verdicts, 10_000)):
                columns = zip(COLUMNS, zip(*batch, strict=True), strict=True)
                arrays = [
                    pyarrow.array(
                        map(bool, c) if name in _BOOLEAN_COLUMNS else c, column_type(name)
                    )
                    for name, c in columns
                ]
                arrays.append(pyarrow.array([row[_CAPTURED_AT] for row in batch], at_type))
                writer.write_table(pyarrow.table(arrays, schema=schema))
                count += len(batch)
                progress(count)
        return count

    return _export(db, path, write)


def _export(db: sqlite3.Connection, path: Path, write: Callable[[BinaryIO], int]) -> int:
    own = db.execute("PRAGMA database_list").fetchone()[2]
    if path.exists() and os.path.samefile(own, path):
        raise UsageError("is the ledger itself", where=str(path), remedy="Export to another file")
    try:
        with atomic_file(path) as file:
            return write(file)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}", where=str(path)
        ) from error
