"""Runs the archiver of one line until a signal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import structlog

from edgeinspect.domain import NS_PER_S, Clock, SystemClock
from edgeinspect.services.archiver.config import ArchiveConfig, load_archive_config
from edgeinspect.services.archiver.frame_source import FrameSource
from edgeinspect.services.archiver.retention_policy import classify
from edgeinspect.services.archiver.subscriber import ArchiveSubscriber
from edgeinspect.services.archiver.write_queue import WriteQueue
from edgeinspect.services.archiver.writer import MIB, ArchiveWriter
from edgeinspect.storage.archive import ArchiveStatus, write_status
from edgeinspect.storage.shared_memory import find_line_folder
from edgeinspect.system import log_events, sd_notify, signal_handlers
from edgeinspect.wire import HEARTBEAT_TOPIC, STATUS_TOPIC, VERDICT_TOPIC

_POLL_MS = 50
_QUEUE_WAIT_S = 0.2
_RETRY_S = 0.5
"""Pause after a failed write."""
_DRAIN_S = 5.0
"""Longest time to empty the write queue after `stop`."""
_NICE = 10
_SWITCH_INTERVAL_S = 0.000_5
"""Ring slots are reused soon: encoders may delay the subscriber this long, not the default 5 ms."""
_STATUS_PERIOD_NS = NS_PER_S
_SUMMARY_PERIOD_NS = 60 * NS_PER_S
_log = structlog.get_logger()


def run_archiver(path: Path) -> None:
    """Run the archive of a configuration file until a signal.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: The folder belongs to another line, or a key is invalid.
        DeviceLostError: Another process uses the folder, or it cannot be written.
    """
    service = ArchiverService(load_archive_config(path), SystemClock())
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with signal_handlers(service.stop):
            service.run()
    finally:
        sys.setswitchinterval(interval_s)


class ArchiverService:
    """The archiver of one line. `stop` may be called from any thread."""

    def __init__(self, config: ArchiveConfig, clock: Clock) -> None:
        """Open the folder and connect; raises as `run_archiver`."""
        self.config = config
        self._clock = clock
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._failure: BaseException | None = None
        self.write_queue = WriteQueue(round(config.memory_mib * MIB), config.shares.quota_of)
        with contextlib.ExitStack() as stack:
            self.writer = ArchiveWriter(config, clock)
            stack.callback(self.writer.close)
            endpoint = config.feed.find(config.ring)
            ring_folder = Path(config.ring) if config.ring else find_line_folder(config.feed.line)
            live = stack.enter_context(endpoint.subscribe(_topics(config)))
            feed = stack.enter_context(
                endpoint.feed(
                    config.archive,
                    cursor=self.writer.stored_cursor,
                    high_water_mark=config.feed.high_water_mark,
                )
            )
            saved = self.writer.saved_after_cursor
            self.subscriber = ArchiveSubscriber(
                line=config.feed.line,
                live=live,
                feed=feed,
                frame_source=FrameSource(ring_folder, config.feed.line),
                classify=lambda verdict: classify(verdict, config),
                is_saved=lambda key: key in saved,
                write_queue=self.write_queue,
                progress=self.writer.progress,
                clock=clock,
            )
            self._exit_stack = stack.pop_all()

    def run(self) -> None:
        """Run until `stop`, then empty the write queue, for a few seconds at most.

        Raises:
            BaseException: The error that ended one of its threads: a bug.
        """
        threads = [
            threading.Thread(target=self._run_encoder, name=f"encode-{number}", daemon=True)
            for number in range(self.config.encoders)
        ]
        with self._exit_stack:
            self._log_started()
            for thread in threads:
                thread.start()
            try:
                self._receive()
            finally:
                self._stopping.set()
                sd_notify("STOPPING=1")
                self.write_queue.close()
                deadline_ns = self._clock.now_ns() + round(_DRAIN_S * NS_PER_S)
                for thread in threads:
                    thread.join(max(0.0, (deadline_ns - self._clock.now_ns()) / NS_PER_S))
                self._drained.set()
                for thread in threads:
                    thread.join(1.0)
                self._log_stopped()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`. Thread-safe, and safe in a signal handler."""
        self._stopping.set()

    def _receive(self) -> None:
        status_at_ns = summary_at_ns = self._clock.now_ns()
        while not self._stopping.is_set():
            self.subscriber.step(_POLL_MS)
            now_ns = self._clock.now_ns()
            if now_ns >= status_at_ns:
                status_at_ns = now_ns + _STATUS_PERIOD_NS
                sd_notify("WATCHDOG=1", f"STATUS={self.status_line()}")
                write_status(Path(self.config.folder), self.archive_status())
            if now_ns >= summary_at_ns:
                summary_at_ns = now_ns + _SUMMARY_PERIOD_NS
                self._log_summary()

    def _run_encoder(self) -> None:
        """Thread of an encoder: write until stopped and the queue is empty."""
        with contextlib.suppress(OSError):  # the line's threads have priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            while not self._drained.is_set():
                if self._stopping.is_set() and not len(self.write_queue):
                    break
                if not self.writer.write_next(self.write_queue, _QUEUE_WAIT_S):
                    self._drained.wait(_RETRY_S)
        except BaseException as error:  # a dead thread must end the process
            self._failure = error
            self._stopping.set()

    def status_line(self) -> str:
        """Return the status in one line of text."""
        missed = sum(self.writer.progress.totals.values())
        writer = self.writer
        counts = f"{writer.size_bytes // MIB} MiB, {writer.saved_count} saved, {missed} missed"
        return f"cannot save: {writer.problem}; {counts}" if writer.problem else counts

    def archive_status(self) -> ArchiveStatus:
        """Return the status for the HMI."""
        writer = self.writer
        return ArchiveStatus(
            at_utc_ns=self._clock.utc_ns(),
            problem=writer.problem,
            saved=writer.saved_count,
            missed=sum(writer.progress.totals.values()),
            frames=writer.frame_count,
            size_bytes=writer.size_bytes,
        )

    def _log_started(self) -> None:
        sd_notify("READY=1")
        _log.info(
            log_events.ARCHIVE_STARTED,
            archive=self.config.archive,
            line=self.config.feed.line,
            folder=self.config.folder,
            frames=self.writer.frame_count,
            mib=self.writer.size_bytes // MIB,
            cursor=self.writer.stored_cursor,
        )

    def _log_summary(self) -> None:
        _log.info(
            log_events.ARCHIVE_SUMMARY,
            frames=self.writer.frame_count,
            mib=self.writer.size_bytes // MIB,
            saved=self.writer.saved_count,
            removed=self.writer.removed_count,
            waiting=len(self.write_queue),
            missed=sum(self.writer.progress.totals.values()),
        )

    def _log_stopped(self) -> None:
        _log.info(
            log_events.ARCHIVE_STOPPED,
            archive=self.config.archive,
            saved=self.writer.saved_count,
            waiting=len(self.write_queue),
            missed=sum(self.writer.progress.totals.values()),
        )


def _topics(config: ArchiveConfig) -> tuple[str, ...]:
    line = config.feed.line
    return (f"{VERDICT_TOPIC}.{line}.", f"{HEARTBEAT_TOPIC}.{line}", f"{STATUS_TOPIC}.{line}")
