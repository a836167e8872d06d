"""Tracks which frames are archived or lost, and where to continue after a restart."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum

NS_PER_HOUR = 3_600_000_000_000


class LossReason(str, Enum):
    """Why a frame that should have been archived has no image."""

    TOO_LATE = "too_late"
    """Its slot in the ring was reused: the archive was slow, or was not running."""
    VERDICT_LOST = "gone"
    """Its verdict is lost too: the archiver did not run for longer than the spool covers."""
    EVICTED = "memory"
    """While it waited to be written a more useful frame needed the memory."""
    LESS_USEFUL = "room"
    """All frames in the archive are more useful."""


@dataclass(frozen=True, slots=True)
class LostFrames:
    """Frames without an image, of one hour."""

    hour_utc: int
    """Hours since 1970."""
    kind: str
    """`unknown` if not even the verdict is known."""
    reason: LossReason


class ArchiveProgress:
    """Keeps the cursor before every frame that is pending. Thread-safe.

    Losses are held here until the cursor has passed them, and are then stored with it in one
    transaction, so that a restart neither forgets one nor counts it twice.
    """

    def __init__(self, cursor: int | None) -> None:
        """Continue after seq `cursor`; None if nothing is known of the line."""
        self.totals: Counter[LossReason] = Counter()
        """Frames lost since the start of this process."""
        self._lock = threading.Lock()
        self._received = cursor
        self._pending: dict[tuple[int, int], int] = {}
        """(epoch, seq) to its generation: how often the sequence had been reset."""
        self._lost: list[tuple[int, int, LostFrames, int]] = []
        """(generation, seq, frames, count)"""
        self._generation = 0

    @property
    def cursor(self) -> int | None:
        """The seq up to which no frame is pending; None if nothing is known of the line yet."""
        with self._lock:
            return self._cursor()

    def start_at(self, seq: int) -> None:
        """Set the first cursor; later calls do nothing."""
        with self._lock:
            if self._received is None:
                self._received = seq

    def advance(self, seq: int) -> None:
        """Record that every verdict up to `seq` was received."""
        with self._lock:
            self._received = seq

    def reset_sequence(self) -> None:
        """Record that the line counts from 1 again."""
        with self._lock:
            self._generation += 1
            self._received = 0

    def mark_pending(self, key: tuple[int, int]) -> None:
        """Record a frame that was copied and is not saved yet."""
        with self._lock:
            self._pending[key] = self._generation

    def mark_done(self, key: tuple[int, int]) -> None:
        """Record that a frame was saved, or never will be."""
        with self._lock:
            self._pending.pop(key, None)

    def is_pending(self, key: tuple[int, int]) -> bool:
        """Return whether a frame was copied and is neither saved nor lost."""
        with self._lock:
            return key in self._pending

    def record_loss(
        self, seq: int, at_utc_ns: int, kind: str, reason: LossReason, count: int = 1
    ) -> None:
        """Record frames that will have no image, the last of which is `seq`."""
        with self._lock:
            self.totals[reason] += count
            frames = LostFrames(at_utc_ns // NS_PER_HOUR, kind, reason)
            self._lost.append((self._generation, seq, frames, count))

    def take_committable(self) -> tuple[int | None, Counter[LostFrames]]:
        """Return (cursor, losses up to it) to be stored together; `restore` if that fails."""
        with self._lock:
            cursor = self._cursor()
            committable: Counter[LostFrames] = Counter()
            left = []
            for entry in self._lost:
                generation, seq, frames, count = entry
                if generation < self._generation or (cursor is not None and seq <= cursor):
                    committable[frames] += count
                else:
                    left.append(entry)
            self._lost = left
            return cursor, committable

    def restore(self, committable: Counter[LostFrames]) -> None:
        """Return losses of `take_committable` that could not be stored."""
        with self._lock:
            back = [
                (self._generation - 1, 0, frames, count) for frames, count in committable.items()
            ]
            self._lost[:0] = back

    def _cursor(self) -> int | None:
        if self._received is None:
            return None
        pending = [
            seq
            for (_epoch, seq), generation in self._pending.items()
            if generation == self._generation
        ]
        return min([self._received, *(seq - 1 for seq in pending)])
