"""A whole line with its threads, on scripted engines and a scripted camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeinspect.cameras import FramePacer
from edgeinspect.client import Subscriber
from edgeinspect.client.sockets import SocketSetup, no_encryption
from edgeinspect.config.loader import parse_config
from edgeinspect.domain.clock import NS_PER_S, SystemClock
from edgeinspect.domain.frame import FrameShape, Grab, Part
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import CameraLostError
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.ports import Camera, CameraFinished
from edgeinspect.testing.doubles import ScriptedEngine, brightness_gate
from edgeinspect.wire.messages import VerdictCounts

SHAPE = FrameShape(16, 32, 1)
JOIN_S = 5.0
"""A subscriber that is never admitted is not waited for any longer."""
QUIET_S = 3.0
"""After the line has ended: no verdict is still on its way over loopback."""


class UnpluggableCamera:
    """Noise at a rate; may be unplugged and plugged in again.

    Args:
        rate_hz: Frames per second.
        frames: After this many it has ended.
        may_begin: The first frame waits for it, for `JOIN_S` at most.
    """

    def __init__(
        self, rate_hz: float, frames: int, may_begin: threading.Event | None = None
    ) -> None:
        self._may_begin = may_begin
        self._pace = FramePacer("rate", rate_hz, SystemClock())
        self._frames = frames
        self._rng = np.random.default_rng(1)
        self.sent_count = 0
        self.is_plugged = True
        self.shape: tuple[int, ...] = SHAPE.dims

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        self._check()
        self._pace.start()
        self._begin_at_latest_s = time.monotonic() + JOIN_S

    def grab(self, timeout_ns: int) -> Grab | None:
        self._check()
        if self._may_begin is not None:
            has_joined = self._may_begin.wait(timeout_ns / NS_PER_S)
            if not has_joined and time.monotonic() < self._begin_at_latest_s:
                return None
            self._may_begin = None
            self._pace.start()
        if self.sent_count >= self._frames:
            raise CameraFinished
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        self.sent_count += 1
        return Grab(self._rng.integers(20, 60, self.shape, np.uint8), self.sent_count, due[0])

    def _check(self) -> None:
        if not self.is_plugged:
            raise CameraLostError("unplugged", where="noise")

    def release(self, grab: Grab) -> None:
        pass

    def trigger(self, part: Part) -> None:
        pass

    def close(self) -> None:
        pass


class RunningLine:
    """Runs a line and subscribes to its verdicts."""

    def __init__(
        self,
        folder: Path,
        *,
        rate_hz: float = 200,
        frames: int = 200,
        budget_ms: float = 100,
        capture: str = "{}",
        more: str = "",
        publish: str = "",
        prepare: SocketSetup = no_encryption,
        take_time: Callable[[], None] = lambda: None,
        camera: Camera | None = None,
        workers: int = 1,
    ) -> None:
        # What is published before a subscriber has joined does not reach it.
        self._has_joined = threading.Event()
        self.camera = UnpluggableCamera(rate_hz, frames, self._has_joined)
        self.ended = threading.Event()
        self.failures: list[BaseException] = []
        self.engines = [brightness_gate(SHAPE, take_time) for _ in range(workers)]
        self.engine: ScriptedEngine = self.engines[0]
        loaded = parse_config(
            f"""\
schema: 1
line: rig
budget_ms: {budget_ms}
cameras: {{top: {{type: synthetic}}}}
capture: {capture}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*", status_ms: 100{publish}}}
spool: {{folder: {folder}, slots: 4096}}
inspect: {{workers: {workers}}}
{more}
"""
        )
        self.line = Line(
            loaded.config,
            config_hash=loaded.hash,
            cameras={"top": camera or self.camera},
            worker_engines=[WorkerEngines(engine, None) for engine in self.engines],
            clock=SystemClock(),
            on_failure=self._fail,
            on_end=self.ended.set,
        )
        self.verdicts: list[Verdict] = []
        self._listener = Subscriber(
            self.line.publisher.address, topics=("verdict", "heartbeat"), setup_socket=prepare
        )
        self._until: int | None = None
        self._listener_thread = threading.Thread(target=self._listen, daemon=True)
        self._listener_thread.start()

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.ended.set()

    def _listen(self) -> None:
        quiet_since = time.monotonic()
        while self._until is None or not self.verdicts or self.verdicts[-1].seq < self._until:
            got = self._listener.receive(50)
            if got is not None:
                self._has_joined.set()
            if got is not None and isinstance(got.message, Verdict):
                self.verdicts.append(got.message)
            if got is not None or self._until is None:
                quiet_since = time.monotonic()
            # A test that cuts connections may have cut this one, and what it missed never comes.
            elif self._until == 0 or time.monotonic() - quiet_since > QUIET_S:
                break
        self._listener.close()

    def run(self, timeout_s: float = 60) -> VerdictCounts:
        """Run until the camera ends or fails, and every verdict was received."""
        self.line.start()
        assert self.ended.wait(timeout_s)
        return self.stop()

    def stop(self) -> VerdictCounts:
        """Stop the line and check the counters at both ends of the wire."""
        counts = self.line.stop()
        self._until = self.line.spool.published_seq
        self._listener_thread.join()
        self.line.close()
        assert counts.open == 0
        assert counts.captured == counts.passed + counts.reject + counts.no_verdict
        assert counts.captured == (self.camera.sent_count or counts.captured)
        seqs = [verdict.seq for verdict in self.verdicts]
        assert seqs == sorted(set(seqs))
        return counts


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
