"""Pictures that never enter the ring as they came: of another size, black, frozen.

A recorder that wants them makes this shared memory, and keeps saying so; the capture thread
copies into it only then, and only those pictures. Nobody waits for anybody: an entry that was
overwritten while it was read is seen to be another's.
"""

from __future__ import annotations

import os
import struct
import weakref
from pathlib import Path

import numpy as np

from edgeinspect.domain import NS_PER_S, Pixels
from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.storage.shared_memory.folder import create_file, open_folder, open_line_file

REQUEST_TIMEOUT_NS = 5 * NS_PER_S
"""A recorder that has not said for so long that it wants pictures is gone."""
_MAGIC = b"EIASIDE1"
_HEADER = struct.Struct("<8sIQ")  # magic, slots, bytes of a slot
_REQUESTED_AT = 64
_ENTRIES_AT = 128
_ENTRY_FIELDS = 4  # seq, height, width, channels
_ALIGN = 4096


def _layout(slots: int, slot_bytes: int) -> tuple[int, int]:
    """(offset of slot 0, bytes in all)."""
    head = -(-(_ENTRIES_AT + 8 * _ENTRY_FIELDS * slots) // _ALIGN) * _ALIGN
    return head, head + slots * slot_bytes


class _SideBufferFile:
    """The file, as both ends see it. Read and written, never mapped: what the other end cuts
    short would end who maps it, and one of them is the daemon.
    """

    def __init__(self, path: Path) -> None:
        self._handle = open_line_file(path, write=True)
        weakref.finalize(self, os.close, self._handle)
        size = os.fstat(self._handle).st_size
        magic, slots, slot_bytes = _HEADER.unpack(os.pread(self._handle, _HEADER.size, 0))
        self._head, want = _layout(slots, slot_bytes)
        if magic != _MAGIC or size < want or not slots:
            raise ValueError("is not of this version")
        self.slots, self.slot_bytes = slots, slot_bytes

    @property
    def wanted_ns(self) -> int:
        """When the recorder last said that it wants pictures; 0 for never."""
        return int.from_bytes(os.pread(self._handle, 8, _REQUESTED_AT), "little", signed=True)

    @wanted_ns.setter
    def wanted_ns(self, now_ns: int) -> None:
        os.pwrite(self._handle, now_ns.to_bytes(8, "little", signed=True), _REQUESTED_AT)

    def entries(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """(slots, 4): seq, height, width, channels; zeros of what is not there."""
        rows = np.zeros((self.slots, _ENTRY_FIELDS), np.int64)
        os.preadv(self._handle, [rows.data], _ENTRIES_AT)
        return rows

    def write(self, at: int, seq: int, pixels: Pixels) -> None:
        """Fill a slot; it is another's, or nobody's, until it is whole."""
        row_at = _ENTRIES_AT + 8 * _ENTRY_FIELDS * at
        os.pwrite(self._handle, bytes(8), row_at)
        picture = np.ascontiguousarray(pixels)
        if (
            os.pwritev(self._handle, [picture.data], self._head + at * self.slot_bytes)
            < picture.nbytes
        ):
            return
        os.pwrite(self._handle, np.array(pixels.shape, np.int64).tobytes(), row_at + 8)
        os.pwrite(self._handle, seq.to_bytes(8, "little"), row_at)

    def read(self, at: int, dims: tuple[int, ...]) -> Pixels | None:
        """A copy of a slot's picture; None if it is not there."""
        copy = np.empty(dims, np.uint8)
        taken_bytes = os.preadv(self._handle, [copy.data], self._head + at * self.slot_bytes)
        return copy if taken_bytes == copy.nbytes else None


class SideBuffer:
    """The capture thread's end. One thread; never waits, never raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _SideBufferFile | None = None
        self._slot = 0

    def store(self, seq: int, pixels: Pixels, now_ns: int) -> bool:
        """Copy a picture for a recorder; False if none wants it or it does not fit.

        Costs the copy only while a recorder runs, and else a look for the file, some 2 us.
        """
        memory = self._file
        try:
            if memory is None or now_ns - memory.wanted_ns > REQUEST_TIMEOUT_NS:
                self._file = memory = _SideBufferFile(self._path)
                self._slot = 0
                if now_ns - memory.wanted_ns > REQUEST_TIMEOUT_NS:
                    return False
            if pixels.ndim != 3 or not 0 < pixels.nbytes <= memory.slot_bytes:
                return False
            memory.write(self._slot, seq, pixels)
        except (OSError, ValueError, struct.error, ConfigError):
            self._file = None
            return False
        self._slot = (self._slot + 1) % memory.slots
        return True


class SideBufferReader:
    """The recorder's end, which makes the memory. One thread."""

    def __init__(self, path: Path, slots: int, slot_bytes: int) -> None:
        """Make the memory; an old file of that name is replaced.

        Raises:
            ConfigError: Somebody else can write the folder.
            DeviceLostError: There is not enough shared memory.
        """
        self._path = path
        size = _layout(slots, slot_bytes)[1]
        fresh = f"{path.name}.{os.getpid()}"
        try:
            with open_folder(path.parent) as folder:
                handle = create_file(folder, fresh)
                try:
                    os.posix_fallocate(handle, 0, size)
                    os.pwrite(handle, _HEADER.pack(_MAGIC, slots, slot_bytes), 0)
                    os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                except OSError:
                    os.unlink(fresh, dir_fd=folder)
                    raise
                finally:
                    os.close(handle)
            self._file = _SideBufferFile(path)
        except OSError as error:
            raise DeviceLostError(
                f"{size >> 20} MiB of shared memory cannot be had: {error.strerror}",
                where=str(path),
                remedy="Enlarge /dev/shm",
            ) from error

    def request(self, now_ns: int) -> None:
        """Say that pictures are wanted; more often than every `WANTED_NS`."""
        self._file.wanted_ns = now_ns

    def read(self, seq: int) -> Pixels | None:
        """A copy of the picture of frame `seq`, if it was kept and is still whole."""
        rows = self._file.entries()
        hits = np.flatnonzero(rows[:, 0] == seq)
        if not seq or not len(hits):
            return None
        at = int(hits[0])
        height, width, channels = (int(side) for side in rows[at, 1:])
        size = height * width * channels
        if min(height, width, channels) < 1 or size > self._file.slot_bytes:
            return None
        copy = self._file.read(at, (height, width, channels))
        return copy if int(self._file.entries()[at, 0]) == seq else None

    def close(self) -> None:
        """Want no more, and remove the file."""
        self._file.wanted_ns = 0
        self._path.unlink(missing_ok=True)
