"""A bounded queue of frames that wait to be written, the most useful first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgeinspect.domain import Pixels, Verdict
from edgeinspect.services.archiver.retention_policy import category_to_evict
from edgeinspect.storage.archive import ArchiveCategory
from edgeinspect.wire import Mask

_FRAME_OVERHEAD_BYTES = 4_096
"""Approximate memory of a frame besides its pixels."""


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame to be saved; owns its pixels."""

    verdict: Verdict
    kind: ArchiveCategory
    pixels: Pixels
    color: str
    mask: Mask | None = None

    @property
    def key(self) -> tuple[int, int]:
        """(epoch, seq)"""
        return (self.verdict.epoch, self.verdict.seq)

    @property
    def size_bytes(self) -> int:
        """Memory in use."""
        return self.pixels.nbytes + _FRAME_OVERHEAD_BYTES


class WriteQueue:
    """Frames that wait to be written. Thread-safe; `put` never waits."""

    def __init__(self, capacity_bytes: int, quota: Callable[[ArchiveCategory], float]) -> None:
        """Args:
        capacity_bytes: Beyond it the least useful frames are evicted.
        quota: Reserved share by category; see `retention_policy.category_to_evict`.
        """
        self._capacity_bytes = capacity_bytes
        self._quota = quota
        self._frames: dict[ArchiveCategory, deque[PendingFrame]] = {
            kind: deque() for kind in ArchiveCategory
        }
        self._sizes = dict.fromkeys(ArchiveCategory, 0)
        self._changed = threading.Condition()
        self._is_open = True

    def __len__(self) -> int:
        return sum(len(frames) for frames in self._frames.values())

    @property
    def size_bytes(self) -> int:
        """Memory in use."""
        return sum(self._sizes.values())

    def put(self, frame: PendingFrame) -> list[PendingFrame]:
        """Add a frame; return the evicted frames, which may include it."""
        with self._changed:
            self._frames[frame.kind].append(frame)
            self._sizes[frame.kind] += frame.size_bytes
            evicted = self._evict()
            self._changed.notify()
        return evicted

    def requeue(self, frame: PendingFrame) -> list[PendingFrame]:
        """Put a frame that could not be written back in front; return the evicted frames."""
        with self._changed:
            self._frames[frame.kind].appendleft(frame)
            self._sizes[frame.kind] += frame.size_bytes
            return self._evict()

    def _evict(self) -> list[PendingFrame]:
        evicted = []
        while sum(self._sizes.values()) > self._capacity_bytes:
            kind = category_to_evict(self._sizes, self._quota, self._capacity_bytes)
            frame = self._frames[kind].popleft()
            self._sizes[kind] -= frame.size_bytes
            evicted.append(frame)
        return evicted

    def get(self, timeout_s: float) -> PendingFrame | None:
        """Remove and return the oldest frame of the most useful category; None on timeout."""
        with self._changed:
            self._changed.wait_for(lambda: len(self) or not self._is_open, timeout_s)
            for kind in reversed(ArchiveCategory):
                if self._frames[kind]:
                    frame = self._frames[kind].popleft()
                    self._sizes[kind] -= frame.size_bytes
                    return frame
        return None

    def close(self) -> None:
        """Wake all threads in `get`; later calls return at once."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
