"""The line's verdicts, one after another, out of its spool."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.recording import MissedVerdicts
from edgeinspect.storage.spool import SpoolReader


class VerdictReader:
    """Follows a line from its next verdict on, over every restart of the daemon. One thread."""

    def __init__(self, path: Path) -> None:
        self.next_seq = 0
        """The frame whose verdict is waited for; 0 before the line was found."""
        self._path = path
        self._spool: SpoolReader | None = None

    @property
    def epoch(self) -> int:
        """Of the daemon that runs, or ran last; 0 before any was found."""
        return self._spool.epoch if self._spool is not None else 0

    def attach(self) -> bool:
        """Attach to the spool, anew where another has taken its place; False without one."""
        old = self._spool
        if old is not None and old.is_current:
            return True
        try:
            spool = SpoolReader(self._path)
        except (DeviceLostError, OSError):
            return old is not None
        if old is None or spool.last_seq < self.next_seq - 1:  # the line counts anew
            self.next_seq = spool.published_seq + 1
        self._spool = spool
        return True

    def read_next(self) -> bytes | MissedVerdicts | None:
        """The next verdict as it is sent, or what is gone before it; None for not yet."""
        spool = self._spool
        if spool is None:
            return None
        first = seq = self.next_seq
        body = spool.read(seq)
        while body is None and seq <= spool.published_seq:
            # It was sent, so it was there: unless it is there now, it was overwritten.
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
