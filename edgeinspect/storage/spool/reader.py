"""Reads a running daemon's spool from another process, without locks."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.storage.shared_memory import open_line_file
from edgeinspect.storage.spool.format import (
    EPOCH_AT,
    HEADER_BYTES,
    PUBLISHED_AT,
    SLOT_BYTES,
    read_cursor,
    read_verdict,
    scan_spool,
)
from edgeinspect.system import is_same_file


class SpoolReader:
    """Reads verdicts by their seq while the daemon writes. One thread.

    A record that is being overwritten has no valid CRC, so it is never read as a verdict.
    """

    def __init__(self, path: Path) -> None:
        """Attach.

        Raises:
            DeviceLostError: There is no spool, it is of another version, or another user than
                its daemon's can write it.
        """
        self.path = path
        scan = scan_spool(path)
        if scan is None or not scan.is_valid:
            raise DeviceLostError(
                "there is no spool to read", where=str(path), remedy="Is the daemon running?"
            )
        self.slots = scan.slots
        self.last_seq = scan.last_seq
        """The newest frame when this reader attached."""
        try:
            self._fd = open_line_file(path)
        except ConfigError as error:
            raise DeviceLostError(f"is not trusted: {error}", where=str(path)) from error
        # Read, never mapped: a file that is truncated kills a process that maps it (SIGBUS).
        weakref.finalize(self, os.close, self._fd)
        status = os.fstat(self._fd)
        if status.st_size < HEADER_BYTES + self.slots * SLOT_BYTES:
            raise DeviceLostError("is being replaced: try again", where=str(path))
        self._status = status

    @property
    def is_current(self) -> bool:
        """False once another file has taken its place: attach again."""
        return is_same_file(self.path, self._status)

    @property
    def epoch(self) -> int:
        """The epoch of the daemon that has the spool; 0 if the file was truncated."""
        return read_cursor(self._fd, EPOCH_AT)

    @property
    def published_seq(self) -> int:
        """The seq up to which every verdict has been sent; 0 if the file was truncated."""
        return read_cursor(self._fd, PUBLISHED_AT)

    def read(self, seq: int) -> bytes | None:
        """Return the verdict of frame `seq` as it is sent; None if it is open or overwritten."""
        return read_verdict(self._fd, self.slots, seq)
