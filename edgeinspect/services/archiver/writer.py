"""The keeper of an archive: writes what waits, removes what is least useful, keeps the index.

Encoders are threads that encode pictures, outside the interpreter lock; everything that
touches the archive's files and index happens under one lock, so each commit is a consistent
state.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import structlog

from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.errors import DataError, DeviceLostError, StorageError
from edgeinspect.services.archiver import files
from edgeinspect.services.archiver.config import ArchiveConfig
from edgeinspect.services.archiver.retention_policy import kind_to_drop, label_to_drop
from edgeinspect.services.archiver.subscriber import drop
from edgeinspect.services.archiver.write_queue import Caught, Waiting
from edgeinspect.storage.archive.format import MARKER, Kind, Owner, encode, is_archive, owner_of
from edgeinspect.storage.archive.index import Index
from edgeinspect.storage.archive.index_rows import Row
from edgeinspect.storage.archive.progress import Account, Why
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.system.wall_clock import KeptTime

MIB = 1 << 20
DAY_NS = 86_400 * NS_PER_S
_COMMIT_NS = NS_PER_S // 2
_AGE_NS = 60 * NS_PER_S
_AGE_BATCH = 500
_log = structlog.get_logger()


class Keeper:
    """Owns the folder of an archive. Thread-safe."""

    def __init__(self, config: ArchiveConfig, clock: Clock) -> None:
        """Open the archive, or make it; finish or take back what a crash left half done.

        Raises:
            DeviceLostError: Another process holds it, or the disk does not let us.
            DataError: The folder is another line's archive.
        """
        self.root = Path(config.folder)
        self.saved = 0
        self.removed = 0
        self.frames = 0
        """How many there are. This and the others here may be read without waiting."""
        self.size_bytes = 0
        self.problem = ""
        """Why nothing can be saved; empty if it can."""
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet = RateLimited(_log, clock)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._held = _hold(self.root)
            _claim(self.root, config.feed.line)
            self._index = Index(self.root)
        except (OSError, sqlite3.Error) as error:
            raise DeviceLostError(
                f"cannot be used: {error}",
                where=str(self.root),
                remedy="Is there room, and may this user write?",
            ) from error
        if self._index.rebuilt:
            _log.warning(
                log_events.ARCHIVE_REBUILT, frames=self._index.frames, problem=self._index.rebuilt
            )
        self._recount()
        self._kept = KeptTime(clock)
        self._resume()
        cursor = self._index.state("cursor")
        self.stored_cursor = cursor
        """Where the last commit ended; everything up to it is settled."""
        self.account = Account(cursor)
        self.known = self._index.after(cursor) if cursor is not None else set()
        """(epoch, seq) that a crash left saved, but for the cursor."""
        self._commit_at_ns = self._age_at_ns = clock.now_ns()

    def _resume(self) -> None:
        self._kept.resume(self._index.state("kept_ns") or 0, self._index.state("kept_at_utc_ns"))

    def _recount(self) -> None:
        self._sizes = Counter(self._index.sizes())
        self.size_bytes, self.frames = sum(self._sizes.values()), self._index.frames

    # -- saving -----------------------------------------------------------------------

    def save(self, frame: Caught) -> None:
        """Encode and save one frame, or give it up because all else is more useful.

        Raises:
            StorageError: The disk does not take it; try again later.
        """
        ready = files.prepare(frame, self._config.picture, self._clock.utc_ns())
        with self._lock:
            try:
                self._check_free(ready.size_bytes)
                if not self._make_room(frame.kind, ready.size_bytes):
                    drop(frame, self.account, Why.ROOM, self._quiet)
                    return
                row = files.save(self.root, ready)
            except OSError as error:
                raise StorageError(
                    f"cannot be written: {error.strerror or error}", where=str(self.root)
                ) from error
            self._index.add(row, self._kept.now_ns())
            self._sizes[row.kind, row.label] += row.size_bytes
            self.size_bytes += row.size_bytes
            self.frames += 1
            self.saved += 1
        self.account.settled(frame.key)

    def _check_free(self, more: int) -> None:
        free = files.free_bytes(self.root) - more
        least = self._config.min_free_mib * MIB
        if least and free < least:
            raise StorageError(
                f"has {max(0, free) // MIB} MiB free; {least / MIB:g} are to stay free",
                where=str(self.root),
                remedy="Make room, or lower max_mib or min_free_mib",
            )

    def _make_room(self, kind: Kind, more: int) -> bool:
        """Remove what is less useful until a newcomer fits; False if it is the least itself."""
        room = self._config.max_mib * MIB
        while self.size_bytes + more > room:
            kinds: Counter[Kind] = Counter({kind: more})
            for (each, _label), size in self._sizes.items():
                kinds[each] += size
            victim = kind_to_drop(kinds, self._config.shares.of, room)
            labels = {
                label: size
                for (each, label), size in self._sizes.items()
                if each is victim and size > 0
            }
            if not labels:
                return False
            rows = self._index.oldest(victim, label_to_drop(labels))
            if not rows:  # the index has less than we thought
                self._recount()
                continue
            self._remove(rows[0])
        return True

    def _remove(self, row: Row) -> None:
        files.remove(self.root, row)
        self._index.remove(row)
        self._sizes[row.kind, row.label] -= row.size_bytes
        self.size_bytes -= row.size_bytes
        self.frames -= 1
        self.removed += 1

    # -- from time to time ----------------------------------------------------------------

    def tend(self, *, now: bool = False) -> None:
        """Commit, and remove what is too old, when it is time.

        Raises:
            StorageError: The index cannot be written; its changes are kept.
        """
        at_ns = self._clock.now_ns()
        with self._lock:
            try:
                if at_ns >= self._age_at_ns:
                    self._age_at_ns = at_ns + _AGE_NS
                    self._remove_old()
                if now or at_ns >= self._commit_at_ns:
                    self._commit_at_ns = at_ns + _COMMIT_NS
                    self._commit()
            except OSError as error:
                raise StorageError(
                    f"cannot be written: {error.strerror or error}", where=str(self.root)
                ) from error

    def _remove_old(self) -> None:
        limit_ns = round(self._kept.now_ns() - self._config.keep_days * DAY_NS)
        removed = 0
        while rows := self._index.kept_before(limit_ns, _AGE_BATCH):
            for row in rows:
                self._remove(row)
            removed += len(rows)
        if removed:
            _log.info(log_events.ARCHIVE_PRUNED, frames=removed, why="age")

    def _commit(self) -> None:
        cursor, missed = self.account.take()
        try:
            self._kept.now_ns()
            self._index.commit(cursor, missed, self._kept.store())
            self.stored_cursor = cursor
        except sqlite3.Error as error:
            self.account.give_back(missed)
            if not isinstance(error, sqlite3.OperationalError):
                self._reopen(str(error))
                return
            raise StorageError(
                f"the index cannot be written: {error}", where=str(self.root)
            ) from error

    def _reopen(self, problem: str) -> None:
        """Make a damaged index anew."""
        self._index.close()
        try:
            self._index = Index(self.root)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"the index cannot be made anew: {error}", where=str(self.root)
            ) from error
        self._resume()
        self._recount()
        _log.error(log_events.ARCHIVE_REBUILT, frames=self._index.frames, problem=problem)

    def write(self, waiting: Waiting, timeout_s: float) -> bool:
        """Save what waits longest among the most useful, and tend; False if that failed."""
        frame = waiting.take(timeout_s)
        try:
            if frame is not None:
                self.save(frame)
            self.tend()
        except (StorageError, DataError) as error:
            if frame is not None and self.account.is_open(frame.key):
                if isinstance(error, DataError):  # this one will never be written
                    drop(frame, self.account, Why.ROOM, self._quiet)
                else:
                    for dropped in waiting.put_back(frame):
                        drop(dropped, self.account, Why.MEMORY, self._quiet)
            self._fail(error)
            return False
        self._recover(waiting)
        return True

    def _fail(self, error: StorageError | DataError) -> None:
        with self._lock:
            first, self.problem = not self.problem, str(error)
        log = _log.error if first else self._quiet.error
        log(log_events.ARCHIVE_FAILED, problem=error.what, where=error.where)

    def _recover(self, waiting: Waiting) -> None:
        with self._lock:
            was, self.problem = self.problem, ""
        if was:
            _log.info(
                log_events.ARCHIVE_RECOVERED,
                waiting=len(waiting),
                missed=sum(self.account.totals.values()),
            )

    def close(self) -> None:
        """Commit and let go; what could not be committed is found in the folders."""
        try:
            self.tend(now=True)
        except StorageError as error:
            self._fail(error)
        with self._lock:
            self._index.close()
            os.close(self._held)


def _hold(root: Path) -> int:
    """Be the only process that writes here."""
    handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DeviceLostError("another process writes this archive", where=str(root)) from error
    except OSError:  # a network's disk without locks
        os.close(handle)
        raise
    return handle


def _claim(root: Path, line: str) -> None:
    if not is_archive(root):
        if (root / MARKER).exists():
            raise DataError(f"has a {MARKER} that says something else", where=str(root))
        files.write_whole(root / MARKER, encode(Owner(line=line)))
    elif (owner := owner_of(root).line) != line:
        raise DataError(
            f"is the archive of the line {owner}, not of {line}",
            where=str(root),
            remedy="Give each line a folder of its own",
        )
