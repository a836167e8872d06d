"""Each picture of a folder run is in the log with its verdict, by the report's thread."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.supervision.image_log import ImageLog
from edgeinspect.system import log_events
from tests.flow.line_harness import SHAPE, LineHarness


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = LineHarness(tmp_path, spool_slots=64)
    yield made
    made.close()


def log_of(bench: LineHarness, *, named: bool) -> ImageLog:
    capture: Any = SimpleNamespace(camera=SimpleNamespace(names_pictures=named))
    return ImageLog(bench.spool, [capture])


def admit(bench: LineHarness, label: str | None, problem: str = "") -> None:
    whole = bench.grab(1)
    pixels = None if problem else whole.pixels
    grab = Grab(pixels, whole.camera_frame_id, whole.captured_at_ns, label=label, problem=problem)
    bench.capture.accept(grab)
    bench.run_worker()


def test_every_picture_is_named_once_in_order(bench: LineHarness) -> None:
    assert SHAPE.channels == 1
    pictures = log_of(bench, named=True)
    with structlog.testing.capture_logs() as lines:
        pictures.log_closed()
        admit(bench, "a.png")
        admit(bench, "b.png", "is a named pipe, not a regular file")
        admit(bench, None)  # a challenge, a live camera beside it
        pictures.log_closed(1)
        pictures.log_closed()
        pictures.log_closed()
    told = [(line["picture"], line["decision"], line["reason"], line["detail"]) for line in lines]
    assert told == [
        ("a.png", "PASS", "clean", ""),
        ("b.png", "NO_VERDICT", "capture_error", "is a named pipe, not a regular file"),
    ]
    assert {line["event"] for line in lines} == {log_events.PICTURE_JUDGED}


def test_an_open_frame_is_waited_for(bench: LineHarness) -> None:
    pictures = log_of(bench, named=True)
    bench.capture.accept(Grab(bench.grab(1).pixels, 1, bench.clock.now_ns(), label="a.png"))
    with structlog.testing.capture_logs() as lines:
        pictures.log_closed()
        assert lines == []
        bench.run_worker()
        pictures.log_closed()
    assert [line["picture"] for line in lines] == ["a.png"]


def test_what_went_over_the_spool_is_counted(bench: LineHarness) -> None:
    pictures = log_of(bench, named=True)
    for index in range(100):
        admit(bench, f"{index}.png")
    with structlog.testing.capture_logs() as lines:
        pictures.log_closed(1 << 62)
    untold = lines[0]
    assert untold["event"] == log_events.PICTURES_UNTOLD
    assert untold["seq"] == 1
    assert untold["pictures"] + len(lines) - 1 == 100
    assert lines[-1]["picture"] == "99.png"


def test_of_a_live_camera_nothing_is_read(bench: LineHarness) -> None:
    pictures = log_of(bench, named=False)
    admit(bench, "a.png")
    with structlog.testing.capture_logs() as lines:
        pictures.log_closed()
    assert lines == []
