"""The capture thread: one per camera, from its buffer to the ring and the spool."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import structlog

from edgeinspect.domain import (
    FRAME_NOT_RECEIVED,
    CameraCounts,
    Clock,
    FrameGapDetector,
    Grab,
    Part,
    Pixels,
    Reason,
    challenge_part,
    read_utc_offset_ns,
)
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging import fit_into
from edgeinspect.pipeline.capture.camera_monitor import POLL_TIMEOUT_NS, GrabMonitor
from edgeinspect.pipeline.capture.image_checks import ImageChecker, shape_problem
from edgeinspect.pipeline.capture.rules import CaptureRules, open_record
from edgeinspect.pipeline.capture.triggers import PendingTrigger, PendingTriggers, TriggerAudit
from edgeinspect.pipeline.verdicts import DeadlineGuard, FrameQueue, OpenFrame, VerdictCloser
from edgeinspect.ports import Camera, CameraFinished, CameraStatistics, LossReportingCamera
from edgeinspect.storage.shared_memory import FrameRing, SideBuffer
from edgeinspect.storage.spool import SpoolFullError
from edgeinspect.system import log_events

_log = structlog.get_logger()


class CaptureThread:
    """Opens a frame for every image that the camera delivers. `run` is its thread.

    Args:
        camera: Opened and closed by this thread.
        ring: Of this camera.
        rules: How its frames are captured.
        frame_queue: Where accepted frames wait for a worker.
        guard: Closes each frame at its deadline.
        closer: Of the line: its spool, and the verdict of a frame that cannot be inspected.
        clock: For the deadlines.
        on_end: Called from this thread when it ends.
    """

    def __init__(
        self,
        *,
        camera: Camera,
        ring: FrameRing,
        rules: CaptureRules,
        frame_queue: FrameQueue,
        guard: DeadlineGuard,
        closer: VerdictCloser,
        clock: Clock,
        on_end: Callable[[CaptureThread], None] = lambda capture: None,
    ) -> None:
        self.camera = camera
        self.rules = rules
        self.state = "starting"
        """`starting`, `live`, `lost`, `finished` or `stopped`."""
        self.error: CameraLostError | None = None
        """Why the retries were given up, if they were."""
        self.frame_count = 0
        self.trigger_audit = TriggerAudit()
        self.progress_count = 0
        """Advances with each wait for a frame, and while a lost camera is retried."""
        self._ring = ring
        self._side_buffer = SideBuffer(ring.path.with_suffix(".aside"))
        self._spool = closer.spool
        self._frame_queue = frame_queue
        self._guard = guard
        self._closer = closer
        self._clock = clock
        self._on_end = on_end
        self._image_checker = ImageChecker(rules.image_limits) if rules.image_limits else None
        self._pending_triggers = PendingTriggers()
        self._challenges: deque[tuple[Pixels, str]] = deque(maxlen=16)
        self._gap_detector = FrameGapDetector()
        self.grab_monitor = GrabMonitor(camera, rules.camera, rules.timeout_ns, clock)
        self._loss_count = 0
        self._has_delivered = False
        self._missing_count = 0
        self._camera_reports_losses = (
            isinstance(camera, LossReportingCamera) and camera.reports_lost_frames
        )
        self._statistics = camera if isinstance(camera, CameraStatistics) else None
        self._stop = False
        self._slot_released = clock.wake_event()
        if rules.overload == "block":
            ring.on_half_free = self._slot_released.set

    # -- thread ---------------------------------------------------------------------

    def run(self) -> None:
        """Capture until stopped, finished, or given up after the configured retries."""
        try:
            while not self._stop:
                try:
                    self._open_camera()
                    if self.state == "lost":
                        _log.info(log_events.CAMERA_RECOVERED, camera=self.rules.camera)
                    else:
                        _log.info(log_events.CAMERA_OPENED, camera=self.rules.camera)
                    self.state = "live"
                    self._gap_detector.reset()
                    self.grab_monitor.on_open()
                    self._capture()
                except CameraLostError as error:
                    self._report_loss(error)  # first: closing a dead camera takes time
                    self.camera.close()
                    if not self._wait_to_retry(error):
                        return
        except CameraFinished:
            self.state = "finished"
            _log.info(log_events.CAMERA_FINISHED, camera=self.rules.camera, frames=self.frame_count)
        finally:
            self.camera.close()
            if self.state not in ("finished", "lost"):
                self.state = "stopped"
            self._on_end(self)

    def stop(self) -> None:
        """End the thread within 100 ms. Thread-safe."""
        self._stop = True

    def inject_challenge(self, pixels: Pixels, name: str) -> None:
        """Send a challenge image through the line, within 100 ms. Thread-safe."""
        self._challenges.append((pixels, name))

    @property
    def counts(self) -> CameraCounts:
        """The camera's own counters, or those of the line for a camera without."""
        if self._statistics is not None:
            return self._statistics.counts
        missing = self._missing_count
        return CameraCounts(frames=self.frame_count - missing, missing=missing)

    def read_temperature(self) -> None:
        """Have the camera read its temperature, if it can. May wait for the camera."""
        if self._statistics is not None and self.state == "live":
            # A lost camera is reported by the capture thread.
            with contextlib.suppress(CameraLostError):
                self._statistics.read_temperature()

    def trigger(self, part: Part) -> PendingTrigger:
        """Request one frame of `part`; the result gets the frame's seq later. Thread-safe.

        Raises:
            UsageError: The camera accepts no software trigger, or this one has expired.
            CameraLostError: The camera is lost.
        """
        pending = self._pending_triggers.add(part)
        try:
            self.camera.trigger(pending.part)
        except BaseException:
            self._pending_triggers.cancel(pending)
            raise
        return pending

    def _challenge_grab(self, pixels: Pixels, name: str) -> Grab:
        """Return a challenge image as a grab that is exposed now."""
        part = challenge_part(name)
        return Grab(pixels, self._gap_detector.last_id, self._clock.now_ns(), part, label=name)

    def _open_camera(self) -> None:
        try:
            self.camera.open()
        except DataError as error:
            if not self._has_delivered:
                raise
            # It has delivered before: retry until the work on it is finished.
            raise CameraLostError(error.what, where=error.where, remedy=error.remedy) from error

    def _report_loss(self, error: CameraLostError) -> None:
        self.state = "lost"
        self._loss_count += 1
        _log.error(
            log_events.CAMERA_LOST,
            camera=self.rules.camera,
            problem=error.what,
            where=error.where,
            attempt=self._loss_count,
            attempts=self.rules.attempts_max or "unlimited",
        )

    def _wait_to_retry(self, error: CameraLostError) -> bool:
        """Wait before the next attempt; return False to end the thread."""
        rules = self.rules
        if rules.attempts_max and self._loss_count > rules.attempts_max:
            self.error = error
            return False
        pause_ns = min(rules.first_pause_ns << min(self._loss_count - 1, 30), rules.max_pause_ns)
        until_ns = self._clock.now_ns() + pause_ns
        while not self._stop and self._clock.now_ns() < until_ns:
            self.progress_count += 1
            self._clock.sleep_until(min(until_ns, self._clock.now_ns() + POLL_TIMEOUT_NS))
        return not self._stop

    def _capture(self) -> None:
        """Accept frames until stopped; the first complete one resets the count of losses."""
        rules = self.rules
        while not self._stop:
            self.progress_count += 1
            while self._challenges:
                pixels, name = self._challenges.popleft()
                self.accept(self._challenge_grab(pixels, name))
            slot = self._acquire_slot() if rules.overload == "block" else None
            if rules.overload == "block" and slot is None:
                continue
            try:
                grab = self.grab_monitor.grab()
            except BaseException:
                if slot is not None:
                    self._ring.release(slot)
                raise
            if grab is None:
                if slot is not None:
                    self._ring.release(slot)
                continue
            if not grab.lost:
                self._loss_count = 0
                self._has_delivered = True
            try:
                self.accept(grab, slot)
            finally:
                self.camera.release(grab)

    def _acquire_slot(self) -> int | None:
        """Acquire a slot before the next grab, for the `block` policy."""
        slot = self._ring.acquire()
        if slot is None:
            self._slot_released.wait_until(self._clock.now_ns() + POLL_TIMEOUT_NS)
            slot = self._ring.acquire()
        return slot

    # -- one frame ------------------------------------------------------------------

    def accept(self, grab: Grab, slot: int | None = None) -> OpenFrame:
        """Open one frame, copy its pixels once, and queue it for a worker.

        Args:
            grab: The image; its pixels are not retained.
            slot: A ring slot acquired before; None to find one by the overload policy.
        """
        if not grab.part.simulated and not self._camera_reports_losses:
            self._close_missing(grab)
        frame = self._open_frame(grab)
        problem = shape_problem(grab, self._ring.shape, self.rules.letterbox)
        if problem is None:
            slot, problem = self._store_pixels(frame, grab, slot)
        if problem is not None:
            if slot is not None:
                self._ring.release(slot)
            if problem[0] is not Reason.OVERRUN:
                self._copy_to_side_buffer(frame.seq, grab.pixels)
            self._closer.close_as_no_verdict(frame, *problem)
            return frame
        assert slot is not None
        self._ring.publish(slot, frame.seq)
        frame.ring = self._ring
        frame.slot = slot
        self._frame_queue.put(frame)
        return frame

    def _store_pixels(
        self, frame: OpenFrame, grab: Grab, slot: int | None
    ) -> tuple[int | None, tuple[Reason, str] | None]:
        """Copy the pixels into a slot and check them there, where they are in the cache.

        Returns:
            (slot that is owned, why the frame cannot be inspected).
        """
        pixels, ring = grab.pixels, self._ring
        assert pixels is not None
        is_checked = False
        if slot is None:
            slot = ring.acquire()
        if slot is None:  # no other frame is dropped for one that cannot be inspected
            is_checked, problem = True, self._image_problem(pixels, grab)
            slot = self._drop_oldest() if problem is None else None
            if slot is None:
                return None, problem or (Reason.OVERRUN, "")
        target = ring.pixels(slot)
        frame.letterbox = fit_into(target, pixels)
        if not is_checked:
            problem = self._image_problem(target if frame.letterbox is None else pixels, grab)
            if problem is not None:
                return slot, problem
        if frame.letterbox is not None:
            self._copy_to_side_buffer(frame.seq, pixels)
        return slot, None

    def _close_missing(self, grab: Grab) -> None:
        """Close the frames that the camera counted and that did not arrive."""
        for missing in self._gap_detector.missing_ids(grab.camera_frame_id):
            self._missing_count += 1
            lost = Grab(None, missing, grab.captured_at_ns, clock_source=grab.clock_source)
            self._closer.close_as_no_verdict(
                self._open_frame(lost),
                Reason.CAPTURE_LOST,
                FRAME_NOT_RECEIVED,
            )

    def _open_frame(self, grab: Grab) -> OpenFrame:
        rules = self.rules
        self.frame_count += 1
        deadline_ns = grab.captured_at_ns + rules.budget_ns
        record = open_record(rules, grab, self.frame_count, read_utc_offset_ns(self._clock))
        self._closer.counters.count_captured()
        while True:
            try:
                seq = self._spool.open(record)
                break
            except SpoolFullError as full:
                self._guard.close_oldest(full.seq)
        if grab.lost:  # it is reported late, and its reason is not the deadline
            deadline_ns = max(deadline_ns, self._clock.now_ns() + rules.budget_ns)
        frame = OpenFrame(
            seq,
            rules.camera_index,
            record,
            grab.captured_at_ns,
            deadline_ns,
            grab.clock_source.value,
        )
        self._guard.watch(frame)
        if self._pending_triggers:
            self._pending_triggers.resolve(grab.part, seq)
        if self.trigger_audit.is_active and not grab.part.simulated:
            self.trigger_audit.add_frame(grab.captured_at_ns)
        return frame

    def _image_problem(self, pixels: Pixels, grab: Grab) -> tuple[Reason, str] | None:
        """Return why an image of the right size cannot be inspected."""
        if self._image_checker is None or grab.part.simulated:
            return None
        problem = self._image_checker.problem(pixels, grab)
        return (Reason.CAPTURE_HEALTH, problem) if problem else None

    def _drop_oldest(self) -> int | None:
        """Under `drop_oldest`, close the frame that waited longest and acquire its slot."""
        if self.rules.overload != "drop_oldest":
            return None
        oldest = self._frame_queue.drop_oldest(self.rules.camera_index)
        if oldest is None:
            return None
        self._closer.close_as_no_verdict(oldest, Reason.OVERRUN)
        oldest.release_slot()
        return self._ring.acquire()

    def _copy_to_side_buffer(self, seq: int, pixels: Pixels | None) -> None:
        """Offer an image that the ring does not hold as it came to a recorder."""
        if pixels is not None:
            self._side_buffer.store(seq, pixels, self._clock.now_ns())
