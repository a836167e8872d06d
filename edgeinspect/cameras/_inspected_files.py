"""The files of a watched folder that were inspected, stored across restarts.

A text file with one line per image, rewritten when most lines are of files that no longer exist.
A line is written after the frame is in the spool: a `kill -9` in between causes an image to be
inspected again, but never to be skipped. The same holds for a power cut, which may lose the last
seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from edgeinspect.domain import NS_PER_S
from edgeinspect.system import (
    FileMissingError,
    FileReadError,
    decode_json,
    escape_name,
    read_regular,
    write_atomic,
)

_BYTES_MAX = 1 << 30
_STALE_LINES_MAX = 10_000
"""Lines of missing files before the file is rewritten."""
_STALE_LINES_HARD_MAX = 2_000_000
"""The same if all inspected files are missing, as on a disk that is not mounted."""
_CLOCK_SET_NS = 1_420_070_400 * NS_PER_S
"""2015-01-01. An earlier modification time comes from a clock that was never set."""


class InspectedFileKey(NamedTuple):
    """Identity of one state of a file; rewriting the file changes the key."""

    name: str
    size_bytes: int
    changed_at_ns: int
    """By the clock of its server; only compared for equality."""
    inode: int

    @classmethod
    def from_stat(cls, name: str, status: os.stat_result) -> InspectedFileKey:
        """Return the key of a file's current state.

        A writer whose clock was never set may give every file the same modification time; then
        the time of the last status change, which a writer cannot set, is used.
        """
        at_ns = status.st_mtime_ns
        at_ns = at_ns if at_ns >= _CLOCK_SET_NS else status.st_ctime_ns
        return cls(name, status.st_size, at_ns, status.st_ino)


class InspectedFiles:
    """The keys of the inspected files. For one thread, except for `problem`.

    Args:
        file: The file that stores them; None to keep them in memory only.
    """

    def __init__(self, file: Path | None) -> None:
        self.problem = ""
        """Why they cannot be stored; empty if they can."""
        self._file = file
        self._keys: set[InspectedFileKey] = set()
        self._line_count = 0
        self._ends_mid_line = False
        """True if the last line of the file is incomplete, as after a kill."""

    def __contains__(self, key: InspectedFileKey) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def load(self) -> None:
        """Load the file, without damaged lines."""
        if self._file is None:
            return
        try:
            data = read_regular(self._file, _BYTES_MAX)
        except FileMissingError:
            return
        except FileReadError as error:
            self.problem = f"the list of inspected files cannot be read: {error}"
            return
        lines = data.split(b"\n")
        self._line_count = len(lines)
        self._ends_mid_line = bool(data) and not data.endswith(b"\n")
        self._keys.update(key for line in lines if (key := _decode_key(line)) is not None)

    def add(self, key: InspectedFileKey) -> None:
        """Add a file."""
        self._keys.add(key)
        self._line_count += 1
        line = _encode_key(key)
        if self._write(b"\n" + line if self._ends_mid_line else line, append=True):
            self._ends_mid_line = False

    def prune(self, present: set[InspectedFileKey]) -> None:
        """Remove missing files from the list, once there are many.

        If all inspected files are missing, the disk may not be mounted; the list is kept, or all
        of them would be inspected again when the disk is back.
        """
        if self._line_count <= 2 * len(present) + _STALE_LINES_MAX:
            return
        if self._keys.isdisjoint(present) and self._line_count <= _STALE_LINES_HARD_MAX:
            return
        self._keys &= present
        self._line_count = len(self._keys)
        self._write(b"".join(map(_encode_key, self._keys)), append=False)

    def _write(self, data: bytes, *, append: bool) -> bool:
        file = self._file
        if file is None:
            return True
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if append:
                with os.fdopen(os.open(file, flags, 0o640), "ab") as stream:
                    stream.write(data)
            else:
                write_atomic(file, data, mode=0o640)
        except OSError as error:
            self.problem = (
                f"inspected files cannot be stored in {escape_name(file)}: {error.strerror}"
            )
        else:
            self.problem = ""
        return not self.problem


def _encode_key(key: InspectedFileKey) -> bytes:
    return json.dumps([os.fsencode(key.name).hex(), *key[1:]]).encode() + b"\n"


def _decode_key(line: bytes) -> InspectedFileKey | None:
    try:
        name, *numbers = decode_json(line, list[Any])
        if len(numbers) != 3 or not all(type(number) is int for number in numbers):
            return None
        return InspectedFileKey(os.fsdecode(bytes.fromhex(name)), *numbers)
    except (ValueError, TypeError):
        return None
