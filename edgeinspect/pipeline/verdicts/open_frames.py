"""An open frame, and the queue in which frames wait for a worker."""

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
    """Who owns the ring slot of a frame."""

    CAPTURE = auto()
    QUEUE = auto()
    """The frame waits; the thread that removes it from the queue owns the slot."""
    WORKER = auto()
    RELEASED = auto()
    """The slot has been released."""


class OpenFrame:
    """One frame between capture and verdict.

    The owner of its slot changes under the queue's lock; everything else is set once by the
    capture thread. Whether it is closed is recorded in the spool, not here.
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
        """The pixels in the ring slot."""
        assert self.ring is not None
        return self.ring.pixels(self.slot)

    def release_slot(self) -> None:
        """Release the slot; called once, by the slot's owner."""
        self.slot_owner = SlotOwner.RELEASED
        if self.ring is not None and self.slot >= 0:
            slot, self.slot = self.slot, -1
            self.ring.release(slot)


class _WorkerEpoll(threading.local):
    """One epoll object per worker, so that a frame wakes one worker only: a second one, woken
    in vain, would take the interpreter lock from it.
    """

    def __init__(self, event: int) -> None:
        self.epoll = select.epoll()
        self.epoll.register(event, select.EPOLLIN | select.EPOLLEXCLUSIVE)


class FrameQueue:
    """Frames that wait for a worker, earliest deadline first. Thread-safe.

    There is one queue per camera, in the order of capture. A line has one budget, so the
    earliest deadline is at the head of one of them. Workers sleep on an eventfd: on a loaded
    two-core PC it woke a worker 90 times sooner at p99 than a Condition.

    Args:
        cameras: Number of cameras.
    """

    def __init__(self, cameras: int) -> None:
        self._queues: Sequence[deque[OpenFrame]] = tuple(deque() for _ in range(cameras))
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._worker_epoll = _WorkerEpoll(self._event)

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def put(self, frame: OpenFrame) -> None:
        """Add a frame; its slot belongs to the queue from here on."""
        with self._lock:
            frame.slot_owner = SlotOwner.QUEUE
            self._queues[frame.camera_index].append(frame)
        os.eventfd_write(self._event, 1)

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until there may be a frame; return False after `timeout_s` without one."""
        return bool(self._worker_epoll.epoll.poll(timeout_s))

    def pop_earliest(self) -> OpenFrame | None:
        """Remove and return the frame with the earliest deadline, or None.

        Its slot belongs to the caller, which is a worker.
        """
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:  # another worker was faster
            return None
        with self._lock:
            earliest: deque[OpenFrame] | None = None
            for queue in self._queues:
                if queue and (earliest is None or queue[0].deadline_ns < earliest[0].deadline_ns):
                    earliest = queue
            if earliest is None:  # the frame was removed in the meantime
                return None
            frame = earliest.popleft()
            frame.slot_owner = SlotOwner.WORKER
            return frame

    def drop_oldest(self, camera_index: int) -> OpenFrame | None:
        """Remove and return the oldest frame of a camera; its slot belongs to the caller."""
        with self._lock:
            frames = self._queues[camera_index]
            if not frames:
                return None
            frame = frames.popleft()
            frame.slot_owner = SlotOwner.CAPTURE
            return frame

    def remove(self, frame: OpenFrame) -> bool:
        """Remove a frame if it still waits; return True if its slot belongs to the caller."""
        with self._lock:
            if frame.slot_owner is not SlotOwner.QUEUE:
                return False
            self._queues[frame.camera_index].remove(frame)
            frame.slot_owner = SlotOwner.CAPTURE
            return True

    def wake_workers(self, count: int) -> None:
        """Wake `count` workers without a frame, so that they notice a stop or a new inspector."""
        for _ in range(count):  # each write wakes one worker
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Close the eventfd. No thread may use the queue afterwards."""
        os.close(self._event)
