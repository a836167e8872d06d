"""The spool: frames are opened once and closed once, and any file that a crash left is readable."""

from __future__ import annotations

import os
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeinspect.errors import SpoolError
from edgeinspect.storage.spool.format import (
    _OPEN_CRC_AT,
    HEADER_BYTES,
    PAYLOAD_BYTES,
    SLOT_BYTES,
    OpenRecord,
    scan_spool,
)
from edgeinspect.storage.spool.spool import Spool, SpoolFullError

SLOTS = 64


def record(frame: int = 1, label: str | None = None) -> OpenRecord:
    return OpenRecord("top", frame, frame, 1_000, 2_000, 3_000, label=label)


def make(path: Path, slots: int = SLOTS, *, clean_shutdown: bool = False, **known: int) -> Spool:
    utc_ns = 1_700_000_000_000_000_000
    return Spool(path, line="t", slots=slots, utc_ns=utc_ns, clean_shutdown=clean_shutdown, **known)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.spool"


def test_first_close_wins(path: Path) -> None:
    spool = make(path)
    seq = spool.open(record())
    assert spool.read(seq) is None
    assert spool.close(seq, b"first")
    assert not spool.close(seq, b"second")
    assert spool.read(seq) == b"first"
    spool.release()


def test_first_close_wins_between_threads(path: Path) -> None:
    spool = make(path, 4096)
    wins = [0] * 4
    start = threading.Barrier(4)
    seqs = [spool.open(record(i)) for i in range(1, 2001)]

    def closer(index: int) -> None:
        start.wait()
        for seq in seqs:
            wins[index] += spool.close(seq, b"%d" % index)

    threads = [threading.Thread(target=closer, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wins) == len(seqs)
    spool.release()


def test_a_restart_keeps_the_seq_changes_the_epoch_and_finds_open_frames(path: Path) -> None:
    spool = make(path)
    first_epoch = spool.epoch
    spool.close(spool.open(record(1)), b"one")
    spool.open(record(2, "plate.png"))
    spool.mark_published(1)
    spool.release()
    again = make(path)
    assert again.epoch > first_epoch
    assert again.last_seq == 2
    assert again.published_seq == 1
    assert again.read(1) == b"one"
    (left,) = again.unfinished
    assert (left.seq, left.epoch) == (2, first_epoch)
    assert left.record == record(2, "plate.png")
    assert again.close(2, b"restart")
    assert again.open(record(3)) == 3
    again.release()


def test_a_second_daemon_is_refused(path: Path) -> None:
    spool = make(path)
    with pytest.raises(SpoolError, match="runs already"):
        make(path)
    spool.release()
    make(path).release()


def test_a_lost_spool_continues_from_a_ledger_that_was_stopped_in_order(path: Path) -> None:
    spool = make(path, at_least_seq=500, at_least_epoch=9_999_999_999_999, clean_shutdown=True)
    assert spool.epoch == 10_000_000_000_000
    assert spool.published_seq == 500
    assert spool.unfinished == []
    assert spool.skipped is None
    assert spool.open(record()) == 501
    assert spool.oldest_seq == 501
    spool.release()


@pytest.mark.parametrize("last", [500, 0])
def test_a_lost_spool_uses_no_seq_that_may_have_been_used(path: Path, last: int) -> None:
    spool = make(path, 128, at_least_seq=last, at_least_epoch=7)
    assert spool.skipped == (last + 1, last + 128)
    assert spool.published_seq == last + 128
    assert spool.unfinished == []
    assert spool.open(record()) == last + 129
    spool.release()
    again = make(path, 64, at_least_seq=last, at_least_epoch=7)
    assert again.skipped == (last + 1, last + 128), "kept until the ledger has recorded it"
    assert again.last_seq == last + 129
    assert again.oldest_seq == last + 129
    again.release()


def test_a_line_that_never_ran_begins_at_one(path: Path) -> None:
    spool = make(path)
    assert spool.skipped is None
    assert spool.open(record()) == 1
    spool.release()


@pytest.mark.parametrize("slots", [64, 128, 96])
def test_another_size_keeps_the_frames_that_fit(path: Path, slots: int) -> None:
    spool = make(path, 128)
    for index in range(1, 201):
        seq = spool.open(record(index))
        if index < 200:
            spool.close(seq, b"%d" % index)
    spool.release()
    again = make(path, slots)
    assert again.last_seq == 200
    assert [left.seq for left in again.unfinished] == [200]
    assert again.oldest_seq == 200 - min(slots, 128) + 1
    for seq in range(again.oldest_seq, 200):
        assert again.read(seq) == b"%d" % seq
    again.release()


def test_a_full_spool_names_the_open_frame_to_close(path: Path) -> None:
    spool = make(path)
    first = spool.open(record())
    for index in range(SLOTS - 1):
        spool.close(spool.open(record(index)), b"x")
    with pytest.raises(SpoolFullError) as caught:
        spool.open(record())
    assert caught.value.seq == first
    spool.close(first, b"overrun")
    assert spool.open(record()) == SLOTS + 1
    assert spool.read(first) is None
    assert spool.overwritten_unledgered == 1
    with pytest.raises(SpoolError, match="not in the spool"):
        spool.close(first, b"again")
    spool.release()


def test_a_payload_that_is_too_long_is_refused(path: Path) -> None:
    spool = make(path)
    seq = spool.open(record())
    with pytest.raises(SpoolError, match="does not fit"):
        spool.close(seq, b"x" * (PAYLOAD_BYTES + 1))
    assert spool.close(seq, b"x" * PAYLOAD_BYTES)
    assert spool.read(seq) == b"x" * PAYLOAD_BYTES
    spool.release()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3 * SLOT_BYTES))
