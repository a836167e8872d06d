"""Pictures between the line's shared memory and the disk: bounded, the most useful first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.verdict import Verdict
from edgeinspect.services.archiver.retention_policy import kind_to_drop
from edgeinspect.storage.archive.format import Kind
from edgeinspect.wire.messages import Mask

_OVERHEAD_BYTES = 4_096
"""What a waiting frame takes beside its pixels, roughly."""


@dataclass(frozen=True, slots=True)
class Caught:
    """One frame to be saved; it owns its pixels."""

    verdict: Verdict
    kind: Kind
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
        return self.pixels.nbytes + _OVERHEAD_BYTES


class Waiting:
    """Frames that wait to be written. Thread-safe; `put` never waits."""

    def __init__(self, room_bytes: int, share: Callable[[Kind], float]) -> None:
        """Args:
        room_bytes: Beyond it the least useful are dropped.
        share: Of the room, by kind; see `policy.kind_to_drop`.
        """
        self._room_bytes = room_bytes
        self._share = share
        self._frames: dict[Kind, deque[Caught]] = {kind: deque() for kind in Kind}
        self._sizes = dict.fromkeys(Kind, 0)
        self._changed = threading.Condition()
        self._open = True

    def __len__(self) -> int:
        return sum(len(frames) for frames in self._frames.values())

    @property
    def size_bytes(self) -> int:
        """Memory that is taken."""
        return sum(self._sizes.values())

    def put(self, frame: Caught) -> list[Caught]:
        """Let a frame wait; returns what had to give way, which may be the frame itself."""
        with self._changed:
            self._frames[frame.kind].append(frame)
            self._sizes[frame.kind] += frame.size_bytes
            dropped = self._shrink()
            self._changed.notify()
        return dropped

    def put_back(self, frame: Caught) -> list[Caught]:
        """Let a frame that could not be written be the next of its kind again."""
        with self._changed:
            self._frames[frame.kind].appendleft(frame)
            self._sizes[frame.kind] += frame.size_bytes
            return self._shrink()

    def _shrink(self) -> list[Caught]:
        dropped = []
        while sum(self._sizes.values()) > self._room_bytes:
            kind = kind_to_drop(self._sizes, self._share, self._room_bytes)
            frame = self._frames[kind].popleft()
            self._sizes[kind] -= frame.size_bytes
            dropped.append(frame)
        return dropped

    def take(self, timeout_s: float) -> Caught | None:
        """The most useful frame, the oldest of its kind; None if there is none in time."""
        with self._changed:
            self._changed.wait_for(lambda: len(self) or not self._open, timeout_s)
            for kind in reversed(Kind):
                if self._frames[kind]:
                    frame = self._frames[kind].popleft()
                    self._sizes[kind] -= frame.size_bytes
                    return frame
        return None

    def close(self) -> None:
        """Nobody waits in `take` any more."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
