"""Which part is in which frame, for triggered cameras, when frames can be lost.

Every accepted trigger ends in exactly one of: a frame with its part, or a loss with its
part. Two things are known of an arriving frame: when it was exposed, so that only triggers
sent before can have caused it; and the camera's count, so that it is known how many frames
there were since the last. If as many triggers as frames come into question, each has its
own. If not, a trigger was ignored (cameras do that while they are busy) or a frame was
taken that nobody asked for; then nobody can know which part the frame shows, and all that
come into question are lost. A frame never gets a wrong part: that would eject one.

A trigger that was given up after a time-out is remembered, for its frame may still come, or
show as missing in the count: it has its verdict already.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edgeinspect.domain import NO_PART, NS_PER_MS, Part

_STAMP_TOLERANCE_NS = NS_PER_MS
"""How far a mapped time stamp may be early."""
_STEP_MAX = 1000
"""A larger step of the count is a restart of it."""
_EXPIRED_AFTER_TIMEOUTS = 10
"""So many times the patience, and a frame that was given up does not come any more."""
_MISSING = "the camera counted it, and it never came"
_AMBIGUOUS = "triggers were ignored or too close together: its frame cannot be told from others"
_SENT_MAX = 1024


@dataclass(frozen=True, slots=True)
class LostFrame:
    """A trigger, or a counted frame, that will never have a picture."""

    part: Part
    frame_id: int
    """The count it had or would have had; 0 if that cannot be known."""
    at_ns: int
    """When it was triggered; the arrival of the frame that showed the loss if unknown."""
    problem: str


@dataclass(frozen=True, slots=True)
class TriggerMatch:
    """What one frame's arrival says."""

    part: Part | None
    """Of this frame; None if the trigger behind it has its verdict: the frame is dropped."""
    lost: tuple[LostFrame, ...] = ()
    """Those before it, in order."""


