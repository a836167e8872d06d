"""Writes frames into the archive, evicts the least useful ones and maintains the index.

Encoder threads encode images outside the interpreter lock. Files and index are changed under
one lock, so each commit is a consistent state.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from pathlib import Path

import structlog

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import DataError, DeviceLostError, StorageError
from edgeinspect.services.archiver import files
from edgeinspect.services.archiver.config import ArchiveConfig
from edgeinspect.services.archiver.retention_policy import category_to_evict, label_to_evict
from edgeinspect.services.archiver.subscriber import discard
from edgeinspect.services.archiver.write_queue import PendingFrame, WriteQueue
from edgeinspect.storage.archive import (
    MARKER_FILE,
    ArchiveCategory,
    ArchiveIndex,
    ArchiveMarker,
    ArchiveProgress,
    IndexEntry,
    LossReason,
    encode_document,
    is_archive,
    read_marker,
)
from edgeinspect.system import (
    FileLock,
    RateLimitedLogger,
    RetentionClock,
    log_events,
    write_atomic,
)

MIB = 1 << 20
DAY_NS = 86_400 * NS_PER_S
_COMMIT_PERIOD_NS = NS_PER_S // 2
_EXPIRY_CHECK_NS = 60 * NS_PER_S
_EXPIRY_BATCH_SIZE = 500
_log = structlog.get_logger()


class ArchiveWriter:
    """Owns the folder of an archive. Thread-safe."""

    def __init__(self, config: ArchiveConfig, clock: Clock) -> None:
        """Open or create the archive, and repair what a crash left incomplete.

        Raises:
            DeviceLostError: Another process uses it, or the disk cannot be used.
            DataError: The folder is the archive of another line.
        """
        self.root = Path(config.folder)
        self.saved_count = 0
        self.removed_count = 0
        self.frame_count = 0
        """Frames in the archive. The public counters may be read without a lock."""
        self.size_bytes = 0
        self.problem = ""
        """Why frames cannot be saved; empty if they can."""
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._throttled_log = RateLimitedLogger(_log, clock)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._file_lock = _lock_archive(self.root)
            _check_owner(self.root, config.feed.line)
            self._index = ArchiveIndex(self.root)
        except (OSError, sqlite3.Error) as error:
            raise DeviceLostError(
                f"cannot be used: {error}",
                where=str(self.root),
                remedy="Check free space and the folder's permissions",
            ) from error
        if self._index.rebuild_reason:
            _log.warning(
                log_events.ARCHIVE_REBUILT,
                frames=self._index.frame_count,
                problem=self._index.rebuild_reason,
            )
        self._refresh_totals()
        self._age_clock = RetentionClock(clock)
        self._resume_age_clock()
        cursor = self._index.stored_number("cursor")
        self.stored_cursor = cursor
        """Cursor of the last commit; every frame up to it is saved or counted as lost."""
        self.progress = ArchiveProgress(cursor)
        self.saved_after_cursor = self._index.frames_after(cursor) if cursor is not None else set()
        """(epoch, seq) saved after the cursor: a crash came before the commit."""
        self._commit_at_ns = self._expiry_check_at_ns = clock.now_ns()

    def _resume_age_clock(self) -> None:
        self._age_clock.resume(
            self._index.stored_number("kept_ns") or 0, self._index.stored_number("kept_at_utc_ns")
        )

    def _refresh_totals(self) -> None:
        self._sizes = Counter(self._index.sizes_by_category())
        self.size_bytes, self.frame_count = sum(self._sizes.values()), self._index.frame_count

    # -- saving -----------------------------------------------------------------------

    def save(self, frame: PendingFrame) -> None:
        """Encode and save one frame, or discard it if all saved frames are more useful.

        Raises:
            StorageError: It cannot be written; try again later.
        """
        encoded = files.encode_frame(frame, self._config.picture, self._clock.utc_ns())
        with self._lock:
            try:
                self._check_free_space(encoded.size_bytes)
                if not self._make_room(frame.kind, encoded.size_bytes):
                    discard(frame, self.progress, LossReason.LESS_USEFUL, self._throttled_log)
                    return
                row = files.write_frame(self.root, encoded)
            except OSError as error:
                raise StorageError(
                    f"cannot be written: {error.strerror or error}", where=str(self.root)
                ) from error
            self._index.add(row, self._age_clock.now_ns())
            self._sizes[row.kind, row.label] += row.size_bytes
            self.size_bytes += row.size_bytes
            self.frame_count += 1
            self.saved_count += 1
        self.progress.mark_done(frame.key)

    def _check_free_space(self, added_bytes: int) -> None:
        free_bytes = files.free_disk_bytes(self.root) - added_bytes
        min_free_bytes = self._config.min_free_mib * MIB
        if min_free_bytes and free_bytes < min_free_bytes:
            raise StorageError(
                f"has {max(0, free_bytes) // MIB} MiB free, not {min_free_bytes / MIB:g}",
                where=str(self.root),
                remedy="Free space, or lower max_mib or min_free_mib",
            )

    def _make_room(self, kind: ArchiveCategory, added_bytes: int) -> bool:
        """Evict frames until a new one fits; False if the new one is the least useful."""
        capacity_bytes = self._config.max_mib * MIB
        while self.size_bytes + added_bytes > capacity_bytes:
            sizes: Counter[ArchiveCategory] = Counter({kind: added_bytes})
            for (category, _label), size in self._sizes.items():
                sizes[category] += size
            evicted = category_to_evict(sizes, self._config.shares.quota_of, capacity_bytes)
            labels = {
                label: size
                for (category, label), size in self._sizes.items()
                if category is evicted and size > 0
            }
            if not labels:
                return False
            rows = self._index.oldest(evicted, label_to_evict(labels))
            if not rows:  # the totals were stale
                self._refresh_totals()
                continue
            self._remove(rows[0])
        return True

    def _remove(self, row: IndexEntry) -> None:
        files.remove_frame(self.root, row)
        self._index.remove(row)
        self._sizes[row.kind, row.label] -= row.size_bytes
        self.size_bytes -= row.size_bytes
        self.frame_count -= 1
        self.removed_count += 1

    # -- maintenance ----------------------------------------------------------------------

    def maintain(self, *, force: bool = False) -> None:
        """Commit, and remove expired frames, when due.

        Args:
            force: Commit now.

        Raises:
            StorageError: The index cannot be written; its changes are kept for the next try.
        """
        at_ns = self._clock.now_ns()
        with self._lock:
            try:
                if at_ns >= self._expiry_check_at_ns:
                    self._expiry_check_at_ns = at_ns + _EXPIRY_CHECK_NS
                    self._remove_expired()
                if force or at_ns >= self._commit_at_ns:
                    self._commit_at_ns = at_ns + _COMMIT_PERIOD_NS
                    self._commit()
            except OSError as error:
                raise StorageError(
                    f"cannot be written: {error.strerror or error}", where=str(self.root)
                ) from error

    def _remove_expired(self) -> None:
        limit_ns = round(self._age_clock.now_ns() - self._config.keep_days * DAY_NS)
        removed = 0
        while rows := self._index.kept_before(limit_ns, _EXPIRY_BATCH_SIZE):
            for row in rows:
                self._remove(row)
            removed += len(rows)
        if removed:
            _log.info(log_events.ARCHIVE_PRUNED, frames=removed, why="age")

    def _commit(self) -> None:
        cursor, missed = self.progress.take_committable()
        try:
            self._age_clock.now_ns()
            self._index.commit(cursor, missed, self._age_clock.store())
            self.stored_cursor = cursor
        except sqlite3.Error as error:
            self.progress.restore(missed)
            if not isinstance(error, sqlite3.OperationalError):
                self._rebuild_index(str(error))
                return
            raise StorageError(
                f"the index cannot be written: {error}", where=str(self.root)
            ) from error

    def _rebuild_index(self, problem: str) -> None:
        """Build a damaged index again from the sidecars."""
        self._index.close()
        try:
            self._index = ArchiveIndex(self.root)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"the index cannot be rebuilt: {error}", where=str(self.root)
            ) from error
        self._resume_age_clock()
        self._refresh_totals()
        _log.error(log_events.ARCHIVE_REBUILT, frames=self._index.frame_count, problem=problem)

    def write_next(self, write_queue: WriteQueue, timeout_s: float) -> bool:
        """Save the next frame of the queue, and run `maintain`; False on failure."""
        frame = write_queue.get(timeout_s)
        try:
            if frame is not None:
                self.save(frame)
            self.maintain()
        except (StorageError, DataError) as error:
            if frame is not None and self.progress.is_pending(frame.key):
                if isinstance(error, DataError):  # it can never be written
                    discard(frame, self.progress, LossReason.LESS_USEFUL, self._throttled_log)
                else:
                    for evicted_frame in write_queue.requeue(frame):
                        discard(
                            evicted_frame, self.progress, LossReason.EVICTED, self._throttled_log
                        )
            self._report_failure(error)
            return False
        self._report_recovery(write_queue)
        return True

    def _report_failure(self, error: StorageError | DataError) -> None:
        with self._lock:
            first, self.problem = not self.problem, str(error)
        log_error = _log.error if first else self._throttled_log.error
        log_error(log_events.ARCHIVE_FAILED, problem=error.what, where=error.where)

    def _report_recovery(self, write_queue: WriteQueue) -> None:
        with self._lock:
            previous, self.problem = self.problem, ""
        if previous:
            _log.info(
                log_events.ARCHIVE_RECOVERED,
                waiting=len(write_queue),
                missed=sum(self.progress.totals.values()),
            )

    def close(self) -> None:
        """Commit and release the archive; the next start finds uncommitted frames itself."""
        try:
            self.maintain(force=True)
        except StorageError as error:
            self._report_failure(error)
        with self._lock:
            self._index.close()
            self._file_lock.release()


def _lock_archive(root: Path) -> FileLock:
    """Lock the archive against a second writer."""
    try:
        return FileLock(root / ".lock", mode=0o644)
    except BlockingIOError as error:
        raise DeviceLostError("another process writes this archive", where=str(root)) from error


def _check_owner(root: Path, line: str) -> None:
    if not is_archive(root):
        if (root / MARKER_FILE).exists():
            raise DataError(f"has a {MARKER_FILE} of another format", where=str(root))
        write_atomic(root / MARKER_FILE, encode_document(ArchiveMarker(line=line)))
    elif (owner := read_marker(root).line) != line:
        raise DataError(
            f"is the archive of the line {owner}, not of {line}",
            where=str(root),
            remedy="Use one folder per line",
        )
