from __future__ import annotations

import io
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.system import log, log_events


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    log.close()


def written(mode: str, level: str = "info", **fields: Any) -> str:
    stream = io.StringIO()
    log.configure(mode, level, stream)
    logger = structlog.get_logger()
    logger.debug("frame.dropped", **fields)
    logger.warning(log_events.CAMERA_LOST, **fields)
    log.close()
    return stream.getvalue()


def test_json_lines() -> None:
    (line,) = written("json", camera="top", attempt=2).splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "camera.lost", "level": "warning", "camera": "top", "attempt": 2}


def test_console_lines_without_colour_on_a_pipe() -> None:
    text = written("console", camera="top")
    assert "camera.lost" in text
    assert "camera=top" in text
    assert "\x1b" not in text


def test_level() -> None:
    assert len(written("json", "debug").splitlines()) == 2
    assert written("json", "error") == ""


def test_auto_is_json_on_a_pipe() -> None:
    assert json.loads(written("auto"))["event"] == "camera.lost"


@pytest.mark.parametrize(("mode", "level"), [("xml", "info"), ("json", "loud")])
def test_an_unknown_mode_or_level(mode: str, level: str) -> None:
    with pytest.raises(ValueError, match="no such log"):
        log.configure(mode, level)


def test_an_exception_is_in_the_line() -> None:
    stream = io.StringIO()
    log.configure("json", "info", stream)
    try:
        raise KeyError("pixel")
    except KeyError:
        structlog.get_logger().exception("engine.failed")
    log.close()
    assert "KeyError: 'pixel'" in json.loads(stream.getvalue())["exception"]


def test_configuring_again_moves_the_log() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = structlog.get_logger()
    log.configure("json", "info", first)
    logger.info("a.b")
    log.configure("json", "info", second)
    logger.info("c.d")
    log.close()
    assert "a.b" in first.getvalue()
    assert "c.d" in second.getvalue()
    assert "c.d" not in first.getvalue()


class StuckStream(io.StringIO):
    """A reader that has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.go.wait(30)
        return super().write(text)


def test_a_stuck_reader_never_blocks_and_losses_are_counted() -> None:
    stream = StuckStream()
    sink = log.StreamSink(stream, limit=5)
    sink.info("first")
    assert stream.entered.wait(10)
    for number in range(20):
        sink.info(str(number))
    assert sink.dropped == 15
    stream.go.set()
    sink.close()
    assert stream.getvalue().split() == ["first", "0", "1", "2", "3", "4"]


def test_a_closed_stream_is_survived() -> None:
    stream = io.StringIO()
    stream.close()
    sink = log.StreamSink(stream)
    sink.info("line")
    sink.close()
    assert sink.dropped == 1


def receive(listener: socket.socket) -> dict[str, str]:
    data = listener.recv(1 << 16)
    fields = {}
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            key, _, value = head.partition(b"=")
            data = rest
        else:
            key, (size,) = head, struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + size], rest[9 + size :]
        fields[key.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = str(tmp_path / "j")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        monkeypatch.setattr(log, "JOURNAL_SOCKET", address)
        monkeypatch.setattr(log.JournalSink.__init__, "__defaults__", (address, "edgeinspect"))
        yield listener


def test_the_journal_gets_fields(journal: socket.socket) -> None:
    log.configure("journal")
    logger = structlog.get_logger()
    logger.error(log_events.CAMERA_LOST, camera="top", attempt=2, problem="a\nMESSAGE=forged")
    assert receive(journal) == {
        "MESSAGE": "camera.lost",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "edgeinspect",
        "EI_CAMERA": "top",
        "EI_ATTEMPT": "2",
        "EI_PROBLEM": "a\nMESSAGE=forged",
    }
    logger.warning("a.b", nested={"x": 1}, **{"od d-key": "v"})
    fields = receive(journal)
    assert fields["PRIORITY"] == "4"
    assert fields["EI_NESTED"] == '{"x": 1}'
    assert fields["EI_OD_D_KEY"] == "v"


def test_a_full_journal_never_blocks(journal: socket.socket) -> None:
    sink = log.configure("journal")
    logger = structlog.get_logger()
    for _ in range(5_000):
        logger.info("a.b", text="x" * 500)
    assert sink.dropped > 0


def test_systemd_is_told_by_its_own_stream(
    journal: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "err").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert isinstance(log.configure("auto", stream=stream), log.JournalSink)
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        assert isinstance(log.configure("auto", stream=stream), log.StreamSink)


def test_without_journald_the_demand_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No such file"):
        log.JournalSink("/nonexistent/socket")


class Recorder:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))


def test_rate_limit() -> None:
    clock, recorder = ManualClock(), Recorder()
    limited = log.RateLimitedLogger(recorder, clock, interval_ns=1_000)
    for seq in range(5):
        limited.warning("frame.dropped", seq=seq)
    limited.error("engine.failed")
    clock.advance(999)
    limited.warning("frame.dropped", seq=5)
    clock.advance(1)
    limited.warning("frame.dropped", seq=6)
    limited.info("line.summary")
    assert recorder.lines == [
        ("warning", "frame.dropped", {"seq": 0}),
        ("error", "engine.failed", {}),
        ("warning", "frame.dropped", {"seq": 6, "suppressed": 5}),
        ("info", "line.summary", {}),
    ]


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", "info", sys.stderr)
    structlog.get_logger().info("a.b")
    log.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a.b" in captured.err
