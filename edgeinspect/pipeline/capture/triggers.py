"""Does each trigger that the PLC counted have a frame, and each frame a trigger?

The PLC's count is old when it arrives, and a frame is accounted for some time after its
exposure. So no single comparison can be exact while parts pass. But each count gives bounds:
with C triggers counted at t, a count at most W old, and F(x) frames exposed until x, the
constant offset between both counters lies in C - F(t + W) to C - F(t - W). The intersection
of all bounds can become empty only if a trigger had no frame or a frame no trigger. A pause of
the line makes the bounds exact; parts that follow closely never raise a false alarm.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque

from edgeinspect.domain import NS_PER_S

COUNT_STEP_MAX = 1000
"""A larger step, or one back, and the PLC began to count anew."""
_SETTLE_NS = 2 * NS_PER_S
"""By then a frame that was exposed has been opened, on a PC that stood still in between too."""


class TriggerAudit:
    """One camera's frames against the PLC's count of its triggers. Thread-safe."""

    def __init__(self) -> None:
        self.difference = 0
        """Triggers without a frame, at the least; negative: frames without a trigger. Begins
        anew when the PLC does."""
        self.is_active = False
        """True once a count has been heard; frames before are not needed."""
        self._lock = threading.Lock()
        self._exposures_ns: list[int] = []
        self._dropped_count = 0
        self._plc_counts: deque[tuple[int, int, int]] = deque(maxlen=4096)
        self._total_count = 0
        self._last_count = -1
        self._started_at_ns = 0
        self._bounds_before_loss: tuple[int, int] | None = None
        """Bounds of the offset before it moved; None as long as nothing was lost."""
        self._bounds: tuple[int, int] | None = None

    def add_frame(self, captured_at_ns: int) -> None:
        """A frame was opened."""
        with self._lock:
            at = bisect_right(self._exposures_ns, captured_at_ns)  # its end, but for a lost frame
            self._exposures_ns.insert(at, captured_at_ns)

    def add_plc_count(self, count: int, modulo: int, within_ns: int, at_ns: int) -> None:
        """The PLC's count, read at `at_ns` and at most `within_ns` old, wrapping at `modulo`."""
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
        """Judge what is old enough; the alarm in words, empty for none."""
        with self._lock:
            while self._plc_counts:
                at_ns, count, within_ns = self._plc_counts[0]
                if now_ns < at_ns + within_ns + _SETTLE_NS:
                    break
                self._plc_counts.popleft()
                self._add_bounds(
                    count - self._frames_until(at_ns + within_ns),
                    count - self._frames_until(at_ns - within_ns),
                )
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
        """Take one pair of bounds in. Where they contradict those before, the offset moved."""
        now = self._bounds
        if now is None:
            self._bounds = (low, high)
            return
        if low > now[1] or high < now[0]:
            self._bounds_before_loss = self._bounds_before_loss or now
            self._bounds = (low, high)
        else:
            self._bounds = (max(low, now[0]), min(high, now[1]))
        if self._bounds_before_loss is not None:
            over, under = (
                self._bounds[0] - self._bounds_before_loss[1],
                self._bounds[1] - self._bounds_before_loss[0],
            )
            self.difference = max(over, 0) + min(under, 0)

    def _frames_until(self, until_ns: int) -> int:
        return self._dropped_count + bisect_right(self._exposures_ns, until_ns)

    def _drop_before(self, before_ns: int) -> None:
        done = bisect_right(self._exposures_ns, before_ns)
        if done > 256:
            del self._exposures_ns[:done]
            self._dropped_count += done
