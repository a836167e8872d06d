"""The write queue is bounded; the fate of every frame is known across restarts."""

from __future__ import annotations

import threading
import time
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeinspect.services.archiver.config import ArchiveQuotas
from edgeinspect.services.archiver.write_queue import PendingFrame, WriteQueue
from edgeinspect.storage.archive.format import ArchiveCategory
from edgeinspect.storage.archive.progress import ArchiveProgress, LossReason
from tests.archive_fixture import pending_frame

ONE = pending_frame(1).size_bytes
SHARE = ArchiveQuotas().quota_of


def test_get_returns_the_oldest_of_the_most_useful() -> None:
    queue = WriteQueue(100 * ONE, SHARE)
    for seq, kind in enumerate(
        [
            ArchiveCategory.PASS,
            ArchiveCategory.REJECT,
            ArchiveCategory.NEAR,
            ArchiveCategory.REJECT,
            ArchiveCategory.SIMULATED,
        ]
    ):
        assert not queue.put(pending_frame(seq, kind))
    order = [queue.get(0) for _ in range(5)]
    assert [frame.key[1] for frame in order if frame] == [2, 1, 3, 0, 4]
    assert queue.get(0) is None
    assert queue.size_bytes == 0


def test_reject_evicts_passes_and_not_the_reverse() -> None:
    queue = WriteQueue(10 * ONE, SHARE)
    for seq in range(10):
        assert not queue.put(pending_frame(seq, ArchiveCategory.PASS))
    for seq in range(10, 19):
        (dropped,) = queue.put(pending_frame(seq, ArchiveCategory.REJECT))
        assert dropped.kind is ArchiveCategory.PASS
    (dropped,) = queue.put(
        pending_frame(19, ArchiveCategory.REJECT)
    )  # the one remaining pass is within its quota
    assert (dropped.kind, dropped.key[1]) == (ArchiveCategory.REJECT, 10)
    (dropped,) = queue.put(pending_frame(20, ArchiveCategory.PASS))
    assert (dropped.kind, dropped.key[1]) == (ArchiveCategory.PASS, 9)


def test_frame_larger_than_the_capacity_is_evicted_itself() -> None:
    queue = WriteQueue(ONE // 2, SHARE)
    frame = pending_frame(1)
    assert queue.put(frame) == [frame]


def test_get_wakes_for_a_frame_and_for_close() -> None:
    queue = WriteQueue(10 * ONE, SHARE)
    got: list[PendingFrame | None] = []
    thread = threading.Thread(target=lambda: got.extend([queue.get(60), queue.get(60)]))
    thread.start()
    time.sleep(0.05)
    queue.put(pending_frame(1))
    time.sleep(0.05)
    queue.close()
    thread.join(30)
    assert not thread.is_alive()
    assert [frame.key[1] if frame else None for frame in got] == [1, None]


@given(st.lists(st.tuples(st.sampled_from(ArchiveCategory), st.booleans()), max_size=60))
@settings(deadline=None)
def test_every_evicted_frame_is_returned(steps: list[tuple[ArchiveCategory, bool]]) -> None:
    queue = WriteQueue(5 * ONE, SHARE)
    inside: set[int] = set()
    for seq, (kind, take) in enumerate(steps):
        inside.add(seq)
        for dropped in queue.put(pending_frame(seq, kind)):
            inside.remove(dropped.key[1])
        if take:
            frame = queue.get(0)
            assert frame is not None
            inside.remove(frame.key[1])
        assert len(queue) == len(inside)
        assert queue.size_bytes <= 5 * ONE


# -- the account ----------------------------------------------------------------------------


def test_cursor_stays_before_pending_frames() -> None:
    archive_progress = ArchiveProgress(None)
    assert archive_progress.cursor is None
    archive_progress.start_at(10)
    archive_progress.start_at(99)
    assert archive_progress.cursor == 10
    archive_progress.mark_pending((1, 12))
    archive_progress.mark_pending((1, 11))
    archive_progress.advance(13)
    assert archive_progress.cursor == 10
    archive_progress.mark_done((1, 11))
    assert archive_progress.cursor == 11
    archive_progress.record_loss(13, 0, "reject", LossReason.TOO_LATE)
    assert archive_progress.take_committable() == (11, Counter())
    archive_progress.mark_done((1, 12))
    cursor, missed = archive_progress.take_committable()
    assert (cursor, sum(missed.values())) == (13, 1)
    archive_progress.restore(missed)
    assert archive_progress.take_committable() == (13, missed)
    assert archive_progress.take_committable() == (13, Counter())


def test_sequence_reset_does_not_block_the_cursor() -> None:
    archive_progress = ArchiveProgress(500)
    archive_progress.mark_pending((1, 400))
    archive_progress.record_loss(600, 0, "pass", LossReason.EVICTED)
    archive_progress.reset_sequence()
    assert archive_progress.cursor == 0
    archive_progress.advance(3)
    cursor, missed = archive_progress.take_committable()
    assert (cursor, sum(missed.values())) == (3, 1)


class Crashes(RuleBasedStateMachine):
    """Frames, losses, commits and kills in any order: each loss is stored exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.stored_cursor = 0
        self.stored_losses = 0
        self.saved: set[int] = set()
        self.lost: set[int] = set()
        self.line = 0
        self.start()

    def start(self) -> None:
        self.account = ArchiveProgress(self.stored_cursor)
        self.heard = self.stored_cursor
        self.inside: list[int] = []

    @rule(save=st.booleans())
    def frame(self, save: bool) -> None:
        self.heard += 1
        self.line = max(self.line, self.heard)
        if self.heard not in self.saved:
            if save and self.heard not in self.lost:
                self.account.mark_pending((1, self.heard))
                self.inside.append(self.heard)
            else:
                self.lost.add(self.heard)
                self.account.record_loss(self.heard, 0, "reject", LossReason.TOO_LATE)
        self.account.advance(self.heard)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(self.inside))
        self.inside.remove(seq)
        self.saved.add(seq)
        self.account.mark_done((1, seq))

    @rule(fails=st.booleans())
    def commit(self, fails: bool) -> None:
        cursor, missed = self.account.take_committable()
        if fails:
            self.account.restore(missed)
            return
        assert cursor is not None
        self.stored_cursor = cursor
        self.stored_losses += sum(missed.values())

    @rule()
    def kill(self) -> None:
        self.start()

    @invariant()
    def adds_up(self) -> None:
        passed = {seq for seq in self.lost if seq <= self.stored_cursor}
        assert self.stored_losses == len(passed)
        assert all(
            seq in self.saved or seq in self.lost for seq in range(1, self.stored_cursor + 1)
        )


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
