"""Detects steps of the wall clock, and measures retention without relying on it.

A dead RTC battery, a wrong date in the firmware, a manual `date`, a forged time server: each
can move the wall clock by years. Retention counts elapsed time by the monotonic clock, and
wall-clock timestamps are marked while they cannot be trusted.
Source: docs/explanation/decisions/0021-wall-clock-steps.md
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, read_utc_offset_ns

STEP_NS = 100 * NS_PER_MS
"""Change of the offset between wall and monotonic clock, from check to check, that counts as a
step. Slewing does not: it moves both clocks."""
_NEVER_UTC_NS = 1_577_836_800 * NS_PER_S
"""2020: a clock with an earlier time was never set, such as one without a battery in 1970."""
_CONFIRMED_NS = 3600 * NS_PER_S
"""Duration of the alarm after a step, and minimum time that timestamps stay marked."""

_STA_UNSYNC = 0x40
_TIMEX_BYTES = 512
_TIMEX_STATUS = 40 if ctypes.sizeof(ctypes.c_long) == 8 else 20
"""Offset of `status` in struct timex, after modes, offset, freq, maxerror, esterror."""
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")


def is_synchronised() -> bool:
    """True if the kernel or systemd-timesyncd reports that the wall clock follows a server.

    With ProtectClock= the kernel does not answer; False if neither reports it.
    """
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: read only
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) >= 0:
        status = ctypes.c_int.from_buffer(timex, _TIMEX_STATUS).value
        return not status & _STA_UNSYNC
    return ctypes.get_errno() in (errno.EPERM, errno.ENOSYS) and _TIMESYNCD.exists()


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock was set."""

    by_ns: int
    """Size of the step; negative if the clock was set back."""
    undone: bool
    """True if the clock is back at its offset before the first step."""


class ClockStepDetector:
    """Detects steps of the wall clock. One thread calls `check`; any may read the rest."""

    def __init__(self, clock: Clock, synchronised: Callable[[], bool] = is_synchronised) -> None:
        self.stepped = False
        """True while timestamps are not reliable: from the first step until it is undone, or
        the clock has had no step for an hour and is synchronised."""
        self.alarm = ""
        """Text about the last step, for an hour; otherwise empty."""
        self._clock = clock
        self._synchronised = synchronised
        self._offset_ns = self._first_ns = read_utc_offset_ns(clock)
        self._at_ns = 0

    def begin(self, last_utc_ns: int | None) -> ClockStep | None:
        """Compare with the newest timestamp of the previous run; return a certain or likely step.

        A clock earlier than that was set back. One more than a month later may be right, but
        an operator must confirm it. Without a timestamp (None) only a clock that was never
        set is reported.
        """
        by_ns = self._clock.utc_ns() - (_NEVER_UTC_NS if last_utc_ns is None else last_utc_ns)
        if by_ns >= -STEP_NS and (by_ns <= _OFF_MAX_NS or last_utc_ns is None):
            return None
        self.stepped, self._at_ns = True, self._clock.now_ns()
        self._first_ns = self._offset_ns - by_ns
        where = "before" if by_ns < 0 else "after"
        what = "2020: it was never set" if last_utc_ns is None else "the last verdict"
        self.alarm = f"the clock is {_format_duration(by_ns)} {where} {what}"
        return ClockStep(by_ns, undone=False)

    def check(self) -> ClockStep | None:
        """Check now, about once a second; returns a step since the previous check."""
        now_ns = self._clock.now_ns()
        offset_ns = read_utc_offset_ns(self._clock)
        by_ns = offset_ns - self._offset_ns
        if abs(by_ns) <= STEP_NS:
            self._offset_ns = offset_ns
            self._expire(now_ns)
            return None
        if not self.stepped:
            self._first_ns = self._offset_ns
        undone = abs(offset_ns - self._first_ns) <= STEP_NS
        # In this order: `spans_step` in another thread must see at least one of the two.
        self.stepped, self._at_ns = not undone, now_ns
        self._offset_ns = offset_ns
        way = "forward" if by_ns > 0 else "back"
        self.alarm = "" if undone else f"the clock was set {way} by {_format_duration(by_ns)}"
        return ClockStep(by_ns, undone)

    def _expire(self, now_ns: int) -> None:
        if self.stepped and now_ns - self._at_ns >= _CONFIRMED_NS:
            self.alarm = ""
            self.stepped = not self._synchronised()

    def spans_step(self, at_ns: int, at_utc_ns: int) -> bool:
        """True if a timestamp is not reliable: taken before a step, or while one is unresolved.

        Args:
            at_ns: An instant on the monotonic clock.
            at_utc_ns: The wall-clock time that was read then.

        Exact between two checks too: it reads both clocks at one instant. Allocates nothing
        lasting.
        """
        if self.stepped:
            return True
        offset_ns = read_utc_offset_ns(self._clock)
        return (
            abs(offset_ns - self._offset_ns) > STEP_NS
            or abs(offset_ns - (at_utc_ns - at_ns)) > STEP_NS
        )


