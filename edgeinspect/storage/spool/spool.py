"""The spool: a memory-mapped file in which every frame is opened once and closed once.

It is the log that everything after the decision reads: the publisher, replay and the
ledger are readers with a cursor. Stores go to the page cache, so they survive `kill -9`; they
survive a power cut only as far as the file is on a disk and written back.

File: one header page, then `slots` slots of `SLOT_BYTES`. Frame `seq` lives in slot
`seq % slots`. A slot is an *open record* and a *close record*, each with its seq and its own
CRC-32. A slot is closed only if its close record has the right seq and a valid CRC; a record
that a crash cut in the middle has none, since the CRC covers everything and is written last.
So a torn close record reads as an open frame, and a torn open record as a damaged one: both
end as NO_VERDICT(restart), never as a verdict that was not given.

Source: docs/explanation/decisions/0003-spool.md
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import SpoolError
from edgeinspect.storage.spool.file import lock_spool, map_file, quarantine, rewrite
from edgeinspect.storage.spool.format import (
    ANNOUNCED_EPOCH_AT,
    CURSOR,
    EPOCH_AT,
    HEADER_BYTES,
    LEDGERED_AT,
    PAYLOAD_BYTES,
    PUBLISHED_AT,
    SLOT_BYTES,
    UNKNOWN_FRAME,
    OpenRecord,
    SpoolScan,
    read_payload,
    scan_spool,
    write_close,
    write_open,
)


class SpoolFullError(SpoolError):
    """The slot of the next seq holds a frame that is still open: close that one first.

    Args:
        seq: The open frame.
    """

    def __init__(self, seq: int) -> None:
        self.seq = seq
        super().__init__(f"frame {seq} is still open after a full round of the spool")


@dataclass(frozen=True, slots=True)
class UnfinishedFrame:
    """A frame that the previous daemon left open."""

    seq: int
    epoch: int
    record: OpenRecord | None
    """None if the open record itself is damaged."""


class Spool:
    """The open spool of one line. Thread-safe; one process at a time (file lock).

    Raises:
        SpoolError: The folder cannot be written, or another process holds the spool.
    """

    def __init__(
        self,
        path: Path,
        *,
        line: str,
        slots: int,
        utc_ns: int,
        at_least_seq: int = 0,
        at_least_epoch: int = 0,
        clean_shutdown: bool = False,
    ) -> None:
        """Open or create the spool and begin a new epoch.

        Args:
            path: The file.
            line: The line's name, stored in the header.
            slots: Number of frames; a file of another size is rewritten with those that fit.
            utc_ns: Wall time, from which the new epoch is derived.
            at_least_seq: Last seq known elsewhere (the ledger), for a spool that was lost.
            at_least_epoch: Last epoch known elsewhere; 0 for a line that never ran.
            clean_shutdown: True if that epoch was stopped in order, so that `at_least_seq` is
                the last that was used. Otherwise later seqs may have been used, and the next
                `slots` seqs are skipped, so that none is ever used twice.
        """
        self.path = path
        self.slots = slots
        self.line = line
        self.unfinished: list[UnfinishedFrame] = []
        """Frames left open by the last daemon; the caller closes each with `close`."""
        self.quarantined: Path | None = None
        """Where a damaged spool was moved for examination."""
        self.overwritten_unledgered = 0
        """Closed frames that were overwritten before the ledger had committed them."""
        self._lock = threading.Lock()
        self._file_lock = lock_spool(path)
        scan = scan_spool(path)
        old = scan or SpoolScan()
        lost = at_least_seq > old.last_seq or (scan is None and at_least_epoch > 0)
        after = max(old.last_seq, at_least_seq)
        self.last_seq = after + slots if lost and not clean_shutdown else after
        self.skipped = old.skipped if self.last_seq == after else (after + 1, self.last_seq)
        """First and last seq that were skipped because the spool had been lost; or None."""
        self.epoch = max(utc_ns // 1_000_000, old.epoch + 1, at_least_epoch + 1)
        self._base = self.last_seq + 1 if lost else max(old.base_seq, old.oldest_seq)
        if lost or not (old.is_valid and old.slots == slots):
            if old.slots and not old.is_valid:
                self.quarantined = quarantine(path)
            rewrite(path, line, slots, self._base, self.skipped, old)
        self._map = map_file(path, slots)
        self._epochs: list[int] = [0] * slots
        self._seqs: list[int] = [0] * slots
        self._closed = bytearray(slots)
        self._load_existing(old)
        CURSOR.pack_into(self._map, EPOCH_AT, self.epoch)
        self.published_seq = self.ledgered_seq = 0
        self.mark_published(self.last_seq if lost else old.published_seq)
        self.mark_ledgered(self.last_seq if lost else max(old.ledgered_seq, at_least_seq))

    # -- frames ---------------------------------------------------------------------

    def open(self, record: OpenRecord) -> int:
        """Open the next frame and return its seq.

        Raises:
            SpoolFullError: The slot is held by a frame that is still open; close that
                frame (NO_VERDICT(overrun)) and call again.
        """
        with self._lock:
            seq = self.last_seq + 1
            slot = seq % self.slots
            if self._seqs[slot] and not self._closed[slot]:
                raise SpoolFullError(self._seqs[slot])
            if self._seqs[slot] > self.ledgered_seq:
                self.overwritten_unledgered += 1
            self._closed[slot] = 0
            self._seqs[slot] = seq
            self._epochs[slot] = self.epoch
            write_open(self._map, HEADER_BYTES + slot * SLOT_BYTES, seq, self.epoch, record)
            self.last_seq = seq
            return seq

    def close(self, seq: int, payload: bytes) -> bool:
        """Close one open frame; the first close wins.

        Args:
            seq: Number returned by `open`.
            payload: The encoded verdict, at most `PAYLOAD_BYTES`; in the slot before
                this returns.

        Returns:
            True if this call closed the frame, False if it was closed already (the
            caller records its verdict as late).

        Raises:
            SpoolError: `seq` was never opened, its slot has been reused, or the payload
                does not fit.
        """
        if len(payload) > PAYLOAD_BYTES:
            raise SpoolError(
                f"verdict of {len(payload)} bytes does not fit {PAYLOAD_BYTES}",
                where=str(self.path),
            )
        with self._lock:
            slot = seq % self.slots
            if self._seqs[slot] != seq:
                raise SpoolError(f"frame {seq} is not in the spool", where=str(self.path))
            if self._closed[slot]:
                return False
            at = HEADER_BYTES + slot * SLOT_BYTES
            write_close(self._map, at, seq, self._epochs[slot], payload)
            self._closed[slot] = 1
            return True

    def is_open(self, seq: int) -> bool:
        """Return whether the frame waits for its verdict. No lock: a hint, `close` decides."""
        slot = seq % self.slots
        return self._seqs[slot] == seq and not self._closed[slot]

    def read(self, seq: int) -> bytes | None:
        """Return the verdict of a closed frame; None if it is open or not in the spool."""
        with self._lock:
            slot = seq % self.slots
            if self._seqs[slot] != seq or not self._closed[slot]:
                return None
            return read_payload(self._map, HEADER_BYTES + slot * SLOT_BYTES)

    @property
    def oldest_seq(self) -> int:
        """The oldest frame still held; `last_seq + 1` if none is."""
        return max(self._base, self.last_seq - self.slots + 1)

    # -- cursors --------------------------------------------------------------------

    def mark_published(self, seq: int) -> None:
        """Record that every verdict up to `seq` has been sent. Publisher's thread only."""
        self.published_seq = seq
        CURSOR.pack_into(self._map, PUBLISHED_AT, seq)

    def mark_ledgered(self, seq: int) -> None:
        """Record that the ledger has committed every verdict up to `seq`. Its thread only."""
        self.ledgered_seq = seq
        CURSOR.pack_into(self._map, LEDGERED_AT, seq)

    def announce(self) -> None:
        """Record that this daemon owns the line's addresses, so that clients accept its epoch
        there; withdrawn by `release`.
        """
        CURSOR.pack_into(self._map, ANNOUNCED_EPOCH_AT, self.epoch)

    def release(self) -> None:
        """Unmap and unlock; harmless if done already. No thread may use the spool afterwards."""
        with self._lock:
            if self._file_lock.fileno() >= 0:
                CURSOR.pack_into(self._map, ANNOUNCED_EPOCH_AT, 0)
                self._map.close()
                self._file_lock.release()

    # -- start-up -------------------------------------------------------------------

    def _load_existing(self, old: SpoolScan) -> None:
        """Index the frames of the previous daemon."""
        for seq in range(self.oldest_seq, self.last_seq + 1):
            slot = seq % self.slots
            contents = old.frames.get(seq)
            self._seqs[slot] = seq
            self._epochs[slot] = contents.epoch if contents else old.epoch
            if contents and contents.payload is not None:
                self._closed[slot] = 1
                continue
            record = contents.record if contents else None
            self.unfinished.append(UnfinishedFrame(seq, self._epochs[slot], record))
            if record is None:
                at = HEADER_BYTES + slot * SLOT_BYTES
                write_open(self._map, at, seq, self._epochs[slot], UNKNOWN_FRAME)
