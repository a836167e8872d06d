"""Pictures that never enter the ring as they came: of another size, black, frozen.

A recorder that wants them makes this shared memory, and keeps saying so; the capture thread
copies into it only then, and only those pictures. Nobody waits for anybody: an entry that was
overwritten while it was read is seen to be another's.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.frame import Pixels
from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.shared_memory import create, held_folder, open_file

WANTED_NS = 5 * NS_PER_S
"""A recorder that has not said for so long that it wants pictures is gone."""
_MAGIC = b"EIASIDE1"
_HEADER = struct.Struct("<8sIQ")  # magic, slots, bytes of a slot
_WANTED_AT = 64
_ROWS_AT = 128
_ROW = 4  # seq, height, width, channels
_ALIGN = 4096


def _layout(slots: int, slot_bytes: int) -> tuple[int, int]:
    """(offset of slot 0, bytes in all)."""
    head = -(-(_ROWS_AT + 8 * _ROW * slots) // _ALIGN) * _ALIGN
    return head, head + slots * slot_bytes


class _Memory:
    """The mapped file, as both ends see it."""

    def __init__(self, path: Path) -> None:
        handle = open_file(path, write=True)
        try:
            size = os.fstat(handle).st_size
            magic, slots, slot_bytes = _HEADER.unpack(os.pread(handle, _HEADER.size, 0))
            head, want = _layout(slots, slot_bytes)
            if magic != _MAGIC or size < want or not slots:
                raise ValueError("is not of this version")
            memory = mmap.mmap(handle, want)
        finally:
            os.close(handle)
        self.wanted = np.frombuffer(memory, np.int64, 1, _WANTED_AT)
        self.rows = np.frombuffer(memory, np.int64, slots * _ROW, _ROWS_AT).reshape(slots, _ROW)
        self.data = np.frombuffer(memory, np.uint8, slots * slot_bytes, head)
        self.data = self.data.reshape(slots, slot_bytes)


class Aside:
    """The capture thread's end. One thread; never waits, never raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: _Memory | None = None
        self._at = 0

    def keep(self, seq: int, pixels: Pixels, now_ns: int) -> bool:
        """Copy a picture for a recorder; False if none wants it or it does not fit.

        Costs the copy only while a recorder runs, and else a look for the file, some 2 us.
        """
        memory = self._memory
        if memory is None or now_ns - int(memory.wanted[0]) > WANTED_NS:
            try:
                self._memory = memory = _Memory(self._path)
            except (OSError, ValueError, struct.error, ConfigError):
                self._memory = None
                return False
            if now_ns - int(memory.wanted[0]) > WANTED_NS:
                return False
        slot_bytes = memory.data.shape[1]
        if pixels.ndim != 3 or not 0 < pixels.nbytes <= slot_bytes:
            return False
        row = memory.rows[self._at]
        row[0] = 0
        target = memory.data[self._at, : pixels.nbytes].reshape(pixels.shape)
        np.copyto(target, pixels)
        row[1:] = pixels.shape
        row[0] = seq
        self._at = (self._at + 1) % len(memory.rows)
        return True


class AsideReader:
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
            with held_folder(path.parent) as folder:
                handle = create(folder, fresh)
                try:
                    os.posix_fallocate(handle, 0, size)
                    os.pwrite(handle, _HEADER.pack(_MAGIC, slots, slot_bytes), 0)
                    os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                except OSError:
                    os.unlink(fresh, dir_fd=folder)
                    raise
                finally:
                    os.close(handle)
            self._memory = _Memory(path)
        except OSError as error:
            raise DeviceLostError(
                f"{size >> 20} MiB of shared memory cannot be had: {error.strerror}",
                where=str(path),
                remedy="Enlarge /dev/shm",
            ) from error

    def want(self, now_ns: int) -> None:
        """Say that pictures are wanted; more often than every `WANTED_NS`."""
        self._memory.wanted[0] = now_ns

    def find(self, seq: int) -> Pixels | None:
        """A copy of the picture of frame `seq`, if it was kept and is still whole."""
        rows = self._memory.rows
        hits = np.flatnonzero(rows[:, 0] == seq)
        if not seq or not len(hits):
            return None
        at = int(hits[0])
        height, width, channels = (int(side) for side in rows[at, 1:])
        size = height * width * channels
        if not 0 < size <= self._memory.data.shape[1]:
            return None
        copy = self._memory.data[at, :size].reshape(height, width, channels).copy()
        return copy if int(rows[at, 0]) == seq else None

    def close(self) -> None:
        """Want no more, and remove the file."""
        self._memory.wanted[0] = 0
        self._path.unlink(missing_ok=True)
