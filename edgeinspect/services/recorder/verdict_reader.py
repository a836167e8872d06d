"""Reads the line's verdicts in order from its spool."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.recording import MissedVerdicts
from edgeinspect.storage.spool import SpoolReader


class VerdictReader:
    """Reads verdicts from the next one on, across restarts of the daemon. One thread."""

    def __init__(self, path: Path) -> None:
        self.next_seq = 0
        """The frame whose verdict comes next; 0 before a spool was found."""
        self._path = path
        self._spool: SpoolReader | None = None

    @property
    def epoch(self) -> int:
        """Epoch of the current or last daemon; 0 before a spool was found."""
        return self._spool.epoch if self._spool is not None else 0

    def attach(self) -> bool:
        """Attach to the spool, again after it was replaced; return False without one."""
        old = self._spool
        if old is not None and old.is_current:
            return True
        try:
            spool = SpoolReader(self._path)
        except (DeviceLostError, OSError):
            return old is not None
        if old is None or spool.last_seq < self.next_seq - 1:  # the sequence was reset
            self.next_seq = spool.published_seq + 1
        self._spool = spool
        return True

    def read_next(self) -> bytes | MissedVerdicts | None:
        """Return the next published verdict, or the gap before it; None if there is none yet."""
        spool = self._spool
        if spool is None:
            return None
        first = seq = self.next_seq
        body = spool.read(seq)
        while body is None and seq <= spool.published_seq:
            # It was published. If it is still absent on this second read, it was overwritten.
            body = spool.read(seq)
            if body is None:
                seq += 1
                body = spool.read(seq)
        self.next_seq = seq
        if seq > first:
            return MissedVerdicts(from_seq=first, to_seq=seq - 1)
        if body is not None:
            self.next_seq = seq + 1
        return body
