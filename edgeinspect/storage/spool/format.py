"""The spool's bytes: header, slots, records, and how a damaged file is read.

Little-endian. A slot is an open record and a close record. Each ends in a CRC-32 of itself, so
a record that a crash cut is invalid.
Source: docs/explanation/decisions/0003-spool.md
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path

from edgeinspect.system import open_regular

SLOT_BYTES = 8192
HEADER_BYTES = 4096

_MAGIC = b"EISPOOL1"
_HEADER = struct.Struct("<8sIIQ32sI")  # magic, slot bytes, slots, base seq, line, crc
CURSOR = struct.Struct("<Q")
# Aligned cells: one 8-byte store moves a cursor, so that no crash can tear it.
EPOCH_AT = 960
PUBLISHED_AT = 1024
LEDGERED_AT = 1088
ANNOUNCED_EPOCH_AT = 1216
"""The epoch that the daemon publishes at the line's addresses; 0 while it does not."""
_SKIPPED_AT = 1152
_SKIPPED = struct.Struct("<QQI")  # first, last, crc

# seq, epoch, captured utc, deadline utc, act by utc, frame, camera frame id,
# encoder count, act by encoder, flags, camera, part id, label
_OPEN = struct.Struct("<QQqqqQqqqI32s64s96s")
_CRC = struct.Struct("<I")
_OPEN_CRC_AT = _OPEN.size
_CLOSE_AT = 320
_CLOSE = struct.Struct("<QQII")  # seq, epoch, length, crc
_PAYLOAD_AT = _CLOSE_AT + _CLOSE.size
_FILE_BYTES_MAX = HEADER_BYTES + 1_000_000 * SLOT_BYTES
PAYLOAD_BYTES = SLOT_BYTES - _PAYLOAD_AT
"""Longest verdict a slot holds."""

_ABSENT = -(1 << 63)
_SIMULATED, _PART_ID_WHOLE, _LABEL_WHOLE = 1, 2, 4

assert _OPEN_CRC_AT + _CRC.size <= _CLOSE_AT


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """What the spool stores of a frame when it is captured."""

    camera: str
    """At most 32 bytes of UTF-8."""
    frame: int
    camera_frame_id: int
    captured_at_utc_ns: int
    deadline_utc_ns: int
    act_by_utc_ns: int
    encoder_count: int | None = None
    act_by_encoder: int | None = None
    part_id: str | None = None
    """Stored if it has at most 64 bytes of UTF-8: a longer one, cut, could be the id of another
    part."""
    label: str | None = None
    """Stored if it has at most 96 bytes of UTF-8."""
    simulated: bool = False


@dataclass(slots=True)
class SlotContents:
    """A slot with at least one valid record."""

    epoch: int
    record: OpenRecord | None
    payload: bytes | None


@dataclass(slots=True)
class SpoolScan:
    """The contents of a spool file."""

    slots: int = 0
    base_seq: int = 1
    """First seq that this file can hold."""
    epoch: int = 0
    last_seq: int = 0
    published_seq: int = 0
    ledgered_seq: int = 0
    frames: dict[int, SlotContents] = field(default_factory=dict)
    skipped: tuple[int, int] | None = None
    """First and last seq that the line skipped because its spool had been lost."""
    is_valid: bool = False
    """True if the header is valid, so that the file can be used in place."""

    @property
    def oldest_seq(self) -> int:
        """The lowest seq that the file can hold now."""
        return max(self.base_seq, self.last_seq - self.slots + 1)


UNKNOWN_FRAME = OpenRecord("unknown", 0, 0, 0, 0, 0)


def pack_header(line: str, slots: int, base_seq: int) -> bytes:
    """Return the constant part of the header, written once when the file is created."""
    body = _HEADER.pack(_MAGIC, SLOT_BYTES, slots, base_seq, encode_text(line, 32), 0)[: -_CRC.size]
    return body + _CRC.pack(zlib.crc32(body))


def read_line_name(data: bytes) -> str | None:
    """Return the line's name in a header; None if the header is invalid or has no slots."""
    if len(data) < _HEADER.size:
        return None
    magic, slot_bytes, slots, _base, line, crc = _HEADER.unpack_from(data)
    is_intact = zlib.crc32(data[: _HEADER.size - _CRC.size]) == crc
    if magic != _MAGIC or slot_bytes != SLOT_BYTES or not slots or not is_intact:
        return None
    name: bytes = line.rstrip(b"\0")
    return name.decode("utf-8", "replace")


