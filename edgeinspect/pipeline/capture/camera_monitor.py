"""Monitors one camera: silence, and delays that it reports.

The line detects silence itself: camera libraries report it seconds later. Only time that was
spent waiting for the camera counts, since a daemon that was itself stopped, or not scheduled,
must not take its own absence for the camera's.
"""

from __future__ import annotations

import structlog

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Grab
from edgeinspect.errors import CameraLostError
from edgeinspect.ports import Camera, DelayReportingCamera, ImageFileCamera
from edgeinspect.system import log_events

_log = structlog.get_logger()
POLL_TIMEOUT_NS = 100 * NS_PER_MS
"""Longest wait in one call of the camera, so that a stop is noticed soon."""
FIRST_FRAME_TIMEOUT_NS = 2 * NS_PER_S
"""Least time allowed for the first frame after the camera was opened."""
SILENT_PERIODS = 3
_SLACK_NS = 10 * NS_PER_MS


class CameraSilenceMonitor:
    """Measures how long a camera has delivered no frame. Used by its capture thread.

    Args:
        timeout_ns: Longest silence, or three of the camera's periods if that is longer.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._is_first_frame = True
        self.silence_ns = 0
        """How long the camera was waited for without a frame."""
        self.delay_ns = 0
        """How long the camera itself has been waiting for one and the same thing."""
        self._waiting_for = ""

    def on_open(self) -> None:
        """The camera was opened; its first frame may take longer."""
        self._is_first_frame = True
        self.silence_ns = 0

    def on_frame(self) -> None:
        """A frame arrived, complete or not."""
        self._is_first_frame = False
        self.silence_ns = self.delay_ns = 0

    def on_timeout(self, requested_ns: int, took_ns: int, waiting_for: str = "") -> None:
        """No frame arrived.

        Args:
            requested_ns: How long the camera was to be waited for.
            took_ns: How long the call took.
            waiting_for: See `DelayReportingCamera`; such a camera is delayed, not silent.
        """
        spent_ns = min(took_ns, requested_ns + _SLACK_NS)
        if not waiting_for:
            self.silence_ns += spent_ns
        self.delay_ns = self.delay_ns + spent_ns if waiting_for == self._waiting_for else spent_ns
        self._waiting_for = waiting_for

    def next_wait_ns(self, period_ns: int | None) -> int:
        """Return how long to wait for the camera in the next call."""
        if period_ns is None:
            return POLL_TIMEOUT_NS
        return max(NS_PER_MS, min(POLL_TIMEOUT_NS, self._limit_ns(period_ns) - self.silence_ns))

    def is_delayed(self, period_ns: int | None) -> bool:
        """Return whether the camera has waited too long for one thing, such as a file."""
        return bool(self._waiting_for) and self.delay_ns >= max(self._timeout_ns, period_ns or 0)

    def is_silent(self, period_ns: int | None) -> bool:
        """Return whether the camera has been silent for too long; a triggered one never is."""
        return period_ns is not None and self.silence_ns >= self._limit_ns(period_ns)

    def _limit_ns(self, period_ns: int) -> int:
        limit_ns = max(self._timeout_ns, SILENT_PERIODS * period_ns)
        return max(limit_ns, FIRST_FRAME_TIMEOUT_NS) if self._is_first_frame else limit_ns


class GrabMonitor:
    """Grabs frames from one camera and detects when that takes too long.

    Args:
        camera: Opened and closed by the caller.
        name: Of the camera.
        timeout_ns: See `CaptureRules`.
        clock: Measures the waits.
    """

    def __init__(self, camera: Camera, name: str, timeout_ns: int, clock: Clock) -> None:
        self.delay = ""
        """What has delayed the next frame for too long; empty if nothing has."""
        self._camera = camera
        self._delay_reporting = camera if isinstance(camera, DelayReportingCamera) else None
        self._image_file = camera if isinstance(camera, ImageFileCamera) else None
        self._name = name
        self._clock = clock
        self._silence_monitor = CameraSilenceMonitor(timeout_ns)
        self._skipped = ""

    @property
    def camera_alarm(self) -> str:
        """What the camera asks a person to look at while it delivers; empty for nothing."""
        return self._image_file.alarm if self._image_file is not None else ""

    def on_open(self) -> None:
        """The camera was opened."""
        self._silence_monitor.on_open()
        self._log_skipped()

    def _log_skipped(self) -> None:
        if self._image_file is None:
            return
        skipped = self._image_file.skipped_files
        if skipped and skipped != self._skipped:
            _log.warning(log_events.CAMERA_SKIPPED, camera=self._name, skipped=skipped)
        self._skipped = skipped

    def grab(self) -> Grab | None:
        """Wait for a frame once, at most `POLL_TIMEOUT_NS`.

        Raises:
            CameraLostError: The camera was silent for too long, or reported that it is lost.
        """
        silence, period_ns = self._silence_monitor, self._camera.period_ns
        requested_ns = silence.next_wait_ns(period_ns)
        before_ns = self._clock.now_ns()
        grab = self._camera.grab(requested_ns)
        if grab is not None:
            silence.on_frame()
            self.delay = ""
            return grab
        self._log_skipped()
        waiting_for = self._delay_reporting.waiting_for if self._delay_reporting else ""
        silence.on_timeout(requested_ns, self._clock.now_ns() - before_ns, waiting_for)
        if not silence.is_delayed(period_ns):
            self.delay = ""
        elif not self.delay:
            self.delay = f"no picture for {silence.delay_ns // NS_PER_MS} ms, {waiting_for}"
        if silence.is_silent(period_ns):
            self.delay = ""
            raise CameraLostError(
                f"no frame for {silence.silence_ns // NS_PER_MS} ms",
                where=self._name,
                remedy="Check its cable, power and trigger",
            )
        return None
