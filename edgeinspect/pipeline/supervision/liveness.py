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

from edgeinspect.config.schema import LineConfig
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.pipeline.capture.camera_monitor import TURN_NS
from edgeinspect.pipeline.capture.camera_thread import Capture
from edgeinspect.pipeline.inspection.worker import Inspector
from edgeinspect.pipeline.publishing.publisher import Publisher
from edgeinspect.pipeline.publishing.replay_server import Replay
from edgeinspect.pipeline.verdicts.deadline_guard import Guard

PATIENCE_NS = 5 * NS_PER_S
"""Longest stay of a thread at one piece of work before systemd is not fed any more. A lost GPU
that comes back takes seconds."""
OPENING_NS = 60 * NS_PER_S
"""The same for a camera that is being opened or closed: their libraries wait for networks."""


@dataclass(slots=True)
class _Stay:
    """One thread's last sign, and how long ago that was."""

    turns: int = -1
    for_ns: int = 0


class Progress:
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
        captures: Sequence[Capture],
        inspectors: Sequence[Inspector],
        publisher: Publisher | None,
        guard: Guard,
        replay: Replay,
        clock: Clock,
        budget_ns: int,
        heartbeat_ns: int,
        patience_ns: int = PATIENCE_NS,
    ) -> None:
        self._captures = captures
        self._inspectors = inspectors
        self._publisher = publisher
        self._guard = guard
        self._replay = replay
        self._clock = clock
        self._patience_ns = patience_ns
        self._turning_ns = patience_ns + TURN_NS
        self._judging_ns = max(patience_ns, 2 * budget_ns, TURN_NS)
        # Until a camera is open the heartbeat says `inspecting: false` anyway.
        self._opening_ns = OPENING_NS if patience_ns >= PATIENCE_NS else PATIENCE_NS
        self._publishing_ns = patience_ns + heartbeat_ns
        # Most that one look adds to a stay: time in which we did not look ourselves (a stopped
        # process, a PC asleep, the interpreter held) is not held against the threads.
        self._step_ns = min(NS_PER_S, (patience_ns + TURN_NS) // 3)
        self._stays: dict[str, _Stay] = {}
        self._overdue = False
        self._looked_at_ns = clock.now_ns()

    def problem(self) -> str:
        """What stands still, in words; empty if the line gets on. Call it again and again."""
        now_ns = self._clock.now_ns()
        step_ns = min(now_ns - self._looked_at_ns, self._step_ns)
        self._looked_at_ns = now_ns
        found = ""
        for name, turns, limit_ns in self._threads():
            stay = self._stays.setdefault(name, _Stay())
            if turns != stay.turns or not limit_ns:
                stay.turns, stay.for_ns = turns, 0
                continue
            stay.for_ns += step_ns
            if stay.for_ns > limit_ns:
                found = found or f"{name} stands still"
        before, self._overdue = self._overdue, self._guard.overdue_ns > self._patience_ns
        if before and self._overdue:  # twice: a process that goes on closes it first
            found = found or "a frame is without a verdict long after its deadline"
        return found

    def _threads(self) -> Iterator[tuple[str, int, int]]:
        """Name, turns and patience; a patience of 0 for a thread that may stand still."""
        if self._publisher is not None:
            yield "publish", self._publisher.turns, self._publishing_ns
        yield "guard", self._guard.turns, self._turning_ns
        yield "replay", self._replay.turns, self._turning_ns
        for index, one in enumerate(self._inspectors):
            yield f"inspect-{index}", one.turns, self._judging_ns if one.working else 0
        for capture in self._captures:
            yield f"capture-{capture.rules.camera}", capture.turns, self._capturing_ns(capture)

    def _capturing_ns(self, capture: Capture) -> int:
        if capture.state in ("finished", "stopped"):
            return 0
        return self._turning_ns if capture.state == "live" else self._opening_ns


def line_progress(
    config: LineConfig,
    captures: Sequence[Capture],
    inspectors: Sequence[Inspector],
    publisher: Publisher,
    guard: Guard,
    replay: Replay,
    clock: Clock,
) -> tuple[Progress, Progress]:
    """(what the heartbeat looks at, what systemd's watchdog is fed by)."""

    def look(publisher: Publisher | None, patience_ns: int) -> Progress:
        return Progress(
            captures=captures,
            inspectors=inspectors,
            publisher=publisher,
            guard=guard,
            replay=replay,
            clock=clock,
            budget_ns=round(config.budget_ms * NS_PER_MS),
            heartbeat_ns=round(config.publish.heartbeat_ms * NS_PER_MS),
            patience_ns=patience_ns,
        )

    return look(None, round(config.capture.timeout_ms * NS_PER_MS)), look(publisher, PATIENCE_NS)
