"""The ring: every slot has one owner, and another process can read whole pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeinspect.domain.frame import FrameShape
from edgeinspect.errors import DeviceLostError
from edgeinspect.ring import Ring, RingReader

SHAPE = FrameShape(4, 6, 1)


def test_pixels_do_not_overlap(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "a.ring", 3, SHAPE)
    slots = [ring.take() for _ in range(3)]
    assert ring.take() is None
    for value, slot in enumerate(slots):
        assert slot is not None
        ring.pixels(slot)[:] = value
    for value, slot in enumerate(slots):
        assert slot is not None
        assert (ring.pixels(slot) == value).all()
        assert ring.pixels(slot).flags.c_contiguous
    ring.dispose()


def test_reader_sees_the_newest_whole_picture(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "a.ring", 2, SHAPE)
    reader = RingReader(tmp_path / "a.ring")
    assert reader.newest() is None
    for seq in (1, 2, 3):
        slot = ring.take()
        assert slot is not None
        assert reader.find(seq) is None
        ring.pixels(slot)[:] = seq
        ring.stamp(slot, seq)
        ring.give_back(slot)
    newest = reader.newest()
    assert newest is not None
    assert newest[0] == 3
    assert (newest[1] == 3).all()
    assert reader.find(1) is None
    assert np.array_equal(reader.find(2), np.full(SHAPE.dims, 2, np.uint8))  # type: ignore[arg-type]
    ring.dispose()


def test_a_reader_knows_the_color_and_that_another_daemon_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "a.ring"
    ring = Ring(path, 2, FrameShape(4, 6, 3), "rgb", 1_732_000_000_123)
    reader = RingReader(path)
    assert (reader.color, reader.is_current) == ("rgb", True)
    assert reader.epoch == 1_732_000_000_123
    again = Ring(path, 2, SHAPE)
    assert not reader.is_current
    assert (RingReader(path).color, RingReader(path).is_current) == ("", True)
    again.dispose()
    assert not reader.is_current
    ring.dispose()


def test_a_picture_that_is_overwritten_while_it_is_copied_is_no_picture(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "a.ring", 2, SHAPE)
    slot = ring.take()
    assert slot is not None
    ring.stamp(slot, 5)
    reader = RingReader(tmp_path / "a.ring")

    class Meanwhile:
        """The slot's pixels; another frame comes while somebody copies them."""

        def copy(self) -> np.ndarray:  # type: ignore[type-arg]
            ring.stamp(slot, 7)
            return ring.pixels(slot).copy()

    assert reader.find(5) is not None
    reader._views[slot] = Meanwhile()  # type: ignore[call-overload]
    assert reader.find(5) is None
    assert reader.find(7) is not None
    ring.dispose()


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_reader_refuses_what_is_no_ring(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.ring"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeviceLostError):
        RingReader(path)


class RingMachine(RuleBasedStateMachine):
    """Any order of take and give_back: no slot has two owners, none is lost."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.ring = Ring(Path(self.folder.name) / "m.ring", 4, SHAPE)
        self.owned: list[int] = []

    @rule()
    def take(self) -> None:
        slot = self.ring.take()
        assert (slot is None) == (len(self.owned) == 4)
        if slot is not None:
            assert slot not in self.owned
            self.owned.append(slot)

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.owned))
        self.owned.remove(slot)
        self.ring.give_back(slot)

    @invariant()
    def none_is_lost(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.free + len(self.owned) == 4

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.ring.dispose()
            self.folder.cleanup()


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