def write_skipped(target: mmap, skipped: tuple[int, int]) -> None:
    """Record which seqs were skipped before the first one of this spool."""
    body = _SKIPPED.pack(*skipped, 0)[: -_CRC.size]
    target[_SKIPPED_AT : _SKIPPED_AT + _SKIPPED.size] = body + _CRC.pack(zlib.crc32(body))


def _read_skipped(data: bytes) -> tuple[int, int] | None:
    first, last, crc = _SKIPPED.unpack_from(data, _SKIPPED_AT)
    body = data[_SKIPPED_AT : _SKIPPED_AT + _SKIPPED.size - _CRC.size]
    return (first, last) if 0 < first <= last and zlib.crc32(body) == crc else None


def scan_spool(path: Path) -> SpoolScan | None:
    """Read a whole spool, damaged or not; None if there is none.

    With a damaged header the number of slots is derived from the file's size, and every valid
    record is used.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    size = len(data)
    slots = max(0, size - HEADER_BYTES) // SLOT_BYTES
    is_valid = False
    base_seq = None
    if size >= HEADER_BYTES:
        magic, slot_bytes, header_slots, header_base, _line, crc = _HEADER.unpack_from(data)
        body = data[: _HEADER.size - _CRC.size]
        if magic == _MAGIC and slot_bytes == SLOT_BYTES and zlib.crc32(body) == crc:
            base_seq = header_base
            is_valid = header_slots == slots and size == HEADER_BYTES + slots * SLOT_BYTES
            slots = header_slots
    scan = scan_slots(data.ljust(HEADER_BYTES + slots * SLOT_BYTES, b"\0"), slots)
    scan.is_valid = is_valid
    if size >= HEADER_BYTES:
        scan.skipped = _read_skipped(data)
    if base_seq is not None:
        scan.base_seq = base_seq
        scan.last_seq = max(scan.last_seq, base_seq - 1)
    return scan


def scan_slots(data: bytes, slots: int) -> SpoolScan:
    """Read every slot, and detect whether one more frame was being opened at the end."""
    scan = SpoolScan(slots)
    view = memoryview(data)
    damaged: set[int] = set()
    for slot in range(slots):
        at = HEADER_BYTES + slot * SLOT_BYTES
        opened = _check_open(view, at)
        closed = _check_close(view, at)
        if opened and opened[0] % slots != slot:
            opened = None
        if closed and closed[0] % slots != slot:
            closed = None
        seq = max(opened[0] if opened else 0, closed[0] if closed else 0)
        if not opened and any(view[at : at + _OPEN_CRC_AT + _CRC.size]):
            damaged.add(slot)
        if not seq:
            continue
        payload = closed[2] if closed and closed[0] == seq else None
        record = opened[2] if opened and opened[0] == seq else None
        epoch = opened[1] if opened and opened[0] == seq else (closed[1] if closed else 0)
        scan.frames[seq] = SlotContents(epoch, record, payload)
        scan.epoch = max(scan.epoch, epoch)
    scan.last_seq = max(scan.frames, default=0)
    scan.base_seq = max(1, min(scan.frames, default=1))
    # The next frame's open record is torn: the camera did deliver that frame.
    after = scan.last_seq + 1
    if slots and after % slots in damaged:
        previous = scan.frames.get(after - slots)
        if previous is None or previous.record is None:
            scan.last_seq = after
    scan.epoch = max(scan.epoch, CURSOR.unpack_from(view, EPOCH_AT)[0])
    scan.published_seq = min(CURSOR.unpack_from(view, PUBLISHED_AT)[0], scan.last_seq)
    scan.ledgered_seq = min(CURSOR.unpack_from(view, LEDGERED_AT)[0], scan.last_seq)
    return scan


def encode_text(value: str | None, size: int) -> bytes:
    """Return UTF-8 cut to `size` bytes; there is no length byte, since zeros are stripped."""
    return value.encode("utf-8", "replace")[:size] if value else b""


def _encode_whole_text(value: str | None, size: int) -> bytes:
    """Return UTF-8 that reads back as the same text; empty if it does not fit."""
    if not value:
        return b""
    raw = value.encode("utf-8", "surrogatepass")
    return raw if len(raw) <= size and raw[-1] else b""


def _decode_text(data: bytes, *, whole: bool = False) -> str | None:
    """Return the stored text; None if there is none, or if it was or may have been cut."""
    if not whole and data[-1:] != b"\0":
        return None  # of a version that did not mark texts that were stored completely
    try:
        return data.rstrip(b"\0").decode("utf-8", "surrogatepass") or None
    except UnicodeDecodeError:
        return None


def write_open(target: mmap, at: int, seq: int, epoch: int, record: OpenRecord) -> None:
    """Write an open record at a slot's offset: the body, then its CRC."""
    encoder = _ABSENT if record.encoder_count is None else record.encoder_count
    act_by = _ABSENT if record.act_by_encoder is None else record.act_by_encoder
    part_id, label = _encode_whole_text(record.part_id, 64), _encode_whole_text(record.label, 96)
    flags = _PART_ID_WHOLE | _LABEL_WHOLE | (_SIMULATED if record.simulated else 0)
    body = _OPEN.pack(
        seq,
        epoch,
        record.captured_at_utc_ns,
        record.deadline_utc_ns,
        record.act_by_utc_ns,
        record.frame,
        record.camera_frame_id,
        encoder,
        act_by,
        flags,
        encode_text(record.camera, 32),
        part_id,
        label,
    )
    target[at : at + _OPEN_CRC_AT] = body
    _CRC.pack_into(target, at + _OPEN_CRC_AT, zlib.crc32(body))


