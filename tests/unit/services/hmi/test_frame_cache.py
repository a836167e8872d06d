from __future__ import annotations

import os
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.errors import DataError
from edgeinspect.imaging.class_colors import class_color_bgr
from edgeinspect.services.hmi import archive_frames
from edgeinspect.services.hmi.drift import DriftMonitor
from edgeinspect.services.hmi.encoding import encode_mask_png, encode_thumbnail
from edgeinspect.services.hmi.frame_cache import FrameCache
from edgeinspect.storage.archive.format import (
    ArchiveCategory,
    ImageFile,
    Sidecar,
    frame_folder,
    frame_name,
)
from edgeinspect.storage.archive.format import encode_document as encode_sidecar
from edgeinspect.storage.shared_memory.frame_ring import FrameRing
from edgeinspect.wire.messages import HeatMap, Mask
from tests.unit.services.hmi.builders import SCRATCH, make_verdict

SHAPE = FrameShape(32, 64, 1)


class RingFixture:
    """A daemon's ring, and a frame cache that reads it."""

    def __init__(self, folder: Path, slots: int = 4) -> None:
        self.path = folder / "strip.top.ring"
        self.clock = ManualClock()
        self.drift = DriftMonitor("strip", 200, 200, None)
        self.pictures = FrameCache({"top": self.path}, 2.0, self.drift, self.clock)
        self.slots = slots
        self.make()

    def make(self) -> None:
        self.ring = FrameRing(self.path, self.slots, SHAPE, "mono")

    def capture(self, seq: int, level: int = 90) -> int:
        slot = self.ring.acquire()
        assert slot is not None
        self.ring.pixels(slot)[:] = level
        self.ring.publish(slot, seq)
        self.ring.release(slot)
        return slot

    def receive_verdict(
        self, seq: int, decision: Decision = Decision.PASS, mask: Mask | None = None
    ) -> None:
        self.pictures.on_verdict(make_verdict(seq, decision), mask)
        while self.pictures._pending:
            self.pictures.encode_next()