def _format_duration(by_ns: int) -> str:
    seconds = abs(by_ns) / NS_PER_S
    for name, size in (("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


_SETTLED_NS = 3600 * NS_PER_S
_OFF_MAX_NS = 31 * 86_400 * NS_PER_S
_OFF_RATE = 4


class RetentionClock:
    """Elapsed time for retention, independent of wall-clock steps. For one thread.

    It counts by the monotonic clock while its owner runs. Only the wall clock knows how long
    the PC was off, so that time is added slowly: after the wall clock has been synchronised
    without a step for an hour, at most four seconds per second, at most 31 days per stop.
    Whatever the clock reads, data ages at most five times as fast as time passes; without a
    synchronised clock only the time that the PC was on is counted.
    """

    def __init__(self, clock: Clock, synchronised: Callable[[], bool] = is_synchronised) -> None:
        self._clock = clock
        self._synchronised = synchronised
        self._elapsed_ns = self._stored_ns = 0
        self._at_ns = self._quiet_since_ns = clock.now_ns()
        self._offset_ns = read_utc_offset_ns(clock)
        self._off_ns = self._credited_ns = 0

    def resume(self, elapsed_ns: int, at_utc_ns: int | None) -> None:
        """Continue from what `store` returned, possibly in another process.

        Args:
            elapsed_ns: Retention time as stored.
            at_utc_ns: Wall time when it was stored; None if it was not.
        """
        if elapsed_ns == self._stored_ns and elapsed_ns:
            return  # stored by this object: the file was closed and reopened
        now_ns = self._clock.now_ns()
        self._elapsed_ns = self._stored_ns = elapsed_ns
        self._at_ns = self._quiet_since_ns = now_ns
        self._offset_ns = read_utc_offset_ns(self._clock)
        self._credited_ns = 0
        self._off_ns = 0 if at_utc_ns is None else now_ns + self._offset_ns - at_utc_ns

    def now_ns(self) -> int:
        """Return the retention time; it never decreases."""
        now_ns = self._clock.now_ns()
        passed_ns = max(0, now_ns - self._at_ns)
        offset_ns = read_utc_offset_ns(self._clock)
        by_ns, self._offset_ns, self._at_ns = offset_ns - self._offset_ns, offset_ns, now_ns
        if abs(by_ns) > STEP_NS:  # the clock was wrong at the start, or is now
            self._off_ns += by_ns
            self._quiet_since_ns = now_ns
        elif not self._synchronised():
            self._quiet_since_ns = now_ns
        self._elapsed_ns += passed_ns
        if now_ns - self._quiet_since_ns >= _SETTLED_NS:
            outstanding_ns = min(self._off_ns, _OFF_MAX_NS) - self._credited_ns
            more_ns = max(0, min(outstanding_ns, _OFF_RATE * passed_ns))
            self._credited_ns += more_ns
            self._elapsed_ns += more_ns
        return self._elapsed_ns

    def store(self) -> tuple[int, int]:
        """Return (retention time, wall time) to store; the next process passes them to `resume`."""
        self._stored_ns = self._elapsed_ns
        return self._elapsed_ns, self._clock.utc_ns()
