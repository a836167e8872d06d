"""Asks one camera for its next frame, and says when that takes too long."""

from __future__ import annotations

import structlog

from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.domain.frame import Grab
from edgeinspect.errors import CameraLostError
from edgeinspect.pipeline.capture.camera_monitor import Watchdog
from edgeinspect.ports import Camera
from edgeinspect.system import log_events

_log = structlog.get_logger()


class CameraWatch:
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
        self._watchdog = Watchdog(timeout_ns)
        self._skipped = ""

    @property
    def complaint(self) -> str:
        """What the camera calls a person for while it delivers; empty for nothing."""
        complaint: str = getattr(self._camera, "alarm", "")
        return complaint

    def opened(self) -> None:
        """The camera was opened."""
        self._watchdog.opened()
        self._tell_skipped()

    def _tell_skipped(self) -> None:
        skipped = getattr(self._camera, "skipped", "")
        if skipped and skipped != self._skipped:
            _log.warning(log_events.CAMERA_SKIPPED, camera=self._name, skipped=skipped)
        self._skipped = skipped

    def grab(self) -> Grab | None:
        """One turn of waiting for a frame.

        Raises:
            CameraLostError: It was silent for too long, or says itself that it is away.
        """
        watchdog, period_ns = self._watchdog, self._camera.period_ns
        asked_ns = watchdog.wait_ns(period_ns)
        before_ns = self._clock.now_ns()
        grab = self._camera.grab(asked_ns)
        if grab is not None:
            watchdog.heard()
            self.delay = ""
            return grab
        self._tell_skipped()
        waits_for = getattr(self._camera, "waits_for", "")
        watchdog.waited(asked_ns, self._clock.now_ns() - before_ns, waits_for)
        if not watchdog.delayed(period_ns):
            self.delay = ""
        elif not self.delay:
            self.delay = f"no picture for {watchdog.delayed_ns // NS_PER_MS} ms, {waits_for}"
        if watchdog.silent(period_ns):
            self.delay = ""
            raise CameraLostError(
                f"no frame for {watchdog.quiet_ns // NS_PER_MS} ms",
                where=self._name,
                remedy="Check its cable, power and trigger",
            )
        return None
