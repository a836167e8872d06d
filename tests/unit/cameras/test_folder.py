"""The folder camera: hostile entries, names, blocked disks, folders that change."""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import structlog

from edgeinspect.cameras import folder as module
from edgeinspect.domain.clock import NS_PER_MS, SystemClock
from edgeinspect.domain.frame import Grab, Part
from edgeinspect.errors import CameraLostError, ConfigError, DataError
from edgeinspect.imaging.image_names import LABEL_BYTES, image_label
from edgeinspect.pipeline.capture.camera_monitor import GrabMonitor
from edgeinspect.ports import CameraFinished


def encode_image(level: int = 90) -> bytes:
    pixels = np.full((20, 30), level, np.uint8)
    pixels[0, level % 30] += 1
    return cv2.imencode(".png", pixels)[1].tobytes()


def make(path: Path, **more: Any) -> module.FolderCamera:
    options = msgspec.convert({"path": str(path), "pace": "max"} | more, module.Options)
    return module.build(options, SystemClock())


def wait_for(what: Callable[[], Any], timeout_s: float = 20) -> Any:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen")


def grab(camera: module.FolderCamera, timeout_s: float = 20) -> Grab:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        got = camera.grab(20 * NS_PER_MS)
        if got is not None:
            camera.release(got)
            return got
    raise AssertionError("no frame came")


def grab_on(camera: module.FolderCamera, count: int) -> None:
    for _ in range(count):
        grab(camera)


def grab_all(camera: module.FolderCamera) -> list[Grab]:
    found = []
    camera.open()
    while True:
        try:
            found.append(grab(camera))
        except CameraFinished:
            camera.close()
            return found


class BlockedDisk:
    """Blocks the reading of one file, as a dead file server does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.may_return, self.is_reading = threading.Event(), threading.Event()
        real = module.read_image_bytes

        def read(path: Path) -> bytes:
            if path.name == name:
                self.is_reading.set()
                assert self.may_return.wait(60)
            return real(path)

        monkeypatch.setattr(module, "read_image_bytes", read)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockedDisk]:
    made = BlockedDisk(monkeypatch, "b.png")
    yield made
    made.may_return.set()


# -- what a folder may hold ------------------------------------------------------------


def png_bomb(side_px: int) -> bytes:
    """Encode a PNG whose header states a size that its data do not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


