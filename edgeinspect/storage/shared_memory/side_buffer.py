"""Shared memory for the images that never enter the ring as they came: wrong size, black, frozen.

A recorder that wants these images creates the file and renews its request; the capture thread
copies into it only while the request is fresh. Neither side waits for the other: the reader
detects an entry that was overwritten while it was read.
"""

from __future__ import annotations

import os
import struct
import weakref
from pathlib import Path

import numpy as np

from edgeinspect.domain import NS_PER_S, Pixels
from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.storage.shared_memory.folder import open_line_file, replace_file

REQUEST_TIMEOUT_NS = 5 * NS_PER_S
"""A recorder that has not renewed its request for this long is gone."""
_MAGIC = b"EIASIDE1"
_HEADER = struct.Struct("<8sIQ")  # magic, slots, bytes of a slot
_REQUESTED_AT = 64
_ENTRIES_AT = 128
_ENTRY_FIELDS = 4  # seq, height, width, channels
_ALIGN = 4096


def _layout(slots: int, slot_bytes: int) -> tuple[int, int]:
    """Return (offset of slot 0, size of the file)."""
    head = -(-(_ENTRIES_AT + 8 * _ENTRY_FIELDS * slots) // _ALIGN) * _ALIGN
    return head, head + slots * slot_bytes


class _SideBufferFile:
    """The file as both ends access it.

    It is read and written, never mapped: if one end truncates the file, a mapping kills the
    other end by SIGBUS, and one of them is the daemon.
    """

    def __init__(self, path: Path) -> None:
        self._fd = open_line_file(path, write=True)
        weakref.finalize(self, os.close, self._fd)
        size = os.fstat(self._fd).st_size
        magic, slots, slot_bytes = _HEADER.unpack(os.pread(self._fd, _HEADER.size, 0))
        self._head, needed = _layout(slots, slot_bytes)
        if magic != _MAGIC or size < needed or not slots:
            raise ValueError("is not of this version")
        self.slots, self.slot_bytes = slots, slot_bytes

    @property
    def requested_at_ns(self) -> int:
        """When the recorder last requested images; 0 for never."""
        return int.from_bytes(os.pread(self._fd, 8, _REQUESTED_AT), "little", signed=True)

    @requested_at_ns.setter
    def requested_at_ns(self, now_ns: int) -> None:
        os.pwrite(self._fd, now_ns.to_bytes(8, "little", signed=True), _REQUESTED_AT)

    def entries(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return (slots, 4): seq, height, width, channels; zeros where the file was truncated."""
        entries = np.zeros((self.slots, _ENTRY_FIELDS), np.int64)
        os.preadv(self._fd, [entries.data], _ENTRIES_AT)
        return entries

    def write(self, slot: int, seq: int, pixels: Pixels) -> None:
        """Fill a slot. Its seq is 0 until the image is complete."""
        entry_at = _ENTRIES_AT + 8 * _ENTRY_FIELDS * slot
        os.pwrite(self._fd, bytes(8), entry_at)
        image = np.ascontiguousarray(pixels)
        slot_at = self._head + slot * self.slot_bytes
        if os.pwritev(self._fd, [image.data], slot_at) < image.nbytes:
            return
        os.pwrite(self._fd, np.array(pixels.shape, np.int64).tobytes(), entry_at + 8)
        os.pwrite(self._fd, seq.to_bytes(8, "little"), entry_at)

    def read(self, slot: int, dims: tuple[int, ...]) -> Pixels | None:
        """Return a copy of a slot's image; None where the file was truncated."""
        copy = np.empty(dims, np.uint8)
        read_bytes = os.preadv(self._fd, [copy.data], self._head + slot * self.slot_bytes)
        return copy if read_bytes == copy.nbytes else None


class SideBuffer:
    """The capture thread's end. One thread; never waits, never raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _SideBufferFile | None = None
        self._slot = 0

    def store(self, seq: int, pixels: Pixels, now_ns: int) -> bool:
        """Copy an image for a recorder; False if none requests images or it does not fit.

        Without a recorder this costs one attempt to open the file, some 2 us.
        """
        file = self._file
        try:
            if file is None or now_ns - file.requested_at_ns > REQUEST_TIMEOUT_NS:
                self._file = file = _SideBufferFile(self._path)
                self._slot = 0
                if now_ns - file.requested_at_ns > REQUEST_TIMEOUT_NS:
                    return False
            if pixels.ndim != 3 or not 0 < pixels.nbytes <= file.slot_bytes:
                return False
            file.write(self._slot, seq, pixels)
        except (OSError, ValueError, struct.error, ConfigError):
            self._file = None
            return False
        self._slot = (self._slot + 1) % file.slots
        return True


class SideBufferReader:
    """The recorder's end, which creates the file. One thread."""

    def __init__(self, path: Path, slots: int, slot_bytes: int) -> None:
        """Create the file; an old file of that name is replaced.

        Raises:
            ConfigError: Another user can write the folder.
            DeviceLostError: There is not enough shared memory.
        """
        self._path = path
        size = _layout(slots, slot_bytes)[1]
        try:
            with replace_file(path, f"{path.name}.{os.getpid()}") as fd:
                os.posix_fallocate(fd, 0, size)
                os.pwrite(fd, _HEADER.pack(_MAGIC, slots, slot_bytes), 0)
            self._file = _SideBufferFile(path)
        except OSError as error:
            raise DeviceLostError(
                f"{size >> 20} MiB of shared memory cannot be allocated: {error.strerror}",
                where=str(path),
                remedy="Enlarge /dev/shm",
            ) from error

    def request(self, now_ns: int) -> None:
        """Request images; to be renewed within `REQUEST_TIMEOUT_NS`."""
        self._file.requested_at_ns = now_ns

    def read(self, seq: int) -> Pixels | None:
        """Return a copy of the image of frame `seq`, if it was stored and is still complete."""
        entries = self._file.entries()
        hits = np.flatnonzero(entries[:, 0] == seq)
        if not seq or not len(hits):
            return None
        slot = int(hits[0])
        height, width, channels = (int(side) for side in entries[slot, 1:])
        size = height * width * channels
        if min(height, width, channels) < 1 or size > self._file.slot_bytes:
            return None
        copy = self._file.read(slot, (height, width, channels))
        return copy if int(self._file.entries()[slot, 0]) == seq else None

    def close(self) -> None:
        """Withdraw the request and remove the file."""
        self._file.requested_at_ns = 0
        self._path.unlink(missing_ok=True)
