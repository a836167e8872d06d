"""The wall clock is a stranger's word: it is watched for steps, and nothing ages by it.

A dead RTC battery, a wrong date in the firmware, a hand at `date`, a forged time server: each
moves the wall clock by years at once. What must not be deleted early or late counts the time
that has really passed, by the monotonic clock; what is stamped with wall time is marked while
the stamp cannot be trusted. Source: docs/decisions/0021-clocks-that-jump.md
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, read_utc_offset_ns

STEP_NS = 100 * NS_PER_MS
"""Wall and monotonic clock that go apart by more between two looks: a step. Slewing is none,
for it moves both alike."""
_NEVER_UTC_NS = 1_577_836_800 * NS_PER_S
"""2020: a clock that stands before was never set, as one without a battery in 1970."""
_CONFIRMED_NS = 3600 * NS_PER_S
"""How long a step is an alarm, and the least that stamps stay marked after it."""

_STA_UNSYNC = 0x40
_TIMEX_BYTES = 512
_TIMEX_STATUS = 40 if ctypes.sizeof(ctypes.c_long) == 8 else 20
"""Offset of `status` in struct timex, after modes, offset, freq, maxerror, esterror."""
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")


def is_synchronised() -> bool:
    """Whether the kernel, or systemd-timesyncd, says that the wall clock follows a server.

    A unit with ProtectClock= may not ask the kernel; where nobody tells, it is False.
    """
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only asked, nothing is set
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) >= 0:
        status = ctypes.c_int.from_buffer(timex, _TIMEX_STATUS).value
        return not status & _STA_UNSYNC
    return ctypes.get_errno() in (errno.EPERM, errno.ENOSYS) and _TIMESYNCD.exists()


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock was set."""

    by_ns: int
    """How far; negative if it was set back."""
    undone: bool
    """True if it stands again where it stood before the first step."""


class ClockStepDetector:
    """Finds steps of the wall clock. `check` is one thread's; the rest may be read by any."""

    def __init__(self, clock: Clock, synchronised: Callable[[], bool] = is_synchronised) -> None:
        self.stepped = False
        """True while stamps of wall time are not to be trusted: since the first step, until it
        is undone, or the clock has stood for an hour and is synchronised."""
        self.alarm = ""
        """The last step in words, for an hour; empty for none."""
        self._clock = clock
        self._synchronised = synchronised
        self._offset_ns = self._first_ns = read_utc_offset_ns(clock)
        self._at_ns = 0

    def begin(self, last_utc_ns: int | None) -> ClockStep | None:
        """Compare with the newest stamp of the run before; a step that is certain, or likely.

        A clock that stands before it was set back. One that stands a month after it may be
        right, but a person must say so. Without a stamp (None) only a clock is told that was
        never set.
        """
        by_ns = self._clock.utc_ns() - (_NEVER_UTC_NS if last_utc_ns is None else last_utc_ns)
        if by_ns >= -STEP_NS and (by_ns <= _OFF_MAX_NS or last_utc_ns is None):
            return None
        self.stepped, self._at_ns = True, self._clock.now_ns()
        self._first_ns = self._offset_ns - by_ns
        where = "before" if by_ns < 0 else "after"
        what = "2020: it was never set" if last_utc_ns is None else "the last verdict"
        self.alarm = f"the clock stands {_format_duration(by_ns)} {where} {what}"
        return ClockStep(by_ns, undone=False)

    def check(self) -> ClockStep | None:
        """Look now; to be called about once a second. Returns the step since the last look."""
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
        # In this order: `spans_step` of another thread must see one of both.
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
        """Whether a stamp cannot be trusted now: made before a step, or with one in force.

        Args:
            at_ns: An instant on the monotonic clock.
            at_utc_ns: Its stamp, made by the wall clock as it stood then.

        Exact between two looks too: it reads both clocks, at one instant. Allocates nothing
        that lasts.
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
    """How long what is kept has been kept: time that has really passed. One thread.

    It counts while its owner runs, by the monotonic clock. Time in which the PC was off can
    only be told by the wall clock, so it is taken on slowly: once the wall clock has been
    synchronised without a step for an hour, at most four seconds a second, at most 31 days
    a stop. So whatever the clock says, what is kept ages at most five times as fast as time
    passes; if nobody vouches for the clock, the days that the PC was on are counted alone.
    """

    def __init__(self, clock: Clock, synchronised: Callable[[], bool] = is_synchronised) -> None:
        self._clock = clock
        self._synchronised = synchronised
        self._kept_ns = self._stored_ns = 0
        self._at_ns = self._quiet_since_ns = clock.now_ns()
        self._offset_ns = read_utc_offset_ns(clock)
        self._off_ns = self._taken_ns = 0

    def resume(self, kept_ns: int, at_utc_ns: int | None) -> None:
        """Go on from what `store` gave, maybe of another process.

        Args:
            kept_ns: As stored.
            at_utc_ns: Wall time when it was stored; None if it never was.
        """
        if kept_ns == self._stored_ns and kept_ns:
            return  # our own: the file was closed and opened while we ran
        now_ns = self._clock.now_ns()
        self._kept_ns = self._stored_ns = kept_ns
        self._at_ns = self._quiet_since_ns = now_ns
        self._offset_ns = read_utc_offset_ns(self._clock)
        self._taken_ns = 0
        self._off_ns = 0 if at_utc_ns is None else now_ns + self._offset_ns - at_utc_ns

    def now_ns(self) -> int:
        """Kept time now; never goes back."""
        now_ns = self._clock.now_ns()
        passed_ns = max(0, now_ns - self._at_ns)
        offset_ns = read_utc_offset_ns(self._clock)
        by_ns, self._offset_ns, self._at_ns = offset_ns - self._offset_ns, offset_ns, now_ns
        if abs(by_ns) > STEP_NS:  # the clock at our start was wrong, or is now
            self._off_ns += by_ns
            self._quiet_since_ns = now_ns
        elif not self._synchronised():
            self._quiet_since_ns = now_ns
        self._kept_ns += passed_ns
        if now_ns - self._quiet_since_ns >= _SETTLED_NS:
            owed_ns = min(self._off_ns, _OFF_MAX_NS) - self._taken_ns
            more_ns = max(0, min(owed_ns, _OFF_RATE * passed_ns))
            self._taken_ns += more_ns
            self._kept_ns += more_ns
        return self._kept_ns

    def store(self) -> tuple[int, int]:
        """(kept time, wall time) to be stored and given to `resume` by the next process."""
        self._stored_ns = self._kept_ns
        return self._kept_ns, self._clock.utc_ns()
