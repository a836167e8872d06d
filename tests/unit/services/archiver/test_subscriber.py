"""The subscriber: each frame is copied once, with its own pixels, by the faster subscription."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.client import (
    FeedEvent,
    ReceivedMessage,
    SequenceReset,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision, Reason, Verdict
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.config import ArchiveQuotas
from edgeinspect.services.archiver.frame_source import FrameSource
from edgeinspect.services.archiver.retention_policy import classify
from edgeinspect.services.archiver.subscriber import ArchiveSubscriber
from edgeinspect.services.archiver.write_queue import WriteQueue
from edgeinspect.storage.archive.format import ArchiveCategory
from edgeinspect.storage.archive.progress import ArchiveProgress, LossReason
from edgeinspect.storage.shared_memory.frame_ring import FrameRing
from edgeinspect.wire.messages import Heartbeat
from tests.archive_fixture import config, noise_image, pending_frame, verdict

SHAPE = FrameShape(16, 32, 1)


class ScriptedLine:
    """A ring with frames, and two subscriptions whose messages the test queues."""

    def __init__(self, folder: Path, cursor: int | None = 0, room: int = 1 << 20) -> None:
        self.folder = folder
        self.ring = self.ring_of(7)
        self._live: deque[ReceivedMessage | DataError] = deque()
        self._feed: deque[FeedEvent] = deque()
        self.cursor = cursor
        self.acked = 0
        self.account = ArchiveProgress(cursor)
        self.waiting = WriteQueue(room, ArchiveQuotas().quota_of)
        rules = config(folder, "pass_ratio: 0")
        self.saved: set[tuple[int, int]] = set()
        self.catcher = ArchiveSubscriber(
            line="t",
            live=self,
            feed=ScriptedFeed(self),
            frame_source=FrameSource(folder, "t"),  # type: ignore[arg-type]
            classify=lambda verdict: classify(verdict, rules),
            is_saved=self.saved.__contains__,
            write_queue=self.waiting,
            progress=self.account,
            clock=ManualClock(),
        )

    def ring_of(self, epoch: int) -> FrameRing:
        return FrameRing(self.folder / "t.top.ring", 4, SHAPE, "mono", epoch)

    def receive(self, timeout_ms: int) -> ReceivedMessage | None:
        if not self._live:
            return None
        said = self._live.popleft()
        if isinstance(said, DataError):
            raise said
        return said

    def capture(self, seq: int, ring: FrameRing | None = None) -> None:
        ring = ring or self.ring
        slot = ring.acquire()
        assert slot is not None
        ring.pixels(slot)[:] = noise_image(seq)
        ring.publish(slot, seq)
        ring.release(slot)

    def queue_live(self, *verdicts: Verdict, live: bool = True, feed: bool = True) -> None:
        for each in verdicts:
            if live:
                self._live.append(ReceivedMessage("verdict", each, b""))
            if feed:
                self._feed.append(VerdictReceived(each, b"", False))

    def queue_event(self, event: FeedEvent) -> None:
        self._feed.append(event)

    def queue_invalid(self) -> None:
        self._live.append(DataError("cannot be read"))

    def step(self) -> list[int]:
        """Return the seqs in the write queue after one step; each has its own pixels."""
        while self.catcher.step(0):
            pass
        seqs = []
        while (frame := self.waiting.get(0)) is not None:
            seqs.append(frame.verdict.seq)
            np.testing.assert_array_equal(frame.pixels, noise_image(frame.verdict.seq))
        return sorted(seqs)


class ScriptedFeed:
    """The feed that `ScriptedLine.queue_event` fills."""

    def __init__(self, line: ScriptedLine) -> None:
        self._line = line

    @property
    def cursor(self) -> int | None:
        return self._line.cursor

    def receive(self, timeout_ms: int) -> FeedEvent | None:
        return self._line._feed.popleft() if self._line._feed else None

    def ack(self, seq: int) -> None:
        self._line.acked = seq


def rejected_verdict(seq: int, **changes: object) -> Verdict:
    return verdict(seq, Decision.REJECT, **changes)


@pytest.mark.parametrize("first", ["live", "feed"])
def test_copies_a_frame_once_whichever_subscription_is_first(tmp_path: Path, first: str) -> None:
    line = ScriptedLine(tmp_path)
    line.capture(1)
    line.queue_live(rejected_verdict(1), live=first == "live", feed=first == "feed")
    assert line.step() == [1]
    line.queue_live(rejected_verdict(1), live=first != "live", feed=first != "feed")
    assert line.step() == []
    assert (line.catcher.copied_frames, line.acked, line.account.cursor) == (1, 1, 0)
    line.account.mark_done((7, 1))
    assert line.account.cursor == 1


def test_reused_slot_counts_as_lost(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path)
    for seq in range(1, 7):  # four slots: 1 and 2 are overwritten
        line.capture(seq)
    line.queue_live(*(rejected_verdict(seq) for seq in range(1, 7)))
    assert line.step() == [3, 4, 5, 6]
    assert line.account.totals == {LossReason.TOO_LATE: 2}


def test_verdict_of_another_epoch_gets_no_pixels_of_this_one(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path)
    line.capture(1)
    old = line.ring
    line.queue_live(rejected_verdict(1, epoch=8))
    assert line.step() == []
    assert line.account.totals == {LossReason.TOO_LATE: 1}
    line.capture(2, old)
    again = line.ring_of(8)
    line.capture(2, again)
    line.capture(3, again)
    # The dead daemon left it open: its ring is still attached and holds it.
    line.queue_live(
        verdict(2, Decision.NO_VERDICT, reason=Reason.RESTART), rejected_verdict(3, epoch=8)
    )
    assert line.step() == [2, 3]


def test_missing_pixels_after_overrun_and_restart_are_not_counted(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path)
    for seq, reason in enumerate((Reason.OVERRUN, Reason.RESTART, Reason.SHAPE), 1):
        line.queue_live(verdict(seq, Decision.NO_VERDICT, reason=reason))
    assert line.step() == []
    assert not line.account.totals
    line.queue_live(verdict(4, Decision.NO_VERDICT, reason=Reason.DEADLINE))
    assert line.step() == []
    assert line.account.totals == {LossReason.TOO_LATE: 1}


def test_frame_saved_before_a_crash_is_not_copied_again(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path)
    line.saved.add((7, 1))
    line.capture(1)
    line.queue_live(rejected_verdict(1))
    assert line.step() == []
    assert not line.account.totals
    assert line.account.cursor == 1


def test_full_queue_drops_and_counts_the_least_useful(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, room=2 * pending_frame(1).size_bytes)
    for seq in (1, 2, 3):
        line.capture(seq)
    line.queue_live(rejected_verdict(1), rejected_verdict(2), rejected_verdict(3))
    assert line.step() == [2, 3]
    assert line.account.totals == {LossReason.EVICTED: 1}


def test_lost_verdicts_and_a_sequence_reset(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, cursor=4)
    line.queue_event(VerdictsLost(5, 30))
    assert line.step() == []
    assert (line.account.totals, line.account.cursor) == ({LossReason.VERDICT_LOST: 26}, 30)
    line.queue_event(SequenceReset(9, 0))
    line.queue_live(verdict(1, epoch=9))
    assert line.step() == []
    assert line.account.cursor == 1


def test_ignores_invalid_messages_and_other_lines(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path)
    line.capture(1)
    line.queue_invalid()
    line.queue_live(rejected_verdict(1, line="t2"), feed=False)
    beat = Heartbeat(line="t", epoch=7, last_seq=0, beat=1, utc_ns=0, period_ms=50, inspecting=True)
    line._live.append(ReceivedMessage("heartbeat.t", beat, b""))
    line.queue_live(rejected_verdict(1))
    assert line.step() == [1]
    assert line.catcher.epoch == 7
    assert ArchiveCategory.REJECT.rank < ArchiveCategory.NEAR.rank
