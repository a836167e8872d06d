"""Following a spool from outside: every verdict once, what is gone is said, restarts are met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision, LetterboxRef, Reason, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.services.recorder.frame_collector import (
    NEVER_CAME,
    NOT_KEPT,
    OVERWRITTEN,
    Pictures,
)
from edgeinspect.services.recorder.verdict_reader import Verdicts
from edgeinspect.storage.recording.messages import Missed
from edgeinspect.storage.shared_memory.frame_ring import Ring
from edgeinspect.storage.shared_memory.side_buffer import Aside
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.spool.spool import Spool

RECORD = OpenRecord("top", 1, 1, 0, 0, 0)
SHAPE = FrameShape(4, 6, 1)


def spool_at(folder: Path, epoch_ms: int = 1000, slots: int = 8) -> Spool:
    return Spool(folder / "a.spool", line="a", slots=slots, utc_ns=epoch_ms * 1_000_000)


def all_of(verdicts: Verdicts) -> list[bytes | Missed]:
    found = []
    while (one := verdicts.next()) is not None:
        found.append(one)
    return found


def test_each_closed_frame_comes_once_and_in_order(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.close(spool.open(RECORD), b"before")
    spool.mark_published(1)
    verdicts = Verdicts(tmp_path / "a.spool")
    assert verdicts.next() is None
    assert verdicts.attach()
    assert all_of(verdicts) == []
    second, third = spool.open(RECORD), spool.open(RECORD)
    spool.close(third, b"3")
    assert all_of(verdicts) == []  # the second is open: order is the wire's
    spool.close(second, b"2")
    assert all_of(verdicts) == [b"2", b"3"]
    assert all_of(verdicts) == []
    spool.dispose()


def test_what_was_overwritten_is_said(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = Verdicts(tmp_path / "a.spool")
    verdicts.attach()
    for _ in range(21):
        seq = spool.open(RECORD)
        spool.close(seq, b"%d" % seq)
        spool.mark_published(seq)
    found = all_of(verdicts)
    assert found[0] == Missed(from_seq=1, to_seq=13)
    assert found[1:] == [b"%d" % seq for seq in range(14, 22)]
    spool.dispose()


def test_it_follows_over_a_restart_and_a_lost_spool(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = Verdicts(tmp_path / "a.spool")
    verdicts.attach()
    spool.close(spool.open(RECORD), b"1")
    left = spool.open(RECORD)
    assert all_of(verdicts) == [b"1"]
    first_epoch = verdicts.epoch
    spool.dispose()  # as a kill would, with frame 2 open
    spool = spool_at(tmp_path, 2000)
    assert [each.seq for each in spool.unfinished] == [left]
    spool.close(left, b"restart")
    spool.close(spool.open(RECORD), b"3")
    assert verdicts.attach()
    assert verdicts.epoch > first_epoch
    assert all_of(verdicts) == [b"restart", b"3"]
    spool.dispose()
    (tmp_path / "a.spool").unlink()
    spool = spool_at(tmp_path, 3000)  # it counts anew
    assert verdicts.attach()
    spool.close(spool.open(RECORD), b"new 1")
    assert all_of(verdicts) == [b"new 1"]
    spool.dispose()


def test_a_spool_of_another_size_keeps_its_place(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    verdicts = Verdicts(tmp_path / "a.spool")
    verdicts.attach()
    spool.close(spool.open(RECORD), b"1")
    assert all_of(verdicts) == [b"1"]
    spool.dispose()
    spool = spool_at(tmp_path, 2000, slots=16)
    verdicts.attach()
    spool.close(spool.open(RECORD), b"2")
    assert all_of(verdicts) == [b"2"]
    spool.dispose()


def test_no_spool_and_no_sound_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match="no spool"):
        SpoolReader(tmp_path / "a.spool")
    (tmp_path / "a.spool").write_bytes(bytes(10_000))
    with pytest.raises(DeviceLostError):
        SpoolReader(tmp_path / "a.spool")
    assert not Verdicts(tmp_path / "a.spool").attach()


def test_a_torn_record_is_no_verdict(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    seq = spool.open(RECORD)
    spool.close(seq, b"whole")
    reader = SpoolReader(tmp_path / "a.spool")
    assert reader.read(seq) == b"whole"
    place = spool._map.find(b"whole")
    spool._map[place : place + 1] = b"W"
    assert reader.read(seq) is None
    spool.dispose()


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


def put(ring: Ring, seq: int) -> None:
    slot = ring.take()
    assert slot is not None
    ring.pixels(slot)[:] = seq
    ring.stamp(slot, seq)
    ring.give_back(slot)


def test_pictures_are_held_until_their_verdict(tmp_path: Path) -> None:
    clock = ManualClock()
    pictures = Pictures(tmp_path, "a", ("top",), 1 << 20, clock)
    assert not pictures.attach()
    ring = Ring(tmp_path / "a.top.ring", 2, SHAPE)
    assert pictures.attach()
    put(ring, 1)
    pictures.look(1)
    for seq in (2, 3, 4):  # 2 is overwritten before the next look
        put(ring, seq)
    pictures.look(1)
    taken = {seq: pictures.take(verdict(seq)) for seq in (1, 2, 3, 4)}
    for seq in (1, 3, 4):
        picture, why = taken[seq]
        assert picture is not None
        assert not why
        assert (picture == seq).all()
    assert taken[2] == (None, OVERWRITTEN)
    assert pictures.take(verdict(5, Reason.CAPTURE_LOST)) == (None, NEVER_CAME)
    pictures.close()


def test_what_the_ring_does_not_hold_as_it_came_is_taken_from_aside(tmp_path: Path) -> None:
    clock = ManualClock()
    pictures = Pictures(tmp_path, "a", ("top",), 1 << 20, clock)
    ring = Ring(tmp_path / "a.top.ring", 2, SHAPE)
    pictures.attach()
    aside = Aside(tmp_path / "a.top.aside")
    assert aside.keep(1, np.full((2, 5, 1), 9, np.uint8), clock.now_ns())
    put(ring, 1)
    pictures.look(1)
    picture, _why = pictures.take(verdict(1, letterboxed=True))
    assert picture is not None
    assert picture.shape == (2, 5, 1)
    assert pictures.take(verdict(2, Reason.SHAPE)) == (None, NOT_KEPT)
    pictures.close()
    assert not (tmp_path / "a.top.aside").exists()


def test_memory_is_bounded_and_a_new_daemon_is_met(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, "a", ("top",), 2 * SHAPE.size_bytes, ManualClock())
    ring = Ring(tmp_path / "a.top.ring", 4, SHAPE)
    pictures.attach()
    for seq in (1, 2, 3):
        put(ring, seq)
    pictures.look(1)
    assert sorted(pictures._held) == [2, 3]
    ring = Ring(tmp_path / "a.top.ring", 4, SHAPE)
    put(ring, 7)
    pictures.attach()
    pictures.look(4)
    picture, _why = pictures.take(verdict(7))
    assert picture is not None
    assert (picture == 7).all()
    assert not pictures._held