def _check_open(data: memoryview, at: int) -> tuple[int, int, OpenRecord] | None:
    body = data[at : at + _OPEN_CRC_AT]
    (crc,) = _CRC.unpack_from(data, at + _OPEN_CRC_AT)
    (
        seq,
        epoch,
        captured,
        deadline,
        act_by,
        frame,
        camera_frame_id,
        encoder,
        act_by_encoder,
        flags,
        camera,
        part_id,
        label,
    ) = _OPEN.unpack(body)
    if not seq or zlib.crc32(body) != crc:
        return None
    return (
        seq,
        epoch,
        OpenRecord(
            _decode_text(camera, whole=True) or "unknown",
            frame,
            camera_frame_id,
            captured,
            deadline,
            act_by,
            None if encoder == _ABSENT else encoder,
            None if act_by_encoder == _ABSENT else act_by_encoder,
            _decode_text(part_id, whole=bool(flags & _PART_ID_WHOLE)),
            _decode_text(label, whole=bool(flags & _LABEL_WHOLE)),
            bool(flags & _SIMULATED),
        ),
    )


def write_close(target: mmap, at: int, seq: int, epoch: int, payload: bytes) -> None:
    """Write the payload, then the close record with its CRC."""
    target[at + _PAYLOAD_AT : at + _PAYLOAD_AT + len(payload)] = payload
    crc = _close_crc(seq, epoch, payload)
    _CLOSE.pack_into(target, at + _CLOSE_AT, seq, epoch, len(payload), crc)


def _check_close(data: memoryview, at: int) -> tuple[int, int, bytes] | None:
    seq, epoch, length, crc = _CLOSE.unpack_from(data, at + _CLOSE_AT)
    if not seq or length > PAYLOAD_BYTES:
        return None
    payload = bytes(data[at + _PAYLOAD_AT : at + _PAYLOAD_AT + length])
    return (seq, epoch, payload) if _close_crc(seq, epoch, payload) == crc else None


def _read_closed_payload(slot: memoryview, seq: int) -> bytes | None:
    if _CLOSE.unpack_from(slot, _CLOSE_AT)[0] != seq:
        return None
    closed = _check_close(slot, 0)
    return closed[2] if closed and closed[0] == seq else None


def read_cursor(fd: int, at: int) -> int:
    """Return a cursor of an open spool file; 0 if the file was truncated."""
    cell = os.pread(fd, CURSOR.size, at)
    return int(CURSOR.unpack(cell)[0]) if len(cell) == CURSOR.size else 0


def read_verdict(fd: int, slots: int, seq: int) -> bytes | None:
    """Return the verdict of frame `seq` in an open spool file; None if open or overwritten."""
    slot = os.pread(fd, SLOT_BYTES, HEADER_BYTES + seq % slots * SLOT_BYTES)
    return _read_closed_payload(memoryview(slot), seq) if len(slot) == SLOT_BYTES else None


def read_payload(source: mmap, at: int) -> bytes:
    """Return the payload of a closed slot at its offset, unchecked: this process wrote it."""
    length = _CLOSE.unpack_from(source, at + _CLOSE_AT)[2]
    return source[at + _PAYLOAD_AT : at + _PAYLOAD_AT + length]


_CLOSE_KEY = struct.Struct("<QQI")


def _close_crc(seq: int, epoch: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CLOSE_KEY.pack(seq, epoch, len(payload))))
