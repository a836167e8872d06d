"""Aravis' fake GigE Vision camera as a separate process on the loopback interface."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeinspect.system.files import FileLock
from tests import needs

PROGRAM = "arv-fake-gv-camera-0.8"
DEVICE = "Aravis-Fake-GV01"
_PORT = f":{3956:04X} "


class FakeCamera:
    """The process of the camera."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, lost_per_thousand: int = 0) -> None:
        """Start the camera and wait until it listens."""
        self._process = subprocess.Popen(
            [PROGRAM, "-i", "127.0.0.1", "-s", "GV01", "-r", str(lost_per_thousand)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while _PORT not in Path("/proc/net/udp").read_text().upper():
            assert time.monotonic() < until, "the fake camera does not listen"
            assert self._process.poll() is None, "the fake camera has ended"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill the camera and wait for its end. May be called again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def fake_camera(lost_per_thousand: int = 0, *, running: bool = True) -> Iterator[FakeCamera]:
    """Run a fake camera. Its port is fixed, so test runs on one machine wait for each other."""
    needs.program(PROGRAM)
    lock_file = Path(tempfile.gettempdir()) / "edgeinspect-fake-camera.lock"
    with FileLock(lock_file, timeout_s=None):
        camera = FakeCamera()
        try:
            if running:
                camera.start(lost_per_thousand)
            yield camera
        finally:
            camera.kill()
