"""Reading a spool from outside: every verdict once, gaps reported, across restarts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision, LetterboxRef, Reason, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.services.recorder.frame_collector import (
    NOT_DELIVERED,
    NOT_IN_SIDE_BUFFER,
    OVERWRITTEN,
    FrameCollector,
)
from edgeinspect.services.recorder.verdict_reader import VerdictReader
from edgeinspect.storage.recording.messages import MissedVerdicts
from edgeinspect.storage.shared_memory.frame_ring import FrameRing
from edgeinspect.storage.shared_memory.side_buffer import SideBuffer
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.spool.spool import Spool

RECORD = OpenRecord("top", 1, 1, 0, 0, 0)
SHAPE = FrameShape(4, 6, 1)


def spool_at(folder: Path, epoch_ms: int = 1000, slots: int = 8) -> Spool:
    return Spool(folder / "a.spool", line="a", slots=slots, utc_ns=epoch_ms * 1_000_000)


def read_all(verdicts: VerdictReader) -> list[bytes | MissedVerdicts]:
    item = []
    while (one := verdicts.read_next()) is not None:
        item.append(one)
    return item


def test_returns_each_closed_frame_once_and_in_order(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.close(spool.open(RECORD), b"before")
    spool.mark_published(1)
    verdicts = VerdictReader(tmp_path / "a.spool")
    assert verdicts.read_next() is None
    assert verdicts.attach()
    assert read_all(verdicts) == []
    second, third = spool.open(RECORD), spool.open(RECORD)
    spool.close(third, b"3")
    assert read_all(verdicts) == []  # the second is open: verdicts come in order
    spool.close(second, b"2")
    assert read_all(verdicts) == [b"2", b"3"]
    assert read_all(verdicts) == []
    spool.release()


def test_reports_overwritten_verdicts(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = VerdictReader(tmp_path / "a.spool")
    verdicts.attach()
    for _ in range(21):
        seq = spool.open(RECORD)
        spool.close(seq, b"%d" % seq)
        spool.mark_published(seq)
    item = read_all(verdicts)
    assert item[0] == MissedVerdicts(from_seq=1, to_seq=13)
    assert item[1:] == [b"%d" % seq for seq in range(14, 22)]
    spool.release()


def test_continues_after_a_restart_and_a_lost_spool(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = VerdictReader(tmp_path / "a.spool")
    verdicts.attach()
    spool.close(spool.open(RECORD), b"1")
    left = spool.open(RECORD)
    assert read_all(verdicts) == [b"1"]
    first_epoch = verdicts.epoch
    spool.release()  # as a kill would, with frame 2 open
    spool = spool_at(tmp_path, 2000)
    assert [each.seq for each in spool.unfinished] == [left]
    spool.close(left, b"restart")
    spool.close(spool.open(RECORD), b"3")
    assert verdicts.attach()
    assert verdicts.epoch > first_epoch
    assert read_all(verdicts) == [b"restart", b"3"]
    spool.release()
    (tmp_path / "a.spool").unlink()
    spool = spool_at(tmp_path, 3000)  # its sequence is reset
    assert verdicts.attach()
    spool.close(spool.open(RECORD), b"new 1")
    assert read_all(verdicts) == [b"new 1"]
    spool.release()


def test_spool_of_another_size_keeps_the_position(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = VerdictReader(tmp_path / "a.spool")
    verdicts.attach()
    spool.close(spool.open(RECORD), b"1")
    assert read_all(verdicts) == [b"1"]
    spool.release()
    spool = spool_at(tmp_path, 2000, slots=16)
    verdicts.attach()
    spool.close(spool.open(RECORD), b"2")
    assert read_all(verdicts) == [b"2"]
    spool.release()


def test_missing_or_damaged_spool(tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match="no spool"):
        SpoolReader(tmp_path / "a.spool")
    (tmp_path / "a.spool").write_bytes(bytes(10_000))
    with pytest.raises(DeviceLostError):
        SpoolReader(tmp_path / "a.spool")
    assert not VerdictReader(tmp_path / "a.spool").attach()


def test_torn_record_is_not_returned(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    seq = spool.open(RECORD)
    spool.close(seq, b"whole")
    reader = SpoolReader(tmp_path / "a.spool")
    assert reader.read(seq) == b"whole"
    place = spool._map.find(b"whole")
    spool._map[place : place + 1] = b"W"
    assert reader.read(seq) is None
    spool.release()


# -- pictures ------------------------------------------------------------------------------


def verdict(seq: int, reason: Reason = Reason.CLEAN, *, letterboxed: bool = False) -> Verdict:
    decision = Decision.PASS if reason is Reason.CLEAN else Decision.NO_VERDICT
    box = LetterboxRef(1, 0, 0) if letterboxed else None
    return Verdict(
        line="a",
        camera="top",
        epoch=1,
        seq=seq,
        frame=seq,
        camera_frame_id=seq,
        captured_at_utc_ns=0,
        deadline_utc_ns=0,
        act_by_utc_ns=0,
        decision=decision,
        reason=reason,
        budget_us=1,
        letterbox=box,
    )


def put(ring: FrameRing, seq: int) -> None:
    slot = ring.acquire()
    assert slot is not None
    ring.pixels(slot)[:] = seq
    ring.publish(slot, seq)
    ring.release(slot)


def test_holds_frames_until_their_verdict(tmp_path: Path) -> None:
    clock = ManualClock()
    collector = FrameCollector(tmp_path, "a", ("top",), 1 << 20, clock)
    assert not collector.attach()
    ring = FrameRing(tmp_path / "a.top.ring", 2, SHAPE)
    assert collector.attach()
    put(ring, 1)
    collector.poll(1)
    for seq in (2, 3, 4):  # 2 is overwritten before the next poll
        put(ring, seq)
    collector.poll(1)
    popped = {seq: collector.pop(verdict(seq)) for seq in (1, 2, 3, 4)}
    for seq in (1, 3, 4):
        picture, why = popped[seq]
        assert picture is not None
        assert not why
        assert (picture == seq).all()
    assert popped[2] == (None, OVERWRITTEN)
    assert collector.pop(verdict(5, Reason.CAPTURE_LOST)) == (None, NOT_DELIVERED)
    collector.close()


def test_reads_unconverted_frames_from_the_side_buffer(tmp_path: Path) -> None:
    clock = ManualClock()
    collector = FrameCollector(tmp_path, "a", ("top",), 1 << 20, clock)
    ring = FrameRing(tmp_path / "a.top.ring", 2, SHAPE)
    collector.attach()
    aside = SideBuffer(tmp_path / "a.top.aside")
    assert aside.store(1, np.full((2, 5, 1), 9, np.uint8), clock.now_ns())
    put(ring, 1)
    collector.poll(1)
    picture, _why = collector.pop(verdict(1, letterboxed=True))
    assert picture is not None
    assert picture.shape == (2, 5, 1)
    assert collector.pop(verdict(2, Reason.SHAPE)) == (None, NOT_IN_SIDE_BUFFER)
    collector.close()
    assert not (tmp_path / "a.top.aside").exists()


def test_memory_is_bounded_and_a_new_daemon_is_attached(tmp_path: Path) -> None:
    collector = FrameCollector(tmp_path, "a", ("top",), 2 * SHAPE.size_bytes, ManualClock())
    ring = FrameRing(tmp_path / "a.top.ring", 4, SHAPE)
    collector.attach()
    for seq in (1, 2, 3):
        put(ring, seq)
    collector.poll(1)
    assert sorted(collector._frames) == [2, 3]
    ring = FrameRing(tmp_path / "a.top.ring", 4, SHAPE)
    put(ring, 7)
    collector.attach()
    collector.poll(4)
    picture, _why = collector.pop(verdict(7))
    assert picture is not None
    assert (picture == 7).all()
    assert not collector._frames
