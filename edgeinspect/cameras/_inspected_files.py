"""Which files of a watched folder were judged, across restarts.

A text file that grows by a line per picture and is written anew when most of it is of files that
are gone. It is written after a frame is on the spool, so a `kill -9` in between lets a picture be
judged again, never be passed over. A power cut may take the last seconds of it, likewise.
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
)

_BYTES_MAX = 1 << 30
_STALE_LINES_MAX = 10_000
"""Lines of files that are gone, kept before it is written anew."""
_STALE_LINES_HARD_MAX = 2_000_000
"""Lines of files that are gone, kept where none of what was judged is there."""
_CLOCK_SET_NS = 1_420_070_400 * NS_PER_S
"""2015-01-01. A file that says an earlier time comes from a clock that nobody set."""


class FileKey(NamedTuple):
    """A file as it was judged; written anew, it has another key."""

    name: str
    size_bytes: int
    changed_at_ns: int
    """By the clock of its server; compared, never measured with."""
    inode: int

    @classmethod
    def from_stat(cls, name: str, status: os.stat_result) -> FileKey:
        """The key of a file as it is now.

        A writer whose clock was never set gives every file the same time; then the time
        counts at which the file system saw the last change, which no writer can set.
        """
        at_ns = status.st_mtime_ns
        at_ns = at_ns if at_ns >= _CLOCK_SET_NS else status.st_ctime_ns
        return cls(name, status.st_size, at_ns, status.st_ino)


class InspectedFiles:
    """The keys of what was judged. For one thread, but for `problem`.

    Args:
        file: Where they are kept; None to remember them in memory alone.
    """

    def __init__(self, file: Path | None) -> None:
        self.problem = ""
        """Why they cannot be kept, in words; empty while they can."""
        self._file = file
        self._keys: set[FileKey] = set()
        self._line_count = 0
        self._ends_mid_line = False
        """The last line of the file is not whole: its writer was killed."""

    def __contains__(self, key: FileKey) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def load(self) -> None:
        """Read the file; what is torn or damaged in it is left out."""
        if self._file is None:
            return
        try:
            data = read_regular(self._file, _BYTES_MAX)
        except FileMissingError:
            return
        except FileReadError as error:
            self.problem = f"what was judged cannot be read: {error}"
            return
        lines = data.split(b"\n")
        self._line_count = len(lines)
        self._ends_mid_line = bool(data) and not data.endswith(b"\n")
        self._keys.update(key for line in lines if (key := _decode_key(line)) is not None)

    def add(self, key: FileKey) -> None:
        """Remember a file."""
        self._keys.add(key)
        self._line_count += 1
        line = _encode_key(key)
        if self._write(b"\n" + line if self._ends_mid_line else line, os.O_APPEND):
            self._ends_mid_line = False

    def prune(self, present: set[FileKey]) -> None:
        """Forget files that are not there any more, now and then.

        Where none of what was judged is there, its disk may not be mounted: the folder below it
        answers, and all would be judged again when the disk is back.
        """
        if self._line_count <= 2 * len(present) + _STALE_LINES_MAX:
            return
        if self._keys.isdisjoint(present) and self._line_count <= _STALE_LINES_HARD_MAX:
            return
        self._keys &= present
        self._line_count = len(self._keys)
        if self._file is None:
            return
        fresh = self._file.with_name(self._file.name + ".new")
        if self._write(b"".join(map(_encode_key, self._keys)), os.O_TRUNC, fresh):
            os.replace(fresh, self._file)

    def _write(self, data: bytes, flag: int, file: Path | None = None) -> bool:
        file = file or self._file
        if file is None:
            return True
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flag
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, flags, 0o640)
            try:
                written = os.write(handle, data)
                while written < len(data):
                    written += os.write(handle, data[written:])
            finally:
                os.close(handle)
        except OSError as error:
            self.problem = (
                f"what was judged cannot be kept in {escape_name(file)}: {error.strerror}"
            )
            return False
        self.problem = ""
        return True


def _encode_key(key: FileKey) -> bytes:
    return json.dumps([os.fsencode(key.name).hex(), *key[1:]]).encode() + b"\n"


def _decode_key(line: bytes) -> FileKey | None:
    try:
        name, *numbers = decode_json(line, list[Any])
        if len(numbers) != 3 or not all(type(number) is int for number in numbers):
            return None
        return FileKey(os.fsdecode(bytes.fromhex(name)), *numbers)
    except (ValueError, TypeError):
        return None
