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

from edgeinspect.domain.clock import NS_PER_S

STEP_MAX = 1000
"""A larger step, or one back, and the PLC began to count anew."""
_SETTLE_NS = 2 * NS_PER_S
"""By then a frame that was exposed has been opened, on a PC that stood still in between too."""


class TriggerAudit:
    """One camera's frames against the PLC's count of its triggers. Thread-safe."""

    def __init__(self) -> None:
        self.difference = 0
        """Triggers without a frame, at the least; negative: frames without a trigger. Begins
        anew when the PLC does."""
        self.active = False
        """True once a count has been heard; frames before are not needed."""
        self._lock = threading.Lock()
        self._frames: list[int] = []
        self._forgotten = 0
        self._heard: deque[tuple[int, int, int]] = deque(maxlen=4096)
        self._count = 0
        self._last = -1
        self._since_ns = 0
        self._base: tuple[int, int] | None = None
        """Bounds of the offset before it moved; None as long as nothing was lost."""
        self._now: tuple[int, int] | None = None

    def take_frame(self, captured_at_ns: int) -> None:
        """A frame was opened."""
        with self._lock:
            at = bisect_right(self._frames, captured_at_ns)  # its end, but for a lost frame
            self._frames.insert(at, captured_at_ns)

    def hear(self, count: int, modulo: int, within_ns: int, at_ns: int) -> None:
        """The PLC's count, read at `at_ns` and at most `within_ns` old, wrapping at `modulo`."""
        with self._lock:
            step = (count - self._last) % modulo
            if not self.active or step > STEP_MAX:
                self._begin(at_ns)
                step = 0
            self._last = count
            self._count += step
            if at_ns - within_ns >= self._since_ns:
                self._heard.append((at_ns, self._count, within_ns))

    def check(self, now_ns: int) -> str:
        """Judge what is old enough; the alarm in words, empty for none."""
        with self._lock:
            while self._heard:
                at_ns, count, within_ns = self._heard[0]
                if now_ns < at_ns + within_ns + _SETTLE_NS:
                    break
                self._heard.popleft()
                self._judge(
                    count - self._seen(at_ns + within_ns), count - self._seen(at_ns - within_ns)
                )
                self._forget(at_ns - 2 * within_ns)
            difference = self.difference
        if difference > 0:
            return f"the PLC counted {difference} more triggers than there are frames"
        if difference < 0:
            return f"there are {-difference} more frames than the PLC counted triggers"
        return ""

    def _begin(self, now_ns: int) -> None:
        self.active = True
        self.difference = 0
        self._since_ns = now_ns
        self._base = self._now = None
        self._heard.clear()

    def _judge(self, low: int, high: int) -> None:
        """Take one pair of bounds in. Where they contradict those before, the offset moved."""
        now = self._now
        if now is None:
            self._now = (low, high)
            return
        if low > now[1] or high < now[0]:
            self._base = self._base or now
            self._now = (low, high)
        else:
            self._now = (max(low, now[0]), min(high, now[1]))
        if self._base is not None:
            over, under = self._now[0] - self._base[1], self._now[1] - self._base[0]
            self.difference = max(over, 0) + min(under, 0)

    def _seen(self, until_ns: int) -> int:
        return self._forgotten + bisect_right(self._frames, until_ns)

    def _forget(self, before_ns: int) -> None:
        done = bisect_right(self._frames, before_ns)
        if done > 256:
            del self._frames[:done]
            self._forgotten += done
