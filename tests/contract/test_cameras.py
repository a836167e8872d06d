"""The contract of every camera. A new camera must be added to CAMERAS."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, SystemClock
from edgeinspect.domain.frame import Grab, Part
from edgeinspect.errors import CameraLostError, DataError, UsageError
from edgeinspect.ports import Camera, CameraFinished
from edgeinspect.registry import load_plugin, plugin_names
from tests import needs
from tests.fake_camera import DEVICE, fake_camera

os.environ["PYLON_CAMEMU"] = "1"  # read when pypylon is loaded: adds an emulated camera


def write_images(folder: Path, count: int = 3) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 255, (20, 30), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)


class NoPeer:
    """A camera that needs no peer."""

    def kill(self) -> None:
        raise AssertionError("there is nothing to kill")


@contextmanager
def no_peer() -> Iterator[NoPeer]:
    yield NoPeer()


@dataclass(frozen=True)
class Case:
    """How to create a camera for a test, and how to make it lose its source."""

    options: Callable[[Path], dict[str, Any]]
    finite: dict[str, Any] | None = None
    """Options that end it after three frames; None if it never ends."""
    triggered: dict[str, Any] | None = None
    """Options that make it wait for software triggers; None if it cannot."""
    lose: Callable[[Path, Any], None] | None = None
    prepare: Callable[[Path], None] = lambda folder: None
    peer: Callable[[], AbstractContextManager[Any]] = no_peer
    """Context manager of its peer."""
    rate_hz: int = 200
    counts_on: bool = True
    """True if its frame counter continues after being opened again."""


def gige_options(folder: Path) -> dict[str, Any]:
    return {
        "device": DEVICE,
        "Width": 64,
        "Height": 64,
        "AcquisitionFrameRate": 100,
        "packet_resend": False,
        "trigger_timeout_ms": 1000,
    }


def write_video(folder: Path) -> None:
    writer = cv2.VideoWriter(str(folder / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 200, (64, 48))
    for index in range(3):
        writer.write(np.full((48, 64, 3), 60 * index, np.uint8))
    writer.release()


@contextmanager
def library(package: str) -> Iterator[NoPeer]:
    needs.library(package)
    yield NoPeer()


@contextmanager
def kernel_camera() -> Iterator[NoPeer]:
    if not Path("/dev/video0").exists():
        pytest.skip("the kernel offers no camera here (/dev/video0)")
    yield NoPeer()


def simulated_producer(folder: Path) -> dict[str, Any]:
    where = Path(importlib.util.find_spec("genicam").origin or "")  # type: ignore[union-attr]
    return {
        "producer": str(where.parent / "viky.cti"),
        "serial_number": "0",
        "PixelFormat": "Mono8",
        "AcquisitionFrameRate": 50,
    }


CAMERAS = {
    "genicam": Case(
        options=simulated_producer,
        peer=lambda: library("harvesters.core"),
        rate_hz=50,
        counts_on=False,
    ),
    "pylon": Case(
        options=lambda folder: {
            "serial_number": "0815-0000",
            "Width": 64,
            "Height": 32,
            "PixelFormat": "Mono8",
            "AcquisitionFrameRate": 100,
            "trigger_timeout_ms": 2000,
        },
        triggered={"TriggerMode": "On", "TriggerSource": "Software"},
        peer=lambda: library("pypylon"),
        rate_hz=100,
        counts_on=False,
    ),
    "rtsp": Case(
        options=lambda folder: {"url": str(folder / "in.avi")},
        finite={},
        prepare=write_video,
        counts_on=False,
    ),
    "v4l2": Case(options=lambda folder: {}, peer=kernel_camera, rate_hz=30, counts_on=False),
    "aravis": Case(
        options=gige_options,
        triggered={"TriggerMode": "On", "TriggerSource": "Software"},
        lose=lambda folder, camera: camera.kill(),
        peer=fake_camera,
        rate_hz=100,
        counts_on=False,
    ),
    "folder": Case(
        options=lambda folder: {"path": str(folder / "in"), "rate_hz": 200},
        finite={"repeat": False},
        triggered={"pace": "trigger"},
        lose=lambda folder, _peer: shutil.rmtree(folder / "in"),
        prepare=lambda folder: write_images(folder / "in"),
    ),
    "synthetic": Case(
        options=lambda folder: {
            "height_px": 64,
            "width_px": 64,
            "pictures": 3,
            "rate_hz": 200,
            "frames": 3,
        },
        finite={},
        triggered={"pace": "trigger"},
    ),
}


@dataclass(frozen=True)
class CameraUnderTest:
    """One camera type under test, with its peer."""

    name: str
    how: Case
    peer: Any


NOT_IN_CI = {"v4l2", "pylon"}
"""Cameras that need a V4L2 device, or a maker's library of 240 MB."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.hardware] if name in NOT_IN_CI else [])
        for name in plugin_names("camera")
    ]
)
def case(request: pytest.FixtureRequest) -> Iterator[CameraUnderTest]:
    name = request.param
    assert name in CAMERAS, f"add camera {name} to CAMERAS in this file"
    with CAMERAS[name].peer() as peer:
        yield CameraUnderTest(name, CAMERAS[name], peer)


