"""The frame ring: every slot has one owner, and another process reads complete frames."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeinspect.domain.frame import FrameShape
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory.frame_ring import FrameRing, FrameRingReader
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.spool import Spool

SHAPE = FrameShape(4, 6, 1)


def test_pixels_do_not_overlap(tmp_path: Path) -> None:
    ring = FrameRing(tmp_path / "a.ring", 3, SHAPE)
    slots = [ring.acquire() for _ in range(3)]
    assert ring.acquire() is None
    for value, slot in enumerate(slots):
        assert slot is not None
        ring.pixels(slot)[:] = value
    for value, slot in enumerate(slots):
        assert slot is not None
        assert (ring.pixels(slot) == value).all()
        assert ring.pixels(slot).flags.c_contiguous
    ring.remove_file()


def test_a_reader_gets_the_newest_complete_frame(tmp_path: Path) -> None:
    ring = FrameRing(tmp_path / "a.ring", 2, SHAPE)
    reader = FrameRingReader(tmp_path / "a.ring")
    assert reader.newest() is None
    for seq in (1, 2, 3):
        slot = ring.acquire()
        assert slot is not None
        assert reader.read(seq) is None
        ring.pixels(slot)[:] = seq
        ring.publish(slot, seq)
        ring.release(slot)
    newest = reader.newest()
    assert newest is not None
    assert newest[0] == 3
    assert (newest[1] == 3).all()
    assert reader.read(1) is None
    assert np.array_equal(reader.read(2), np.full(SHAPE.dims, 2, np.uint8))  # type: ignore[arg-type]
    ring.remove_file()


def test_a_reader_knows_the_color_and_notices_another_daemon(tmp_path: Path) -> None:
    path = tmp_path / "a.ring"
    ring = FrameRing(path, 2, FrameShape(4, 6, 3), "rgb", 1_732_000_000_123)
    reader = FrameRingReader(path)
    assert (reader.color, reader.is_current) == ("rgb", True)
    assert reader.epoch == 1_732_000_000_123
    again = FrameRing(path, 2, SHAPE)
    assert not reader.is_current
    assert (FrameRingReader(path).color, FrameRingReader(path).is_current) == ("", True)
    again.remove_file()
    assert not reader.is_current
    ring.remove_file()


def test_a_frame_that_is_overwritten_while_it_is_copied_is_not_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FrameRing(tmp_path / "a.ring", 2, SHAPE)
    slot = ring.acquire()
    assert slot is not None
    ring.publish(slot, 5)
    reader = FrameRingReader(tmp_path / "a.ring")

    assert reader.read(5) is not None
    read = os.preadv

    def meanwhile(handle: int, into: list[np.ndarray], at: int) -> int:  # type: ignore[type-arg]
        read_bytes = read(handle, into, at)
        ring.publish(slot, 7)
        return read_bytes

    monkeypatch.setattr(os, "preadv", meanwhile)
    assert reader.read(5) is None
    assert reader.read(7) is not None
    ring.remove_file()


CUT_SHORT = """
import os, sys
from pathlib import Path
from edgeinspect.storage.shared_memory.frame_ring import FrameRingReader
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.shared_memory.side_buffer import SideBuffer, SideBufferReader
import numpy as np
folder = Path(sys.argv[1])
ring, spool = FrameRingReader(folder / "a.ring"), SpoolReader(folder / "a.spool")
reader = SideBufferReader(folder / "a.aside", 2, 64)
reader.request(1)
line = SideBuffer(folder / "a.aside")
assert line.store(1, np.ones((4, 6, 1), np.uint8), 1)
assert ring.read(1) is not None and spool.read(1) == b"verdict" and reader.read(1) is not None
for name in ("a.ring", "a.spool", "a.aside"):
    os.truncate(folder / name, int(sys.argv[2]))
assert ring.read(1) is None and ring.newest() is None
assert spool.read(1) is None
assert reader.read(1) is None
line.store(2, np.ones((4, 6, 1), np.uint8), 1)
if sys.argv[2] == "0":
    assert ring.seqs_after(0) == [] and spool.published_seq == 0 == spool.epoch
print("alive")
"""


@pytest.mark.parametrize("size", [0, 200, 4096])
def test_a_truncated_file_kills_no_reader(tmp_path: Path, size: int) -> None:
    """A mapped file would, by SIGBUS: HMI, archive, recorder and, by a side buffer, the daemon."""
    spool = Spool(tmp_path / "a.spool", line="a", slots=8, utc_ns=10**9)
    spool.close(spool.open(OpenRecord("top", 1, 1, 0, 0, 0)), b"verdict")
    spool.mark_published(1)
    spool.release()
    ring = FrameRing(tmp_path / "a.ring", 2, SHAPE)
    slot = ring.acquire()
    assert slot is not None
    ring.publish(slot, 1)
    del ring, slot
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_a_reader_refuses_other_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.ring"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeviceLostError):
        FrameRingReader(path)


class RingMachine(RuleBasedStateMachine):
    """Any order of acquire and release: no slot has two owners, none is lost."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.ring = FrameRing(Path(self.folder.name) / "m.ring", 4, SHAPE)
        self.owned: list[int] = []

    @rule()
    def acquire(self) -> None:
        slot = self.ring.acquire()
        assert (slot is None) == (len(self.owned) == 4)
        if slot is not None:
            assert slot not in self.owned
            self.owned.append(slot)

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.owned))
        self.owned.remove(slot)
        self.ring.release(slot)

    @invariant()
    def none_is_lost(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.free_slots + len(self.owned) == 4

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.ring.remove_file()
            self.folder.cleanup()


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
