"""A line that is stalled while its process runs: detected, reported, the watchdog not notified."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.verdict import Reason
from edgeinspect.pipeline.supervision import liveness
from edgeinspect.services.daemon import service
from tests.faults.harness import RunningLine, wait_for


class FakeSystemd:
    """systemd's end of the notify socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.setblocking(False)
        self.said: list[str] = []

    def receive(self) -> list[str]:
        """Return all notifications, the newest last."""
        while True:
            try:
                self.said += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.said


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystemd:
    made = FakeSystemd(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    monkeypatch.setattr(liveness, "STALL_TIMEOUT_NS", 1_200 * NS_PER_MS)
    return made


def test_an_engine_that_hangs_ends_the_watchdog_notifications(
    tmp_path: Path, manager: FakeSystemd
) -> None:
    hung, free = threading.Event(), threading.Event()
    running = RunningLine(tmp_path, frames=100_000, rate_hz=50)

    def hang() -> None:
        if hung.is_set():
            free.wait(60)

    running.engine._take_time = hang
    ended = threading.Event()
    running.line.start()
    attending = threading.Thread(target=service.run_watchdog, args=(running.line, ended))
    attending.start()
    try:
        wait_for(lambda: manager.receive().count("WATCHDOG=1") >= 5)
        assert "STATUS=inspecting rig" in manager.said
        hung.set()
        wait_for(
            lambda: any("the watchdog is not notified" in words for words in manager.receive())
        )
        assert "STATUS=inspect-0 stands still" in manager.said  # the heartbeat's alarm, before
        stood = len(manager.said)
        inspected = len(running.verdicts)
        # All the while every frame has its verdict, in time: the process is far from dead.
        wait_for(lambda: len(running.verdicts) > inspected + 10)
        assert {v.reason for v in running.verdicts[inspected:]} == {Reason.DEADLINE}
        assert "WATCHDOG=1" not in manager.receive()[stood:]
        free.set()
        hung.clear()
        wait_for(lambda: "WATCHDOG=1" in manager.receive()[stood:])
    finally:
        free.set()
        ended.set()
        attending.join(10)
        manager.socket.close()
        running.stop()


def test_a_lost_camera_is_an_alarm_and_no_reason_to_restart(
    tmp_path: Path, manager: FakeSystemd
) -> None:
    running = RunningLine(
        tmp_path, frames=100_000, rate_hz=50, capture="{reconnect: {first_ms: 50}}"
    )
    ended = threading.Event()
    running.line.start()
    attending = threading.Thread(target=service.run_watchdog, args=(running.line, ended))
    attending.start()
    try:
        wait_for(lambda: "WATCHDOG=1" in manager.receive())
        running.camera.is_plugged = False
        wait_for(lambda: "STATUS=camera top is lost" in manager.receive())
        before = manager.said.count("WATCHDOG=1")
        wait_for(lambda: manager.receive().count("WATCHDOG=1") > before + 40)  # beyond its patience
        assert not any("stands still" in words for words in manager.said)
    finally:
        ended.set()
        attending.join(10)
        manager.socket.close()
        running.stop()