def make(case: CameraUnderTest, folder: Path, **more: Any) -> Camera:
    case.how.prepare(folder)
    module = load_plugin("camera", case.name)
    options = msgspec.convert(case.how.options(folder) | more, module.Options)
    camera = module.build(options, SystemClock())
    assert isinstance(camera, Camera)
    return camera


def grab(camera: Camera, timeout_s: float = 10) -> Grab:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        got = camera.grab(100 * NS_PER_MS)
        if got is not None:
            return got
    raise AssertionError("no frame came")


def grab_further(camera: Camera, count: int) -> None:
    for _ in range(count):
        grab(camera)


def test_frames_have_the_layout_of_the_line(case: CameraUnderTest, tmp_path: Path) -> None:
    camera = make(case, tmp_path)
    camera.open()
    before = SystemClock().now_ns()
    ids = []
    for _ in range(3):
        got = grab(camera)
        assert got.pixels is not None
        assert got.pixels.dtype == np.uint8
        assert got.pixels.ndim == 3
        assert got.pixels.flags.c_contiguous
        assert before - NS_PER_S // 10 <= got.captured_at_ns <= SystemClock().now_ns()
        ids.append(got.camera_frame_id)
        camera.release(got)
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]
    assert camera.period_ns == NS_PER_S // case.how.rate_hz
    camera.close()
    camera.close()


def test_the_end_is_reported_repeatedly(case: CameraUnderTest, tmp_path: Path) -> None:
    if case.how.finite is None:
        return  # it never ends
    camera = make(case, tmp_path, **case.how.finite)
    camera.open()
    for _ in range(3):
        camera.release(grab(camera))
    for _ in range(2):
        with pytest.raises(CameraFinished):
            grab(camera)
    camera.close()


def test_grab_returns_none_after_the_timeout(case: CameraUnderTest, tmp_path: Path) -> None:
    if case.how.triggered is None:
        return  # it always has a frame
    camera = make(case, tmp_path, **case.how.triggered)
    camera.open()
    before = time.monotonic()
    assert camera.grab(50 * NS_PER_MS) is None
    assert 0.04 < time.monotonic() - before < 2
    camera.close()


def test_a_trigger_delivers_one_frame_with_its_part(case: CameraUnderTest, tmp_path: Path) -> None:
    if case.how.triggered is None:
        return
    camera = make(case, tmp_path, **case.how.triggered)
    camera.open()
    assert camera.period_ns is None
    for part in (Part("a", 7), Part("b", 8, simulated=True)):
        camera.trigger(part)
        got = grab(camera)
        assert got.part == part
        assert got.pixels is not None
        camera.release(got)
    assert camera.grab(20 * NS_PER_MS) is None
    camera.close()


def test_triggers_in_a_burst_keep_their_order(case: CameraUnderTest, tmp_path: Path) -> None:
    """A camera may be too slow for a burst; then the part is reported as lost, not mixed up."""
    if case.how.triggered is None:
        return
    camera = make(case, tmp_path, **case.how.triggered)
    camera.open()
    for index in range(3):
        camera.trigger(Part(str(index)))
    found = [grab(camera) for _ in range(3)]
    assert [got.part.part_id for got in found] == ["0", "1", "2"]
    assert all(got.pixels is not None or got.lost for got in found)
    camera.close()


def test_a_free_running_camera_accepts_no_trigger(case: CameraUnderTest, tmp_path: Path) -> None:
    camera = make(case, tmp_path)
    camera.open()
    with pytest.raises(UsageError, match="trigger"):
        camera.trigger(Part())
    camera.close()


