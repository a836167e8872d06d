"""Files of fixed size that are written in place and synced by a thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from edgeinspect.errors import DeviceLostError

SYNC_INTERVAL_S = 0.1
"""Shortest time between two syncs of a file."""


class SyncedFile:
    """Owns an open file and the thread that syncs it."""

    def __init__(self, fd: int, name: str) -> None:
        """Take the file over; `name` is the thread's."""
        self.fd = fd
        self._dirty = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def mark_dirty(self) -> None:
        """There is something to sync."""
        self._dirty.set()

    def close(self) -> None:
        """Put everything on the disk and close the file; harmless when done already."""
        if self._closed:
            return
        self._closed = True
        self._dirty.set()
        self._thread.join(timeout=2.0)
        self._sync()
        os.close(self.fd)

    def _run(self) -> None:
        while not self._closed:
            self._dirty.wait()
            self._dirty.clear()
            self._sync()
            if not self._closed:
                threading.Event().wait(SYNC_INTERVAL_S)

    def _sync(self) -> None:
        try:
            os.fdatasync(self.fd)
        except OSError:  # the data is in the page cache; the next write reports the error
            pass


def write_at(syncer: SyncedFile, at: int, data: bytes, what: str, path: Path) -> None:
    """Write in place; it survives `kill -9` when this returns.

    Raises:
        DeviceLostError: It cannot be written.
    """
    try:
        if os.pwrite(syncer.fd, data, at) != len(data):  # a full disk, half-way
            raise OSError(28, "no space left on device")
    except OSError as error:
        raise DeviceLostError(
            f"{what} cannot be written: {error.strerror}", where=str(path)
        ) from error
    syncer.mark_dirty()


def replace_file(path: Path, data: bytes) -> None:
    """Write a new file and rename it over: there is the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
