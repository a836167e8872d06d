"""A look into a running daemon's spool from another process. Reads only, waits for nobody."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from edgeinspect.errors import DeviceLostError
from edgeinspect.spool_format import (
    CURSOR,
    EPOCH_AT,
    HEADER_BYTES,
    PUBLISHED_AT,
    SLOT_BYTES,
    read_closed,
    scan_file,
)


class SpoolReader:
    """Reads verdicts by their seq while the daemon writes. One thread.

    A record that is being overwritten does not check, and so is never taken for a verdict.
    """

    def __init__(self, path: Path) -> None:
        """Attach.

        Raises:
            DeviceLostError: There is no spool, or it is of another version.
        """
        self.path = path
        scan = scan_file(path)
        if scan is None or not scan.sound:
            raise DeviceLostError(
                "there is no spool to read", where=str(path), remedy="Is the daemon running?"
            )
        self.slots = scan.slots
        self.last_seq = scan.last_seq
        """Newest frame when it was attached."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size < HEADER_BYTES + self.slots * SLOT_BYTES:
                raise DeviceLostError("is being made anew", where=str(path))
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file = (status.st_dev, status.st_ino)
        self._view = memoryview(self._map)

    @property
    def is_current(self) -> bool:
        """False once another file has taken its place: attach anew."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    @property
    def epoch(self) -> int:
        """Of the daemon that has the spool."""
        return int(CURSOR.unpack_from(self._map, EPOCH_AT)[0])

    @property
    def published_seq(self) -> int:
        """Every verdict up to here has been sent."""
        return int(CURSOR.unpack_from(self._map, PUBLISHED_AT)[0])

    def read(self, seq: int) -> bytes | None:
        """The verdict of frame `seq` as it is sent; None if it is open, or gone."""
        return read_closed(self._view, HEADER_BYTES + seq % self.slots * SLOT_BYTES, seq)