def test_a_reopened_camera_continues(case: CameraUnderTest, tmp_path: Path) -> None:
    camera = make(case, tmp_path)
    camera.open()
    first = grab(camera)
    camera.release(first)
    camera.close()
    camera.open()
    again = grab(camera)
    assert not case.how.counts_on or again.camera_frame_id == first.camera_frame_id + 1
    camera.release(again)
    camera.release(first)  # released twice, and after a new connection
    camera.close()


@pytest.mark.slow
def test_a_loss_is_reported(case: CameraUnderTest, tmp_path: Path) -> None:
    if case.how.lose is None:
        return  # it has no source to lose
    camera = make(case, tmp_path)
    camera.open()
    grab(camera)
    case.how.lose(tmp_path, case.peer)
    with pytest.raises(CameraLostError):
        grab_further(camera, 10)
    camera.close()
    with pytest.raises(CameraLostError):
        camera.open()


class TestFolder:
    """Cases of a folder only."""

    def frames(self, folder: Path, **more: Any) -> list[Grab]:
        module = load_plugin("camera", "folder")
        options = msgspec.convert({"path": str(folder), "pace": "max"} | more, module.Options)
        camera = module.build(options, SystemClock())
        camera.open()
        out = []
        while True:
            try:
                got = camera.grab(100 * NS_PER_MS)
            except CameraFinished:
                return out
            assert got is not None
            out.append(got)

    def test_hostile_files_are_frames_without_pixels(self, tmp_path: Path) -> None:
        data = cv2.imencode(".png", np.full((20, 30), 9, np.uint8))[1].tobytes()
        (tmp_path / "a-empty.png").write_bytes(b"")
        (tmp_path / "b-junk.jpg").write_bytes(b"junk" * 99)
        (tmp_path / "c-cut.png").write_bytes(data[: len(data) // 2])
        (tmp_path / "d-folder.png").mkdir()
        (tmp_path / ("e" * 240 + ".png")).write_bytes(data)
        (tmp_path / "f-dangling.bmp").symlink_to(tmp_path / "nowhere")
        (tmp_path / "notes.txt").write_text("no image")
        found = self.frames(tmp_path)
        assert len(found) == 6
        for got in (*found[:2], found[3], found[5]):
            assert got.pixels is None
            assert got.problem
        assert found[4].pixels is not None

    @pytest.mark.parametrize(
        ("image", "color", "shape"),
        [
            (np.full((8, 9), 40_000, np.uint16), "mono", (8, 9, 1)),
            (np.full((8, 9, 3), 7, np.uint8), "mono", (8, 9, 1)),
            (np.full((8, 9), 7, np.uint8), "bgr", (8, 9, 3)),
            (np.full((8, 9, 4), 255, np.uint8), "rgb", (8, 9, 3)),
        ],
    )
    def test_depth_and_color(
        self, tmp_path: Path, image: np.ndarray, color: str, shape: tuple[int, ...]
    ) -> None:
        cv2.imwrite(str(tmp_path / "a.png"), image)
        bits = {"bits": 16} if image.dtype == np.uint16 else {}
        (got,) = self.frames(tmp_path, color=color, **bits)
        assert got.pixels is not None
        assert got.pixels.shape == shape
        assert got.pixels.dtype == np.uint8

    def test_rgb_is_not_bgr(self, tmp_path: Path) -> None:
        blue = np.zeros((4, 4, 3), np.uint8)
        blue[:, :, 0] = 200
        cv2.imwrite(str(tmp_path / "a.png"), blue)
        (bgr,) = self.frames(tmp_path, color="bgr")
        (rgb,) = self.frames(tmp_path, color="rgb")
        assert bgr.pixels is not None
        assert rgb.pixels is not None
        assert bgr.pixels[0, 0].tolist() == [200, 0, 0]
        assert rgb.pixels[0, 0].tolist() == [0, 0, 200]

    def test_a_list_of_names_selects_and_orders(self, tmp_path: Path) -> None:
        write_images(tmp_path / "in")
        (tmp_path / "list").write_text("2.png\n0.png\nmissing.png\n")
        found = self.frames(tmp_path / "in", names=str(tmp_path / "list"))
        assert [got.label for got in found] == ["2.png", "0.png", "missing.png"]
        assert found[2].pixels is None

    def test_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no image"):
            self.frames(tmp_path)
