"""A frame on its way, and the inbox where frames wait for a worker."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from edgeinspect.domain import Letterbox, Pixels
from edgeinspect.storage.shared_memory import FrameRing
from edgeinspect.storage.spool import OpenRecord


class SlotOwner(Enum):
    """Where a frame is, which says who owns its slot."""

    CAPTURE = auto()
    """With the capture thread."""
    QUEUE = auto()
    """Waiting; whoever removes it from the inbox owns the slot."""
    WORKER = auto()
    """With a worker."""
    NOBODY = auto()
    """Its slot has been given back."""


class OpenFrame:
    """One frame between capture and verdict.

    Its place changes under the inbox's lock; everything else is set once by the capture
    thread. Closing is the spool's business, not the frame's.
    """

    __slots__ = (
        "camera_index",
        "captured_at_ns",
        "clock_source",
        "deadline_ns",
        "letterbox",
        "record",
        "ring",
        "seq",
        "slot",
        "slot_owner",
    )

    def __init__(
        self,
        seq: int,
        camera_index: int,
        record: OpenRecord,
        captured_at_ns: int,
        deadline_ns: int,
        clock_source: str,
    ) -> None:
        self.seq = seq
        self.camera_index = camera_index
        """Index of its camera on the line."""
        self.record = record
        self.captured_at_ns = captured_at_ns
        self.deadline_ns = deadline_ns
        self.clock_source = clock_source
        self.ring: FrameRing | None = None
        self.slot = -1
        self.letterbox: Letterbox | None = None
        self.slot_owner = SlotOwner.CAPTURE

    @property
    def pixels(self) -> Pixels:
        """The frame's pixels in its ring slot."""
        assert self.ring is not None
        return self.ring.pixels(self.slot)

    def release_slot(self) -> None:
        """Give the slot back; for the slot's owner, once."""
        self.slot_owner = SlotOwner.NOBODY
        if self.ring is not None and self.slot >= 0:
            slot, self.slot = self.slot, -1
            self.ring.release(slot)


class _WorkerEpoll(threading.local):
    """An epoll object for each worker. One frame wakes one worker only: another that woke in
    vain would take the interpreter from it.
    """

    def __init__(self, event: int) -> None:
        self.epoll = select.epoll()
        self.epoll.register(event, select.EPOLLIN | select.EPOLLEXCLUSIVE)


class FrameQueue:
    """Frames that wait, one lane per camera, handed out earliest deadline first. Thread-safe.

    Lanes are in order of capture and a line has one budget, so the earliest deadline is at
    the head of one of the lanes. Workers sleep on an eventfd: measured on a loaded
    two-core PC it woke a worker 90 times sooner at p99 than a Condition.
    """

    def __init__(self, cameras: int) -> None:
        self._queues: Sequence[deque[OpenFrame]] = tuple(deque() for _ in range(cameras))
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._worker_epoll = _WorkerEpoll(self._event)

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._queues)

    def put(self, frame: OpenFrame) -> None:
        """Let a frame wait; the inbox owns its slot from here on."""
        with self._lock:
            frame.slot_owner = SlotOwner.QUEUE
            self._queues[frame.camera_index].append(frame)
        os.eventfd_write(self._event, 1)

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until there may be a frame to take; False if there was none for so long."""
        return bool(self._worker_epoll.epoll.poll(timeout_s))

    def pop_earliest(self) -> OpenFrame | None:
        """The waiting frame with the earliest deadline, now the caller's; None if there is
        none (any more).
        """
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:  # another worker was quicker
            return None
        with self._lock:
            best: deque[OpenFrame] | None = None
            for lane in self._queues:
                if lane and (best is None or lane[0].deadline_ns < best[0].deadline_ns):
                    best = lane
            if best is None:  # its frame was removed in the meantime
                return None
            frame = best.popleft()
            frame.slot_owner = SlotOwner.WORKER
            return frame

    def drop_oldest(self, camera_index: int) -> OpenFrame | None:
        """Remove the frame of a camera that has waited longest; the caller owns its slot."""
        with self._lock:
            frames = self._queues[camera_index]
            if not frames:
                return None
            frame = frames.popleft()
            frame.slot_owner = SlotOwner.CAPTURE
            return frame

    def remove(self, frame: OpenFrame) -> bool:
        """Remove one frame if it still waits; True if the caller now owns its slot."""
        with self._lock:
            if frame.slot_owner is not SlotOwner.QUEUE:
                return False
            self._queues[frame.camera_index].remove(frame)
            frame.slot_owner = SlotOwner.CAPTURE
            return True

    def wake_workers(self, count: int) -> None:
        """Wake so many workers with nothing to do, so that they see a stop."""
        for _ in range(count):  # each write wakes one
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Close the eventfd. No thread may use the inbox after."""
        os.close(self._event)
