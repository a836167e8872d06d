"""The deadline guard: closes what nobody judged in time. Inference never owns the deadline."""

from __future__ import annotations

import heapq

from edgeinspect.domain import NS_PER_MS, Clock, Reason
from edgeinspect.pipeline.verdicts.closer import VerdictCloser
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue, OpenFrame
from edgeinspect.storage.spool import Spool

_IDLE_NS = 100 * NS_PER_MS


class DeadlineGuard:
    """Watches every open frame's deadline, in a thread of its own.

    Deadlines mostly come in the order of capture, since a line has one budget; but a camera
    that delivers late has the earlier deadline, so the frames are a heap. `watch` may be
    called from any capture thread; `run` is the guard's thread; `step` is the same work,
    once, for a test's manual clock.
    """

    def __init__(
        self, spool: Spool, frame_queue: FrameQueue, closer: VerdictCloser, clock: Clock
    ) -> None:
        self._spool = spool
        self._frame_queue = frame_queue
        self._closer = closer
        self._clock = clock
        self._wake_event = clock.wake_event()
        self._frames: list[tuple[int, int, OpenFrame]] = []
        self._wakes_at_ns = 0
        self._stop = False
        self.progress_count = 0
        """Moves on at every turn of the thread, ten times a second at the least."""

    def watch(self, frame: OpenFrame) -> None:
        """Guard one open frame. Thread-safe."""
        # One call of a C function: no other thread comes between (so do the pops).
        heapq.heappush(self._frames, (frame.deadline_ns, frame.seq, frame))
        if frame.deadline_ns < self._wakes_at_ns:
            self._wake_event.set()

    def close_due(self) -> int:
        """Close every frame whose deadline has come; returns the next instant to look."""
        frames = self._frames
        while frames:
            frame = frames[0][2]
            if self._spool.is_open(frame.seq):
                now_ns = self._clock.now_ns()
                if frame.deadline_ns > now_ns:
                    return frame.deadline_ns
                self._closer.close_as_no_verdict(frame, Reason.DEADLINE)
                if self._frame_queue.remove(frame):
                    frame.release_slot()
            popped = heapq.heappop(frames)
            if popped[2] is not frame:  # an earlier deadline came in between: keep it
                heapq.heappush(frames, popped)
        return self._clock.now_ns() + _IDLE_NS

    def close_all(self, reason: Reason) -> int:
        """Close every frame that is still open, at shutdown; returns how many there were."""
        closed = 0
        while self._frames:
            frame = heapq.heappop(self._frames)[2]
            if self._spool.is_open(frame.seq):
                closed += self._closer.close_as_no_verdict(frame, reason)
                if self._frame_queue.remove(frame):
                    frame.release_slot()
        return closed

    def close_oldest(self, seq: int) -> None:
        """Close the oldest open frame, up to `seq`, as overrun: the spool needs its slot.

        Reached only if more frames are captured within one budget than the spool has slots.
        """
        for _deadline, number, frame in tuple(self._frames):
            if number <= seq and self._spool.is_open(number):
                self._closer.close_as_no_verdict(frame, Reason.OVERRUN, "the spool is full")
                if self._frame_queue.remove(frame):
                    frame.release_slot()

    @property
    def overdue_ns(self) -> int:
        """How long ago the deadline came of a frame that has no verdict; 0 if there is none."""
        try:
            deadline_ns, seq, _frame = self._frames[0]
        except IndexError:
            return 0
        return max(0, self._clock.now_ns() - deadline_ns) if self._spool.is_open(seq) else 0

    @property
    def open_frame_count(self) -> int:
        """Frames not yet seen closed; at most a few too many."""
        return len(self._frames)

    def run(self) -> None:
        """The guard's thread, until `stop`."""
        while not self._stop:
            self.progress_count += 1
            # A frame that arrives while we compute is caught by its own ring of the alarm:
            # until the wait begins, every new deadline counts as earlier.
            self._wakes_at_ns = 1 << 62
            # No later than an idle turn, so that a deadline far away is not taken for a stop.
            wakes_at_ns = min(self.close_due(), self._clock.now_ns() + _IDLE_NS)
            self._wakes_at_ns = wakes_at_ns
            self._wake_event.wait_until(wakes_at_ns)

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop = True
        self._wake_event.set()
