"""Video files: the end of a whole one is an end, a break is a loss, and no frame comes twice."""

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
        pytest.skip(f"this OpenCV writes no {fourcc} into {path.suffix}")
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


def numbers(camera: VideoCamera, found: list[int]) -> None:
    """Take all there are; raises how it ends."""
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
def test_a_whole_file_ends(tmp_path: Path, name: str, fourcc: str, scheme: str) -> None:
    video(tmp_path / name, fourcc)
    camera = make(f"{scheme}{tmp_path / name}")
    camera.open()
    found: list[int] = []
    with pytest.raises(CameraFinished):
        numbers(camera, found)
    assert found == list(range(1, FRAMES + 1))
    camera.close()


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("b.mkv", "mp4v")]
)
@pytest.mark.parametrize("how", ["cut", "zeros", "scrambled"])
def test_a_damaged_file_is_a_loss_and_is_gone_on_with_when_it_is_whole_again(
    tmp_path: Path, name: str, fourcc: str, how: str
) -> None:
    whole = video(tmp_path / name, fourcc)
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "zeros": whole[:middle] + bytes(len(whole) - middle),
        "scrambled": whole[:middle]
        + bytes(each ^ 0x5A for each in whole[middle : middle + 4000])
        + whole[middle + 4000 :],
    }[how]
    (tmp_path / name).write_bytes(damaged)
    camera = make(tmp_path / name)
    camera.open()
    found: list[int] = []
    with pytest.raises(CameraLostError, match=rf"ends after \d+ of {FRAMES} frames"):
        numbers(camera, found)
    camera.close()
    (tmp_path / name).write_bytes(whole)
    camera.open()
    with pytest.raises(CameraFinished):
        numbers(camera, found)
    assert found == list(range(1, FRAMES + 1))
    camera.close()


def test_what_is_shorter_than_before_is_still_a_loss(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.avi")
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    camera = make(tmp_path / "a.avi")
    for _ in range(2):
        camera.open()
        with pytest.raises(CameraLostError, match="damaged"):
            numbers(camera, [])
        camera.close()


@pytest.mark.timeout(30)
def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.avi")
    with pytest.raises(CameraLostError, match="pipe"):
        make(tmp_path / "a.avi").open()


class CaptureWithoutRate:
    """A capture that tells neither rate nor length, and gives what it is given."""

    def __init__(self, pictures: list[object]) -> None:
        self.pictures = pictures

    def get(self, what: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, object]:
        return (True, self.pictures.pop(0)) if self.pictures else (False, None)

    def release(self) -> None:
        pass


def camera_without_rate(pictures: list[object], *, is_file: bool) -> VideoCamera:
    return VideoCamera(
        where="x",
        connect=lambda: CaptureWithoutRate(pictures),  # type: ignore[arg-type, return-value]
        color="mono",
        rate_hz=None,
        is_file=is_file,
        clock=SystemClock(),
    )


def test_a_file_that_does_not_say_its_length_is_refused() -> None:
    with pytest.raises(DataError, match="its end cannot be told from a break"):
        camera_without_rate([], is_file=True).open()


def test_a_stream_without_a_rate_can_be_silent_too_long() -> None:
    camera = camera_without_rate([np.zeros((4, 4), np.uint8)], is_file=False)
    camera.open()
    assert camera.period_ns == NS_PER_S
    with pytest.raises(CameraLostError, match="delivers no more"):
        numbers(camera, [])


def test_a_frame_that_is_none_is_a_loss_and_no_silence() -> None:
    camera = camera_without_rate([None], is_file=False)
    camera.open()
    with pytest.raises(CameraLostError, match="cannot be used"):
        numbers(camera, [])
