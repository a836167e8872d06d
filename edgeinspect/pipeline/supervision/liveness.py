"""Does the line get on? One rule, for the heartbeat and for systemd's watchdog.

Not "is the process there": a daemon whose engine hangs gives every frame its NO_VERDICT in
time and inspects nothing, for ever. The line gets on if every frame has its verdict by its
deadline, or if nothing comes while the cameras are asked again and again; and if no thread
of the frame's path, nor that of the ROUTER, stands still at its work.

Each thread moves a counter, its `turns`. Two lookers compare them with what they saw before: the
publisher at each heartbeat, with the patience of `capture.timeout_ms`, and the main thread, with
that of the watchdog. A publisher that stands still itself sends no heartbeat: that is heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.pipeline.capture import POLL_TIMEOUT_NS, CaptureThread
from edgeinspect.pipeline.inspection import InspectionWorker
from edgeinspect.pipeline.publishing import Publisher, ReplayServer
from edgeinspect.pipeline.verdicts import DeadlineGuard

STALL_TIMEOUT_NS = 5 * NS_PER_S
"""Longest stay of a thread at one piece of work before systemd is not fed any more. A lost GPU
that comes back takes seconds."""
CAMERA_OPEN_TIMEOUT_NS = 60 * NS_PER_S
"""The same for a camera that is being opened or closed: their libraries wait for networks."""


@dataclass(slots=True)
class _ThreadState:
    """One thread's last sign, and how long ago that was."""

    progress_count: int = -1
    stalled_ns: int = 0


class LivenessMonitor:
    """Looks at the threads' turns and at the oldest open frame. For one thread.

    Args:
        captures: One per camera.
        inspectors: One per worker.
        publisher: Of the line; None for the publisher's own looks.
        guard: Of the line.
        replay: The thread of the ROUTER.
        clock: Measures the stays.
        budget_ns: A worker may take two of them over one frame.
        heartbeat_ns: The publisher may sleep so long.
        patience_ns: Longest stay at one piece of work.
    """

    def __init__(
        self,
        *,
        capture_threads: Sequence[CaptureThread],
        workers: Sequence[InspectionWorker],
        publisher: Publisher | None,
        guard: DeadlineGuard,
        replay_server: ReplayServer,
        clock: Clock,
        budget_ns: int,
        heartbeat_ns: int,
        stall_timeout_ns: int = STALL_TIMEOUT_NS,
    ) -> None:
        self._capture_threads = capture_threads
        self._workers = workers
        self._publisher = publisher
        self._guard = guard
        self._replay_server = replay_server
        self._clock = clock
        self._stall_timeout_ns = stall_timeout_ns
        self._loop_limit_ns = stall_timeout_ns + POLL_TIMEOUT_NS
        self._inspection_limit_ns = max(stall_timeout_ns, 2 * budget_ns, POLL_TIMEOUT_NS)
        # Until a camera is open the heartbeat says `inspecting: false` anyway.
        self._camera_open_limit_ns = (
            CAMERA_OPEN_TIMEOUT_NS if stall_timeout_ns >= STALL_TIMEOUT_NS else STALL_TIMEOUT_NS
        )
        self._publisher_limit_ns = stall_timeout_ns + heartbeat_ns
        # Most that one look adds to a stay: time in which we did not look ourselves (a stopped
        # process, a PC asleep, the interpreter held) is not held against the threads.
        self._step_max_ns = min(NS_PER_S, (stall_timeout_ns + POLL_TIMEOUT_NS) // 3)
        self._states: dict[str, _ThreadState] = {}
        self._was_overdue = False
        self._checked_at_ns = clock.now_ns()

    def problem(self) -> str:
        """What stands still, in words; empty if the line gets on. Call it again and again."""
        now_ns = self._clock.now_ns()
        step_ns = min(now_ns - self._checked_at_ns, self._step_max_ns)
        self._checked_at_ns = now_ns
        found = ""
        for name, turns, limit_ns in self._threads():
            stay = self._states.setdefault(name, _ThreadState())
            if turns != stay.progress_count or not limit_ns:
                stay.progress_count, stay.stalled_ns = turns, 0
                continue
            stay.stalled_ns += step_ns
            if stay.stalled_ns > limit_ns:
                found = found or f"{name} stands still"
        before, self._was_overdue = (
            self._was_overdue,
            self._guard.overdue_ns > self._stall_timeout_ns,
        )
        if before and self._was_overdue:  # twice: a process that goes on closes it first
            found = found or "a frame is without a verdict long after its deadline"
        return found

    def _threads(self) -> Iterator[tuple[str, int, int]]:
        """Name, turns and patience; a patience of 0 for a thread that may stand still."""
        if self._publisher is not None:
            yield "publish", self._publisher.progress_count, self._publisher_limit_ns
        yield "guard", self._guard.progress_count, self._loop_limit_ns
        yield "replay", self._replay_server.progress_count, self._loop_limit_ns
        for index, one in enumerate(self._workers):
            yield (
                f"inspect-{index}",
                one.progress_count,
                self._inspection_limit_ns if one.is_working else 0,
            )
        for capture in self._capture_threads:
            yield (
                f"capture-{capture.rules.camera}",
                capture.progress_count,
                self._capture_limit_ns(capture),
            )

    def _capture_limit_ns(self, capture: CaptureThread) -> int:
        if capture.state in ("finished", "stopped"):
            return 0
        return self._loop_limit_ns if capture.state == "live" else self._camera_open_limit_ns


def make_liveness_monitors(
    config: LineConfig,
    capture_threads: Sequence[CaptureThread],
    workers: Sequence[InspectionWorker],
    publisher: Publisher,
    guard: DeadlineGuard,
    replay_server: ReplayServer,
    clock: Clock,
) -> tuple[LivenessMonitor, LivenessMonitor]:
    """(what the heartbeat looks at, what systemd's watchdog is fed by)."""

    def look(publisher: Publisher | None, patience_ns: int) -> LivenessMonitor:
        return LivenessMonitor(
            capture_threads=capture_threads,
            workers=workers,
            publisher=publisher,
            guard=guard,
            replay_server=replay_server,
            clock=clock,
            budget_ns=round(config.budget_ms * NS_PER_MS),
            heartbeat_ns=round(config.publish.heartbeat_ms * NS_PER_MS),
            stall_timeout_ns=patience_ns,
        )

    return look(None, round(config.capture.timeout_ms * NS_PER_MS)), look(
        publisher, STALL_TIMEOUT_NS
    )
