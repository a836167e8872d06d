"""Files of fixed size that are written in place and synced by a thread."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from edgeinspect.errors import DeviceLostError

SYNC_INTERVAL_S = 0.1
"""Shortest time between two syncs of a file."""


class SyncedFile:
    """An open file that is written in place, and the thread that syncs it."""

    def __init__(self, path: Path, name: str) -> None:
        """Open `path`; `name` names the file in messages, and its thread.

        Raises:
            OSError: It cannot be opened.
        """
        self._path = path
        self._name = name
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._is_dirty = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, at: int, data: bytes) -> None:
        """Write at an offset; it survives `kill -9` when this returns.

        Raises:
            DeviceLostError: It cannot be written.
        """
        try:
            if os.pwrite(self._fd, data, at) != len(data):  # the disk is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise DeviceLostError(
                f"the {self._name} cannot be written: {error.strerror}", where=str(self._path)
            ) from error
        self._is_dirty.set()

    def close(self) -> None:
        """Sync and close the file; may be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_dirty.set()
        self._thread.join(timeout=2.0)
        self._sync()
        os.close(self._fd)

    def _run(self) -> None:
        while not self._is_closed:
            self._is_dirty.wait()
            self._is_dirty.clear()
            self._sync()
            if not self._is_closed:
                threading.Event().wait(SYNC_INTERVAL_S)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:  # the data is in the page cache; the next write reports the error
            pass
