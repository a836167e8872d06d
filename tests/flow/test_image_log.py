"""Each image of a folder is in the log with its verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from edgeinspect.cameras.folder import FolderCamera, Options
from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.supervision.image_log import ImageLog
from edgeinspect.system import log_events
from tests.flow.line_harness import SHAPE, LineHarness


@pytest.fixture
def harness(tmp_path: Path) -> Any:
    made = LineHarness(tmp_path, spool_slots=64)
    yield made
    made.close()


def log_of(harness: LineHarness, *, reads_files: bool) -> ImageLog:
    camera = FolderCamera(Options(path="unused"), harness.clock) if reads_files else None
    capture: Any = SimpleNamespace(camera=camera or harness.camera)
    return ImageLog(harness.spool, [capture])


def accept(harness: LineHarness, label: str | None, problem: str = "") -> None:
    whole = harness.grab(1)
    pixels = None if problem else whole.pixels
    grab = Grab(pixels, whole.camera_frame_id, whole.captured_at_ns, label=label, problem=problem)
    harness.capture.accept(grab)
    harness.run_worker()


def test_every_image_is_logged_once_in_order(harness: LineHarness) -> None:
    assert SHAPE.channels == 1
    log = log_of(harness, reads_files=True)
    with structlog.testing.capture_logs() as lines:
        log.log_closed()
        accept(harness, "a.png")
        accept(harness, "b.png", "is a named pipe, not a regular file")
        accept(harness, None)  # a live camera of the same line
        log.log_closed(1)
        log.log_closed()
        log.log_closed()
    fields = [(line["picture"], line["decision"], line["reason"], line["detail"]) for line in lines]
    assert fields == [
        ("a.png", "PASS", "clean", ""),
        ("b.png", "NO_VERDICT", "capture_error", "is a named pipe, not a regular file"),
    ]
    assert {line["event"] for line in lines} == {log_events.IMAGE_INSPECTED}


def test_an_open_frame_is_waited_for(harness: LineHarness) -> None:
    log = log_of(harness, reads_files=True)
    harness.capture.accept(Grab(harness.grab(1).pixels, 1, harness.clock.now_ns(), label="a.png"))
    with structlog.testing.capture_logs() as lines:
        log.log_closed()
        assert lines == []
        harness.run_worker()
        log.log_closed()
    assert [line["picture"] for line in lines] == ["a.png"]


def test_overwritten_verdicts_are_counted(harness: LineHarness) -> None:
    log = log_of(harness, reads_files=True)
    for index in range(100):
        accept(harness, f"{index}.png")
    with structlog.testing.capture_logs() as lines:
        log.log_closed(1 << 62)
    skipped = lines[0]
    assert skipped["event"] == log_events.IMAGES_UNLOGGED
    assert skipped["seq"] == 1
    assert skipped["pictures"] + len(lines) - 1 == 100
    assert lines[-1]["picture"] == "99.png"


def test_nothing_is_logged_for_a_live_camera(harness: LineHarness) -> None:
    log = log_of(harness, reads_files=False)
    accept(harness, "a.png")
    with structlog.testing.capture_logs() as lines:
        log.log_closed()
    assert lines == []
