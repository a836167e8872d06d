"""A folder that another program fills: each picture once, when it is complete.

A file is complete when it has kept its size and time of change for `settle_ms` on this PC's
clock (the server's may jump, and its events do not reach us) and can be decoded to its end. What
was judged is remembered by name, size, time and inode, so that a rewritten file is a new picture.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edgeinspect.cameras._folder_listing import SkippedEntries, list_folder
from edgeinspect.cameras._inspected_files import FileKey, InspectedFiles
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Pixels
from edgeinspect.errors import CameraLostError
from edgeinspect.system import FileMissingError, FileReadError, escape_name

_SCAN_INTERVAL_NS = 250 * NS_PER_MS
"""Longest pause between two looks at a folder that is looked through quickly."""
_PAUSE_FACTOR = 10
"""A pause is at least so many times as long as the look before it."""
_RETRY_NS = NS_PER_S
"""Least pause between two attempts to read a file that is not complete."""
_REMOVED_ALARM_NS = 60 * NS_PER_S
"""How long the alarm stands that pictures were removed."""

DecodeFile = Callable[[str], tuple[Pixels | None, str]]


class CompleteFile(NamedTuple):
    """A picture to be judged."""

    name: str
    pixels: Pixels | None
    problem: str
    """Why it will never be read, if so."""
    key: FileKey


@dataclass(slots=True)
class _Candidate:
    """A file that has not been judged."""

    key: FileKey
    is_regular: bool
    unchanged_since_ns: int
    """It has been as it is for so long."""
    first_seen_ns: int
    """It has been here for so long."""
    last_read_ns: int = 0
    problem: str = ""


class FolderWatcher:
    """Finds what has become complete. For the reader's thread, but for its plain attributes.

    Args:
        path: The folder.
        settle_ms: How long a file must have stayed as it is.
        complete_within_ms: After that a file that stays as it is and cannot be read is given up,
            and one that does not stay as it is raises the alarm.
        clock: Measures both.
        decode: (pixels, "") or (None, why) of a file by its name; raises `FileReadError`.
    """

    def __init__(
        self, path: str, settle_ms: int, complete_within_ms: int, clock: Clock, decode: DecodeFile
    ) -> None:
        self.inspected = InspectedFiles(None)
        """Replaced by one with a file before `open`."""
        self.pause_until_ns = 0
        self.has_more = False
        """There may be one more without another look, so there is no use in a pause."""
        self.skipped = SkippedEntries()
        """What the last look passed over."""
        self._path = path
        self._settle_ns = settle_ms * NS_PER_MS
        self._limit_ns = complete_within_ms * NS_PER_MS
        self._clock = clock
        self._decode = decode
        self._candidates: dict[str, _Candidate] = {}
        self._handed_out: set[FileKey] = set()
        self._settled: Iterator[str] = iter(())
        self._unsettled_alarm = ""
        self._removed_count = 0
        self._removed_last = ""
        self._removed_until_ns = 0

    @property
    def alarm(self) -> str:
        """What a person must look at; empty for nothing."""
        if self._removed_count:
            last = escape_name(self._removed_last)
            return f"{self._removed_count} pictures were removed before they were judged, as {last}"
        return self.inspected.problem or self._unsettled_alarm

    def load(self) -> None:
        """Read what was judged before."""
        self.inspected.load()

    def next_complete(self) -> CompleteFile | None:
        """The next complete picture, in the order of names; None if there is none now.

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
        """Look through the folder once; returns what may be complete."""
        keys: set[FileKey] = set()
        before, self._candidates = self._candidates, {}
        listing = list_folder(self._path)
        self.skipped = listing.skipped
        for name in listing.names:
            try:
                status = os.stat(os.path.join(self._path, name))
            except OSError:  # gone in between, or a link to nowhere
                continue
            key = FileKey.from_stat(name, status)
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
        if keys:  # else its disk may not be mounted, and what was handed out comes back with it
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
        self, previous: dict[str, _Candidate], keys: set[FileKey], now_ns: int
    ) -> None:
        """What was there whole and is gone before it was judged has no verdict: say so."""
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
        """The picture, or None if it is not complete and may become so."""
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
                return None  # the next look sees that it is gone
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
        """The picture, if the file is still the one that was looked at."""
        try:
            status = os.stat(os.path.join(self._path, name))
        except OSError as error:
            if not os.path.isdir(self._path):
                raise CameraLostError("folder is gone", where=escape_name(self._path)) from error
            return None
        key = FileKey.from_stat(name, status)
        return CompleteFile(name, pixels, "", key) if key == candidate.key else None
