"""What systemd is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.system.systemd import WatchdogNotifier, sd_notify, watchdog_ns


def test_lines_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert sd_notify("READY=1", "STATUS=inspecting")
        assert listener.recv(200) == b"READY=1\nSTATUS=inspecting"


def test_nobody_there_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not sd_notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "want"),
    [
        ("2000000", "", 2_000_000_000),
        ("2000000", "me", 2_000_000_000),
        ("2000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, want: int | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "me" else pid)
    assert watchdog_ns() == want


def test_the_pulse_beats_often_enough_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[str] = []
    monkeypatch.setattr("edgeinspect.system.systemd.sd_notify", lambda *lines: beats.extend(lines))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    clock = ManualClock()
    pulse = WatchdogNotifier(clock)
    for _ in range(1000):
        pulse.notify()
        clock.advance(10_000_000)
    assert 40 <= len(beats) <= 90
    monkeypatch.setenv("WATCHDOG_USEC", "")
    before = len(beats)
    WatchdogNotifier(clock).notify()
    assert len(beats) == before
