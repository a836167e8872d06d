"""Capture: one thread per camera, from its buffer to the ring and the spool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from edgeinspect.domain.camera import CameraCounts
from edgeinspect.domain.clock import Clock, read_offset_ns
from edgeinspect.domain.frame import Grab, Part, Pixels, challenge_part
from edgeinspect.domain.verdict import Reason
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging.letterbox import fit_into
from edgeinspect.pipeline.capture.camera_monitor import TURN_NS
from edgeinspect.pipeline.capture.frame_gaps import FrameGaps
from edgeinspect.pipeline.capture.grab_monitor import CameraWatch
from edgeinspect.pipeline.capture.image_checks import PictureWatch, misfit
from edgeinspect.pipeline.capture.pending_triggers import Ticket, Tickets
from edgeinspect.pipeline.capture.rules import CaptureRules, open_record
from edgeinspect.pipeline.capture.triggers import TriggerAudit
from edgeinspect.pipeline.verdicts.closer import Closer
from edgeinspect.pipeline.verdicts.deadline_guard import Guard
from edgeinspect.pipeline.verdicts.open_frames import Inbox, OpenFrame
from edgeinspect.ports import Camera, CameraFinished
from edgeinspect.storage.shared_memory.frame_ring import Ring
from edgeinspect.storage.shared_memory.side_buffer import Aside
from edgeinspect.storage.spool.spool import Spool, SpoolFullError
from edgeinspect.system import log_events

_log = structlog.get_logger()


class Capture:
    """Opens a frame for every picture the camera delivers. `run` is its thread."""

    def __init__(
        self,
        *,
        camera: Camera,
        ring: Ring,
        rules: CaptureRules,
        spool: Spool,
        inbox: Inbox,
        guard: Guard,
        closer: Closer,
        clock: Clock,
        on_end: Callable[[Capture], None] = lambda capture: None,
    ) -> None:
        self.camera = camera
        self.rules = rules
        self.state = "starting"
        """`starting`, `live`, `lost`, `finished` or `stopped`."""
        self.error: CameraLostError | None = None
        """Why the camera was given up, if it was."""
        self.frames = 0
        self.audit = TriggerAudit()
        self.turns = 0
        """Moves on whenever the camera has been asked, and while a lost one is retried."""
        self._ring = ring
        self._aside = Aside(ring.path.with_suffix(".aside"))
        self._spool = spool
        self._inbox = inbox
        self._guard = guard
        self._closer = closer
        self._clock = clock
        self._on_end = on_end
        self._watch = PictureWatch(rules.picture) if rules.picture else None
        self._tickets = Tickets()
        self._challenges: deque[tuple[Pixels, str]] = deque(maxlen=16)
        self._gaps = FrameGaps()
        self.watch = CameraWatch(camera, rules.camera, rules.timeout_ns, clock)
        self._losses = 0
        self._seen = False
        self._missing = 0
        self._told = getattr(camera, "tells_losses", False)
        """True if the camera delivers a grab for each frame that was lost, by itself."""
        self._stop = False
        self._freed = clock.alarm()
        if rules.overload == "block":
            ring.on_free = self._freed.ring

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
                    self._gaps.reset()
                    self.watch.opened()
                    self._capture()
                except CameraLostError as error:
                    self._note_loss(error)  # at once: to close a dead camera takes time
                    self.camera.close()
                    if not self._retry(error):
                        return
        except CameraFinished:
            self.state = "finished"
            _log.info(log_events.CAMERA_FINISHED, camera=self.rules.camera, frames=self.frames)
        finally:
            self.camera.close()
            if self.state not in ("finished", "lost"):
                self.state = "stopped"
            self._on_end(self)

    def stop(self) -> None:
        """End the thread within 100 ms. Thread-safe."""
        self._stop = True

    def challenge(self, pixels: Pixels, name: str) -> None:
        """Send a known-bad picture through the line, within 100 ms. Thread-safe."""
        self._challenges.append((pixels, name))

    @property
    def counts(self) -> CameraCounts:
        """What the camera counted; of one that counts nothing, the frames it gave."""
        counts = getattr(self.camera, "counts", None)
        if isinstance(counts, CameraCounts):
            return counts
        return CameraCounts(frames=self.frames - self._missing, missing=self._missing)

    def trigger(self, part: Part) -> Ticket:
        """Ask the camera for one frame of `part`; the ticket will say its seq. Thread-safe.

        Raises:
            UsageError: It takes no software trigger, or this one has expired.
            CameraLostError: It is away.
        """
        ticket = self._tickets.issue(part)
        try:
            self.camera.trigger(part)
        except BaseException:
            self._tickets.cancel(ticket)
            raise
        return ticket

    def _as_challenge(self, pixels: Pixels, name: str) -> Grab:
        """A challenge part as a frame; its time begins when it enters the line."""
        part = challenge_part(name)
        return Grab(pixels, self._gaps.last_id, self._clock.now_ns(), part, label=name)

    def _open_camera(self) -> None:
        try:
            self.camera.open()
        except DataError as error:
            if not self._seen:
                raise
            # It did deliver: somebody works on it. The line must live until it is back.
            raise CameraLostError(error.what, where=error.where, remedy=error.remedy) from error

    def _note_loss(self, error: CameraLostError) -> None:
        self.state = "lost"
        self._losses += 1
        _log.error(
            log_events.CAMERA_LOST,
            camera=self.rules.camera,
            problem=error.what,
            where=error.where,
            attempt=self._losses,
            attempts=self.rules.attempts or "for ever",
        )

    def _retry(self, error: CameraLostError) -> bool:
        """Wait before the next try; False when the tries are used up."""
        rules = self.rules
        if rules.attempts and self._losses > rules.attempts:
            self.error = error
            return False
        pause_ns = min(rules.first_pause_ns << min(self._losses - 1, 30), rules.max_pause_ns)
        until_ns = self._clock.now_ns() + pause_ns
        while not self._stop and self._clock.now_ns() < until_ns:
            self.turns += 1
            self._clock.sleep_until(min(until_ns, self._clock.now_ns() + TURN_NS))
        return not self._stop

    def _capture(self) -> None:
        """Take frames until stopped; the first whole one forgives earlier losses."""
        rules = self.rules
        while not self._stop:
            self.turns += 1
            while self._challenges:
                pixels, name = self._challenges.popleft()
                self.admit(self._as_challenge(pixels, name))
            slot = self._wait_for_slot() if rules.overload == "block" else None
            if rules.overload == "block" and slot is None:
                continue
            try:
                grab = self.watch.grab()
            except BaseException:
                if slot is not None:
                    self._ring.give_back(slot)
                raise
            if grab is None:
                if slot is not None:
                    self._ring.give_back(slot)
                continue
            if not grab.lost:
                self._losses = 0
                self._seen = True
            try:
                self.admit(grab, slot)
            finally:
                self.camera.release(grab)

    def _wait_for_slot(self) -> int | None:
        """Own a slot before the camera is asked, for the `block` policy."""
        slot = self._ring.take()
        if slot is None:
            self._freed.wait_until(self._clock.now_ns() + TURN_NS)
            slot = self._ring.take()
        return slot

    # -- one frame ------------------------------------------------------------------

    def admit(self, grab: Grab, slot: int | None = None) -> OpenFrame:
        """Open one frame, copy its pixels once, and let it wait for a worker.

        Args:
            grab: The picture; its pixels are not kept.
            slot: A ring slot taken beforehand; None to find one by the overload policy.
        """
        if not grab.part.simulated and not self._told:
            self._account_gap(grab)
        frame = self._open(grab)
        problem = misfit(grab, self._ring.shape, self.rules.letterbox)
        if problem is None:
            slot, problem = self._take_in(frame, grab, slot)
        if problem is not None:
            if slot is not None:
                self._ring.give_back(slot)
            if problem[0] is not Reason.OVERRUN:
                self._keep_aside(frame.seq, grab.pixels)
            self._closer.close_without(frame, *problem)
            return frame
        assert slot is not None
        self._ring.stamp(slot, frame.seq)
        frame.ring = self._ring
        frame.slot = slot
        self._inbox.put(frame)
        return frame

    def _take_in(
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
            slot = ring.take()
        if slot is None:  # no other frame is given up for one that cannot be judged
            looked, problem = True, self._ill(pixels, grab)
            slot = self._give_up_oldest() if problem is None else None
            if slot is None:
                return None, problem or (Reason.OVERRUN, "")
        target = ring.pixels(slot)
        frame.letterbox = fit_into(target, pixels)
        if not looked:
            problem = self._ill(target if frame.letterbox is None else pixels, grab)
            if problem is not None:
                return slot, problem
        if frame.letterbox is not None:
            self._keep_aside(frame.seq, pixels)
        return slot, None

    def _account_gap(self, grab: Grab) -> None:
        """A frame that the camera counted and nobody got has a verdict too."""
        for missing in self._gaps.missing(grab.camera_frame_id):
            self._missing += 1
            lost = Grab(None, missing, grab.captured_at_ns, clock_source=grab.clock_source)
            self._closer.close_without(
                self._open(lost), Reason.CAPTURE_LOST, "the camera counted it, and it never came"
            )

    def _open(self, grab: Grab) -> OpenFrame:
        rules = self.rules
        self.frames += 1
        deadline_ns = grab.captured_at_ns + rules.budget_ns
        record = open_record(rules, grab, self.frames, read_offset_ns(self._clock))
        self._closer.tally.count_captured()
        while True:
            try:
                seq = self._spool.open(record)
                break
            except SpoolFullError as full:
                self._guard.close_first(full.seq)
        if grab.lost:  # it is known late, and its reason is not the deadline
            deadline_ns = max(deadline_ns, self._clock.now_ns() + rules.budget_ns)
        frame = OpenFrame(
            seq, rules.lane, record, grab.captured_at_ns, deadline_ns, grab.clock_source.value
        )
        self._guard.watch(frame)
        if self._tickets:
            self._tickets.stamp(grab.part, seq)
        if self.audit.active and not grab.part.simulated:
            self.audit.take_frame(grab.captured_at_ns)
        return frame

    def _ill(self, pixels: Pixels, grab: Grab) -> tuple[Reason, str] | None:
        """What a picture of the right size shows that cannot be judged."""
        if self._watch is None or grab.part.simulated:
            return None
        ill = self._watch.problem(pixels, grab)
        return (Reason.CAPTURE_HEALTH, ill) if ill else None

    def _give_up_oldest(self) -> int | None:
        """Under `drop_oldest`, the slot of the frame that waited longest, which is closed."""
        if self.rules.overload != "drop_oldest":
            return None
        victim = self._inbox.drop_oldest(self.rules.lane)
        if victim is None:
            return None
        self._closer.close_without(victim, Reason.OVERRUN)
        victim.free_slot()
        return self._ring.take()

    def _keep_aside(self, seq: int, pixels: Pixels | None) -> None:
        """A picture that the ring will not hold as it came, for a recorder if there is one."""
        if pixels is not None:
            self._aside.keep(seq, pixels, self._clock.now_ns())
