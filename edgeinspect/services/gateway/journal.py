"""The journal: what this gateway has applied, and thus where it continues.

One file holds both, so that they cannot contradict each other: a ring of 64-byte records,
each with a count and a CRC-32. The newest valid record is the cursor. A record is written
after the PLC has taken its result, in one write. A gateway killed before the write shows
that result once more under the same id, which the PLC does not take twice; a gateway killed
in the middle of the write leaves an invalid record, which has the same effect. Written to
the page cache: it survives `kill -9`, and a power cut except for the last
`SYNC_INTERVAL_S`.

Source: docs/plc.md, "What was applied"
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.domain import PlcOutcome
from edgeinspect.errors import DataError, DeviceLostError
from edgeinspect.services.gateway.handshake import CompletedResult, Completion, ResultTotals
from edgeinspect.services.gateway.synced_file import (
    SYNC_INTERVAL_S,
    SyncedFile,
    replace_file,
    write_at,
)
from edgeinspect.system import TEXT_BYTES_MAX, NotRegularError, read_regular

__all__ = ["SYNC_INTERVAL_S", "Journal", "JournalRecord"]

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
    completion: Completion | None
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


class Journal:
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
            self._lock_fd = _lock_file(path)
            held = _load_file(path, name)
            if held is None or held.capacity != capacity:
                kept = [] if held is None else sorted(held.records, key=lambda r: r.count)
                _write_file(path, name, capacity, kept[-capacity:])
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except NotRegularError:
            raise  # not retried: an operator must remove it
        except OSError as error:
            raise DeviceLostError(
                f"the journal cannot be used: {error.strerror}", where=str(path)
            ) from error
        found = [] if held is None else held.records
        self.damaged_records = 0 if held is None else held.damaged
        """Invalid records found on opening; a crash leaves one."""
        self.last_record: JournalRecord | None = max(
            found, key=lambda record: record.count, default=None
        )
        """The newest record; None in a new journal."""
        self.initial_totals = ResultTotals(sequence_generation=random_sequence_generation())
        """Counters of a new journal."""
        self._syncer = SyncedFile(file, "journal")
        self._closed = False

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
        self._write(
            _next_record(self.last_record, seq, epoch, utc_ns, None, None, self.initial_totals)
        )

    def append(self, applied: CompletedResult, utc_ns: int) -> None:
        """Record a completed result; it survives `kill -9` when this returns.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        seq = applied.result.seq if applied.result is not None else 0
        self._write(
            _next_record(
                self.last_record,
                seq,
                applied.epoch,
                utc_ns,
                applied.completion,
                applied,
                self.initial_totals,
            )
        )

    def read_records(self) -> list[JournalRecord]:
        """Read the records of the file, the oldest first."""
        found = _load_file(self.path, self._name)
        return [] if found is None else sorted(found.records, key=lambda record: record.count)

    def close(self) -> None:
        """Sync and close the file and release the lock; may be repeated."""
        if self._closed:
            return
        self._closed = True
        self._syncer.close()
        os.close(self._lock_fd)

    def _write(self, record: JournalRecord) -> None:
        at = _HEADER.size + (record.count % self.capacity) * RECORD_BYTES
        write_at(self._syncer, at, encode_record(record), "the journal", self.path)
        self.last_record = record


def _next_record(
    last: JournalRecord | None,
    seq: int,
    epoch: int,
    utc_ns: int,
    completion: Completion | None,
    applied: CompletedResult | None,
    initial_totals: ResultTotals | None = None,
) -> JournalRecord:
    before = last.totals if last is not None else initial_totals or ResultTotals()
    result = applied.result if applied is not None else None
    lost = result is not None and result.is_lost
    return JournalRecord(
        count=1 if last is None else last.count + 1,
        seq=seq,
        epoch=epoch,
        applied_at_utc_ns=utc_ns,
        frames_covered=result.frames_covered if result else 0,
        results=before.results + (result.frames_covered if result else 0),
        lost=before.lost + (result.frames_covered if result and lost else 0),
        forced=before.forced + (completion is Completion.FORCED),
        sequence_generation=before.sequence_generation + (completion is Completion.SEQUENCE_RESET),
        cause=result.cause if result else 0,
        outcome=result.outcome if result else None,
        completion=completion,
        reject_code=result.reject_code if result else 0,
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
    (
        count,
        seq,
        epoch,
        utc_ns,
        covers,
        results,
        lost,
        forced,
        numbering,
        cause,
        outcome,
        how,
        reject_code,
    ) = _BODY.unpack_from(raw)
    if not count or outcome >= len(_OUTCOMES) or not 1 <= how <= CURSOR_SET:
        return None
    return JournalRecord(
        count,
        seq,
        epoch,
        utc_ns,
        covers,
        results,
        lost,
        forced,
        numbering,
        cause,
        _OUTCOMES[outcome],
        None if how == CURSOR_SET else Completion(how),
        reject_code,
    )


@dataclass(frozen=True, slots=True)
class _LoadedJournal:
    """The content of a file."""

    capacity: int
    records: list[JournalRecord]
    damaged: int


def _written_cells(data: bytes) -> Iterator[bytes]:
    """Yield the cells that were ever written."""
    for at in range(_HEADER.size, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        cell = data[at : at + RECORD_BYTES]
        if any(cell):
            yield cell


def _load_file(path: Path, name: str) -> _LoadedJournal | None:
    """Read a file; None if it does not exist or is empty."""
    try:
        data = read_regular(path, TEXT_BYTES_MAX)
    except FileNotFoundError:
        return None
    if not data:
        return None
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise DataError(
            "is not a gateway's journal",
            where=str(path),
            remedy="Set `cursor:` to another path, or move this file away",
        )
    _magic, raw_name, capacity = _HEADER.unpack_from(data)
    found = raw_name.rstrip(b"\0").decode("utf-8", "replace")
    if found != name:
        raise DataError(
            f"is the journal of the gateway '{found}'",
            where=str(path),
            remedy="Use a separate `cursor:` for each gateway",
        )
    found_cells = [decode_record(cell) for cell in _written_cells(data)]
    records = [record for record in found_cells if record is not None]
    return _LoadedJournal(capacity, records, len(found_cells) - len(records))


def _write_file(path: Path, name: str, capacity: int, records: list[JournalRecord]) -> None:
    """Replace the file by one with these records."""
    data = bytearray(_HEADER.size + capacity * RECORD_BYTES)
    data[: _HEADER.size] = _HEADER.pack(MAGIC, name.encode(), capacity)
    for record in records:
        at = _HEADER.size + (record.count % capacity) * RECORD_BYTES
        data[at : at + RECORD_BYTES] = encode_record(record)
    replace_file(path, bytes(data))


def _lock_file(path: Path) -> int:
    """Lock the journal against a second gateway; the lock ends with the process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    holder = os.open(path.with_name(path.name + ".lock"), flags, 0o640)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(holder)
        raise DeviceLostError(
            "is locked by another process: this gateway runs already",
            where=str(path),
            remedy="Stop the other process, or use a separate `cursor:`",
        ) from None
    return holder