class TriggerMatcher:
    """Pending triggers of one camera. `add` from any thread; the rest is the capture thread's.

    Args:
        patience_ns: How long a trigger may stay without a frame.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, Part]] = deque()
        self._expired: deque[int] = deque(maxlen=1024)
        self._cancelled: deque[LostFrame] = deque()
        self._sent: dict[int, Part] = {}
        self._last_id: int | None = None
        self.unanswered_in_a_row = 0
        """Triggers given up since the last frame."""

    def add(self, part: Part, at_ns: int) -> None:
        """Note a trigger, before it is sent. Thread-safe."""
        with self._lock:
            self._pending.append((at_ns, part))

    def mark_sent(self, part: Part) -> None:
        """The camera has taken this trigger before it expired. Thread-safe."""
        with self._lock:
            if len(self._sent) >= _SENT_MAX:
                self._sent.pop(next(iter(self._sent)))
            self._sent[id(part)] = part  # held, so nobody else gets its id

    def pop_sent(self, part: Part) -> bool:
        """Whether `note_sent` was called; asked once, when its frame has come."""
        with self._lock:
            return self._sent.pop(id(part), None) is not None

    def cancel(self, part: Part, problem: str) -> None:
        """This trigger was never sent, and will not be: it is lost. Thread-safe."""
        with self._lock:
            for entry in self._pending:
                if entry[1] is part:
                    self._pending.remove(entry)
                    self._cancelled.append(LostFrame(part, 0, entry[0], problem))
                    return

    def pop_cancelled(self) -> LostFrame | None:
        """The next of those withdrawn that nobody has been told of."""
        with self._lock:
            return self._cancelled.popleft() if self._cancelled else None

    def match(self, frame_id: int, exposed_at_ns: int, is_camera_stamp: bool) -> TriggerMatch:
        """Find the part of a frame that arrived.

        Args:
            frame_id: The camera's count, unwrapped.
            exposed_at_ns: Monotonic; the arrival if the camera stamps nothing.
            certain: True if `exposed_at_ns` is the camera's own stamp.
        """
        with self._lock:
            self.unanswered_in_a_row = 0
            step = None if self._last_id is None else frame_id - self._last_id
            if step is not None and -_STEP_MAX < step <= 0:
                return TriggerMatch(None)  # the same frame twice
            self._last_id = frame_id
            if step is not None and not 0 < step <= _STEP_MAX:
                step = None
            self._expire_old(exposed_at_ns)
            causes = self._count_candidates(exposed_at_ns)
            if causes == 0:
                return self._match_unexpected(frame_id, step or 1, exposed_at_ns)
            if self._is_unique(step or (None if self._expired else 1), causes, is_camera_stamp):
                return self._match_unique(frame_id, step or 1, causes)
            return self._match_ambiguous(frame_id, step or 1, causes)

    def pop_overdue(self, now_ns: int) -> LostFrame | None:
        """The oldest trigger if it has waited too long; it is given up."""
        with self._lock:
            if not self._pending or now_ns - self._pending[0][0] < self._timeout_ns:
                return None
            return self._expire_oldest("no frame came for the trigger")

    def due_in_ns(self, now_ns: int) -> int | None:
        """Time until the oldest trigger is overdue; None if none waits."""
        with self._lock:
            if not self._pending:
                return None
            return max(0, self._pending[0][0] + self._timeout_ns - now_ns)

    def cancel_all(self) -> list[LostFrame]:
        """Give up all triggers: the camera is gone. Counts begin anew."""
        with self._lock:
            lost = list(self._cancelled)
            self._cancelled.clear()
            self._sent.clear()
            while self._pending:
                lost.append(self._expire_oldest("the camera was lost before its frame came"))
            self._expired.clear()
            self._last_id = None
            self.unanswered_in_a_row = 0
            return lost

    def _expire_oldest(self, problem: str) -> LostFrame:
        at_ns, part = self._pending.popleft()
        self._expired.append(at_ns)
        self.unanswered_in_a_row += 1
        # Before the first frame nobody knows where the camera's count stands.
        known = self._last_id is not None
        frame_id = (self._last_id or 0) + len(self._expired) if known else 0
        return LostFrame(part, frame_id, at_ns, problem)

    def _expire_old(self, now_ns: int) -> None:
        """A frame that is so late will not come; to expect it makes later ones unclear."""
        while (
            self._expired and now_ns - self._expired[0] > _EXPIRED_AFTER_TIMEOUTS * self._timeout_ns
        ):
            self._expired.popleft()

    def _count_candidates(self, exposed_at_ns: int) -> int:
        """How many of the oldest triggers were sent before the exposure."""
        count = sum(1 for at_ns, _ in self._pending if at_ns <= exposed_at_ns)
        if not count and self._pending and not self._expired:
            count = int(self._pending[0][0] <= exposed_at_ns + _STAMP_TOLERANCE_NS)
        return count

    def _is_unique(self, step: int | None, candidates: int, is_camera_stamp: bool) -> bool:
        """True if this frame must be that of the last trigger in question."""
        if is_camera_stamp and candidates == 1:
            return True  # an older trigger's frame would have been exposed earlier
        return step == candidates + len(self._expired)

    def _match_unexpected(self, frame_id: int, step: int, at_ns: int) -> TriggerMatch:
        """No trigger waits that could have caused it."""
        told = min(len(self._expired), step)
        for _ in range(told):
            self._expired.popleft()
        if told == step:
            return TriggerMatch(None)
        missing = range(frame_id - step + 1 + told, frame_id)
        return TriggerMatch(
            NO_PART, tuple(LostFrame(NO_PART, one, at_ns, _MISSING) for one in missing)
        )

    def _match_unique(self, frame_id: int, step: int, candidates: int) -> TriggerMatch:
        foreign = max(0, step - candidates - len(self._expired))
        self._expired.clear()
        lost = [LostFrame(NO_PART, 0, self._pending[0][0], _MISSING) for _ in range(foreign)]
        for before in range(candidates - 1, 0, -1):
            at_ns, part = self._pending.popleft()
            lost.append(LostFrame(part, frame_id - before, at_ns, _MISSING))
        return TriggerMatch(self._pending.popleft()[1], tuple(lost))

    def _match_ambiguous(self, frame_id: int, step: int, candidates: int) -> TriggerMatch:
        """Nobody can know: everything in question is lost, and so is this frame."""
        told = len(self._expired)
        lost = []
        for _ in range(candidates):
            at_ns, part = self._pending.popleft()
            self._expired.append(at_ns)
            lost.append(LostFrame(part, frame_id, at_ns, _AMBIGUOUS))
        for _ in range(min(step, told + candidates)):
            self._expired.popleft()  # their frames are this one and those before it
        foreign = max(0, step - candidates - told)
        lost += [LostFrame(NO_PART, 0, lost[-1].at_ns, _AMBIGUOUS) for _ in range(foreign)]
        return TriggerMatch(None, tuple(lost))
