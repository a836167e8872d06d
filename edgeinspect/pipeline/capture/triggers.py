"""Triggers and their frames: which frame a trigger caused, and whether each has the other.

`PendingTriggers` matches a frame with the trigger that requested it, by the trigger's id.
`TriggerAudit` compares the PLC's own count of triggers with the frames of a camera. The count is
old when it arrives, and a frame is recorded some time after its exposure, so no single
comparison is exact while parts pass. But each count gives bounds: with C triggers counted at t,
a count at most W old, and F(x) frames exposed until x, the constant offset between both counters
lies in C - F(t + W) to C - F(t - W). The intersection of all bounds can become empty only if a
trigger had no frame or a frame no trigger. A pause of the line makes the bounds exact; parts
that follow closely never raise a false alarm.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_right
from collections import deque
from dataclasses import replace

from edgeinspect.domain import NS_PER_S, Part

_PENDING_MAX = 1024
COUNT_STEP_MAX = 1000
"""A larger step, or one backwards: the PLC began to count again."""
_SETTLE_NS = 2 * NS_PER_S
"""By then a frame that was exposed has been opened, even if the PC was stopped in between."""


class PendingTrigger:
    """A trigger whose frame is awaited."""

    __slots__ = ("part", "seq")

    def __init__(self, part: Part) -> None:
        self.part = part
        """With the trigger's id; the camera's grab carries the same."""
        self.seq: int | None = None
        """Of the frame; None until it was opened. Set once, by the capture thread."""


class PendingTriggers:
    """The triggers of one camera without a frame yet. Thread-safe."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._pending: dict[int, PendingTrigger] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, part: Part) -> PendingTrigger:
        """Register a trigger before it is sent; beyond 1024 the oldest is dropped."""
        if len(self._pending) >= _PENDING_MAX:
            self._pending.pop(next(iter(self._pending)), None)
        trigger_id = next(self._ids)
        pending = PendingTrigger(replace(part, trigger_id=trigger_id))
        self._pending[trigger_id] = pending
        return pending

    def resolve(self, part: Part, seq: int) -> None:
        """A frame of `part` was opened as `seq`."""
        if part.trigger_id is not None:
            pending = self._pending.pop(part.trigger_id, None)
            if pending is not None:
                pending.seq = seq

    def cancel(self, pending: PendingTrigger) -> None:
        """The camera refused the trigger."""
        if pending.part.trigger_id is not None:
            self._pending.pop(pending.part.trigger_id, None)


class TriggerAudit:
    """Compares one camera's frames with the PLC's count of its triggers. Thread-safe."""

    def __init__(self) -> None:
        self.difference = 0
        """Least number of triggers without a frame; negative: of frames without a trigger.
        Begins again when the PLC's count does."""
        self.is_active = False
        """True once a count has arrived; frames before that are not needed."""
        self._lock = threading.Lock()
        self._exposures_ns: list[int] = []
        self._dropped_count = 0
        self._plc_counts: deque[tuple[int, int, int]] = deque(maxlen=4096)
        self._total_count = 0
        self._last_count = -1
        self._started_at_ns = 0
        self._bounds_before_loss: tuple[int, int] | None = None
        """Bounds of the offset before it moved; None while nothing was lost."""
        self._bounds: tuple[int, int] | None = None

    def add_frame(self, captured_at_ns: int) -> None:
        """Add an opened frame."""
        with self._lock:
            # At the end, except for a lost frame.
            index = bisect_right(self._exposures_ns, captured_at_ns)
            self._exposures_ns.insert(index, captured_at_ns)

    def add_plc_count(self, count: int, modulo: int, within_ns: int, at_ns: int) -> None:
        """Add the PLC's count, read at `at_ns`, at most `within_ns` old, wrapping at `modulo`."""
        with self._lock:
            step = (count - self._last_count) % modulo
            if not self.is_active or step > COUNT_STEP_MAX:
                self._restart(at_ns)
                step = 0
            self._last_count = count
            self._total_count += step
            if at_ns - within_ns >= self._started_at_ns:
                self._plc_counts.append((at_ns, self._total_count, within_ns))

    def check(self, now_ns: int) -> str:
        """Evaluate the counts that are old enough; return the alarm's text, empty for none."""
        with self._lock:
            while self._plc_counts:
                at_ns, count, within_ns = self._plc_counts[0]
                if now_ns < at_ns + within_ns + _SETTLE_NS:
                    break
                self._plc_counts.popleft()
                low = count - self._frames_until(at_ns + within_ns)
                self._add_bounds(low, count - self._frames_until(at_ns - within_ns))
                self._drop_before(at_ns - 2 * within_ns)
            difference = self.difference
        if difference > 0:
            return f"the PLC counted {difference} more triggers than there are frames"
        if difference < 0:
            return f"there are {-difference} more frames than the PLC counted triggers"
        return ""

    def _restart(self, now_ns: int) -> None:
        self.is_active = True
        self.difference = 0
        self._started_at_ns = now_ns
        self._bounds_before_loss = self._bounds = None
        self._plc_counts.clear()

    def _add_bounds(self, low: int, high: int) -> None:
        """Intersect with the bounds so far; where they contradict, the offset moved."""
        bounds = self._bounds
        if bounds is None:
            self._bounds = (low, high)
            return
        if low > bounds[1] or high < bounds[0]:
            self._bounds_before_loss = self._bounds_before_loss or bounds
            self._bounds = (low, high)
        else:
            self._bounds = (max(low, bounds[0]), min(high, bounds[1]))
        before = self._bounds_before_loss
        if before is not None:
            over, under = self._bounds[0] - before[1], self._bounds[1] - before[0]
            self.difference = max(over, 0) + min(under, 0)

    def _frames_until(self, until_ns: int) -> int:
        return self._dropped_count + bisect_right(self._exposures_ns, until_ns)

    def _drop_before(self, before_ns: int) -> None:
        count = bisect_right(self._exposures_ns, before_ns)
        if count > 256:
            del self._exposures_ns[:count]
            self._dropped_count += count
