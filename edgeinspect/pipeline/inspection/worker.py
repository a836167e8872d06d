"""The inspector: a worker that has waiting frames judged, and changes its judge in between."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import structlog

from edgeinspect.domain import NS_PER_S, Clock, Reason
from edgeinspect.errors import EngineFault
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector, UntimedResult
from edgeinspect.pipeline.verdicts import FrameQueue, OpenFrame, VerdictCloser
from edgeinspect.storage.spool import Spool
from edgeinspect.system import RateLimitedLogger, log_events

_log = structlog.get_logger()
OnInspected = Callable[[OpenFrame, UntimedResult], None]
"""Told of a frame that was judged while its pixels are still there and no other waits."""


class InspectionWorker:
    """One worker with a judge of its own. `run` is its thread; only it may call `judge`.

    `offer` and `stop` are thread-safe.
    """

    def __init__(
        self,
        *,
        frame_queue: FrameQueue,
        closer: VerdictCloser,
        spool: Spool,
        inspector: FrameInspector,
        keep_warm_ns: int,
        on_fault: Callable[[EngineFault], None] = lambda fault: None,
    ) -> None:
        self.inspector = inspector
        """Who judges; changes between two frames only."""
        self.is_inspecting = False
        """True while a frame is being judged."""
        self.progress_count = 0
        """Moves on at every turn of the thread; what stands still while `working` is stuck."""
        self.is_working = False
        """True outside the wait for a frame."""
        self.on_inspected: OnInspected | None = None
        """Whoever compares; set by the line."""
        self._frame_queue = frame_queue
        self._closer = closer
        self._spool = spool
        self._keep_warm_ns = keep_warm_ns
        self._on_fault = on_fault
        self._next_inspector: FrameInspector | None = None
        self._switched = threading.Event()
        self._stop = False

    # -- from any thread ------------------------------------------------------------

    def set_next_inspector(self, inspector: FrameInspector) -> None:
        """Have `judge` judge from the next frame on; wake the worker through the inbox."""
        self._switched.clear()
        self._next_inspector = inspector

    def wait_switched(self, timeout_s: float) -> bool:
        """True once the judge that was offered last is the current one."""
        return self._switched.wait(timeout_s)

    def stop(self) -> None:
        """End the thread at its next turn; wake it through the inbox."""
        self._stop = True

    # -- thread ---------------------------------------------------------------------

    def run(self) -> None:
        """The worker's thread, until `stop`."""
        timeout_s = self._keep_warm_ns / NS_PER_S if self._keep_warm_ns else None
        while not self._stop:
            self.is_working = False
            idle = not self._frame_queue.wait(timeout_s)
            self.progress_count += 1
            self.is_working = True
            frame = self._frame_queue.pop_earliest()
            if self._next_inspector is not None:
                self._switch_inspector()
            if frame is not None:
                self.inspect(frame)
            elif idle:
                self.warm_up(1)
                gc.collect(1)

    def _switch_inspector(self) -> None:
        judge, self._next_inspector = self._next_inspector, None
        assert judge is not None
        self.inspector = judge
        self._switched.set()

    def warm_up(self, rounds: int) -> None:
        """As `Judge.warm_up`; a fault is told, not raised."""
        try:
            self.inspector.warm_up(rounds)
        except EngineFault as fault:
            self._on_fault(fault)

    def inspect(self, frame: OpenFrame) -> None:
        """Judge one frame and close it, whatever happens; gives its slot back."""
        self.is_inspecting = True
        try:
            if self._spool.is_open(frame.seq):
                opinion = self.inspector.inspect(frame, self._closer)
                if (
                    opinion is not None
                    and self.on_inspected is not None
                    and not len(self._frame_queue)
                ):
                    self.on_inspected(frame, opinion)
        except EngineFault as fault:
            self._on_fault(fault)
            self._closer.close_as_no_verdict(frame, Reason.ENGINE_ERROR, str(fault)[:400])
        finally:
            frame.release_slot()
            self.is_inspecting = False


def make_fault_logger(clock: Clock) -> Callable[[EngineFault], None]:
    """Logs engine faults, at most one a second: a broken engine fails on every frame."""
    limited = RateLimitedLogger(_log, clock, NS_PER_S)
    return lambda fault: limited.error(log_events.ENGINE_FAILED, problem=str(fault))
