"""Which part is in which frame, for triggered cameras, when frames can be lost.

Every accepted trigger ends in exactly one of: a frame with its part, or a loss with its
part. The camera counts the frames it takes, so a step in its count says how many triggers
were answered by frames that never came. What the count cannot say, because no later frame
came, a time-out does; a trigger that was given up so is remembered, for the count will show
its frame as missing later, or it will still come.

When it cannot be known which part a frame shows, it has none: the part it belongs to then
has no verdict, which rejects it. A frame never gets a wrong part.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import NO_PART, Part

_TOLERANCE_NS = NS_PER_MS
"""How far a mapped time stamp may be early."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A trigger, or a counted frame, that will never have a picture."""

    part: Part
    frame_id: int
    """The count it had or would have had; 0 if that cannot be known."""
    at_ns: int
    """When it was triggered; the arrival of the frame that showed the loss if unknown."""
    problem: str


@dataclass(frozen=True, slots=True)
class Match:
    """What one frame's arrival says."""

    part: Part | None
    """Of this frame; None if its trigger was given up already: the frame is dropped."""
    lost: tuple[Lost, ...] = ()
    """Those before it, in order."""


class TriggerBook:
    """Pending triggers of one camera. `add` from any thread; the rest is the capture thread's.

    Args:
        patience_ns: How long a trigger may stay without a frame.
    """

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, Part]] = deque()
        self._given_up: deque[int] = deque(maxlen=1024)
        self._last_id: int | None = None
        self.unanswered_run = 0
        """Triggers given up since the last frame."""

    def add(self, part: Part, at_ns: int) -> None:
        """Note a trigger, before it is sent. Thread-safe."""
        with self._lock:
            self._pending.append((at_ns, part))

    def match(self, frame_id: int, exposed_at_ns: int, certain: bool) -> Match:
        """Find the part of a frame that arrived.

        Args:
            frame_id: The camera's count, unwrapped.
            exposed_at_ns: Monotonic; the arrival if the camera stamps nothing.
            certain: True if `exposed_at_ns` is the camera's own stamp.
        """
        with self._lock:
            self.unanswered_run = 0
            last, self._last_id = self._last_id, frame_id
            if last is None:
                return self._match_first(exposed_at_ns)
            if frame_id <= last:
                self._last_id = last
                return Match(None)  # the same frame twice
            steps = frame_id - last - 1
            lost = [
                gone
                for missing in range(frame_id - steps, frame_id)
                if (gone := self._miss(missing, exposed_at_ns)) is not None
            ]
            return Match(self._claim(exposed_at_ns, certain), tuple(lost))

    def overdue(self, now_ns: int) -> Lost | None:
        """The oldest trigger if it has waited too long; it is given up."""
        with self._lock:
            if not self._pending or now_ns - self._pending[0][0] < self._patience_ns:
                return None
            return self._give_up("no frame came for the trigger")

    def due_in_ns(self, now_ns: int) -> int | None:
        """Time until the oldest trigger is overdue; None if none waits."""
        with self._lock:
            if not self._pending:
                return None
            return max(0, self._pending[0][0] + self._patience_ns - now_ns)

    def abandon(self) -> list[Lost]:
        """Give up all triggers: the camera is gone. Counts begin anew."""
        with self._lock:
            lost = []
            while self._pending:
                lost.append(self._give_up("the camera was lost before its frame came"))
            self._given_up.clear()
            self._last_id = None
            self.unanswered_run = 0
            return lost

    def _match_first(self, exposed_at_ns: int) -> Match:
        """The first frame of a count that says nothing of frames before it."""
        possible = [at_ns for at_ns, _ in self._pending if at_ns <= exposed_at_ns + _TOLERANCE_NS]
        if len(possible) == 1 and not self._given_up:
            return Match(self._pending.popleft()[1])
        lost = tuple(self._give_up("it is not known which frame was its own") for _ in possible)
        self._given_up.clear()
        return Match(NO_PART, lost)

    def _give_up(self, problem: str) -> Lost:
        at_ns, part = self._pending.popleft()
        self._given_up.append(at_ns)
        self.unanswered_run += 1
        # Before the first frame nobody knows where the camera's count stands.
        known = self._last_id is not None
        frame_id = (self._last_id or 0) + len(self._given_up) if known else 0
        return Lost(part, frame_id, at_ns, problem)

    def _miss(self, frame_id: int, before_ns: int) -> Lost | None:
        """One frame that the camera counted; None if its trigger was given up already."""
        if self._given_up:
            self._given_up.popleft()
            return None
        problem = "the camera counted it, and it never came"
        if self._pending and self._pending[0][0] <= before_ns + _TOLERANCE_NS:
            at_ns, part = self._pending.popleft()
            return Lost(part, frame_id, at_ns, problem)
        return Lost(NO_PART, frame_id, before_ns, problem)

    def _claim(self, exposed_at_ns: int, certain: bool) -> Part | None:
        possible = bool(self._pending) and self._pending[0][0] <= exposed_at_ns + _TOLERANCE_NS
        if self._given_up:
            if not possible:
                self._given_up.popleft()
                return None
            if not certain:
                # Either the late answer to an old trigger, or this one's: nobody can know.
                self._given_up.popleft()
                return NO_PART
            self._given_up.clear()  # the camera never took those triggers
        if not possible:
            return NO_PART
        return self._pending.popleft()[1]
