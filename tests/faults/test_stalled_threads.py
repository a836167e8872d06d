"""While a thread is stalled the heartbeat reports it, in time, and no longer afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.cameras import folder
from edgeinspect.client import Subscriber
from edgeinspect.domain.clock import NS_PER_S, SystemClock
from edgeinspect.domain.verdict import Reason
from edgeinspect.wire.messages import Heartbeat
from tests.faults.harness import SHAPE, RunningLine, wait_for


class HeartbeatListener:
    """Receives a line's heartbeats."""

    def __init__(self, running: RunningLine) -> None:
        self._listener = Subscriber(running.line.publisher.address, topics=("heartbeat",))

    def next(self) -> Heartbeat:
        while True:
            got = self._listener.receive(1_000)
            assert got is not None, "no heartbeat for a second"
            if isinstance(got.message, Heartbeat):
                return got.message

    def until(self, what: Callable[[Heartbeat], bool], beats: int = 400) -> Heartbeat:
        for _ in range(beats):
            if what(beat := self.next()):
                return beat
        raise AssertionError(f"not within {beats} heartbeats; the last: {beat}")

    def close(self) -> None:
        self._listener.close()


def healthy(beat: Heartbeat) -> bool:
    return beat.inspecting and not beat.alarm


class Blocker:
    """A call that blocks until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.released.set()
        self.waiting = threading.Event()

    def __call__(self) -> None:
        if not self.released.is_set():
            self.waiting.set()
            assert self.released.wait(60)


def images(path: Path, count: int) -> folder.FolderCamera:
    path.mkdir()
    for index in range(count):
        pixels = np.full(SHAPE.dims, 60 + index, np.uint8)
        pixels[0, index] += 1
        cv2.imwrite(str(path / f"{index:02}.png"), pixels)
    options = msgspec.convert({"path": str(path), "rate_hz": 50}, folder.Options)
    return folder.build(options, SystemClock())


def test_a_read_that_hangs_is_an_alarm_and_the_line_continues_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, real = Blocker(), folder.read_image_bytes
    hold.released.clear()

    def read(path: Path) -> bytes:
        if path.name == "03.png":
            hold()
        return real(path)

    monkeypatch.setattr(folder, "read_image_bytes", read)
    running = RunningLine(tmp_path, camera=images(tmp_path / "in", 6), budget_ms=2_000)
    heartbeats = HeartbeatListener(running)
    running.line.start()
    assert hold.waiting.wait(20)
    beat = heartbeats.until(lambda beat: not beat.inspecting and bool(beat.alarm))
    assert beat.alarm.startswith("camera top: no picture for 2")
    assert beat.alarm.endswith("ms, reading 03.png")
    for _ in range(20):  # one alarm, not one for each moment
        assert heartbeats.next().alarm == beat.alarm
    assert (
        running.line.watchdog_liveness.problem() == ""
    )  # a restart would not bring the server back
    hold.released.set()
    assert running.ended.wait(30)
    heartbeats.close()
    running.stop()
    assert [verdict.label for verdict in running.verdicts] == [
        f"{index:02}.png" for index in range(6)
    ]
    assert [verdict.camera_frame_id for verdict in running.verdicts] == list(range(1, 7))
    assert all(verdict.reason is Reason.CLEAN for verdict in running.verdicts)
    assert not running.failures


def test_each_stalled_thread_is_in_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = RunningLine(tmp_path, frames=1_000_000, rate_hz=50)
    line = running.line
    holds: dict[str, Blocker] = {}

    def hold(name: str, owner: Any, method: str) -> None:
        holds[name] = held = Blocker()
        real = getattr(owner, method)

        def slow(*words: Any, **more: Any) -> Any:
            held()
            return real(*words, **more)

        monkeypatch.setattr(owner, method, slow)

    hold("capture-top", running.camera, "grab")
    hold("inspect-0", line.workers[0], "inspect")
    hold("guard", line.guard, "close_due")
    hold("replay", line.replay_server, "_answer_triggers")
    heartbeats = HeartbeatListener(running)
    line.start()
    try:
        for name, held in holds.items():
            heartbeats.until(healthy)
            held.released.clear()
            assert held.waiting.wait(20)
            heartbeats.until(
                lambda beat, name=name: not beat.inspecting and beat.alarm == f"{name} stands still"
            )
            held.released.set()
            held.waiting.clear()
        heartbeats.until(healthy)
    finally:
        for held in holds.values():
            held.released.set()
        heartbeats.close()
        running.stop()


def test_a_stalled_reporter_is_an_alarm_and_inspection_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edgeinspect.pipeline.supervision.status_reporter._STALL_ALARM_NS", NS_PER_S // 5
    )
    held = Blocker()
    running = RunningLine(tmp_path, frames=1_000_000, rate_hz=50)
    running.line.reporter._on_tick = held
    heartbeats = HeartbeatListener(running)
    running.line.start()
    try:
        heartbeats.until(healthy)
        held.released.clear()
        beat = heartbeats.until(lambda beat: beat.alarm.startswith("report stands still"))
        assert beat.inspecting
        held.released.set()
        heartbeats.until(healthy)
    finally:
        held.released.set()
        heartbeats.close()
        running.stop()


def test_a_distant_deadline_is_not_taken_for_a_stalled_guard(tmp_path: Path) -> None:
    free = threading.Event()
    running = RunningLine(
        tmp_path, frames=100, rate_hz=20, budget_ms=5_000, take_time=lambda: _wait_in_line(free)
    )
    heartbeats = HeartbeatListener(running)
    running.line.start()
    heartbeats.until(lambda beat: beat.inspecting)
    wait_for(lambda: running.line.closer.counters.counts().open > 2)
    # A frame stays open for a second; a loaded PC may stall itself.
    assert sum(healthy(heartbeats.next()) for _ in range(20)) >= 10
    free.set()
    heartbeats.close()
    running.stop()


def _wait_in_line(free: threading.Event) -> None:
    if threading.current_thread().name.startswith("inspect"):
        free.wait(60)


def test_an_idle_line_raises_no_alarm(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    options = msgspec.convert({"path": str(tmp_path / "in"), "watch": True}, folder.Options)
    running = RunningLine(tmp_path, camera=folder.build(options, SystemClock()))
    heartbeats = HeartbeatListener(running)
    running.line.start()
    heartbeats.until(healthy)
    assert sum(healthy(heartbeats.next()) for _ in range(30)) >= 15  # a PC may stall itself
    heartbeats.close()
    running.stop()


def test_a_watched_folder_through_the_line_across_restarts(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()

    def put(index: int) -> None:
        pixels = np.full(SHAPE.dims, 60 + index, np.uint8)
        pixels[0, index] += 1
        (source / f"{index}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

    def run(until: Callable[[RunningLine], bool]) -> list[str | None]:
        options = msgspec.convert(
            {"path": str(source), "watch": True, "settle_ms": 50, "rate_hz": 200}, folder.Options
        )
        running = RunningLine(tmp_path, camera=folder.build(options, SystemClock()))
        running.line.start()
        wait_for(lambda: until(running))
        running.stop()
        assert not running.failures
        return [verdict.label for verdict in running.verdicts]

    for index in range(3):
        put(index)
    assert run(lambda running: len(running.verdicts) == 3) == ["0.png", "1.png", "2.png"]
    put(3)
    assert run(lambda running: len(running.verdicts) == 1) == ["3.png"]
