"""What became of every frame, and from where to go on after a restart."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from enum import Enum

NS_PER_HOUR = 3_600_000_000_000


class Why(str, Enum):
    """Why a frame that should have been kept has no picture."""

    TOO_LATE = "too_late"
    """Its slot in the ring had been used again: the archive was slow, or was not running."""
    GONE = "gone"
    """Its verdict is gone too: the archive was away for longer than the spool goes back."""
    MEMORY = "memory"
    """It waited to be written until something more useful needed the memory."""
    ROOM = "room"
    """All that the archive holds is more useful."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Frames without a picture, of one hour."""

    hour_utc: int
    """Hours since 1970."""
    kind: str
    """`unknown` if not even the verdict is known."""
    why: Why


class Account:
    """Keeps the cursor behind everything that is not settled. Thread-safe.

    Losses wait here until the cursor has passed them, and are then stored with it in one
    transaction: a restart neither forgets one nor counts it twice.
    """

    def __init__(self, cursor: int | None) -> None:
        """Go on after seq `cursor`; None if nothing is known of the line."""
        self.totals: Counter[Why] = Counter()
        """Frames missed since the start of this process."""
        self._lock = threading.Lock()
        self._heard = cursor
        self._open: dict[tuple[int, int], int] = {}
        """(epoch, seq) to the numbering it is of."""
        self._missed: list[tuple[int, int, Missed, int]] = []
        """(numbering, seq, what, how many)"""
        self._numbering = 0

    @property
    def cursor(self) -> int | None:
        """Everything up to it is settled; None if nothing is known of the line yet."""
        with self._lock:
            return self._cursor()

    def begin(self, seq: int) -> None:
        """The first cursor of all; later calls do nothing."""
        with self._lock:
            if self._heard is None:
                self._heard = seq

    def heard(self, seq: int) -> None:
        """All up to `seq` has been looked at."""
        with self._lock:
            self._heard = seq

    def renumbered(self) -> None:
        """The line counts from 1 again."""
        with self._lock:
            self._numbering += 1
            self._heard = 0

    def opened(self, key: tuple[int, int]) -> None:
        """A frame was caught, and is not saved yet."""
        with self._lock:
            self._open[key] = self._numbering

    def settled(self, key: tuple[int, int]) -> None:
        """It is saved, or will never be."""
        with self._lock:
            self._open.pop(key, None)

    def is_open(self, key: tuple[int, int]) -> bool:
        """True for a frame that was caught and is not settled."""
        with self._lock:
            return key in self._open

    def missed(self, seq: int, at_utc_ns: int, kind: str, why: Why, count: int = 1) -> None:
        """Frames that will have no picture, the last of which is `seq`."""
        with self._lock:
            self.totals[why] += count
            what = Missed(at_utc_ns // NS_PER_HOUR, kind, why)
            self._missed.append((self._numbering, seq, what, count))

    def take(self) -> tuple[int | None, Counter[Missed]]:
        """(cursor, losses that it has passed), to be stored together; `give_back` if not."""
        with self._lock:
            cursor = self._cursor()
            taken: Counter[Missed] = Counter()
            left = []
            for entry in self._missed:
                numbering, seq, what, count = entry
                if numbering < self._numbering or (cursor is not None and seq <= cursor):
                    taken[what] += count
                else:
                    left.append(entry)
            self._missed = left
            return cursor, taken

    def give_back(self, taken: Counter[Missed]) -> None:
        """What `take` gave could not be stored."""
        with self._lock:
            back = [(self._numbering - 1, 0, what, count) for what, count in taken.items()]
            self._missed[:0] = back

    def _cursor(self) -> int | None:
        if self._heard is None:
            return None
        mine = [seq for (_epoch, seq), turn in self._open.items() if turn == self._numbering]
        return min([self._heard, *(seq - 1 for seq in mine)])
