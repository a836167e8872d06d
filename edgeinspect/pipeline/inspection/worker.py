"""The inspector: a worker that has waiting frames judged, and changes its judge in between."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import structlog

from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Reason
from edgeinspect.errors import EngineFault
from edgeinspect.pipeline.inspection.frame_inspector import Judge, Opinion
from edgeinspect.pipeline.verdicts.closer import Closer
from edgeinspect.pipeline.verdicts.open_frames import Inbox, OpenFrame
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited

_log = structlog.get_logger()
Show = Callable[[OpenFrame, Opinion], None]
"""Told of a frame that was judged while its pixels are still there and no other waits."""


class Inspector:
    """One worker with a judge of its own. `run` is its thread; only it may call `judge`.

    `offer` and `stop` are thread-safe.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        closer: Closer,
        spool: Spool,
        judge: Judge,
        keep_warm_ns: int,
        on_fault: Callable[[EngineFault], None] = lambda fault: None,
    ) -> None:
        self.current = judge
        """Who judges; changes between two frames only."""
        self.busy = False
        """True while a frame is being judged."""
        self.turns = 0
        """Moves on at every turn of the thread; what stands still while `working` is stuck."""
        self.working = False
        """True outside the wait for a frame."""
        self.show: Show | None = None
        """Whoever compares; set by the line."""
        self._inbox = inbox
        self._closer = closer
        self._spool = spool
        self._keep_warm_ns = keep_warm_ns
        self._on_fault = on_fault
        self._next: Judge | None = None
        self._adopted = threading.Event()
        self._stop = False

    # -- from any thread ------------------------------------------------------------

    def offer(self, judge: Judge) -> None:
        """Have `judge` judge from the next frame on; wake the worker through the inbox."""
        self._adopted.clear()
        self._next = judge

    def wait_adopted(self, timeout_s: float) -> bool:
        """True once the judge that was offered last is the current one."""
        return self._adopted.wait(timeout_s)

    def stop(self) -> None:
        """End the thread at its next turn; wake it through the inbox."""
        self._stop = True

    # -- thread ---------------------------------------------------------------------

    def run(self) -> None:
        """The worker's thread, until `stop`."""
        timeout_s = self._keep_warm_ns / NS_PER_S if self._keep_warm_ns else None
        while not self._stop:
            self.working = False
            idle = not self._inbox.wait(timeout_s)
            self.turns += 1
            self.working = True
            frame = self._inbox.take()
            if self._next is not None:
                self._adopt()
            if frame is not None:
                self.judge(frame)
            elif idle:
                self.warm_up(1)
                gc.collect(1)

    def _adopt(self) -> None:
        judge, self._next = self._next, None
        assert judge is not None
        self.current = judge
        self._adopted.set()

    def warm_up(self, rounds: int) -> None:
        """As `Judge.warm_up`; a fault is told, not raised."""
        try:
            self.current.warm_up(rounds)
        except EngineFault as fault:
            self._on_fault(fault)

    def judge(self, frame: OpenFrame) -> None:
        """Judge one frame and close it, whatever happens; gives its slot back."""
        self.busy = True
        try:
            if self._spool.is_open(frame.seq):
                opinion = self.current.judge(frame, self._closer)
                if opinion is not None and self.show is not None and not len(self._inbox):
                    self.show(frame, opinion)
        except EngineFault as fault:
            self._on_fault(fault)
            self._closer.close_without(frame, Reason.ENGINE_ERROR, str(fault)[:400])
        finally:
            frame.free_slot()
            self.busy = False


def fault_log(clock: Clock) -> Callable[[EngineFault], None]:
    """Logs engine faults, at most one a second: a broken engine fails on every frame."""
    limited = RateLimited(_log, clock, NS_PER_S)
    return lambda fault: limited.error(log_events.ENGINE_FAILED, problem=str(fault))
