"""Watches a folder that another program fills, and returns each image once it is complete.

A file is complete if its size and modification time have not changed for `settle_ms` on this PC's
clock (a file server's clock may jump, and its events do not reach this PC), and if it can be
decoded. Inspected files are identified by name, size, time and inode: a rewritten file is a new
image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edgeinspect.cameras._folder_listing import SkippedEntries, list_folder
from edgeinspect.cameras._inspected_files import InspectedFileKey, InspectedFiles
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Pixels, number_of
from edgeinspect.errors import CameraLostError
from edgeinspect.system import FileMissingError, FileReadError, escape_name

_SCAN_INTERVAL_NS = 250 * NS_PER_MS
"""Longest pause between two fast scans."""
_PAUSE_FACTOR = 10
"""A pause is at least this many times as long as the scan before it."""
_RETRY_NS = NS_PER_S
"""Shortest pause between two attempts to read an incomplete file."""
_REMOVED_ALARM_NS = 60 * NS_PER_S
"""Duration of the alarm about removed images."""

DecodeFile = Callable[[str], tuple[Pixels | None, str]]


class CompleteFile(NamedTuple):
    """A file to be inspected."""

    name: str
    pixels: Pixels | None
    problem: str
    """Why it has no pixels; empty if it has."""
    key: InspectedFileKey


@dataclass(slots=True)
class _Candidate:
    """A file that has not been inspected."""

    key: InspectedFileKey
    is_regular: bool
    unchanged_since_ns: int
    """Instant of its last change."""
    first_seen_ns: int
    """Instant of its first scan."""
    last_read_ns: int = 0
    problem: str = ""


class FolderWatcher:
    """Finds complete files. For the reader thread, except for its plain attributes.

    Args:
        path: The folder.
        settle_ms: Time without a change before a file is read.
        complete_within_ms: After this time an unreadable file is returned with its problem, and
            a file that keeps changing raises the alarm.
        clock: Measures both times.
        decode: Returns (pixels, "") or (None, problem) for a name; raises `FileReadError`.
    """

    def __init__(
        self, path: str, settle_ms: int, complete_within_ms: int, clock: Clock, decode: DecodeFile
    ) -> None:
        self.inspected = InspectedFiles(None)
        """Replaced before `load` to store them in a file."""
        self.pause_until_ns = 0
        self.has_more = False
        """True if another file may be complete without another scan."""
        self.skipped = SkippedEntries()
        """Entries that the last scan skipped."""
        self._path = path
        self._settle_ns = settle_ms * NS_PER_MS
        self._limit_ns = complete_within_ms * NS_PER_MS
        self._clock = clock
        self._decode = decode
        self._candidates: dict[str, _Candidate] = {}
        self._handed_out: set[InspectedFileKey] = set()
        self._settled: Iterator[str] = iter(())
        self._unsettled_alarm = ""
        self._removed_count = 0
        self._removed_last = ""
        self._removed_until_ns = 0

    @property
    def alarm(self) -> str:
        """Return the alarm; empty if there is none."""
        if self._removed_count:
            last = escape_name(self._removed_last)
            images = number_of(self._removed_count, "image was", "images were")
            return f"{images} removed before inspection, such as {last}"
        return self.inspected.problem or self._unsettled_alarm

    def load(self) -> None:
        """Load the files inspected before."""
        self.inspected.load()

    def next_complete(self) -> CompleteFile | None:
        """Return the next complete file, in the order of names; None if there is none now.

        Raises:
            CameraLostError: The folder is gone.
        """
        now_ns = self._clock.now_ns()
        if now_ns >= self.pause_until_ns:
            self._settled = iter(self._scan(now_ns))
            spent_ns = self._clock.now_ns() - now_ns
            pause_ns = max(min(_SCAN_INTERVAL_NS, self._settle_ns // 2), _PAUSE_FACTOR * spent_ns)
            self.pause_until_ns = self._clock.now_ns() + pause_ns
        for name in self._settled:
            candidate = self._candidates.get(name)
            found = None if candidate is None else self._read_if_complete(name, candidate)
            if found is not None:
                del self._candidates[name]
                self._handed_out.add(found.key)
                self.has_more = True
                return found
        self.has_more = False
        return None

    def _scan(self, now_ns: int) -> list[str]:
        """Scan the folder once; return the names that may be complete."""
        keys: set[InspectedFileKey] = set()
        before, self._candidates = self._candidates, {}
        listing = list_folder(self._path)
        self.skipped = listing.skipped
        for name in listing.names:
            try:
                status = os.stat(os.path.join(self._path, name))
            except OSError:  # removed in between, or a broken link
                continue
            key = InspectedFileKey.from_stat(name, status)
            keys.add(key)
            if key in self.inspected or key in self._handed_out:
                continue
            candidate = before.get(name)
            if candidate is None:
                regular = stat.S_ISREG(status.st_mode)
                candidate = _Candidate(key, regular, now_ns, now_ns)
            elif candidate.key != key:
                candidate.key, candidate.unchanged_since_ns, candidate.problem = key, now_ns, ""
            self._candidates[name] = candidate
        if keys:  # otherwise the disk may not be mounted
            self._handed_out &= keys
        self.inspected.prune(keys)
        self._count_removed(before, keys, now_ns)
        self._unsettled_alarm = self._describe_unsettled(now_ns)
        return [
            name
            for name, candidate in self._candidates.items()
            if now_ns - candidate.unchanged_since_ns >= self._settle_ns
            and (not candidate.last_read_ns or now_ns - candidate.last_read_ns >= self._retry_ns)
        ]

    @property
    def _retry_ns(self) -> int:
        return max(_RETRY_NS, self._settle_ns)

    def _count_removed(
        self, previous: dict[str, _Candidate], keys: set[InspectedFileKey], now_ns: int
    ) -> None:
        """Count settled files that were removed before inspection."""
        inodes = {key.inode for key in keys}
        for name, candidate in previous.items():
            gone = name not in self._candidates and candidate.key.inode not in inodes
            if (
                gone
                and candidate.is_regular
                and now_ns - candidate.unchanged_since_ns >= self._settle_ns
            ):
                self._removed_count += 1
                self._removed_last = name
                self._removed_until_ns = now_ns + _REMOVED_ALARM_NS
        if self._removed_count and now_ns >= self._removed_until_ns:
            self._removed_count = 0

    def _describe_unsettled(self, now_ns: int) -> str:
        late = [
            name
            for name, candidate in self._candidates.items()
            if now_ns - candidate.first_seen_ns >= self._limit_ns
            and (candidate.problem or now_ns - candidate.unchanged_since_ns < self._settle_ns)
        ]
        if not late:
            return ""
        more = f" and {len(late) - 1} more" if len(late) > 1 else ""
        return f"{escape_name(late[0])}{more} not complete for {self._limit_ns // NS_PER_S} s"

    def _read_if_complete(self, name: str, candidate: _Candidate) -> CompleteFile | None:
        """Return the file; None if it may still become complete."""
        now_ns = self._clock.now_ns()
        candidate.last_read_ns = now_ns
        if not candidate.is_regular:
            problem = "is not a regular file"
        elif not candidate.key.size_bytes:
            problem = "is empty"
        else:
            try:
                pixels, problem = self._decode(name)
            except FileMissingError:
                return None  # handled by the next scan
            except FileReadError as error:
                pixels, problem = None, error.what
            if pixels is not None:
                return self._if_unchanged(name, candidate, pixels)
        candidate.problem = problem
        if candidate.is_regular and now_ns - candidate.unchanged_since_ns < self._limit_ns:
            return None
        return CompleteFile(name, None, problem, candidate.key)

    def _if_unchanged(
        self, name: str, candidate: _Candidate, pixels: Pixels
    ) -> CompleteFile | None:
        """Return the file if it has not changed since the scan."""
        try:
            status = os.stat(os.path.join(self._path, name))
        except OSError as error:
            if not os.path.isdir(self._path):
                raise CameraLostError("folder is gone", where=escape_name(self._path)) from error
            return None
        key = InspectedFileKey.from_stat(name, status)
        return CompleteFile(name, pixels, "", key) if key == candidate.key else None
