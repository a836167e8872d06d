"""The deadline guard: closes every frame that has no verdict at its deadline.

It needs neither engine nor worker, so that a slow or hung inference delays no verdict.
"""

from __future__ import annotations

import heapq

from edgeinspect.domain import NS_PER_MS, Clock, Reason
from edgeinspect.pipeline.verdicts.closer import VerdictCloser
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue, OpenFrame

_IDLE_NS = 100 * NS_PER_MS


class DeadlineGuard:
    """Closes open frames at their deadline, in a thread of its own: `run`.

    Deadlines mostly come in the order of capture, since a line has one budget; but a frame that
    a camera delivers late has an earlier deadline, so the frames are a heap. `close_due` is one
    iteration of the thread, for tests on a manual clock.
    """

    def __init__(self, frame_queue: FrameQueue, closer: VerdictCloser, clock: Clock) -> None:
        self._spool = closer.spool
        self._frame_queue = frame_queue
        self._closer = closer
        self._clock = clock
        self._wake_event = clock.wake_event()
        self._frames: list[tuple[int, int, OpenFrame]] = []
        self._wakes_at_ns = 0
        self._stop = False
        self.progress_count = 0
        """Advances with each iteration of the thread, at least ten times a second."""

    def watch(self, frame: OpenFrame) -> None:
        """Add an open frame. Thread-safe."""
        # One call of a C function, as the pops: atomic under the interpreter lock.
        heapq.heappush(self._frames, (frame.deadline_ns, frame.seq, frame))
        if frame.deadline_ns < self._wakes_at_ns:
            self._wake_event.set()

    def close_due(self) -> int:
        """Close every frame whose deadline has passed; return when to call again."""
        frames = self._frames
        while frames:
            frame = frames[0][2]
            if self._spool.is_open(frame.seq):
                now_ns = self._clock.now_ns()
                if frame.deadline_ns > now_ns:
                    return frame.deadline_ns
                self._close(frame, Reason.DEADLINE)
            popped = heapq.heappop(frames)
            if popped[2] is not frame:  # an earlier deadline was added meanwhile: keep it
                heapq.heappush(frames, popped)
        return self._clock.now_ns() + _IDLE_NS

    def close_all(self, reason: Reason) -> int:
        """Close every frame that is still open, at shutdown; return how many."""
        closed = 0
        while self._frames:
            frame = heapq.heappop(self._frames)[2]
            if self._spool.is_open(frame.seq):
                closed += self._close(frame, reason)
        return closed

    def close_oldest(self, seq: int) -> None:
        """Close the open frames up to `seq` as overrun, since the spool needs their slots.

        Happens only if more frames are captured within one budget than the spool has slots.
        """
        for _deadline_ns, frame_seq, frame in tuple(self._frames):
            if frame_seq <= seq and self._spool.is_open(frame_seq):
                self._close(frame, Reason.OVERRUN, "the spool is full")

    def _close(self, frame: OpenFrame, reason: Reason, detail: str = "") -> bool:
        is_closed = self._closer.close_as_no_verdict(frame, reason, detail)
        if self._frame_queue.remove(frame):
            frame.release_slot()
        return is_closed

    @property
    def overdue_ns(self) -> int:
        """How long the earliest deadline of an open frame has passed; 0 if it has not."""
        try:
            deadline_ns, seq, _frame = self._frames[0]
        except IndexError:
            return 0
        return max(0, self._clock.now_ns() - deadline_ns) if self._spool.is_open(seq) else 0

    def run(self) -> None:
        """The thread, until `stop`."""
        while not self._stop:
            self.progress_count += 1
            # Until the wait begins, every new deadline counts as earlier, so that a frame that
            # is added meanwhile sets the wake event itself.
            self._wakes_at_ns = 1 << 62
            # At least every 100 ms, so that a distant deadline is not taken for a stall.
            wakes_at_ns = min(self.close_due(), self._clock.now_ns() + _IDLE_NS)
            self._wakes_at_ns = wakes_at_ns
            self._wake_event.wait_until(wakes_at_ns)

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop = True
        self._wake_event.set()