def test_keeps_live_frames_with_masks_at_the_configured_rate(tmp_path: Path) -> None:
    fixture = RingFixture(tmp_path)
    mask = Mask(seq=1, height_px=8, width_px=16, stride=4, runs={3: [1, 4]})
    for seq in (1, 2):
        fixture.capture(seq)
        fixture.receive_verdict(seq, mask=mask if seq == 1 else None)
    newest = fixture.pictures.newest_live()["top"]
    assert newest.seq == 1, "the second came too soon"
    shown = cv2.imdecode(np.frombuffer(newest.jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape == (32, 64)
    assert newest.mask_png is not None
    colors = cv2.imdecode(np.frombuffer(newest.mask_png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert tuple(colors[0, 0, :3]) == class_color_bgr(3)
    assert colors[:, :, 3].astype(bool).sum() == 4
    assert fixture.drift.image_stats["top"] == (90.0, 0.0)
    fixture.clock.advance(NS_PER_S)
    fixture.capture(3)
    fixture.receive_verdict(3)
    assert fixture.pictures.newest_live()["top"].seq == 3


def test_frame_overwritten_while_reading_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = RingFixture(tmp_path, slots=2)
    slot = fixture.capture(1)
    fixture.receive_verdict(1)
    fixture.clock.advance(NS_PER_S)
    assert "top" in fixture.pictures._readers
    read = os.preadv

    def torn(handle: int, into: list[np.ndarray], at: int) -> int:
        taken_bytes = read(handle, into, at)
        fixture.ring._seqs[slot] = 0  # the daemon reuses the slot during the copy
        return taken_bytes

    monkeypatch.setattr(os, "preadv", torn)
    fixture.receive_verdict(1, Decision.REJECT)
    assert not fixture.pictures._reject_frames
    fixture.receive_verdict(99, Decision.REJECT)
    assert fixture.pictures.find(99) is None, "a frame the ring does not have"


def test_keeps_rejects_up_to_a_rate_and_a_number(tmp_path: Path) -> None:
    fixture = RingFixture(tmp_path)
    for seq in range(1, 11):
        fixture.capture(seq)
        fixture.receive_verdict(seq, Decision.REJECT)
    assert len(fixture.pictures._reject_frames) == 4, "four a second"
    for seq in range(11, 60):
        fixture.clock.advance(NS_PER_S // 4)
        fixture.capture(seq)
        fixture.receive_verdict(seq, Decision.REJECT)
    assert len(fixture.pictures._reject_frames) == 24
    cached = fixture.pictures.find(59)
    assert cached is not None
    assert cached.thumbnail_jpeg is not None
    fixture.pictures.clear()
    assert fixture.pictures.find(59) is None


def test_attaches_to_a_new_ring_and_tolerates_none(tmp_path: Path) -> None:
    fixture = RingFixture(tmp_path)
    fixture.ring.remove_file()
    fixture.receive_verdict(1, Decision.REJECT)
    fixture.clock.advance(2 * NS_PER_S)
    fixture.make()
    fixture.capture(2)
    fixture.receive_verdict(2)
    assert fixture.pictures.newest_live()["top"].seq == 2
    fixture.make()
    fixture.clock.advance(2 * NS_PER_S)
    fixture.capture(3)
    fixture.receive_verdict(3)
    assert fixture.pictures.newest_live()["top"].seq == 3


def test_refuses_a_mask_that_contradicts_its_size() -> None:
    with pytest.raises(DataError):
        encode_mask_png(Mask(seq=1, height_px=1 << 20, width_px=1 << 20, stride=1, runs={}))
    with pytest.raises(DataError):
        encode_mask_png(Mask(seq=1, height_px=2, width_px=2, stride=1, runs={1: [4, 9]}))


def heat_mask(
    levels: bytes, height: int = 2, width: int = 3, stride: int = 2, reject_level: int = 128
) -> Mask:
    """A class map of a frame of 32 x 48 px with one region, and a heat map."""
    heat = HeatMap(height=height, width=width, levels=levels, reject_level=reject_level)
    return Mask(seq=1, height_px=16, width_px=24, stride=stride, runs={1: [1, 4]}, heat=heat)


def test_a_heat_map_is_clear_where_the_part_is_good_and_red_beyond_the_threshold() -> None:
    png = encode_mask_png(heat_mask(bytes([20, 20, 20, 20, 20, 255])))
    drawn = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn.shape == (16, 24, 4)
    assert drawn[10, 3, 3] == 0
    blue, green, red, alpha = map(int, drawn[-1, -1])
    assert (blue, green) == (0, 0)
    assert red > 150
    assert 120 < alpha < 200  # the defect is seen through it
    alphas = drawn[-1, 12:, 3].astype(int)
    assert (np.diff(alphas) >= 0).all()
    assert len(set(alphas)) > 3  # graded


@pytest.mark.parametrize("reject_level", [-5, 0, 51, 128, 200, 255, 1 << 40])
def test_it_is_red_where_the_line_rejects(reject_level: int) -> None:
    level = min(max(reject_level, 1), 254)
    png = encode_mask_png(heat_mask(bytes([level] * 6), reject_level=reject_level))
    drawn = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn[5, 5].tolist()[:3] == [0, 0, 255]
    assert drawn[5, 5, 3] >= 120
    below = encode_mask_png(heat_mask(bytes([level // 4] * 6), reject_level=reject_level))
    assert not cv2.imdecode(np.frombuffer(below, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3].any()


def test_a_stride_that_is_none_is_no_error() -> None:
    assert encode_mask_png(heat_mask(bytes(6), stride=0))


@pytest.mark.parametrize(
    "mask",
    [
        heat_mask(bytes(5)),
        heat_mask(b""),
        heat_mask(bytes(1), 1, 1),
        heat_mask(bytes(6), stride=32),
        heat_mask(bytes(1 << 18), 1 << 9, 1 << 9, stride=1),
    ],
)
def test_a_heat_map_that_does_not_fit_is_refused(mask: Mask) -> None:
    with pytest.raises(DataError):
        encode_mask_png(mask)


@pytest.mark.parametrize("size", [(3, 3), (8, 2_000), (600, 7), (256, 1600)])
def test_thumbnail_of_any_size(size: tuple[int, int]) -> None:
    shown = np.full(size, 100, np.uint8)
    for regions in ((), (SCRATCH,)):
        data = np.frombuffer(encode_thumbnail(shown, regions), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None


def test_finds_an_archived_frame_by_its_verdict(tmp_path: Path) -> None:
    one = make_verdict(5, Decision.REJECT, at_utc_ns=1_795_230_004_170_000_000)
    assert archive_frames.find_archived_frame(tmp_path, one) is None
    folder = tmp_path / frame_folder(one)
    folder.mkdir(parents=True)
    _, data = cv2.imencode(".png", np.full((32, 64), 70, np.uint8))
    name = f"{frame_name(one)}.png"
    (folder / name).write_bytes(data.tobytes())
    document = Sidecar(
        kind=ArchiveCategory.REJECT,
        label="scratch",
        saved_at_utc_ns=0,
        verdict=one,
        picture=ImageFile(file=name, size_bytes=len(data), sha256="", lossless=True),
    )
    sidecar = folder / f"{frame_name(one)}.json"
    sidecar.write_bytes(encode_sidecar(document))
    archived = archive_frames.find_archived_frame(tmp_path, one)
    assert archived is not None
    assert (archived.height_px, archived.width_px) == (32, 64)
    huge = bytearray(data.tobytes())
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    (folder / name).write_bytes(huge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "imdecode", None)  # not called: it would need 10 GB
        assert archive_frames.find_archived_frame(tmp_path, one) is None
    (folder / name).write_bytes(data.tobytes())
    assert archive_frames.find_archived_frame(tmp_path, one) is not None
    outside = msgspec.structs.replace(document.picture, file="../../../etc/passwd")
    sidecar.write_bytes(encode_sidecar(msgspec.structs.replace(document, picture=outside)))
    assert archive_frames.find_archived_frame(tmp_path, one) is None
    sidecar.write_bytes(b"{")
    assert archive_frames.find_archived_frame(tmp_path, one) is None
