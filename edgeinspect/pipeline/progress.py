"""Does the line get on? What systemd's watchdog is fed by.

Not "is the process there": a daemon whose engine hangs gives every frame its NO_VERDICT in
time and inspects nothing, for ever. The line gets on if every frame has its verdict by its
deadline, or if nothing comes while the cameras are asked again and again; and if no thread
of the frame's path stands still at its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.pipeline.capture import Capture
from edgeinspect.pipeline.guard import Guard
from edgeinspect.pipeline.inspector import Inspector
from edgeinspect.pipeline.publish import Publisher

PATIENCE_NS = 5 * NS_PER_S
"""Longest stay of a thread at one piece of work. A lost GPU that comes back takes seconds."""
OPENING_NS = 60 * NS_PER_S
"""The same for a camera that is being opened or closed: their libraries wait for networks."""
_STEP_NS = NS_PER_S
"""Most that one look adds to a stay: time in which we did not look ourselves (a stopped
process, a PC asleep) is not held against the threads."""


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
        publisher: Of the line.
        guard: Of the line.
        clock: Measures the stays.
        budget_ns: A worker may take two of them over one frame.
        heartbeat_ns: The publisher may sleep so long.
    """

    def __init__(
        self,
        *,
        captures: Sequence[Capture],
        inspectors: Sequence[Inspector],
        publisher: Publisher,
        guard: Guard,
        clock: Clock,
        budget_ns: int,
        heartbeat_ns: int,
    ) -> None:
        self._captures = captures
        self._inspectors = inspectors
        self._publisher = publisher
        self._guard = guard
        self._clock = clock
        self._judging_ns = max(PATIENCE_NS, 2 * budget_ns)
        self._publishing_ns = PATIENCE_NS + heartbeat_ns
        self._stays: dict[str, _Stay] = {}
        self._looked_at_ns = clock.now_ns()

    def problem(self) -> str:
        """What stands still, in words; empty if the line gets on. Call it once a second."""
        now_ns = self._clock.now_ns()
        step_ns = min(now_ns - self._looked_at_ns, _STEP_NS)
        self._looked_at_ns = now_ns
        found = ""
        for name, turns, limit_ns in self._threads():
            stay = self._stays.setdefault(name, _Stay())
            if turns != stay.turns or not limit_ns:
                stay.turns, stay.for_ns = turns, 0
                continue
            stay.for_ns += step_ns
            if stay.for_ns > limit_ns:
                found = found or f"{name} stands still for {stay.for_ns // NS_PER_S} s"
        overdue_ns = self._guard.overdue_ns
        if overdue_ns > PATIENCE_NS:
            found = found or f"a frame is without a verdict {overdue_ns // NS_PER_MS} ms too long"
        return found

    def _threads(self) -> Iterator[tuple[str, int, int]]:
        """Name, turns and patience; a patience of 0 for a thread that may stand still."""
        yield "publish", self._publisher.turns, self._publishing_ns
        yield "guard", self._guard.turns, PATIENCE_NS
        for index, one in enumerate(self._inspectors):
            yield f"inspect-{index}", one.turns, self._judging_ns if one.working else 0
        for capture in self._captures:
            yield f"capture-{capture.rules.camera}", capture.turns, _patience(capture)


def _patience(capture: Capture) -> int:
    if capture.state in ("finished", "stopped"):
        return 0
    return PATIENCE_NS if capture.state == "live" else OPENING_NS