@pytest.mark.timeout(60)
def test_every_entry_with_an_image_name_is_a_frame(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a-pipe.png")
    (tmp_path / "b-bomb.png").write_bytes(png_bomb(30_000))
    (tmp_path / "c-device.png").symlink_to("/dev/zero")
    (tmp_path / "d-folder.png").mkdir()
    (tmp_path / "e-loop.png").symlink_to("e-loop.png")
    (tmp_path / "f-intact.png").write_bytes(encode_image())
    found = grab_all(make(tmp_path))
    assert [got.label for got in found] == sorted(path.name for path in tmp_path.iterdir())
    for got, problem in zip(
        found, ["named pipe", "30000x30000", "device", "folder", ""], strict=False
    ):
        assert got.pixels is None
        assert problem in got.problem
    assert found[-1].pixels is not None
    assert [got.camera_frame_id for got in found] == [1, 2, 3, 4, 5, 6]


def test_images_larger_than_pixels_max_have_no_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    assert grab_all(make(tmp_path, pixels_max=600))[0].pixels is not None
    assert "more than" in grab_all(make(tmp_path, pixels_max=599))[0].problem


def test_skipped_entries_are_counted_except_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    for name in ("b.webp", "c.webp", "README", ".DS_Store", "._a.png", "Thumbs.db", "~$a.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "old").mkdir()
    camera = make(tmp_path)
    camera.open()
    for part in ("2 .webp (b.webp, c.webp)", "1 folders (old)", "1 without an ending (README)"):
        assert part in camera.skipped_files
    assert "DS_Store" not in camera.skipped_files
    assert [got.label for got in grab_all(camera)] == ["a.png"]


@pytest.mark.parametrize("options", [{"watch": True, "settle_ms": 10}, {"repeat": True}])
def test_a_new_kind_of_skipped_file_is_logged(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    camera = make(tmp_path, **options)
    watch = GrabMonitor(camera, "top", 200 * NS_PER_MS, SystemClock())
    camera.open()
    with structlog.testing.capture_logs() as logs:
        watch.on_open()
        grab(camera)
        assert not logs
        (tmp_path / "b.webp").touch()
        wait_for(lambda: (camera.grab(NS_PER_MS), camera.skipped_files)[1])
        watch.on_open()
        (tmp_path / "c.webp").touch()  # of a kind that has been reported
        for _ in range(5):
            camera.grab(NS_PER_MS)
        watch.on_open()
    camera.close()
    assert [(log["event"], log["camera"]) for log in logs] == [("camera.skipped", "top")]
    assert "1 .webp (b.webp)" in logs[0]["skipped"]


def test_an_idle_watched_folder_logs_skipped_files(tmp_path: Path) -> None:
    camera = make(tmp_path, watch=True, settle_ms=10)
    watch = GrabMonitor(camera, "top", 200 * NS_PER_MS, SystemClock())
    camera.open()
    with structlog.testing.capture_logs() as logs:
        watch.on_open()
        (tmp_path / "b.webp").touch()
        wait_for(lambda: watch.grab() is None and logs)
    camera.close()
    assert logs[0]["event"] == "camera.skipped"


def test_a_folder_without_images_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.webp").touch()
    with pytest.raises(DataError, match=r"holds no image; skipped: 1 \.webp \(a\.webp\)"):
        make(tmp_path).open()


NAMES = [
    b"bl\xe4schen.png",
    b"line\nfeed.png",
    b"\x1b[2Jcleared.png",
    b"-rf.png",
    "größe.png".encode(),
    "gro\u0308ße.png".encode(),
    "\u202egnp.exe.png".encode(),
    b"A;B,C\"D'.png",
    b"a\\xE4.png",
    b"a\xe4.png",
    b"l" * 251 + b".png",
    b"l" * 250 + b"m.png",
    b"\xff" * 120 + b".png",
    b" .png",
]


def test_labels_are_unique_and_storable_for_any_name(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / os.fsdecode(name)).write_bytes(encode_image())
    found = grab_all(make(tmp_path))
    labels = [got.label or "" for got in found]
    assert len(set(labels)) == len(NAMES)
    assert labels == [image_label(os.fsdecode(name)) for name in sorted(NAMES, key=os.fsdecode)]
    for label in labels:
        assert len(label.encode()) <= LABEL_BYTES
        assert label.isprintable()
    assert all(got.pixels is not None for got in found)


def test_names_in_a_list_may_contain_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / os.fsdecode(b"a\xe4.png")).write_bytes(encode_image())
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbfa\xe4.png\r\n\r\nmissing.png")
    found = grab_all(make(tmp_path / "in", names=str(tmp_path / "list")))
    assert [got.label for got in found] == ["a\\xE4.png", "missing.png"]
    assert [got.pixels is None for got in found] == [False, True]


@pytest.mark.timeout(30)
def test_a_list_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    os.mkfifo(tmp_path / "list")
    with pytest.raises(DataError, match="pipe"):
        make(tmp_path, names=str(tmp_path / "list")).open()


# -- a disk that does not respond --------------------------------------------------------


def test_a_blocked_read_does_not_block_the_camera(tmp_path: Path, disk: BlockedDisk) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encode_image(ord(name)))
    camera = make(tmp_path)
    camera.open()
    assert grab(camera).label == "a.png"
    assert camera.grab(10 * NS_PER_MS) is None
    assert disk.is_reading.wait(20)
    for _ in range(5):
        before = time.monotonic()
        assert camera.grab(10 * NS_PER_MS) is None
        assert time.monotonic() - before < 5
        assert camera.waiting_for == "reading b.png"
    camera.close()  # opening again waits for the same read
    threads = threading.active_count()
    with pytest.raises(CameraLostError, match=r"reading b\.png"):
        open_with_short_timeout(camera)
    assert threading.active_count() == threads
    disk.may_return.set()
    camera.open()
    found = grab_all(camera)
    assert [(got.label, got.camera_frame_id) for got in found] == [("b.png", 2), ("c.png", 3)]


def open_with_short_timeout(camera: module.FolderCamera) -> None:
    before, module._OPEN_TIMEOUT_NS = module._OPEN_TIMEOUT_NS, 50 * NS_PER_MS
    try:
        camera.open()
    finally:
        module._OPEN_TIMEOUT_NS = before


def test_the_frame_of_a_late_image_is_not_dated_before_it(
    tmp_path: Path, disk: BlockedDisk
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(encode_image(ord(name)))
    camera = make(tmp_path, pace="rate", rate_hz=1000)
    camera.open()
    grab(camera)
    wait_for(lambda: camera.grab(10 * NS_PER_MS) is None and disk.is_reading.is_set())
    before_ns = SystemClock().now_ns()
    disk.may_return.set()
    assert grab(camera).captured_at_ns >= before_ns


def test_a_dead_share_is_detected_while_no_frame_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    may_return = threading.Event()
    monkeypatch.setattr(module, "check_folder_exists", lambda _path: may_return.wait(60))
    camera = make(tmp_path, pace="trigger")
    camera.open()
    wait_for(lambda: camera.grab(NS_PER_MS) is None and camera.waiting_for == "scanning the folder")
    camera.trigger(Part("p"))
    assert grab(camera).part.part_id == "p"  # read before
    may_return.set()


# -- a folder that changes ---------------------------------------------------------------


def test_a_repeated_folder_is_listed_again_each_time(tmp_path: Path) -> None:
    for name in ("a1", "a2"):
        (tmp_path / f"{name}.png").write_bytes(encode_image(ord(name[1])))
    camera = make(tmp_path, repeat=True)
    camera.open()
    assert [grab(camera).label for _ in range(2)] == ["a1.png", "a2.png"]
    (tmp_path / "b1.png").write_bytes(encode_image(77))
    (tmp_path / "a1.png").unlink()
    seen = [grab(camera) for _ in range(8)]
    assert all(got.pixels is not None for got in seen[2:])
    assert {got.label for got in seen[2:]} == {"a2.png", "b1.png"}
    camera.close()


def test_an_emptied_repeated_folder_is_a_loss(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image())
    camera = make(tmp_path, repeat=True)
    camera.open()
    grab(camera)
    (tmp_path / "a.png").unlink()
    with pytest.raises(CameraLostError, match="holds no image"):
        grab_on(camera, 5)
    camera.close()


def test_a_watched_folder_with_too_many_files_is_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = make(tmp_path, watch=True, settle_ms=10)
    camera.open()
    monkeypatch.setattr("edgeinspect.cameras._folder_listing.NAMES_MAX", 2)
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encode_image(index))
    with pytest.raises(CameraLostError, match="more than 2 files"):
        grab(camera)
    camera.close()


def test_an_unexpected_decoder_error_is_a_frame_without_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise IndexError("far out")

    monkeypatch.setattr(module, "read_image", fail)
    (tmp_path / "a.png").write_bytes(encode_image())
    (found,) = grab_all(make(tmp_path))
    assert found.problem == "cannot be decoded: IndexError"


@pytest.mark.parametrize("other", [{"repeat": True}, {"names": "list"}])
def test_watch_excludes_repeat_and_names(tmp_path: Path, other: Any) -> None:
    with pytest.raises(ConfigError, match="watch"):
        make(tmp_path, watch=True, **other)