def test_any_bytes_as_a_spool_are_quarantined_and_not_fatal(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("junk") / "t.spool"
    path.write_bytes(junk)
    spool = make(path)
    assert spool.open(record()) == spool.last_seq
    spool.release()


def filled(path: Path) -> bytes:
    """A spool whose slots 1 to 3 are closed and 4 is open; its bytes."""
    spool = make(path)
    for index in range(1, 4):
        spool.close(spool.open(record(index)), b"verdict %d" % index)
    spool.open(record(4))
    spool.release()
    return path.read_bytes()


def test_no_flipped_byte_of_a_slot_gives_a_wrong_verdict(path: Path) -> None:
    """Flip every byte that a slot uses: it holds the verdict that was given, or none."""
    intact = filled(path)
    at = HEADER_BYTES + 2 * SLOT_BYTES
    for offset in range(360):
        data = bytearray(intact)
        data[at + offset] ^= 0x5A
        path.write_bytes(data)
        scan = scan_spool(path)
        assert scan is not None
        contents = scan.frames.get(2)
        assert contents is None or contents.payload in (None, b"verdict 2"), offset
        assert scan.frames[1].payload == b"verdict 1"
        assert scan.frames[3].payload == b"verdict 3"
        assert scan.last_seq == 4


def test_torn_records_become_restart_and_not_a_verdict(path: Path) -> None:
    """Cut the writing of frame 5's slot after every byte, as a crash would."""
    before = filled(path)
    spool = make(path)
    spool.close(spool.unfinished[0].seq, b"verdict 4")
    seq = spool.open(record(5, "later"))
    opened = path.read_bytes()
    spool.close(seq, b"verdict 5")
    spool.release()
    closed = path.read_bytes()
    at = HEADER_BYTES + seq * SLOT_BYTES
    used = slice(at, at + 400)
    for start, after, complete in ((before, opened, False), (opened, closed, True)):
        for cut in range(0, 400, 1):
            data = bytearray(opened)
            data[used] = after[used][:cut] + start[used][cut:]
            path.write_bytes(data)
            scan = scan_spool(path)
            assert scan is not None
            contents = scan.frames.get(seq)
            if contents and contents.payload is not None:
                assert complete
                assert contents.payload == b"verdict 5"
            assert scan.last_seq in (4, 5)
            if cut and not complete and cut < 300:
                assert scan.last_seq == 5, "a frame that was being opened is counted"


def test_a_spool_truncated_anywhere_still_opens(path: Path) -> None:
    intact = filled(path)
    sizes = [0, 1, 8, 63, 100, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 17]
    sizes += [HEADER_BYTES + 2 * SLOT_BYTES + extra for extra in (0, 1, 250, 330, 345, 8191)]
    for size in sizes:
        path.write_bytes(intact[:size])
        spool = make(path)
        for left in spool.unfinished:
            spool.close(left.seq, b"restart")
        assert spool.open(record()) == spool.last_seq
        spool.release()


@pytest.mark.slow
def test_a_kill_at_a_random_moment_loses_no_frame(path: Path) -> None:
    """A child opens and closes frames as fast as it can and is killed: all it reported is there."""
    for round_ in range(6):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            spool = make(path)
            for left in spool.unfinished:
                spool.close(left.seq, b"restart")
            while True:
                seq = spool.open(record())
                os.write(write_end, b"%d\n" % seq)
                spool.close(seq, b"verdict %d" % seq)
        os.close(write_end)
        time.sleep(0.15 + 0.02 * round_)
        os.kill(child, 9)
        os.waitpid(child, 0)
        with os.fdopen(read_end, "rb") as pipe:
            reported = pipe.read()
        last = int(reported.split()[-1])
        spool = make(path)
        assert last <= spool.last_seq <= last + 1
        assert len(spool.unfinished) <= 1
        for seq in range(spool.oldest_seq, spool.last_seq):
            body = spool.read(seq)
            assert body in (b"verdict %d" % seq, b"restart")
        spool.release()


class SpoolMachine(RuleBasedStateMachine):
    """Any sequence of open, close, close again and restart keeps every frame counted once."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "m.spool"
        self.spool = make(self.path, 8 * 8)
        self.open_seqs: set[int] = set()
        self.closed: dict[int, bytes] = {}
        self.next_seq = 1

    @rule()
    def open_frame(self) -> None:
        try:
            seq = self.spool.open(record())
        except SpoolFullError as full:
            assert full.seq in self.open_seqs
            self.close_frame(full.seq, b"overrun")
            seq = self.spool.open(record())
        assert seq == self.next_seq
        self.next_seq += 1
        self.open_seqs.add(seq)

    def close_frame(self, seq: int, body: bytes) -> None:
        won = self.spool.close(seq, body)
        assert won == (seq in self.open_seqs)
        if won:
            self.open_seqs.discard(seq)
            self.closed[seq] = body

    @precondition(lambda self: self.next_seq > 1)
    @rule(data=st.data(), body=st.binary(max_size=300))
    def close_some(self, data: st.DataObject, body: bytes) -> None:
        oldest = self.spool.oldest_seq
        seq = data.draw(st.integers(oldest, self.next_seq - 1))
        self.close_frame(seq, body)

    @rule()
    def restart(self) -> None:
        epoch = self.spool.epoch
        self.spool.release()
        self.spool = make(self.path, 8 * 8)
        assert self.spool.epoch > epoch
        assert {left.seq for left in self.spool.unfinished} == self.open_seqs
        for left in self.spool.unfinished:
            self.close_frame(left.seq, b"restart")

    @invariant()
    def every_frame_is_counted(self) -> None:
        if not hasattr(self, "spool"):
            return
        assert self.spool.last_seq == self.next_seq - 1
        assert len(self.open_seqs) + len(self.closed) == self.spool.last_seq
        for seq in range(self.spool.oldest_seq, self.next_seq):
            assert self.spool.read(seq) == self.closed.get(seq)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.release()
            self.folder.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=30,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize(
    ("part_id", "kept"),
    [
        ("x" * 64, True),
        ("\u00c4" * 32, True),
        ("x" * 65, False),
        ("\u00c4" * 32 + "x", False),
        ("\u4e2d" * 64, False),
        ("plate\0", False),
        ("a\0b", True),
        ("", False),
    ],
)
def test_a_part_id_is_read_back_complete_or_not_at_all(
    path: Path, part_id: str, kept: bool
) -> None:
    spool = make(path)
    spool.open(of_part(record(1), part_id))
    spool.release()
    again = make(path)
    (left,) = again.unfinished
    assert left.record.part_id == (part_id if kept else None)
    again.release()


def test_a_part_id_that_fills_its_field_in_an_older_file_may_have_been_cut(path: Path) -> None:
    spool = make(path)
    spool.open(of_part(record(1), "x" * 64))
    spool.open(of_part(record(2), "x" * 63))
    spool.release()
    data = bytearray(path.read_bytes())
    for seq in (1, 2):
        at = HEADER_BYTES + seq % SLOTS * SLOT_BYTES
        body = bytearray(data[at : at + _OPEN_CRC_AT])
        body[72] = 0  # the flags
        data[at : at + _OPEN_CRC_AT] = body
        data[at + _OPEN_CRC_AT : at + _OPEN_CRC_AT + 4] = zlib.crc32(body).to_bytes(4, "little")
    path.write_bytes(data)
    again = make(path)
    assert [left.record.part_id for left in again.unfinished] == [None, "x" * 63]
    again.release()


def of_part(plain: OpenRecord, part_id: str) -> OpenRecord:
    return replace(plain, part_id=part_id)
