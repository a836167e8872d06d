"""A network camera over RTSP: a line on it, its silence, its loss and its return."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeinspect.cameras import rtsp
from edgeinspect.domain.clock import SystemClock
from edgeinspect.errors import CameraLostError
from edgeinspect.ports import Camera
from tests.faults.harness import RunningLine, wait_for
from tests.rtsp_server import RATE_HZ, RtspServer, write_stream

SECONDS = 30


def make(url: str) -> Camera:
    options = {"url": url, "color": "mono", "timeout_ms": 3_000}
    return rtsp.build(msgspec.convert(options, rtsp.Options), SystemClock())


def test_a_line_sees_it_go_and_come_back(tmp_path: Path) -> None:
    stream = tmp_path / "strip.ts"
    write_stream(stream, SECONDS)
    server = RtspServer(stream, SECONDS)
    capture = "{reconnect: {first_ms: 50, max_ms: 200}, wrong_shape: letterbox}"
    rig = RunningLine(tmp_path, camera=make(server.url), budget_ms=2000, capture=capture)
    (line,) = rig.line.capture_threads
    try:
        rig.line.start()
        wait_for(lambda: len(rig.verdicts) >= RATE_HZ, 30)
        assert line.camera.period_ns == 1_000_000_000 // RATE_HZ
        server.is_silent.set()  # connected, and nothing comes: only the line's own watch sees it
        wait_for(lambda: line.state == "lost")
        server.stop()
        server = RtspServer(stream, SECONDS, server.port)
        seen = len(rig.verdicts)
        wait_for(lambda: line.state == "live" and len(rig.verdicts) > seen + 5, 30)
    finally:
        rig.stop()
        server.stop()
    assert not rig.failures
    assert {verdict.clock_source for verdict in rig.verdicts} == {"host"}


def test_a_connection_that_is_cut_is_a_loss(tmp_path: Path) -> None:
    stream = tmp_path / "strip.ts"
    write_stream(stream, SECONDS)
    server = RtspServer(stream, SECONDS)
    camera = make(server.url)
    camera.open()
    wait_for(lambda: camera.grab(100_000_000) is not None)
    server.stop()
    with pytest.raises(CameraLostError, match="stream has ended"):
        wait_for(lambda: camera.grab(100_000_000) and False)
    camera.close()
    with pytest.raises(CameraLostError) as caught:
        camera.open()
    assert "secret" not in str(caught.value)
