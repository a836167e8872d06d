"""Video files: a complete file ends, a truncated one is a loss, and no frame is repeated."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.cameras import rtsp
from edgeinspect.cameras._video import VideoCamera
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, SystemClock
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.ports import CameraFinished

FRAMES = 40


def video(path: Path, fourcc: str = "MJPG") -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 500, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {fourcc} to {path.suffix}")
    rng = np.random.default_rng(3)
    for index in range(FRAMES):
        writer.write(
            np.full((48, 64, 3), index * 5, np.uint8) + rng.integers(0, 9, (48, 64, 3), np.uint8)
        )
    writer.release()
    return path.read_bytes()


def make(path: Path | str) -> VideoCamera:
    options = msgspec.convert({"url": str(path)}, rtsp.Options)
    camera = rtsp.build(options, SystemClock())
    assert isinstance(camera, VideoCamera)
    return camera


def collect_ids(camera: VideoCamera, found: list[int]) -> None:
    """Collect the frame ids until the camera raises."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        got = camera.grab(100 * NS_PER_MS)
        if got is not None:
            found.append(got.camera_frame_id)
    raise AssertionError("it does not end")


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("a.mp4", "mp4v")]
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_complete_file_ends(tmp_path: Path, name: str, fourcc: str, scheme: str) -> None:
    video(tmp_path / name, fourcc)
    camera = make(f"{scheme}{tmp_path / name}")
    camera.open()
    found: list[int] = []
    with pytest.raises(CameraFinished):
        collect_ids(camera, found)
    assert found == list(range(1, FRAMES + 1))
    camera.close()


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("b.mkv", "mp4v")]
)
@pytest.mark.parametrize("how", ["cut", "zeros", "scrambled"])
def test_a_damaged_file_is_a_loss_and_continues_once_repaired(
    tmp_path: Path, name: str, fourcc: str, how: str
) -> None:
    complete = video(tmp_path / name, fourcc)
    middle = len(complete) // 2
    damaged = {
        "cut": complete[:middle],
        "zeros": complete[:middle] + bytes(len(complete) - middle),
        "scrambled": complete[:middle]
        + bytes(each ^ 0x5A for each in complete[middle : middle + 4000])
        + complete[middle + 4000 :],
    }[how]
    (tmp_path / name).write_bytes(damaged)
    camera = make(tmp_path / name)
    camera.open()
    found: list[int] = []
    with pytest.raises(CameraLostError, match=rf"ends after \d+ of {FRAMES} frames"):
        collect_ids(camera, found)
    camera.close()
    (tmp_path / name).write_bytes(complete)
    camera.open()
    with pytest.raises(CameraFinished):
        collect_ids(camera, found)
    assert found == list(range(1, FRAMES + 1))
    camera.close()


def test_a_file_that_is_still_damaged_is_a_loss_again(tmp_path: Path) -> None:
    complete = video(tmp_path / "a.avi")
    (tmp_path / "a.avi").write_bytes(complete[: len(complete) // 2])
    camera = make(tmp_path / "a.avi")
    for _ in range(2):
        camera.open()
        with pytest.raises(CameraLostError, match="damaged"):
            collect_ids(camera, [])
        camera.close()


@pytest.mark.timeout(30)
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.avi")
    with pytest.raises(CameraLostError, match="pipe"):
        make(tmp_path / "a.avi").open()


class CaptureWithoutRate:
    """A capture without frame rate and frame count that returns the given images."""

    def __init__(self, images: list[object]) -> None:
        self.images = images

    def get(self, what: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, object]:
        return (True, self.images.pop(0)) if self.images else (False, None)

    def release(self) -> None:
        pass


def camera_without_rate(images: list[object], *, is_file: bool) -> VideoCamera:
    return VideoCamera(
        where="x",
        connect=lambda: CaptureWithoutRate(images),  # type: ignore[arg-type, return-value]
        color="mono",
        rate_hz=None,
        is_file=is_file,
        clock=SystemClock(),
    )


def test_a_file_without_frame_count_is_refused() -> None:
    with pytest.raises(DataError, match="does not state its frame count"):
        camera_without_rate([], is_file=True).open()


def test_a_stream_without_a_rate_has_a_default_period() -> None:
    camera = camera_without_rate([np.zeros((4, 4), np.uint8)], is_file=False)
    camera.open()
    assert camera.period_ns == NS_PER_S
    with pytest.raises(CameraLostError, match="stream has ended"):
        collect_ids(camera, [])


def test_an_unusable_frame_is_a_loss() -> None:
    camera = camera_without_rate([None], is_file=False)
    camera.open()
    with pytest.raises(CameraLostError, match="unusable frame"):
        collect_ids(camera, [])
