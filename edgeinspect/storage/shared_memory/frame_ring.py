"""The frame ring: fixed slots of pixels in shared memory, between the camera and the engine.

The daemon owns the slots; another process (the HMI) may attach and read the newest frame.
The file is in memory (`/dev/shm`), so a frame is never written to a disk.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeinspect.domain import FrameShape, Pixels
from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.storage.shared_memory.folder import allocate_file, open_line_file
from edgeinspect.system import is_same_file

_MAGIC = b"EIRING01"
_HEADER = struct.Struct("<8sIIII4sQ")  # magic, slots, height, width, channels, color, epoch
_SEQ_AT = 64
_ALIGN = 4096  # a slot starts on a page, as engines and DMA prefer


def _layout(slots: int, shape: FrameShape) -> tuple[int, int]:
    """Return (offset of slot 0, bytes from slot to slot)."""
    head = -(-(_SEQ_AT + 8 * slots) // _ALIGN) * _ALIGN
    step = -(-shape.size_bytes // _ALIGN) * _ALIGN
    return head, step


def ring_size_bytes(slots: int, shape: FrameShape) -> int:
    """Return the size of a ring's file."""
    head, step = _layout(slots, shape)
    return head + step * slots


class FrameRing:
    """The slots of one camera. `acquire` and `release` are thread-safe; pixels have one owner.

    A slot belongs to the thread that acquired it: the capture thread while it copies, then the
    frame, until its worker, or the thread that closed it without inspection, releases the slot.
    """

    def __init__(
        self, path: Path, slots: int, shape: FrameShape, color: str = "", epoch: int = 0
    ) -> None:
        """Create the file; an old file of that name is replaced.

        Args:
            path: The file, in memory.
            slots: Number of frames.
            shape: Of every frame.
            color: `mono`, `bgr` or `rgb`; for readers only.
            epoch: The daemon's; for readers only, since another epoch may reuse the seqs.

        Raises:
            ConfigError: Another user can write the folder.
            DeviceLostError: There is not enough shared memory.
        """
        self.path = path
        self.shape = shape
        head, step = _layout(slots, shape)
        size = ring_size_bytes(slots, shape)
        try:
            self._map = allocate_file(path, size, populate=True)
        except OSError as error:
            raise DeviceLostError(
                f"{size >> 20} MiB of shared memory cannot be allocated: {error.strerror}",
                where=str(path),
                remedy="Free some memory, lower capture.ring_slots, or enlarge /dev/shm",
            ) from error
        _HEADER.pack_into(self._map, 0, _MAGIC, slots, *shape.dims, color.encode()[:4], epoch)
        self._seqs = np.frombuffer(self._map, np.uint64, slots, _SEQ_AT)
        self._views = [
            np.frombuffer(self._map, np.uint8, shape.size_bytes, head + step * i).reshape(
                shape.dims
            )
            for i in range(slots)
        ]
        self._free: deque[int] = deque(range(slots))
        self.on_half_free: Callable[[], None] | None = None
        """Called in the thread of a `release` after which at least half the slots are free, to
        wake a thread that waits for one. At half a ring, because a wake-up costs as much as a
        frame."""

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self._views)

    @property
    def free_slots(self) -> int:
        """Number of slots without an owner."""
        return len(self._free)

    def acquire(self) -> int | None:
        """Return the slot that has been free longest, now owned; None if all are owned."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return None
        self._seqs[slot] = 0
        return slot

    def pixels(self, slot: int) -> Pixels:
        """Return the slot's memory as uint8 (H, W, C), C-contiguous; for its owner."""
        return self._views[slot]

    def publish(self, slot: int, seq: int) -> None:
        """Announce to readers that the slot holds the complete frame `seq`."""
        self._seqs[slot] = seq

    def release(self, slot: int) -> None:
        """Free a slot; other processes can read its pixels until it is acquired again."""
        self._free.append(slot)
        if self.on_half_free is not None and 2 * len(self._free) >= len(self._views):
            self.on_half_free()

    def remove_file(self) -> None:
        """Remove the file. The memory is freed with the last view of it."""
        self.path.unlink(missing_ok=True)


class FrameRingReader:
    """Reads a daemon's ring from another process."""

    def __init__(self, path: Path) -> None:
        """Attach.

        Raises:
            DeviceLostError: There is no such ring, it is of another version, or another user
                than its daemon's can write it.
        """
        self.path = path
        try:
            # Read, never mapped: a file that is truncated kills a process that maps it (SIGBUS).
            self._fd = open_line_file(path)
            weakref.finalize(self, os.close, self._fd)
            status = os.fstat(self._fd)
            head_bytes = os.pread(self._fd, _HEADER.size, 0)
            magic, slots, height, width, channels, color, epoch = _HEADER.unpack(head_bytes)
        except ConfigError as error:
            raise DeviceLostError(f"is not trusted: {error}", where=str(path)) from error
        except (OSError, ValueError, struct.error) as error:
            raise DeviceLostError(
                "there is no frame ring to read", where=str(path), remedy="Is the daemon running?"
            ) from error
        if magic != _MAGIC:
            raise DeviceLostError("is not a frame ring of this version", where=str(path))
        self.shape = FrameShape(height, width, channels)
        head, step = _layout(slots, self.shape)
        if not slots or status.st_size < head + step * slots:
            raise DeviceLostError("is shorter than its header requires", where=str(path))
        self.color = color.rstrip(b"\0").decode("ascii", "replace")
        """`mono`, `bgr` or `rgb`; empty if unknown."""
        self.epoch = epoch
        """Epoch of the daemon whose frames these are."""
        self._status = status
        self._slots, self._head, self._step = slots, head, step

    @property
    def is_current(self) -> bool:
        """False once another daemon has replaced the ring: attach again."""
        return is_same_file(self.path, self._status)

    def newest(self) -> tuple[int, Pixels] | None:
        """Return (seq, copy) of the newest complete frame; None if there is none."""
        for _ in range(4):
            seqs = self._seqs()
            slot = int(seqs.argmax())
            seq = int(seqs[slot])
            pixels = self._copy(slot, seq) if seq else None
            if pixels is not None:
                return seq, pixels
        return None

    def seqs_after(self, than_seq: int) -> list[int]:
        """Return the seqs after `than_seq` whose frames are complete now, in order."""
        seqs = self._seqs()
        return sorted(int(seq) for seq in seqs[seqs > than_seq])

    def read(self, seq: int) -> Pixels | None:
        """Return a copy of frame `seq`, if the ring still holds it completely."""
        hits = np.flatnonzero(self._seqs() == seq)
        return self._copy(int(hits[0]), seq) if seq and len(hits) else None

    def _seqs(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Return the seq of every slot; zeros where the file was truncated."""
        seqs = np.zeros(self._slots, np.uint64)
        os.preadv(self._fd, [seqs.data], _SEQ_AT)
        return seqs

    def _copy(self, slot: int, seq: int) -> Pixels | None:
        copy = np.empty(self.shape.dims, np.uint8)
        read_bytes = os.preadv(self._fd, [copy.data], self._head + self._step * slot)
        if read_bytes < copy.nbytes:
            return None
        return copy if int(self._seqs()[slot]) == seq else None
