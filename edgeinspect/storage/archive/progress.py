"""What became of every frame, and from where to go on after a restart."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum

NS_PER_HOUR = 3_600_000_000_000


class LossReason(str, Enum):
    """Why a frame that should have been kept has no picture."""

    TOO_LATE = "too_late"
    """Its slot in the ring had been used again: the archive was slow, or was not running."""
    VERDICT_LOST = "gone"
    """Its verdict is gone too: the archive was away for longer than the spool goes back."""
    EVICTED = "memory"
    """It waited to be written until something more useful needed the memory."""
    LESS_USEFUL = "room"
    """All that the archive holds is more useful."""


@dataclass(frozen=True, slots=True)
class LostFrames:
    """Frames without a picture, of one hour."""

    hour_utc: int
    """Hours since 1970."""
    kind: str
    """`unknown` if not even the verdict is known."""
    reason: LossReason


class ArchiveProgress:
    """Keeps the cursor behind everything that is not settled. Thread-safe.

    Losses wait here until the cursor has passed them, and are then stored with it in one
    transaction: a restart neither forgets one nor counts it twice.
    """

    def __init__(self, cursor: int | None) -> None:
        """Go on after seq `cursor`; None if nothing is known of the line."""
        self.totals: Counter[LossReason] = Counter()
        """Frames missed since the start of this process."""
        self._lock = threading.Lock()
        self._received = cursor
        self._pending: dict[tuple[int, int], int] = {}
        """(epoch, seq) to the numbering it is of."""
        self._lost: list[tuple[int, int, LostFrames, int]] = []
        """(numbering, seq, what, how many)"""
        self._generation = 0

    @property
    def cursor(self) -> int | None:
        """Everything up to it is settled; None if nothing is known of the line yet."""
        with self._lock:
            return self._cursor()

    def start_at(self, seq: int) -> None:
        """The first cursor of all; later calls do nothing."""
        with self._lock:
            if self._received is None:
                self._received = seq

    def advance(self, seq: int) -> None:
        """All up to `seq` has been looked at."""
        with self._lock:
            self._received = seq

    def reset_sequence(self) -> None:
        """The line counts from 1 again."""
        with self._lock:
            self._generation += 1
            self._received = 0

    def mark_pending(self, key: tuple[int, int]) -> None:
        """A frame was caught, and is not saved yet."""
        with self._lock:
            self._pending[key] = self._generation

    def mark_done(self, key: tuple[int, int]) -> None:
        """It is saved, or will never be."""
        with self._lock:
            self._pending.pop(key, None)

    def is_pending(self, key: tuple[int, int]) -> bool:
        """True for a frame that was caught and is not settled."""
        with self._lock:
            return key in self._pending

    def record_loss(
        self, seq: int, at_utc_ns: int, kind: str, why: LossReason, count: int = 1
    ) -> None:
        """Frames that will have no picture, the last of which is `seq`."""
        with self._lock:
            self.totals[why] += count
            what = LostFrames(at_utc_ns // NS_PER_HOUR, kind, why)
            self._lost.append((self._generation, seq, what, count))

    def take_committable(self) -> tuple[int | None, Counter[LostFrames]]:
        """(cursor, losses that it has passed), to be stored together; `give_back` if not."""
        with self._lock:
            cursor = self._cursor()
            taken: Counter[LostFrames] = Counter()
            left = []
            for entry in self._lost:
                numbering, seq, what, count = entry
                if numbering < self._generation or (cursor is not None and seq <= cursor):
                    taken[what] += count
                else:
                    left.append(entry)
            self._lost = left
            return cursor, taken

    def restore(self, taken: Counter[LostFrames]) -> None:
        """What `take` gave could not be stored."""
        with self._lock:
            back = [(self._generation - 1, 0, what, count) for what, count in taken.items()]
            self._lost[:0] = back

    def _cursor(self) -> int | None:
        if self._received is None:
            return None
        mine = [seq for (_epoch, seq), turn in self._pending.items() if turn == self._generation]
        return min([self._received, *(seq - 1 for seq in mine)])
