"""The journal: what this gateway has applied, and thus where it continues.

One file holds both, so that they cannot contradict each other: a ring of 64-byte records,
each with a count and a CRC-32. The newest valid record is the cursor. A record is written
after the PLC has taken its result, in one write. A gateway killed before the write shows
that result once more under the same id, which the PLC does not take twice; a gateway killed
in the middle of the write leaves an invalid record, which has the same effect. Written to
the page cache: it survives `kill -9`, and a power cut except for the last
`SYNC_INTERVAL_S`.

Source: docs/reference/plc.md, "What was applied"
"""

from __future__ import annotations

import secrets
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeinspect.domain import PlcOutcome
from edgeinspect.errors import DataError, DeviceLostError
from edgeinspect.services.gateway.handshake import CompletedResult, ResultCompletion, ResultTotals
from edgeinspect.services.gateway.synced_file import SYNC_INTERVAL_S, SyncedFile
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    FileLock,
    NotRegularError,
    read_regular,
    write_atomic,
)

__all__ = ["SYNC_INTERVAL_S", "GatewayJournal", "JournalRecord"]

MAGIC = b"EIGWJRN1"
_HEADER = struct.Struct("<8s32sI")
RECORD_BYTES = 64
_BODY = struct.Struct("<QQQQIIIIHHBBH")
_CRC = struct.Struct("<I")
_PAD_BYTES = RECORD_BYTES - _BODY.size - _CRC.size
_OUTCOMES = (None, PlcOutcome.PASS, PlcOutcome.REJECT, PlcOutcome.NEITHER)
CURSOR_SET = 5
"""Completion code of a record that only sets the first cursor."""


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One applied result, sequence reset, or first cursor."""

    count: int
    """Number of the record among all that were written, from 1."""
    seq: int
    epoch: int
    applied_at_utc_ns: int
    frames_covered: int
    results: int
    """Frames applied up to this record, inclusive."""
    lost: int
    forced: int
    sequence_generation: int
    cause: int
    outcome: PlcOutcome | None
    completion: ResultCompletion | None
    """None for a record that sets the first cursor."""
    reject_code: int

    @property
    def totals(self) -> ResultTotals:
        """The counters after this record."""
        last_id = self.seq % (1 << 32)
        return ResultTotals(self.results, self.lost, self.forced, self.sequence_generation, last_id)


def random_sequence_generation() -> int:
    """Return a generation that the PLC has hardly seen; those of reset lines are small.

    The ids of a spare PC behind a running PLC start again; another generation shows that to
    the PLC, so that it takes the first result.
    """
    return 1_000 + secrets.randbelow(64_000)


class GatewayJournal:
    """The open journal of one gateway. One process at a time (file lock).

    `set_cursor` and `append` are for one thread. A thread of its own syncs the file within
    `SYNC_INTERVAL_S`: a slow disk does not stop the heartbeat at the PLC.
    """

    def __init__(self, path: Path, *, name: str, capacity: int) -> None:
        """Open or create.

        Args:
            path: The file.
            name: Name of the gateway; the journal of another gateway is refused.
            capacity: Records held; the oldest is overwritten. A file of another capacity
                is rewritten with its newest records.

        Raises:
            DataError: Not a regular file, not a journal, or another gateway's.
            DeviceLostError: It cannot be opened or written, or another process holds it.
        """
        self.path = path
        self.capacity = capacity
        self._name = name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file_lock = _lock_file(path)
            stored = _load_file(path, name)
            if stored.capacity != capacity:
                _write_file(path, name, capacity, stored.records[-capacity:])
            self._file = SyncedFile(path, "journal")
        except NotRegularError:
            raise  # not retried: an operator must remove it
        except OSError as error:
            raise DeviceLostError(
                f"the journal cannot be used: {error.strerror}", where=str(path)
            ) from error
        self.damaged_records = stored.damaged_records
        """Invalid records found on opening; a crash leaves one."""
        self.last_record = stored.records[-1] if stored.records else None
        """The newest record; None in a new journal."""
        self.initial_totals = ResultTotals(sequence_generation=random_sequence_generation())
        """Counters of a new journal."""
        self._is_closed = False

    @property
    def totals(self) -> ResultTotals:
        """The counters now."""
        return self.initial_totals if self.last_record is None else self.last_record.totals

    @property
    def is_new(self) -> bool:
        """True until the first result or sequence reset is recorded."""
        return self.last_record is None or self.last_record.completion is None

    @property
    def cursor(self) -> int | None:
        """Seq of the last applied result; None in a new journal."""
        return None if self.last_record is None else self.last_record.seq

    def set_cursor(self, seq: int, epoch: int, utc_ns: int) -> None:
        """Record the first cursor of a new gateway, before it shows anything."""
        self._write(next_record(self.last_record, self.totals, seq, epoch, utc_ns))

    def append(self, completed: CompletedResult, utc_ns: int) -> None:
        """Record a completed result; it survives `kill -9` when this returns.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        seq = completed.result.seq if completed.result is not None else 0
        last, epoch = self.last_record, completed.epoch
        self._write(next_record(last, self.totals, seq, epoch, utc_ns, completed))

    def read_records(self) -> list[JournalRecord]:
        """Read the records of the file, the oldest first."""
        return _load_file(self.path, self._name).records

    def close(self) -> None:
        """Sync and close the file and release the lock; may be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        self._file.close()
        self._file_lock.release()

    def _write(self, record: JournalRecord) -> None:
        at = _HEADER.size + (record.count % self.capacity) * RECORD_BYTES
        self._file.write(at, encode_record(record))
        self.last_record = record


def next_record(
    last: JournalRecord | None,
    totals: ResultTotals,
    seq: int,
    epoch: int,
    utc_ns: int,
    completed: CompletedResult | None = None,
) -> JournalRecord:
    """Return the record after `last`; without `completed` it only sets the cursor."""
    completion = completed.completion if completed is not None else None
    result = completed.result if completed is not None else None
    covered = result.frames_covered if result is not None else 0
    is_lost = result is not None and result.is_lost
    return JournalRecord(
        count=1 if last is None else last.count + 1,
        seq=seq,
        epoch=epoch,
        applied_at_utc_ns=utc_ns,
        frames_covered=covered,
        results=totals.results + covered,
        lost=totals.lost + (covered if is_lost else 0),
        forced=totals.forced + (completion is ResultCompletion.FORCED),
        sequence_generation=totals.sequence_generation
        + (completion is ResultCompletion.SEQUENCE_RESET),
        cause=result.cause if result is not None else 0,
        outcome=result.outcome if result is not None else None,
        completion=completion,
        reject_code=result.reject_code if result is not None else 0,
    )


_U32 = (1 << 32) - 1


def encode_record(record: JournalRecord) -> bytes:
    """Return a record as it is stored."""
    body = _BODY.pack(
        record.count,
        record.seq,
        record.epoch,
        record.applied_at_utc_ns,
        min(record.frames_covered, _U32),
        record.results & _U32,
        record.lost & _U32,
        record.forced & _U32,
        record.sequence_generation & 0xFFFF,
        record.cause,
        _OUTCOMES.index(record.outcome),
        CURSOR_SET if record.completion is None else record.completion.value,
        record.reject_code,
    ) + bytes(_PAD_BYTES)
    return body + _CRC.pack(zlib.crc32(body))


def decode_record(raw: bytes) -> JournalRecord | None:
    """Return a record; None if it is not valid."""
    if len(raw) != RECORD_BYTES or _CRC.unpack(raw[-4:])[0] != zlib.crc32(raw[:-4]):
        return None
    fields: list[Any] = list(_BODY.unpack_from(raw))
    count, outcome, completion = fields[0], fields[10], fields[11]
    if not count or outcome >= len(_OUTCOMES) or not 1 <= completion <= CURSOR_SET:
        return None
    fields[10] = _OUTCOMES[outcome]
    fields[11] = None if completion == CURSOR_SET else ResultCompletion(completion)
    return JournalRecord(*fields)


@dataclass(frozen=True, slots=True)
class _JournalContent:
    """The content of a file; empty if the file is missing or empty."""

    capacity: int = 0
    records: list[JournalRecord] = field(default_factory=list)
    """The oldest first."""
    damaged_records: int = 0


def _load_file(path: Path, name: str) -> _JournalContent:
    try:
        data = read_regular(path, TEXT_BYTES_MAX)
    except FileNotFoundError:
        return _JournalContent()
    if not data:
        return _JournalContent()
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise DataError(
            "is not a gateway's journal",
            where=str(path),
            remedy="Set `cursor:` to another path, or move this file away",
        )
    _magic, raw_name, capacity = _HEADER.unpack_from(data)
    stored_name = raw_name.rstrip(b"\0").decode("utf-8", "replace")
    if stored_name != name:
        raise DataError(
            f"is the journal of the gateway '{stored_name}'",
            where=str(path),
            remedy="Use a separate `cursor:` for each gateway",
        )
    offsets = range(_HEADER.size, len(data) - RECORD_BYTES + 1, RECORD_BYTES)
    cells = [cell for at in offsets if any(cell := data[at : at + RECORD_BYTES])]
    records = [record for cell in cells if (record := decode_record(cell)) is not None]
    records.sort(key=lambda record: record.count)
    return _JournalContent(capacity, records, len(cells) - len(records))


def _write_file(path: Path, name: str, capacity: int, records: list[JournalRecord]) -> None:
    """Replace the file by one with these records."""
    data = bytearray(_HEADER.size + capacity * RECORD_BYTES)
    data[: _HEADER.size] = _HEADER.pack(MAGIC, name.encode(), capacity)
    for record in records:
        at = _HEADER.size + (record.count % capacity) * RECORD_BYTES
        data[at : at + RECORD_BYTES] = encode_record(record)
    write_atomic(path, bytes(data), durable=True)


def _lock_file(path: Path) -> FileLock:
    """Lock the journal against a second gateway."""
    try:
        return FileLock(path.with_name(path.name + ".lock"))
    except BlockingIOError:
        raise DeviceLostError(
            "is locked by another process: this gateway runs already",
            where=str(path),
            remedy="Stop the other process, or use a separate `cursor:`",
        ) from None
