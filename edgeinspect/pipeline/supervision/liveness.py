"""The liveness check behind the heartbeat and systemd's watchdog.

A running process is not enough: a daemon whose engine hangs gives every frame its NO_VERDICT in
time and inspects nothing. The line is alive while every frame has its verdict by its deadline,
and no thread of the frame's path, nor that of the ROUTER, is stalled.

Each thread advances a `progress_count`. Two monitors compare the counts with those of their last
check: the publisher at each heartbeat, with `capture.timeout_ms` as limit, and the main thread,
with the watchdog's. A publisher that is stalled itself sends no heartbeat, which clients notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.pipeline.capture import POLL_TIMEOUT_NS, CaptureThread
from edgeinspect.pipeline.inspection import InspectionWorker
from edgeinspect.pipeline.publishing import Publisher, ReplayServer
from edgeinspect.pipeline.verdicts import DeadlineGuard

STALL_TIMEOUT_NS = 5 * NS_PER_S
"""How long a thread may make no progress before systemd is no longer notified. A lost GPU that
comes back takes seconds."""
CAMERA_OPEN_TIMEOUT_NS = 60 * NS_PER_S
"""The same while a camera is opened or closed: camera libraries wait for networks."""


@dataclass(frozen=True, slots=True)
class MonitoredThreads:
    """The threads of a line that must make progress."""

    capture_threads: Sequence[CaptureThread]
    workers: Sequence[InspectionWorker]
    guard: DeadlineGuard
    replay_server: ReplayServer
    publisher: Publisher | None
    """None for the publisher's own checks."""


@dataclass(slots=True)
class _ThreadState:
    """The progress of one thread at the last check, and how long it has not changed."""

    progress_count: int = -1
    stalled_ns: int = 0


class LivenessMonitor:
    """Finds a stalled thread, or a frame that is overdue. Used by one thread.

    Args:
        threads: To be checked.
        clock: Measures how long they are stalled.
        budget_ns: A worker may spend two budgets on one frame.
        heartbeat_ns: The publisher may sleep this long.
        stall_timeout_ns: How long a thread may make no progress.
    """

    def __init__(
        self,
        threads: MonitoredThreads,
        clock: Clock,
        *,
        budget_ns: int,
        heartbeat_ns: int,
        stall_timeout_ns: int = STALL_TIMEOUT_NS,
    ) -> None:
        self._monitored = threads
        self._clock = clock
        self._stall_timeout_ns = stall_timeout_ns
        self._loop_limit_ns = stall_timeout_ns + POLL_TIMEOUT_NS
        self._inspection_limit_ns = max(stall_timeout_ns, 2 * budget_ns, POLL_TIMEOUT_NS)
        # Until a camera is open the heartbeat says `inspecting: false` anyway.
        self._camera_open_limit_ns = (
            CAMERA_OPEN_TIMEOUT_NS if stall_timeout_ns >= STALL_TIMEOUT_NS else STALL_TIMEOUT_NS
        )
        self._publisher_limit_ns = stall_timeout_ns + heartbeat_ns
        # The most that one check adds: time in which this process did not run itself (stopped,
        # the PC asleep, the interpreter held) does not count against the threads.
        self._step_max_ns = min(NS_PER_S, (stall_timeout_ns + POLL_TIMEOUT_NS) // 3)
        self._states: dict[str, _ThreadState] = {}
        self._was_overdue = False
        self._checked_at_ns = clock.now_ns()

    def problem(self) -> str:
        """Return what is stalled; empty if nothing is. Call it periodically."""
        now_ns = self._clock.now_ns()
        step_ns = min(now_ns - self._checked_at_ns, self._step_max_ns)
        self._checked_at_ns = now_ns
        problem = ""
        for name, progress_count, limit_ns in self._threads():
            state = self._states.setdefault(name, _ThreadState())
            if progress_count != state.progress_count or not limit_ns:
                state.progress_count, state.stalled_ns = progress_count, 0
                continue
            state.stalled_ns += step_ns
            if state.stalled_ns > limit_ns:
                problem = problem or f"{name} stands still"
        was_overdue = self._was_overdue
        self._was_overdue = self._monitored.guard.overdue_ns > self._stall_timeout_ns
        if was_overdue and self._was_overdue:  # twice: a resumed process closes the frame first
            problem = problem or "a frame is without a verdict long after its deadline"
        return problem

    def _threads(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, progress count, limit in ns); limit 0 for a thread that may wait."""
        threads = self._monitored
        if threads.publisher is not None:
            yield "publish", threads.publisher.progress_count, self._publisher_limit_ns
        yield "guard", threads.guard.progress_count, self._loop_limit_ns
        yield "replay", threads.replay_server.progress_count, self._loop_limit_ns
        for index, worker in enumerate(threads.workers):
            limit_ns = self._inspection_limit_ns if worker.is_working else 0
            yield f"inspect-{index}", worker.progress_count, limit_ns
        for capture in threads.capture_threads:
            limit_ns = self._capture_limit_ns(capture.state)
            yield f"capture-{capture.rules.camera}", capture.progress_count, limit_ns

    def _capture_limit_ns(self, state: str) -> int:
        if state in ("finished", "stopped"):
            return 0
        return self._loop_limit_ns if state == "live" else self._camera_open_limit_ns


def make_liveness_monitors(
    config: LineConfig, threads: MonitoredThreads, clock: Clock
) -> tuple[LivenessMonitor, LivenessMonitor]:
    """Return the monitors (of the heartbeat, of systemd's watchdog)."""
    budget_ns = round(config.budget_ms * NS_PER_MS)
    heartbeat_ns = round(config.publish.heartbeat_ms * NS_PER_MS)
    heartbeat = LivenessMonitor(
        replace(threads, publisher=None),
        clock,
        budget_ns=budget_ns,
        heartbeat_ns=heartbeat_ns,
        stall_timeout_ns=round(config.capture.timeout_ms * NS_PER_MS),
    )
    watchdog = LivenessMonitor(
        threads,
        clock,
        budget_ns=budget_ns,
        heartbeat_ns=heartbeat_ns,
        stall_timeout_ns=STALL_TIMEOUT_NS,
    )
    return heartbeat, watchdog
