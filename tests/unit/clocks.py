"""A clock whose reader is delayed, as on a loaded PC."""

from __future__ import annotations

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock


class PreemptedClock(ManualClock):
    """A second passes before each of the next `pauses` reads of the wall clock."""

    pauses = 0

    def utc_ns(self) -> int:
        if self.pauses:
            self.pauses -= 1
            self.advance(NS_PER_S)
        return super().utc_ns()
