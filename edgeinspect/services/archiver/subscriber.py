"""Receives every verdict and copies the frames to save before their ring slots are reused.

It has two subscriptions. Frames are copied on verdicts of the live one, since a slot is reused
after a few frames and a verdict must not wait behind a replayed backlog. The feed delivers every
verdict once and in order, across restarts: it shows what the live one missed, and where to
resume.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from edgeinspect.client import (
    FeedEvent,
    SequenceReset,
    Subscriber,
    VerdictFeed,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.domain import Clock, Reason, Verdict
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.frame_source import FrameSource
from edgeinspect.services.archiver.write_queue import PendingFrame, WriteQueue
from edgeinspect.storage.archive import ArchiveCategory, ArchiveProgress, LossReason
from edgeinspect.system import RateLimitedLogger, log_events
from edgeinspect.wire import Heartbeat, Mask

_BATCH_SIZE = 256
_MAX_PENDING_KEYS = 1 << 20
_OFTEN_WITHOUT_PIXELS = frozenset((Reason.OVERRUN, Reason.RESTART))
"""Frames whose slot was reused or whose daemon died: missing pixels are no loss to report."""

_log = structlog.get_logger()


class ArchiveSubscriber:
    """Copies frames into a `WriteQueue` and updates an `ArchiveProgress`. One thread."""

    def __init__(
        self,
        *,
        line: str,
        live: Subscriber,
        feed: VerdictFeed,
        frame_source: FrameSource,
        classify: Callable[[Verdict], ArchiveCategory | None],
        is_saved: Callable[[tuple[int, int]], bool],
        write_queue: WriteQueue,
        progress: ArchiveProgress,
        clock: Clock,
    ) -> None:
        """Args:
        line: Other lines' verdicts are ignored.
        live: Subscribed to all topics of the line.
        feed: Starts at the cursor of `progress`.
        frame_source: The rings of the line.
        classify: Category of a frame; None if it is not saved.
        is_saved: True for an (epoch, seq) that is saved already.
        write_queue: Receives the copied frames.
        progress: Records whether each frame was saved or lost.
        clock: Throttles the log.
        """
        self.copied_frames = 0
        """Frames copied since the start."""
        self.epoch = 0
        self._line = line
        self._live = live
        self._feed = feed
        self._frame_source = frame_source
        self._classify = classify
        self._is_saved = is_saved
        self._write_queue = write_queue
        self._progress = progress
        self._clock = clock
        self._copied_live: set[tuple[int, int]] = set()
        """(epoch, seq) copied by the live subscription and not yet delivered by the feed."""
        self._last_in_order = (0, 0)
        """(epoch, seq) of the last verdict of the feed."""
        self._throttled_log = RateLimitedLogger(_log, clock)
        frame_source.refresh()

    def step(self, timeout_ms: int) -> bool:
        """Handle pending messages of both subscriptions; True if there were any."""
        has_live = self._poll_live(timeout_ms)
        return self._poll_feed() or has_live

    def _poll_live(self, timeout_ms: int) -> bool:
        for index in range(_BATCH_SIZE):
            try:
                received = self._live.receive(timeout_ms)
            except DataError as error:
                self._throttled_log.error(log_events.WIRE_BROKEN, problem=str(error))
                return True
            if received is None:
                return index > 0
            timeout_ms = 0
            message = received.message
            if message.line != self._line:
                continue
            if isinstance(message, Verdict):
                self._on_live_verdict(message, received.mask)
            elif isinstance(message, Heartbeat):
                self._on_heartbeat(message.epoch)
        return True

    def _on_live_verdict(self, verdict: Verdict, mask: Mask | None) -> None:
        key = (verdict.epoch, verdict.seq)
        if key <= self._last_in_order:  # the feed was faster
            return
        kind = self._classify(verdict)
        if kind is None or key in self._copied_live or self._is_saved(key):
            return
        if self._copy_frame(verdict, kind, mask):
            if len(self._copied_live) >= _MAX_PENDING_KEYS:  # the feed has been down for hours
                self._copied_live.clear()
            self._copied_live.add(key)

    def _on_heartbeat(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch = epoch
            self._frame_source.refresh()

    def _poll_feed(self) -> bool:
        for index in range(_BATCH_SIZE):
            try:
                event = self._feed.receive(0)
            except DataError as error:
                self._throttled_log.error(log_events.WIRE_BROKEN, problem=str(error))
                return True
            if event is None:
                return index > 0
            self._on_feed_event(event)
        return True

    def _on_feed_event(self, event: FeedEvent) -> None:
        if isinstance(event, VerdictReceived):
            self._handle_in_order(event.verdict, event.mask)
            self._progress.advance(event.verdict.seq)
            self._feed.ack(event.verdict.seq)
        elif isinstance(event, VerdictsLost):
            count = event.to_seq - event.from_seq + 1
            now_utc_ns, reason = self._clock.utc_ns(), LossReason.VERDICT_LOST
            self._progress.record_loss(event.to_seq, now_utc_ns, "unknown", reason, count)
            self._progress.advance(event.to_seq)
            _log.error(log_events.VERDICTS_LOST, from_seq=event.from_seq, to_seq=event.to_seq)
        elif isinstance(event, SequenceReset):
            self._progress.reset_sequence()
            _log.error(log_events.LINE_RENUMBERED, epoch=event.epoch, last_seq=event.last_seq)
        elif self._feed.cursor is not None:
            self._progress.start_at(self._feed.cursor)

    def _handle_in_order(self, verdict: Verdict, mask: Mask | None) -> None:
        """Copy the frame unless it was copied live; count it as lost if it is gone."""
        key = self._last_in_order = (verdict.epoch, verdict.seq)
        self._progress.start_at(verdict.seq - 1)
        if key in self._copied_live:
            self._copied_live.discard(key)
            return
        kind = self._classify(verdict)
        if kind is None or self._is_saved(key) or self._copy_frame(verdict, kind, mask):
            return
        if verdict.reason in _OFTEN_WITHOUT_PIXELS:
            return
        self._progress.record_loss(
            verdict.seq, verdict.captured_at_utc_ns, kind.value, LossReason.TOO_LATE
        )
        self._throttled_log.warning(
            log_events.ARCHIVE_MISSED,
            line=self._line,
            kind=kind.value,
            why=LossReason.TOO_LATE.value,
            seq=verdict.seq,
        )

    def _copy_frame(self, verdict: Verdict, kind: ArchiveCategory, mask: Mask | None) -> bool:
        copied = self._frame_source.find_frame(verdict)
        if copied is None:
            return False
        frame = PendingFrame(verdict, kind, *copied, mask)
        self._progress.mark_pending(frame.key)
        self.copied_frames += 1
        for evicted in self._write_queue.put(frame):
            discard(evicted, self._progress, LossReason.EVICTED, self._throttled_log)
        return True


def discard(
    frame: PendingFrame, progress: ArchiveProgress, reason: LossReason, log: RateLimitedLogger
) -> None:
    """Drop a frame, count it as lost and log it."""
    verdict = frame.verdict
    progress.record_loss(verdict.seq, verdict.captured_at_utc_ns, frame.kind.value, reason)
    progress.mark_done(frame.key)
    log.warning(
        log_events.ARCHIVE_MISSED,
        line=verdict.line,
        kind=frame.kind.value,
        why=reason.value,
        seq=verdict.seq,
    )
