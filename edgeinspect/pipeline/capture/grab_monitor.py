"""Asks one camera for its next frame, and says when that takes too long."""

from __future__ import annotations

import structlog

from edgeinspect.domain import NS_PER_MS, Clock, Grab
from edgeinspect.errors import CameraLostError
from edgeinspect.pipeline.capture.camera_monitor import CameraSilenceMonitor
from edgeinspect.ports import Camera
from edgeinspect.system import log_events

_log = structlog.get_logger()


class GrabMonitor:
    """One camera, asked by its capture thread alone.

    Args:
        camera: Opened and closed by whoever asks.
        name: Of the camera.
        timeout_ns: See `CaptureRules`.
        clock: Measures the waits.
    """

    def __init__(self, camera: Camera, name: str, timeout_ns: int, clock: Clock) -> None:
        self.delay = ""
        """What keeps the next picture back for too long, in words; empty if nothing does."""
        self._camera = camera
        self._name = name
        self._clock = clock
        self._silence_monitor = CameraSilenceMonitor(timeout_ns)
        self._skipped = ""

    @property
    def camera_alarm(self) -> str:
        """What the camera calls a person for while it delivers; empty for nothing."""
        complaint: str = getattr(self._camera, "alarm", "")
        return complaint

    def on_open(self) -> None:
        """The camera was opened."""
        self._silence_monitor.on_open()
        self._log_skipped()

    def _log_skipped(self) -> None:
        skipped = getattr(self._camera, "skipped", "")
        if skipped and skipped != self._skipped:
            _log.warning(log_events.CAMERA_SKIPPED, camera=self._name, skipped=skipped)
        self._skipped = skipped

    def grab(self) -> Grab | None:
        """One turn of waiting for a frame.

        Raises:
            CameraLostError: It was silent for too long, or says itself that it is away.
        """
        watchdog, period_ns = self._silence_monitor, self._camera.period_ns
        asked_ns = watchdog.next_wait_ns(period_ns)
        before_ns = self._clock.now_ns()
        grab = self._camera.grab(asked_ns)
        if grab is not None:
            watchdog.on_frame()
            self.delay = ""
            return grab
        self._log_skipped()
        waits_for = getattr(self._camera, "waits_for", "")
        watchdog.on_timeout(asked_ns, self._clock.now_ns() - before_ns, waits_for)
        if not watchdog.is_delayed(period_ns):
            self.delay = ""
        elif not self.delay:
            self.delay = f"no picture for {watchdog.delay_ns // NS_PER_MS} ms, {waits_for}"
        if watchdog.is_silent(period_ns):
            self.delay = ""
            raise CameraLostError(
                f"no frame for {watchdog.silence_ns // NS_PER_MS} ms",
                where=self._name,
                remedy="Check its cable, power and trigger",
            )
        return None
