"""The ring: fixed slots of pixels in shared memory, between the camera and the engine.

The daemon owns the slots; another process (the page) may attach and read the newest
picture. The file is in memory (`/dev/shm`), so a frame is never written to a disk.
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

_MAGIC = b"EIRING01"
_HEADER = struct.Struct("<8sIIII4sQ")  # magic, slots, height, width, channels, color, epoch
_SEQ_AT = 64
_ALIGN = 4096  # a slot starts on a page: engines and DMA like it


def _layout(slots: int, shape: FrameShape) -> tuple[int, int]:
    """(offset of slot 0, bytes from slot to slot)."""
    head = -(-(_SEQ_AT + 8 * slots) // _ALIGN) * _ALIGN
    step = -(-shape.size_bytes // _ALIGN) * _ALIGN
    return head, step


def ring_size_bytes(slots: int, shape: FrameShape) -> int:
    """Memory of a ring."""
    head, step = _layout(slots, shape)
    return head + step * slots


class FrameRing:
    """The slots of one camera. `take` and `give_back` are thread-safe; pixels have one owner.

    A slot's owner is whoever took it: the capture thread while it copies, then the frame,
    until the frame's worker (or whoever closed it unjudged) gives the slot back.
    """

    def __init__(
        self, path: Path, slots: int, shape: FrameShape, color: str = "", epoch: int = 0
    ) -> None:
        """Make the shared memory; an old file of that name is replaced.

        Args:
            path: The file, in memory.
            slots: Pictures held.
            shape: Of every picture.
            color: `mono`, `bgr` or `rgb`, told to readers; nothing here turns on it.
            epoch: The daemon's, told to readers: seqs may begin again in another one.

        Raises:
            ConfigError: Somebody else can write the folder.
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
                f"{size >> 20} MiB of shared memory cannot be had: {error.strerror}",
                where=str(path),
                remedy="Lower capture.ring_slots, or enlarge /dev/shm",
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
        """Called in the thread of a `give_back` after which half the slots are free at least;
        for who waits for a slot. Half a ring at once: to be woken costs as much as a frame."""

    @property
    def slots(self) -> int:
        """Slots in all."""
        return len(self._views)

    @property
    def free_slots(self) -> int:
        """Slots nobody owns."""
        return len(self._free)

    def acquire(self) -> int | None:
        """Own a free slot, the one longest free; None if all are owned."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return None
        self._seqs[slot] = 0
        return slot

    def pixels(self, slot: int) -> Pixels:
        """The slot's memory as uint8 (H, W, C), C-contiguous; for its owner."""
        return self._views[slot]

    def publish(self, slot: int, seq: int) -> None:
        """Say that the slot now holds the whole picture of frame `seq`."""
        self._seqs[slot] = seq

    def release(self, slot: int) -> None:
        """Free a slot; its pixels stay readable to other processes until it is taken again."""
        self._free.append(slot)
        if self.on_half_free is not None and 2 * len(self._free) >= len(self._views):
            self.on_half_free()

    def remove_file(self) -> None:
        """Remove the file. The memory goes when the last view does."""
        self.path.unlink(missing_ok=True)


class FrameRingReader:
    """A look into a daemon's ring from another process. Reads only."""

    def __init__(self, path: Path) -> None:
        """Attach.

        Raises:
            DeviceLostError: There is no such ring, it is of another version, or somebody else
                than its daemon may have written it.
        """
        self.path = path
        try:
            # Read, never mapped: a file that its owner cuts short would end whoever maps it.
            self._handle = open_line_file(path)
            weakref.finalize(self, os.close, self._handle)
            status = os.fstat(self._handle)
            head_bytes = os.pread(self._handle, _HEADER.size, 0)
            magic, slots, height, width, channels, color, epoch = _HEADER.unpack(head_bytes)
        except ConfigError as error:
            raise DeviceLostError(f"is not trusted: {error}", where=str(path)) from error
        except (OSError, ValueError, struct.error) as error:
            raise DeviceLostError(
                "there is no ring to read", where=str(path), remedy="Is the daemon running?"
            ) from error
        if magic != _MAGIC:
            raise DeviceLostError("is not a ring of this version", where=str(path))
        self.shape = FrameShape(height, width, channels)
        head, step = _layout(slots, self.shape)
        if not slots or status.st_size < head + step * slots:
            raise DeviceLostError("is shorter than its own header says", where=str(path))
        self.color = color.rstrip(b"\0").decode("ascii", "replace")
        """`mono`, `bgr` or `rgb`; empty if the daemon did not say."""
        self.epoch = epoch
        """The daemon's: its frames alone are in here."""
        self._file = (status.st_dev, status.st_ino)
        self._slots, self._head, self._step = slots, head, step

    @property
    def is_current(self) -> bool:
        """False once another daemon has made a ring of its own there: attach anew."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def newest(self) -> tuple[int, Pixels] | None:
        """(seq, a copy of the picture) of the newest whole frame; None if there is none."""
        for _ in range(4):
            seqs = self._seqs()
            slot = int(seqs.argmax())
            seq = int(seqs[slot])
            picture = self._copy(slot, seq) if seq else None
            if picture is not None:
                return seq, picture
        return None

    def seqs_after(self, than_seq: int) -> list[int]:
        """The frames after `than_seq` whose pictures are whole at this moment, oldest first."""
        seqs = self._seqs()
        return sorted(int(seq) for seq in seqs[seqs > than_seq])

    def read(self, seq: int) -> Pixels | None:
        """A copy of the picture of frame `seq`, if the ring still has it whole."""
        hits = np.flatnonzero(self._seqs() == seq)
        return self._copy(int(hits[0]), seq) if seq and len(hits) else None

    def _seqs(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Of every slot; zeros of what is not there, after the file was cut short."""
        seqs = np.zeros(self._slots, np.uint64)
        os.preadv(self._handle, [seqs.data], _SEQ_AT)
        return seqs

    def _copy(self, slot: int, seq: int) -> Pixels | None:
        copy = np.empty(self.shape.dims, np.uint8)
        taken_bytes = os.preadv(self._handle, [copy.data], self._head + self._step * slot)
        if taken_bytes < copy.nbytes:
            return None
        return copy if int(self._seqs()[slot]) == seq else None
