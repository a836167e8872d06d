"""Matches the frames of a triggered camera to the parts of its triggers, also when frames are lost.

Every accepted trigger ends in exactly one frame or one loss with its part. Two facts are known
about an arriving frame: when it was exposed, so that only earlier triggers can have caused it,
and the camera's frame counter, which gives the number of frames since the last one. If there are
as many candidate triggers as frames, they are matched in order. Otherwise a trigger was ignored
(cameras do so while they are busy) or a frame was not triggered; the part of the frame is then
ambiguous, and all candidates are lost. A frame never gets a wrong part, which could eject a
good one.

A trigger that timed out already has its verdict. It is remembered, as its frame may still
arrive or show as a gap in the frame counter.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edgeinspect.domain import FRAME_NOT_RECEIVED, NO_PART, NS_PER_MS, Part

_STAMP_TOLERANCE_NS = NS_PER_MS
"""A mapped timestamp may be this much too early."""
_STEP_MAX = 1000
"""A larger step of the frame counter is a restart of the counter."""
_EXPIRED_AFTER_TIMEOUTS = 10
"""A frame later than this many timeouts is no longer expected."""
_AMBIGUOUS = "its frame is ambiguous: triggers were ignored or too close together"


@dataclass(slots=True, eq=False)
class Trigger:
    """One trigger from its request to its match."""

    part: Part
    requested_at_ns: int
    is_sent: bool = False
    """True once the camera has acknowledged it before its part expired."""


@dataclass(frozen=True, slots=True)
class LostFrame:
    """A trigger, or a frame that the camera counted, without an image."""

    part: Part
    frame_id: int
    """The frame counter that it had or would have had; 0 if unknown."""
    at_ns: int
    """When it was triggered; the arrival of the frame that revealed the loss if unknown."""
    problem: str


@dataclass(frozen=True, slots=True)
class TriggerMatch:
    """The result of matching one frame."""

    part: Part | None
    """Part of this frame; None if its trigger already has a verdict: the frame is discarded."""
    lost: tuple[LostFrame, ...] = ()
    """Losses before it, in order."""
    is_sent: bool = False
    """`Trigger.is_sent` of its trigger."""


class TriggerMatcher:
    """Pending triggers of one camera.

    `add` and `cancel` are thread-safe; the rest belongs to the capture thread.

    Args:
        timeout_ns: Longest wait for the frame of a trigger.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._lock = threading.Lock()
        self._pending: deque[Trigger] = deque()
        self._expired: deque[int] = deque(maxlen=1024)
        self._cancelled: deque[LostFrame] = deque()
        self._last_id: int | None = None
        self.unanswered_in_a_row = 0
        """Triggers that timed out since the last frame."""

    def add(self, part: Part, at_ns: int) -> Trigger:
        """Add a trigger before it is sent."""
        trigger = Trigger(part, at_ns)
        with self._lock:
            self._pending.append(trigger)
        return trigger

    def cancel(self, trigger: Trigger, problem: str) -> None:
        """Report a trigger that will not be sent as lost."""
        with self._lock:
            if trigger in self._pending:
                self._pending.remove(trigger)
                lost = LostFrame(trigger.part, 0, trigger.requested_at_ns, problem)
                self._cancelled.append(lost)

    def pop_cancelled(self) -> LostFrame | None:
        """Return the next cancelled trigger; None if there is none."""
        with self._lock:
            return self._cancelled.popleft() if self._cancelled else None

    def match(self, frame_id: int, exposed_at_ns: int, is_camera_stamp: bool) -> TriggerMatch:
        """Return the part of a frame that arrived.

        Args:
            frame_id: Frame counter of the camera, unwrapped.
            exposed_at_ns: Monotonic; the arrival if the camera gives no timestamp.
            is_camera_stamp: True if `exposed_at_ns` is the camera's timestamp.
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
            candidates = self._count_candidates(exposed_at_ns)
            if candidates == 0:
                return self._match_unexpected(frame_id, step or 1, exposed_at_ns)
            known_step = step or (None if self._expired else 1)
            if self._is_unique(known_step, candidates, is_camera_stamp):
                return self._match_unique(frame_id, step or 1, candidates)
            return self._match_ambiguous(frame_id, step or 1, candidates)

    def pop_overdue(self, now_ns: int) -> LostFrame | None:
        """Return the oldest trigger as lost if it has timed out; None otherwise."""
        with self._lock:
            if not self._pending:
                return None
            if now_ns - self._pending[0].requested_at_ns < self._timeout_ns:
                return None
            return self._expire_oldest("no frame came for the trigger")

    def due_in_ns(self, now_ns: int) -> int | None:
        """Return the time until the oldest trigger times out; None if none is pending."""
        with self._lock:
            if not self._pending:
                return None
            return max(0, self._pending[0].requested_at_ns + self._timeout_ns - now_ns)

    def cancel_all(self) -> list[LostFrame]:
        """Return all triggers as lost and reset the frame counter: the camera is gone."""
        with self._lock:
            lost = list(self._cancelled)
            self._cancelled.clear()
            while self._pending:
                lost.append(self._expire_oldest("the camera was lost before its frame came"))
            self._expired.clear()
            self._last_id = None
            self.unanswered_in_a_row = 0
            return lost

    def _expire_oldest(self, problem: str) -> LostFrame:
        trigger = self._pending.popleft()
        self._expired.append(trigger.requested_at_ns)
        self.unanswered_in_a_row += 1
        # Before the first frame the value of the camera's counter is unknown.
        frame_id = 0 if self._last_id is None else self._last_id + len(self._expired)
        return LostFrame(trigger.part, frame_id, trigger.requested_at_ns, problem)

    def _expire_old(self, now_ns: int) -> None:
        """Drop triggers whose frame will not arrive any more; they make later ones ambiguous."""
        limit_ns = _EXPIRED_AFTER_TIMEOUTS * self._timeout_ns
        while self._expired and now_ns - self._expired[0] > limit_ns:
            self._expired.popleft()

    def _count_candidates(self, exposed_at_ns: int) -> int:
        """Return how many of the oldest triggers precede the exposure."""
        count = sum(1 for trigger in self._pending if trigger.requested_at_ns <= exposed_at_ns)
        if not count and self._pending and not self._expired:
            oldest_ns = self._pending[0].requested_at_ns
            count = int(oldest_ns <= exposed_at_ns + _STAMP_TOLERANCE_NS)
        return count

    def _is_unique(self, step: int | None, candidates: int, is_camera_stamp: bool) -> bool:
        """Return True if this frame must be that of the last candidate."""
        if is_camera_stamp and candidates == 1:
            return True  # the frame of an earlier trigger would have been exposed earlier
        return step == candidates + len(self._expired)

    def _match_unexpected(self, frame_id: int, step: int, at_ns: int) -> TriggerMatch:
        """Match a frame that no pending trigger can have caused."""
        reported = min(len(self._expired), step)
        for _ in range(reported):
            self._expired.popleft()
        if reported == step:
            return TriggerMatch(None)
        missing = range(frame_id - step + 1 + reported, frame_id)
        lost = tuple(LostFrame(NO_PART, each, at_ns, FRAME_NOT_RECEIVED) for each in missing)
        return TriggerMatch(NO_PART, lost)

    def _match_unique(self, frame_id: int, step: int, candidates: int) -> TriggerMatch:
        """Match a frame to the last candidate; the candidates before it are lost."""
        untriggered = max(0, step - candidates - len(self._expired))
        self._expired.clear()
        oldest_ns = self._pending[0].requested_at_ns
        lost = [LostFrame(NO_PART, 0, oldest_ns, FRAME_NOT_RECEIVED) for _ in range(untriggered)]
        for before in range(candidates - 1, 0, -1):
            trigger = self._pending.popleft()
            frame = LostFrame(
                trigger.part, frame_id - before, trigger.requested_at_ns, FRAME_NOT_RECEIVED
            )
            lost.append(frame)
        trigger = self._pending.popleft()
        return TriggerMatch(trigger.part, tuple(lost), trigger.is_sent)

    def _match_ambiguous(self, frame_id: int, step: int, candidates: int) -> TriggerMatch:
        """Report all candidates as lost, and this frame with them."""
        expired = len(self._expired)
        lost = []
        for _ in range(candidates):
            trigger = self._pending.popleft()
            self._expired.append(trigger.requested_at_ns)
            lost.append(LostFrame(trigger.part, frame_id, trigger.requested_at_ns, _AMBIGUOUS))
        for _ in range(min(step, expired + candidates)):
            self._expired.popleft()  # their frames are this one and those before it
        untriggered = max(0, step - candidates - expired)
        lost += [LostFrame(NO_PART, 0, lost[-1].at_ns, _AMBIGUOUS) for _ in range(untriggered)]
        return TriggerMatch(None, tuple(lost))
