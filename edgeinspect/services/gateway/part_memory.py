"""The part memory: what a gateway keeps across restarts beside its journal.

The part ids that did not pass, so that none of them passes later; and the triggers that were
received, so that none is executed twice. One file of fixed size: a header, two alternating
cells for the last trigger, a ring of parts and a ring of triggers. Each record ends in a
CRC-32; one that a crash cut is invalid, and the record before it counts. Written to the page
cache, as the journal is: it survives `kill -9`, and a power cut except for the last
`SYNC_INTERVAL_S`.

Source: docs/reference/plc.md, "One part, one outcome"
"""

from __future__ import annotations

import hashlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Generic, TypeVar

from edgeinspect.domain import TriggerRefusal
from edgeinspect.errors import DataError, DeviceLostError
from edgeinspect.services.gateway.synced_file import SyncedFile
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    NotRegularError,
    read_regular,
    write_atomic,
)
from edgeinspect.system import boot_id as boot

MAGIC = b"EIGWMEM1"
CELL_BYTES = 64
_HEADER = struct.Struct("<8s32sI")
_LAST_TRIGGER_RECORD = struct.Struct("<QHBB16s")
_PART_RECORD = struct.Struct("<Q16sQQIB")
_TRIGGER_RECORD = struct.Struct("<Q16sQQI")
_CRC = struct.Struct("<I")
_RINGS_AT = 3 * CELL_BYTES
_TRIGGER_CRC_SEED = zlib.crc32(b"trigger")
"""Initial value of the CRC in the ring of triggers, so that its records are invalid as parts."""
TRIGGERS_MAX = 1_024
"""Triggers with a part id that are remembered; the oldest is overwritten."""


class TriggerState(IntEnum):
    """Progress of the last trigger. The values are stored."""

    REQUESTED = 1
    """Recorded; it may have been sent to the line."""
    ACCEPTED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class LastTrigger:
    """The last trigger that was handled."""

    trigger_id: int
    state: TriggerState
    refusal: TriggerRefusal = TriggerRefusal.NONE
    part_digest: bytes = bytes(16)
    """Digest of its part id; zeros if it has none."""


class NotPassedReason(IntEnum):
    """Why a part must not pass; the highest value counts. The values are stored."""

    NONE = 0
    """It may pass: an earlier record of the part is withdrawn."""
    NO_VERDICT = 1
    """It was shown as a frame without a verdict."""
    REFUSED = 2
    """Its trigger was answered as refused, though the line may have executed it."""
    REJECTED = 3
    """It was shown as a reject."""


@dataclass(frozen=True, slots=True)
class RecordTime:
    """When a part or a trigger was recorded."""

    monotonic_ns: int
    utc_ns: int
    boot_crc: int
    """CRC-32 of the boot id; `monotonic_ns` is comparable only within one boot."""

    def age_ns(self, now_ns: int, utc_ns: int, boot_crc: int) -> int:
        """Return the age; by the wall clock if the PC was rebooted since."""
        return now_ns - self.monotonic_ns if boot_crc == self.boot_crc else utc_ns - self.utc_ns


@dataclass(frozen=True, slots=True)
class NotPassedPart(RecordTime):
    """A part that did not pass."""

    reason: NotPassedReason


