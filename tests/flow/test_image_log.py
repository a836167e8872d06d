"""Each picture of a folder run is in the log with its verdict, by the report's thread."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from edgeinspect.domain.frame import Grab
from edgeinspect.pipeline.supervision.image_log import PictureLog
from edgeinspect.system import log_events
from tests.flow.line_harness import SHAPE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path, spool_slots=64)
    yield made
    made.dispose()


def log_of(bench: Bench, *, named: bool) -> PictureLog:
    capture: Any = SimpleNamespace(camera=SimpleNamespace(names_pictures=named))
    return PictureLog(bench.spool, [capture])


def admit(bench: Bench, label: str | None, problem: str = "") -> None:
    whole = bench.grab(1)
    pixels = None if problem else whole.pixels
    grab = Grab(pixels, whole.camera_frame_id, whole.captured_at_ns, label=label, problem=problem)
    bench.capture.admit(grab)
    bench.work()


def test_every_picture_is_named_once_in_order(bench: Bench) -> None:
    assert SHAPE.channels == 1
    pictures = log_of(bench, named=True)
    with structlog.testing.capture_logs() as lines:
        pictures.tell()
        admit(bench, "a.png")
        admit(bench, "b.png", "is a named pipe, not a regular file")
        admit(bench, None)  # a challenge, a live camera beside it
        pictures.tell(1)
        pictures.tell()
        pictures.tell()
    told = [(line["picture"], line["decision"], line["reason"], line["detail"]) for line in lines]
    assert told == [
        ("a.png", "PASS", "clean", ""),
        ("b.png", "NO_VERDICT", "capture_error", "is a named pipe, not a regular file"),
    ]
    assert {line["event"] for line in lines} == {log_events.PICTURE_JUDGED}


def test_an_open_frame_is_waited_for(bench: Bench) -> None:
    pictures = log_of(bench, named=True)
    bench.capture.admit(Grab(bench.grab(1).pixels, 1, bench.clock.now_ns(), label="a.png"))
    with structlog.testing.capture_logs() as lines:
        pictures.tell()
        assert lines == []
        bench.work()
        pictures.tell()
    assert [line["picture"] for line in lines] == ["a.png"]


def test_what_went_over_the_spool_is_counted(bench: Bench) -> None:
    pictures = log_of(bench, named=True)
    for index in range(100):
        admit(bench, f"{index}.png")
    with structlog.testing.capture_logs() as lines:
        pictures.tell(1 << 62)
    untold = lines[0]
    assert untold["event"] == log_events.PICTURES_UNTOLD
    assert untold["seq"] == 1
    assert untold["pictures"] + len(lines) - 1 == 100
    assert lines[-1]["picture"] == "99.png"


def test_of_a_live_camera_nothing_is_read(bench: Bench) -> None:
    pictures = log_of(bench, named=False)
    admit(bench, "a.png")
    with structlog.testing.capture_logs() as lines:
        pictures.tell()
    assert lines == []
