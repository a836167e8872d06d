"""The inspection worker: a thread that has waiting frames inspected."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import structlog

from edgeinspect.domain import NS_PER_S, Clock, Reason
from edgeinspect.errors import EngineFault
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector, UntimedResult
from edgeinspect.pipeline.verdicts import FrameQueue, OpenFrame, VerdictCloser
from edgeinspect.system import RateLimitedLogger, log_events

_log = structlog.get_logger()
OnInspected = Callable[[OpenFrame, UntimedResult], None]
"""Called with an inspected frame while its pixels are valid and no other frame waits."""


class InspectionWorker:
    """One worker with a frame inspector of its own. `run` is its thread.

    Only that thread may call `inspect` and `warm_up`; `set_next_inspector`, `wait_switched` and
    `stop` are thread-safe.

    Args:
        frame_queue: Of the line.
        closer: Of the line.
        inspector: The first one.
        keep_warm_ns: Run the engines after this long without a frame; 0 for never.
        on_fault: Called with each fault of an engine.
    """

    def __init__(
        self,
        *,
        frame_queue: FrameQueue,
        closer: VerdictCloser,
        inspector: FrameInspector,
        keep_warm_ns: int,
        on_fault: Callable[[EngineFault], None] = lambda fault: None,
    ) -> None:
        self.inspector = inspector
        """The current one; changes between two frames only."""
        self.is_inspecting = False
        """True while a frame is being inspected."""
        self.progress_count = 0
        """Advances with each iteration of the thread; it is stalled if it does not while
        `is_working`."""
        self.is_working = False
        """False while the thread waits for a frame."""
        self.on_inspected: OnInspected | None = None
        """Gets copies of frames for a shadow; set by the line."""
        self._frame_queue = frame_queue
        self._closer = closer
        self._spool = closer.spool
        self._keep_warm_ns = keep_warm_ns
        self._on_fault = on_fault
        self._next_inspector: FrameInspector | None = None
        self._switched = threading.Event()
        self._stop = False

    # -- from any thread ------------------------------------------------------------

    def set_next_inspector(self, inspector: FrameInspector) -> None:
        """Use `inspector` from the next frame on; wake the worker through the queue."""
        self._switched.clear()
        self._next_inspector = inspector

    def wait_switched(self, timeout_s: float) -> bool:
        """Wait until the inspector that was set last is the current one; return whether it is."""
        return self._switched.wait(timeout_s)

    def stop(self) -> None:
        """End the thread at its next iteration; wake it through the queue."""
        self._stop = True

    # -- thread ---------------------------------------------------------------------

    def run(self) -> None:
        """The thread, until `stop`."""
        timeout_s = self._keep_warm_ns / NS_PER_S if self._keep_warm_ns else None
        while not self._stop:
            self.is_working = False
            is_idle = not self._frame_queue.wait(timeout_s)
            self.progress_count += 1
            self.is_working = True
            frame = self._frame_queue.pop_earliest()
            if self._next_inspector is not None:
                self._switch_inspector()
            if frame is not None:
                self.inspect(frame)
            elif is_idle:
                self.warm_up(1)
                gc.collect(1)

    def _switch_inspector(self) -> None:
        inspector, self._next_inspector = self._next_inspector, None
        assert inspector is not None
        self.inspector = inspector
        self._switched.set()

    def warm_up(self, rounds: int) -> None:
        """Call `FrameInspector.warm_up`; a fault is reported, not raised."""
        try:
            self.inspector.warm_up(rounds)
        except EngineFault as fault:
            self._on_fault(fault)

    def inspect(self, frame: OpenFrame) -> None:
        """Inspect one frame and close it, even after a fault; release its slot."""
        self.is_inspecting = True
        try:
            if self._spool.is_open(frame.seq):
                result = self.inspector.inspect(frame, self._closer)
                if (
                    result is not None
                    and self.on_inspected is not None
                    and not len(self._frame_queue)
                ):
                    self.on_inspected(frame, result)
        except EngineFault as fault:
            self._on_fault(fault)
            self._closer.close_as_no_verdict(frame, Reason.ENGINE_ERROR, str(fault)[:400])
        finally:
            frame.release_slot()
            self.is_inspecting = False


def make_fault_logger(clock: Clock) -> Callable[[EngineFault], None]:
    """Return a logger of engine faults, at most one per second: a broken engine always fails."""
    throttled = RateLimitedLogger(_log, clock, NS_PER_S)
    return lambda fault: throttled.error(log_events.ENGINE_FAILED, problem=str(fault))
