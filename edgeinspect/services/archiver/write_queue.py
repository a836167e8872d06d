"""Pictures between the line's shared memory and the disk: bounded, the most useful first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgeinspect.domain import Pixels, Verdict
from edgeinspect.services.archiver.retention_policy import category_to_evict
from edgeinspect.storage.archive import Category
from edgeinspect.wire import Mask

_FRAME_OVERHEAD_BYTES = 4_096
"""What a waiting frame takes beside its pixels, roughly."""


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """One frame to be saved; it owns its pixels."""

    verdict: Verdict
    kind: Category
    pixels: Pixels
    color: str
    mask: Mask | None = None

    @property
    def key(self) -> tuple[int, int]:
        """(epoch, seq)"""
        return (self.verdict.epoch, self.verdict.seq)

    @property
    def size_bytes(self) -> int:
        """Memory it takes."""
        return self.pixels.nbytes + _FRAME_OVERHEAD_BYTES


class WriteQueue:
    """Frames that wait to be written. Thread-safe; `put` never waits."""

    def __init__(self, capacity_bytes: int, quota: Callable[[Category], float]) -> None:
        """Args:
        room_bytes: Beyond it the least useful are dropped.
        share: Of the room, by kind; see `policy.kind_to_drop`.
        """
        self._capacity_bytes = capacity_bytes
        self._quota = quota
        self._frames: dict[Category, deque[PendingFrame]] = {kind: deque() for kind in Category}
        self._sizes = dict.fromkeys(Category, 0)
        self._changed = threading.Condition()
        self._is_open = True

    def __len__(self) -> int:
        return sum(len(frames) for frames in self._frames.values())

    @property
    def size_bytes(self) -> int:
        """Memory that is taken."""
        return sum(self._sizes.values())

    def put(self, frame: PendingFrame) -> list[PendingFrame]:
        """Let a frame wait; returns what had to give way, which may be the frame itself."""
        with self._changed:
            self._frames[frame.kind].append(frame)
            self._sizes[frame.kind] += frame.size_bytes
            dropped = self._evict()
            self._changed.notify()
        return dropped

    def requeue(self, frame: PendingFrame) -> list[PendingFrame]:
        """Let a frame that could not be written be the next of its kind again."""
        with self._changed:
            self._frames[frame.kind].appendleft(frame)
            self._sizes[frame.kind] += frame.size_bytes
            return self._evict()

    def _evict(self) -> list[PendingFrame]:
        dropped = []
        while sum(self._sizes.values()) > self._capacity_bytes:
            kind = category_to_evict(self._sizes, self._quota, self._capacity_bytes)
            frame = self._frames[kind].popleft()
            self._sizes[kind] -= frame.size_bytes
            dropped.append(frame)
        return dropped

    def get(self, timeout_s: float) -> PendingFrame | None:
        """The most useful frame, the oldest of its kind; None if there is none in time."""
        with self._changed:
            self._changed.wait_for(lambda: len(self) or not self._is_open, timeout_s)
            for kind in reversed(Category):
                if self._frames[kind]:
                    frame = self._frames[kind].popleft()
                    self._sizes[kind] -= frame.size_bytes
                    return frame
        return None

    def close(self) -> None:
        """Nobody waits in `take` any more."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