def digest_part_id(part_id: str) -> bytes:
    """Return the 16-byte digest of a part id."""
    return hashlib.blake2b(part_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


R = TypeVar("R", bound=RecordTime)


class _Ring(Generic[R]):
    """A ring of cells in the file with the newest records, one per key."""

    def __init__(
        self,
        first_cell: int,
        capacity: int,
        layout: struct.Struct,
        make: Callable[..., R | None],
        crc_seed: int = 0,
    ) -> None:
        """Create an empty ring.

        Args:
            first_cell: Index of its first cell in the file.
            capacity: Number of its cells.
            layout: Of a record: its count, its key and the fields of an `R`.
            make: Makes a record from these fields; None withdraws the key's record.
            crc_seed: Distinguishes its cells from those of another ring.
        """
        self.records: dict[bytes, R] = {}
        """The oldest first."""
        self._count = 0
        self._first_cell = first_cell
        self._capacity = capacity
        self._layout = layout
        self._make = make
        self._crc_seed = crc_seed

    def put(self, key: bytes, record: R) -> tuple[int, bytes]:
        """Store a record; return the offset and content of its cell."""
        self.records.pop(key, None)
        if len(self.records) >= self._capacity:
            self.records.pop(next(iter(self.records)))
        self.records[key] = record
        return self._next_cell(key, record)

    def withdraw(self, key: bytes, withdrawal: R) -> tuple[int, bytes]:
        """Remove a record; return the offset and content of the cell that withdraws it."""
        del self.records[key]
        return self._next_cell(key, withdrawal)

    def load(self, data: bytes) -> None:
        """Load the records from the cells of a file, of any capacity."""
        cells = (_check_crc(cell, self._crc_seed) for cell in _cells(data[_RINGS_AT:]))
        for fields in sorted(self._layout.unpack_from(body) for body in cells if body is not None):
            self._count, key, *rest = fields
            self.records.pop(key, None)
            record = self._make(*rest)
            if record is not None:
                self.records[key] = record
        while len(self.records) > self._capacity:
            self.records.pop(next(iter(self.records)))

    def cells(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offset and content of each record's cell, for a new file."""
        # The newest keep their counts, so that the ring continues after them.
        first = self._count - len(self.records) + 1
        for count, (key, record) in enumerate(self.records.items(), first):
            yield self._cell(count, key, record)

    def _next_cell(self, key: bytes, record: R) -> tuple[int, bytes]:
        self._count += 1
        return self._cell(self._count, key, record)

    def _cell(self, count: int, key: bytes, record: R) -> tuple[int, bytes]:
        at = (self._first_cell + count % self._capacity) * CELL_BYTES
        body = self._layout.pack(count, key, *astuple(record))
        return at, _add_crc(body, self._crc_seed)


class PartMemory:
    """The open part memory of one gateway, under the journal's lock. Thread-safe."""

    def __init__(self, path: Path | None, *, name: str = "", capacity: int = 65_536) -> None:
        """Open or create.

        Args:
            path: The file; None to store nothing.
            name: Name of the gateway; the memory of another gateway is refused.
            capacity: Parts held; the oldest is overwritten. A file of another capacity is
                rewritten with its newest parts.

        Raises:
            DataError: Not a regular file, not a part memory, or another gateway's.
            DeviceLostError: It cannot be opened or written.
        """
        self._lock = threading.Lock()
        self._capacity = capacity
        self._boot_crc = zlib.crc32((boot.boot_id() or "").encode())
        self._parts = _Ring(3, capacity, _PART_RECORD, _make_part)
        self._triggers = _Ring(
            3 + capacity, TRIGGERS_MAX, _TRIGGER_RECORD, RecordTime, _TRIGGER_CRC_SEED
        )
        self._last_trigger_count = 0
        self._last_trigger: LastTrigger | None = None
        self._file: SyncedFile | None = None
        self.damaged_records = 0
        """Invalid records found on opening; a crash leaves one."""
        self.is_new = True
        """True if there was no file, so that earlier parts are not known."""
        if path is not None:
            try:
                self._open(path, name)
            except NotRegularError:
                raise  # not retried: an operator must remove it
            except OSError as error:
                raise DeviceLostError(
                    f"the part memory cannot be used: {error.strerror}", where=str(path)
                ) from error

    @property
    def last_trigger(self) -> LastTrigger | None:
        """The last trigger that was handled; None in a new memory."""
        return self._last_trigger

    def save_last_trigger(self, trigger: LastTrigger) -> None:
        """Save the last trigger; it survives `kill -9` when this returns.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        with self._lock:
            self._last_trigger = trigger
            self._last_trigger_count += 1
            body = _LAST_TRIGGER_RECORD.pack(
                self._last_trigger_count,
                trigger.trigger_id,
                trigger.state,
                trigger.refusal,
                trigger.part_digest,
            )
            self._write(CELL_BYTES * (1 + self._last_trigger_count % 2), _add_crc(body))

    def save_not_passed(
        self, part: bytes, reason: NotPassedReason, now_ns: int, utc_ns: int
    ) -> None:
        """Save a part that did not pass. `part` is the digest of its id.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        with self._lock:
            previous = self._parts.records.get(part)
            if previous is not None:
                reason = max(reason, previous.reason)
            record = NotPassedPart(now_ns, utc_ns, self._boot_crc, reason)
            self._write(*self._parts.put(part, record))

    def clear_refused(self, part: bytes) -> None:
        """Withdraw `REFUSED` of a part: the line accepted a later trigger of it.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        with self._lock:
            previous = self._parts.records.get(part)
            if previous is not None and previous.reason is NotPassedReason.REFUSED:
                withdrawal = replace(previous, reason=NotPassedReason.NONE)
                self._write(*self._parts.withdraw(part, withdrawal))

    def find_not_passed(self, part: bytes) -> NotPassedPart | None:
        """Return the record of a part that did not pass; None if there is none."""
        with self._lock:
            return self._parts.records.get(part)

    def save_trigger(
        self, trigger_id: int, part: bytes, now_ns: int, utc_ns: int
    ) -> RecordTime | None:
        """Save a trigger of a part; return when it was saved before, None if it was not.

        Raises:
            DeviceLostError: It cannot be written: the gateway must stop.
        """
        key = hashlib.blake2b(trigger_id.to_bytes(2, "little") + part, digest_size=16).digest()
        with self._lock:
            previous = self._triggers.records.get(key)
            record = RecordTime(now_ns, utc_ns, self._boot_crc)
            self._write(*self._triggers.put(key, record))
            return previous

    def age_ns(self, record: RecordTime, now_ns: int, utc_ns: int) -> int:
        """Return the age of a record."""
        return record.age_ns(now_ns, utc_ns, self._boot_crc)

    def close(self) -> None:
        """Sync and close the file; may be repeated."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, at: int, cell: bytes) -> None:
        if self._file is not None:
            self._file.write(at, cell)

    def _open(self, path: Path, name: str) -> None:
        size = _RINGS_AT + (self._capacity + TRIGGERS_MAX) * CELL_BYTES
        try:
            data = read_regular(path, TEXT_BYTES_MAX)
        except FileNotFoundError:
            data = b""
        if data:
            self.is_new = False
            try:
                self._load(data, path, name)
            except ValueError as error:
                raise DataError(
                    f"is of another version: {error}",
                    where=str(path),
                    remedy="Move it away; the part ids that did not pass are then lost",
                ) from error
        if len(data) != size:
            header = _HEADER.pack(MAGIC, name.encode(), self._capacity).ljust(CELL_BYTES, b"\0")
            last_triggers = data[CELL_BYTES:_RINGS_AT].ljust(2 * CELL_BYTES, b"\0")
            new = bytearray((header + last_triggers).ljust(size, b"\0"))
            for at, cell in (*self._parts.cells(), *self._triggers.cells()):
                new[at : at + CELL_BYTES] = cell
            write_atomic(path, bytes(new), durable=True)
        self._file = SyncedFile(path, "part memory")

    def _load(self, data: bytes, path: Path, name: str) -> None:
        if len(data) < _RINGS_AT or not data.startswith(MAGIC):
            raise DataError(
                "is not a gateway's part memory",
                where=str(path),
                remedy="Set `cursor:` to another path, or move this file away; the part ids "
                "that did not pass are then lost",
            )
        stored_name = _HEADER.unpack_from(data)[1].rstrip(b"\0").decode("utf-8", "replace")
        if stored_name != name:
            raise DataError(
                f"is the part memory of the gateway '{stored_name}'",
                where=str(path),
                remedy="Use a separate `cursor:` for each gateway",
            )
        for at in (CELL_BYTES, 2 * CELL_BYTES):
            body = _check_crc(data[at : at + CELL_BYTES])
            if body is None:
                continue
            count, trigger_id, state, refusal, part = _LAST_TRIGGER_RECORD.unpack_from(body)
            if count > self._last_trigger_count:
                self._last_trigger_count = count
                self._last_trigger = LastTrigger(
                    trigger_id, TriggerState(state), TriggerRefusal(refusal), part
                )
        self.damaged_records = _count_damaged(data)
        self._parts.load(data)
        self._triggers.load(data)


def _make_part(monotonic_ns: int, utc_ns: int, boot_crc: int, reason: int) -> NotPassedPart | None:
    if reason == NotPassedReason.NONE:
        return None
    return NotPassedPart(monotonic_ns, utc_ns, boot_crc, NotPassedReason(reason))


def _cells(data: bytes) -> Iterator[bytes]:
    """Yield the complete cells of `data`."""
    for at in range(0, len(data) - CELL_BYTES + 1, CELL_BYTES):
        yield data[at : at + CELL_BYTES]


def _count_damaged(data: bytes) -> int:
    """Count the cells that were written and are not valid in either ring."""
    cells = (data[at : at + CELL_BYTES] for at in range(CELL_BYTES, len(data), CELL_BYTES))
    return sum(
        any(cell) and not any(_check_crc(cell, seed) for seed in (0, _TRIGGER_CRC_SEED))
        for cell in cells
    )


def _add_crc(body: bytes, seed: int = 0) -> bytes:
    padded = body.ljust(CELL_BYTES - _CRC.size, b"\0")
    return padded + _CRC.pack(zlib.crc32(padded, seed))


def _check_crc(cell: bytes, seed: int = 0) -> bytes | None:
    """Return the body of a cell; None if it is empty, cut, or of the other ring."""
    body, found = cell[: -_CRC.size], int.from_bytes(cell[-_CRC.size :], "little")
    return body if any(body) and found == zlib.crc32(body, seed) else None
