"""What the page takes from a ledger: the shift so far, searches, bodies, what happened.

Every call opens the file, reads and closes it; a search that takes too long is ended.
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
from edgeinspect.services.hmi.shift_counters import BUCKET_NS, Shift
from edgeinspect.storage.ledger.query import COLUMNS, Event, Filter, query, read_body, read_events
from edgeinspect.storage.ledger.schema import place, skipped
from edgeinspect.storage.ledger.verification import open_ledger
from edgeinspect.system.decoding import DecodeError
from edgeinspect.wire.messages import decode_verdict

_LONGEST_S = 5.0
_LOOK_OPS = 20_000
_SHOWN = (
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


class History:
    """One line's ledger, read only. Stateless; thread-safe.

    Args:
        path: The ledger; None for a line that keeps none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def kept(self) -> bool:
        """False if the line keeps no ledger, or has not begun one."""
        try:
            return self.path is not None and self.path.is_file()
        except OSError:  # there is one, and reading it says why it cannot be read
            return True

    def load(self, shift: Shift) -> int | None:
        """Count into a shift what the ledger has of it; returns the last seq it knows.

        Raises:
            DataError: The ledger cannot be read.
        """
        with self._open(60.0) as base:
            base.execute("BEGIN")  # one snapshot: what follows comes over the wire
            last = place(base)
            first: int | None = base.execute(
                "SELECT min(seq) FROM verdicts WHERE captured_at_utc_ns >= ?",
                (shift.start_utc_ns,),
            ).fetchone()[0]
            if first is None:
                return last
            shift.first_seq = first
            shift.left_out = sum(
                end - begin + 1 for begin, end in skipped(base).items() if begin > first
            )
            for row in base.execute(
                "SELECT (captured_at_utc_ns - ?) / ?, decision, reason, classes, simulated,"
                " count(*), max(seq) FROM verdicts WHERE seq >= ? GROUP BY 1, 2, 3, 4, 5",
                (shift.start_utc_ns, BUCKET_NS, first),
            ):
                bucket, decision, reason, classes, simulated, times, seq = msgspec.convert(
                    row, tuple[int, str, str, str, int, int, int]
                )
                shift.count(
                    seq,
                    shift.start_utc_ns + bucket * BUCKET_NS,
                    decision,
                    reason,
                    classes.split(",") if classes else (),
                    simulated=bool(simulated),
                    times=times,
                )
        return last

    def search(self, wanted: Filter) -> list[dict[str, Any]]:
        """Verdicts, the newest first.

        Raises:
            DataError: The ledger cannot be read, or not in time.
        """
        with self._open() as base:
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in query(base, wanted)]
        for row in rows:
            row["at_ms"] = row["captured_at_utc_ns"] // 1_000_000
        return [{name: row[name] for name in ("at_ms", *_SHOWN)} for row in rows]

    def body(self, seq: int) -> bytes | None:
        """One verdict's JSON; raises as `search`."""
        with self._open() as base:
            body = read_body(base, seq)
        if body is not None and not _is_verdict(body):
            raise DataError(f"verdict {seq} is damaged in the ledger")
        return body

    def events(self, limit: int) -> list[Event]:
        """What happened to the line, the newest first; raises as `search`."""
        with self._open() as base:
            return read_events(base, limit)

    def bodies(self, decision: str, limit: int) -> list[bytes]:
        """The newest verdicts of a decision, the newest first, without damaged ones.

        Raises as `search`.
        """
        with self._open() as base:
            found = [row[0] for row in query(base, Filter(decision=decision, limit=limit))]
            read = (read_body(base, seq) for seq in found)
            return [body for body in read if body is not None and _is_verdict(body)]

    def gate_scores(self, sha256: str, limit: int) -> Sequence[float]:
        """The first scores that a gate gave on this line; raises as `search`."""
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
    def _open(self, longest_s: float = _LONGEST_S) -> Iterator[sqlite3.Connection]:
        if self.path is None:
            raise DataError("this line keeps no ledger", remedy="Add `ledger: {}` to its file")
        base = open_ledger(self.path)
        until = time.monotonic() + longest_s
        base.set_progress_handler(lambda: time.monotonic() > until, _LOOK_OPS)
        try:
            yield base
        except (sqlite3.Error, OverflowError, AttributeError, TypeError, ValueError) as error:
            # SQLite keeps any value in any column, and somebody may have written one.
            raise DataError(f"the ledger cannot be read: {error}") from error
        finally:
            base.close()


def _is_verdict(body: bytes) -> bool:
    try:
        decode_verdict(body)
    except DecodeError:
        return False
    return True
