"""The ear: each frame is caught once, whichever subscription is quicker, and by its own picture."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.client import Delivered, Event, Lost, Received, Renumbered
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision, Reason, Verdict
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.config import Shares
from edgeinspect.services.archiver.frame_source import Rings
from edgeinspect.services.archiver.retention_policy import classify
from edgeinspect.services.archiver.subscriber import Catcher
from edgeinspect.services.archiver.write_queue import Waiting
from edgeinspect.storage.archive.format import Kind
from edgeinspect.storage.archive.progress import Account, Why
from edgeinspect.storage.shared_memory.frame_ring import Ring
from edgeinspect.wire.messages import Heartbeat
from tests.archive_fixture import caught, config, picture, verdict

SHAPE = FrameShape(16, 32, 1)


class Line:
    """A ring with pictures in it, and two subscriptions that a test speaks on."""

    def __init__(self, folder: Path, cursor: int | None = 0, room: int = 1 << 20) -> None:
        self.folder = folder
        self.ring = self.ring_of(7)
        self._live: deque[Received | DataError] = deque()
        self._feed: deque[Event] = deque()
        self.cursor = cursor
        self.acked = 0
        self.account = Account(cursor)
        self.waiting = Waiting(room, Shares().of)
        rules = config(folder, "pass_ratio: 0")
        self.saved: set[tuple[int, int]] = set()
        self.catcher = Catcher(
            line="t",
            live=self,
            feed=Feed(self),
            rings=Rings(folder, "t"),  # type: ignore[arg-type]
            classify=lambda verdict: classify(verdict, rules),
            has=self.saved.__contains__,
            waiting=self.waiting,
            account=self.account,
            clock=ManualClock(),
        )

    def ring_of(self, epoch: int) -> Ring:
        return Ring(self.folder / "t.top.ring", 4, SHAPE, "mono", epoch)

    def receive(self, timeout_ms: int) -> Received | None:
        if not self._live:
            return None
        said = self._live.popleft()
        if isinstance(said, DataError):
            raise said
        return said

    def capture(self, seq: int, ring: Ring | None = None) -> None:
        ring = ring or self.ring
        slot = ring.take()
        assert slot is not None
        ring.pixels(slot)[:] = picture(seq)
        ring.stamp(slot, seq)
        ring.give_back(slot)

    def say(self, *said: Verdict, live: bool = True, feed: bool = True) -> None:
        for each in said:
            if live:
                self._live.append(Received("verdict", each, b""))
            if feed:
                self._feed.append(Delivered(each, b"", False))

    def tell(self, event: Event) -> None:
        self._feed.append(event)

    def nonsense(self) -> None:
        self._live.append(DataError("cannot be read"))

    def step(self) -> list[int]:
        """The seqs that wait after a turn, each with the picture of its own."""
        while self.catcher.step(0):
            pass
        seqs = []
        while (frame := self.waiting.take(0)) is not None:
            seqs.append(frame.verdict.seq)
            np.testing.assert_array_equal(frame.pixels, picture(frame.verdict.seq))
        return sorted(seqs)


class Feed:
    """The other end of `Line.say`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def cursor(self) -> int | None:
        return self._line.cursor

    def receive(self, timeout_ms: int) -> Event | None:
        return self._line._feed.popleft() if self._line._feed else None

    def ack(self, seq: int) -> None:
        self._line.acked = seq


def rejected(seq: int, **changes: object) -> Verdict:
    return verdict(seq, Decision.REJECT, **changes)


@pytest.mark.parametrize("first", ["live", "feed"])
def test_a_frame_is_caught_once_whichever_says_it_first(tmp_path: Path, first: str) -> None:
    line = Line(tmp_path)
    line.capture(1)
    line.say(rejected(1), live=first == "live", feed=first == "feed")
    assert line.step() == [1]
    line.say(rejected(1), live=first != "live", feed=first != "feed")
    assert line.step() == []
    assert (line.catcher.caught, line.acked, line.account.cursor) == (1, 1, 0)
    line.account.settled((7, 1))
    assert line.account.cursor == 1


def test_a_picture_that_is_gone_is_counted_and_not_that_of_another_frame(tmp_path: Path) -> None:
    line = Line(tmp_path)
    for seq in range(1, 7):  # four slots: 1 and 2 are overwritten
        line.capture(seq)
    line.say(*(rejected(seq) for seq in range(1, 7)))
    assert line.step() == [3, 4, 5, 6]
    assert line.account.totals == {Why.TOO_LATE: 2}


def test_a_verdict_of_another_daemon_never_gets_this_ones_picture(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.capture(1)
    old = line.ring
    line.say(rejected(1, epoch=8))
    assert line.step() == []
    assert line.account.totals == {Why.TOO_LATE: 1}
    line.capture(2, old)
    again = line.ring_of(8)
    line.capture(2, again)
    line.capture(3, again)
    # What the dead daemon left open: its memory is attached still, and has it.
    line.say(verdict(2, Decision.NO_VERDICT, reason=Reason.RESTART), rejected(3, epoch=8))
    assert line.step() == [2, 3]


def test_overrun_and_restart_without_pixels_are_no_wonder(tmp_path: Path) -> None:
    line = Line(tmp_path)
    for seq, reason in enumerate((Reason.OVERRUN, Reason.RESTART, Reason.SHAPE), 1):
        line.say(verdict(seq, Decision.NO_VERDICT, reason=reason))
    assert line.step() == []
    assert not line.account.totals
    line.say(verdict(4, Decision.NO_VERDICT, reason=Reason.DEADLINE))
    assert line.step() == []
    assert line.account.totals == {Why.TOO_LATE: 1}


def test_what_a_crash_left_saved_is_not_caught_again(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.saved.add((7, 1))
    line.capture(1)
    line.say(rejected(1))
    assert line.step() == []
    assert not line.account.totals
    assert line.account.cursor == 1


def test_memory_that_is_short_drops_the_least_useful_and_says_so(tmp_path: Path) -> None:
    line = Line(tmp_path, room=2 * caught(1).size_bytes)
    for seq in (1, 2, 3):
        line.capture(seq)
    line.say(rejected(1), rejected(2), rejected(3))
    assert line.step() == [2, 3]
    assert line.account.totals == {Why.MEMORY: 1}


def test_verdicts_that_nobody_holds_and_lines_that_count_anew(tmp_path: Path) -> None:
    line = Line(tmp_path, cursor=4)
    line.tell(Lost(5, 30))
    assert line.step() == []
    assert (line.account.totals, line.account.cursor) == ({Why.GONE: 26}, 30)
    line.tell(Renumbered(9, 0))
    line.say(verdict(1, epoch=9))
    assert line.step() == []
    assert line.account.cursor == 1


def test_nonsense_and_other_lines_are_passed_over(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.capture(1)
    line.nonsense()
    line.say(rejected(1, line="t2"), feed=False)
    beat = Heartbeat(line="t", epoch=7, last_seq=0, beat=1, utc_ns=0, period_ms=50, inspecting=True)
    line._live.append(Received("heartbeat.t", beat, b""))
    line.say(rejected(1))
    assert line.step() == [1]
    assert line.catcher.epoch == 7
    assert Kind.REJECT.rank < Kind.NEAR.rank
