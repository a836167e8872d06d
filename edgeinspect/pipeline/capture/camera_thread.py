"""Capture: one thread per camera, from its buffer to the ring and the spool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from edgeinspect.domain import (
    CameraCounts,
    Clock,
    Grab,
    Part,
    Pixels,
    Reason,
    challenge_part,
    read_utc_offset_ns,
)
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging import fit_into
from edgeinspect.pipeline.capture.camera_monitor import POLL_TIMEOUT_NS
from edgeinspect.pipeline.capture.frame_gaps import FrameGapDetector
from edgeinspect.pipeline.capture.grab_monitor import GrabMonitor
from edgeinspect.pipeline.capture.image_checks import ImageChecker, shape_problem
from edgeinspect.pipeline.capture.pending_triggers import PendingTrigger, PendingTriggers
from edgeinspect.pipeline.capture.rules import CaptureRules, open_record
from edgeinspect.pipeline.capture.triggers import TriggerAudit
from edgeinspect.pipeline.verdicts import DeadlineGuard, FrameQueue, OpenFrame, VerdictCloser
from edgeinspect.ports import Camera, CameraFinished
from edgeinspect.storage.shared_memory import FrameRing, SideBuffer
from edgeinspect.storage.spool import Spool, SpoolFullError
from edgeinspect.system import log_events

_log = structlog.get_logger()


class CaptureThread:
    """Opens a frame for every picture the camera delivers. `run` is its thread."""

    def __init__(
        self,
        *,
        camera: Camera,
        ring: FrameRing,
        rules: CaptureRules,
        spool: Spool,
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
        """Why the camera was given up, if it was."""
        self.frame_count = 0
        self.trigger_audit = TriggerAudit()
        self.progress_count = 0
        """Moves on whenever the camera has been asked, and while a lost one is retried."""
        self._ring = ring
        self._side_buffer = SideBuffer(ring.path.with_suffix(".aside"))
        self._spool = spool
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
        self._camera_reports_losses = getattr(camera, "tells_losses", False)
        """True if the camera delivers a grab for each frame that was lost, by itself."""
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
                    self._report_loss(error)  # at once: to close a dead camera takes time
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
        """Send a known-bad picture through the line, within 100 ms. Thread-safe."""
        self._challenges.append((pixels, name))

    @property
    def counts(self) -> CameraCounts:
        """What the camera counted; of one that counts nothing, the frames it gave."""
        counts = getattr(self.camera, "counts", None)
        if isinstance(counts, CameraCounts):
            return counts
        return CameraCounts(
            frames=self.frame_count - self._missing_count, missing=self._missing_count
        )

    def trigger(self, part: Part) -> PendingTrigger:
        """Ask the camera for one frame of `part`; the ticket will say its seq. Thread-safe.

        Raises:
            UsageError: It takes no software trigger, or this one has expired.
            CameraLostError: It is away.
        """
        ticket = self._pending_triggers.add(part)
        try:
            self.camera.trigger(part)
        except BaseException:
            self._pending_triggers.cancel(ticket)
            raise
        return ticket

    def _challenge_grab(self, pixels: Pixels, name: str) -> Grab:
        """A challenge part as a frame; its time begins when it enters the line."""
        part = challenge_part(name)
        return Grab(pixels, self._gap_detector.last_id, self._clock.now_ns(), part, label=name)

    def _open_camera(self) -> None:
        try:
            self.camera.open()
        except DataError as error:
            if not self._has_delivered:
                raise
            # It did deliver: somebody works on it. The line must live until it is back.
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
            attempts=self.rules.attempts_max or "for ever",
        )

    def _wait_to_retry(self, error: CameraLostError) -> bool:
        """Wait before the next try; False when the tries are used up."""
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
        """Take frames until stopped; the first whole one forgives earlier losses."""
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
        """Own a slot before the camera is asked, for the `block` policy."""
        slot = self._ring.acquire()
        if slot is None:
            self._slot_released.wait_until(self._clock.now_ns() + POLL_TIMEOUT_NS)
            slot = self._ring.acquire()
        return slot

    # -- one frame ------------------------------------------------------------------

    def accept(self, grab: Grab, slot: int | None = None) -> OpenFrame:
        """Open one frame, copy its pixels once, and let it wait for a worker.

        Args:
            grab: The picture; its pixels are not kept.
            slot: A ring slot taken beforehand; None to find one by the overload policy.
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
        """Copy the pixels into a slot, and look at them there: the copy is in the cache.

        Returns:
            (slot that is owned, why the frame cannot be judged).
        """
        pixels, ring = grab.pixels, self._ring
        assert pixels is not None
        looked = False
        if slot is None:
            slot = ring.acquire()
        if slot is None:  # no other frame is given up for one that cannot be judged
            looked, problem = True, self._image_problem(pixels, grab)
            slot = self._drop_oldest() if problem is None else None
            if slot is None:
                return None, problem or (Reason.OVERRUN, "")
        target = ring.pixels(slot)
        frame.letterbox = fit_into(target, pixels)
        if not looked:
            problem = self._image_problem(target if frame.letterbox is None else pixels, grab)
            if problem is not None:
                return slot, problem
        if frame.letterbox is not None:
            self._copy_to_side_buffer(frame.seq, pixels)
        return slot, None

    def _close_missing(self, grab: Grab) -> None:
        """A frame that the camera counted and nobody got has a verdict too."""
        for missing in self._gap_detector.missing_ids(grab.camera_frame_id):
            self._missing_count += 1
            lost = Grab(None, missing, grab.captured_at_ns, clock_source=grab.clock_source)
            self._closer.close_as_no_verdict(
                self._open_frame(lost),
                Reason.CAPTURE_LOST,
                "the camera counted it, and it never came",
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
        if grab.lost:  # it is known late, and its reason is not the deadline
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
        """What a picture of the right size shows that cannot be judged."""
        if self._image_checker is None or grab.part.simulated:
            return None
        ill = self._image_checker.problem(pixels, grab)
        return (Reason.CAPTURE_HEALTH, ill) if ill else None

    def _drop_oldest(self) -> int | None:
        """Under `drop_oldest`, the slot of the frame that waited longest, which is closed."""
        if self.rules.overload != "drop_oldest":
            return None
        victim = self._frame_queue.drop_oldest(self.rules.camera_index)
        if victim is None:
            return None
        self._closer.close_as_no_verdict(victim, Reason.OVERRUN)
        victim.release_slot()
        return self._ring.acquire()

    def _copy_to_side_buffer(self, seq: int, pixels: Pixels | None) -> None:
        """A picture that the ring will not hold as it came, for a recorder if there is one."""
        if pixels is not None:
            self._side_buffer.store(seq, pixels, self._clock.now_ns())
