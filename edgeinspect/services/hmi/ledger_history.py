"""Reads shift counters, verdicts and events from a line's ledger.

Every call opens the file, reads and closes it; a query that takes too long is cancelled.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect.errors import DataError
from edgeinspect.services.hmi.shift_counters import BUCKET_NS, ShiftCounters
from edgeinspect.storage.ledger import (
    COLUMNS,
    StoredEvent,
    VerdictFilter,
    find_verdicts,
    last_accounted_seq,
    open_ledger,
    read_body,
    read_events,
    skipped_ranges,
)
from edgeinspect.system import DecodeError
from edgeinspect.wire import decode_verdict

_QUERY_TIMEOUT_S = 5.0
_TIMEOUT_CHECK_OPS = 20_000
_RESULT_COLUMNS = (
    "seq",
    "captured_at_utc_ns",
    "camera",
    "decision",
    "reason",
    "part_id",
    "defect_prob",
    "classes",
    "degraded",
    "simulated",
    "total_us",
    "gate",
    "segmenter",
    "label",
)


class LedgerHistory:
    """One line's ledger, read only. Stateless; thread-safe.

    Args:
        path: The ledger; None for a line without one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def has_ledger(self) -> bool:
        """True if there is a ledger file."""
        try:
            return self.path is not None and self.path.is_file()
        except OSError:  # it exists; opening it reports the error
            return True

    def count_shift(self, shift: ShiftCounters) -> int | None:
        """Count the ledger's verdicts of a shift; return the last seq in the ledger.

        Raises:
            DataError: The ledger cannot be read.
        """
        with self._open(60.0) as base:
            base.execute("BEGIN")  # one snapshot; later verdicts come over the wire
            last = last_accounted_seq(base)
            first: int | None = base.execute(
                "SELECT min(seq) FROM verdicts WHERE captured_at_utc_ns >= ?",
                (shift.start_utc_ns,),
            ).fetchone()[0]
            if first is None:
                return last
            shift.first_seq = first
            shift.skipped_seqs = sum(
                end - begin + 1 for begin, end in skipped_ranges(base).items() if begin > first
            )
            for row in base.execute(
                "SELECT (captured_at_utc_ns - ?) / ?, decision, reason, classes, simulated,"
                " count(*), max(seq) FROM verdicts WHERE seq >= ? GROUP BY 1, 2, 3, 4, 5",
                (shift.start_utc_ns, BUCKET_NS, first),
            ):
                bucket, decision, reason, classes, simulated, times, seq = msgspec.convert(
                    row, tuple[int, str, str, str, int, int, int]
                )
                shift.count_verdict(
                    seq,
                    shift.start_utc_ns + bucket * BUCKET_NS,
                    decision,
                    reason,
                    classes.split(",") if classes else (),
                    simulated=bool(simulated),
                    times=times,
                )
        return last

    def search(self, criteria: VerdictFilter) -> list[dict[str, Any]]:
        """Return matching verdicts, the newest first.

        Raises:
            DataError: The ledger cannot be read, or the query took too long.
        """
        with self._open() as base:
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in find_verdicts(base, criteria)]
        for row in rows:
            row["at_ms"] = row["captured_at_utc_ns"] // 1_000_000
        return [{name: row[name] for name in ("at_ms", *_RESULT_COLUMNS)} for row in rows]

    def verdict_json(self, seq: int) -> bytes | None:
        """Return the JSON of one verdict; raises as `search`."""
        with self._open() as base:
            body = read_body(base, seq)
        if body is not None and not _is_verdict(body):
            raise DataError(f"verdict {seq} is damaged in the ledger")
        return body

    def events(self, limit: int) -> list[StoredEvent]:
        """Return the events of the line, the newest first; raises as `search`."""
        with self._open() as base:
            return read_events(base, limit)

    def newest_verdicts_json(self, decision: str, limit: int) -> list[bytes]:
        """Return the newest undamaged verdicts of a decision; raises as `search`."""
        with self._open() as base:
            seqs = [
                row[0] for row in find_verdicts(base, VerdictFilter(decision=decision, limit=limit))
            ]
            bodies = (read_body(base, seq) for seq in seqs)
            return [body for body in bodies if body is not None and _is_verdict(body)]

    def first_gate_scores(self, sha256: str, limit: int) -> Sequence[float]:
        """Return the first scores of a gate on this line; raises as `search`."""
        with self._open(30.0) as base:
            return [
                float(row[0])
                for row in base.execute(
                    "SELECT defect_prob FROM verdicts WHERE defect_prob IS NOT NULL AND"
                    " NOT simulated AND cause IN (SELECT cause FROM causes WHERE gate_sha256 = ?)"
                    " ORDER BY seq LIMIT ?",
                    (sha256, limit),
                )
            ]

    @contextmanager
    def _open(self, timeout_s: float = _QUERY_TIMEOUT_S) -> Iterator[sqlite3.Connection]:
        if self.path is None:
            raise DataError("this line has no ledger", remedy="Add `ledger: {}` to its file")
        base = open_ledger(self.path)
        deadline_s = time.monotonic() + timeout_s
        base.set_progress_handler(lambda: time.monotonic() > deadline_s, _TIMEOUT_CHECK_OPS)
        try:
            yield base
        except (sqlite3.Error, OverflowError, AttributeError, TypeError, ValueError) as error:
            # SQLite accepts any value in any column.
            raise DataError(f"the ledger cannot be read: {error}") from error
        finally:
            base.close()


def _is_verdict(body: bytes) -> bool:
    try:
        decode_verdict(body)
    except DecodeError:
        return False
    return True
