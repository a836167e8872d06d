"""Verifies on the line's own PC that messages come from the line.

Any user of a PC can bind a free TCP port and publish in a line's name. So a client there reads
the line's spool, which only the line's user can write: the sending daemon must hold its lock and
have announced its epoch in it, and a verdict must be in it as it was received. From another PC
the line is verified by its key (CURVE), or not at all, which must be configured explicitly.

Source: docs/reference/wire.md, "Verifying the sender"; docs/explanation/decisions/0020-wire.md
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from edgeinspect.domain import PartVerdict
from edgeinspect.errors import ConfigError, DataError, ImpersonationError
from edgeinspect.storage.shared_memory import find_line_folder, is_line_running, open_line_file
from edgeinspect.storage.spool import (
    ANNOUNCED_EPOCH_AT,
    HEADER_BYTES,
    SLOT_BYTES,
    read_cursor,
    read_line_name,
    read_verdict,
)
from edgeinspect.system import is_same_file
from edgeinspect.wire import HEARTBEAT_TOPIC, Heartbeat, Status

_LINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_LINES_MAX = 64
_PATH_MAX = 4096


class LineVerifier:
    """Verifies messages of one line by its spool. One thread.

    A heartbeat or a verdict costs some 10 µs; no call waits for the line.
    """

    def __init__(self, line: str, folder: Path | None = None, owners: Collection[int] = ()) -> None:
        """Create it without opening a file.

        Args:
            line: The line's name.
            folder: Folder of its spool; by default the one in the heartbeat, else the default
                one of the line.
            owners: Users, in addition to root and the current one, whose spool is trusted.
        """
        self.line = line
        self._folder = folder
        self._owners = owners
        self._fd = -1
        self._path = Path()
        self._slots = 0
        self._status: os.stat_result

    def problem_with(self, beat: Heartbeat | Status | PartVerdict) -> str:
        """Return why a message with an epoch is not from the line; empty if it is."""
        problem = self._attach(beat.spool if isinstance(beat, Heartbeat) else "")
        if problem:
            return problem
        if read_cursor(self._fd, ANNOUNCED_EPOCH_AT) != beat.epoch:
            return f"{self._path} is not of the daemon with epoch {beat.epoch}"
        if not is_line_running(self._path):
            return f"no daemon holds {self._path}"
        return ""

    def is_in_spool(self, seq: int, body: bytes) -> bool:
        """Return whether a verdict is in the line's spool exactly as received."""
        if self._fd < 0 and self._attach(""):
            return False
        return read_verdict(self._fd, self._slots, seq) == body

    def is_missing(self, seq: int) -> bool:
        """Return whether the line's spool has no verdict of a frame."""
        if self._fd < 0 and self._attach(""):
            return False
        return read_verdict(self._fd, self._slots, seq) is None

    def for_line(self, line: str) -> LineVerifier | None:
        """Return itself, if it is for that line."""
        return self if line == self.line else None

    def close(self) -> None:
        """Close the spool; harmless if done already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _attach(self, announced: str) -> str:
        """Open the spool, again if it was replaced; return the problem if that fails."""
        if self._fd >= 0 and is_same_file(self._path, self._status):
            return ""
        self.close()
        problems = []
        for folder in self._candidate_folders(announced):
            path = folder / f"{self.line}.spool"
            try:
                self._open(path)
            except FileNotFoundError:
                problems.append(f"there is no {path}")
            except (OSError, DataError) as error:
                problems.append(f"{path} cannot be read: {getattr(error, 'strerror', error)}")
            except ConfigError as error:
                problems.append(error.faults[0].problem)
            else:
                return ""
        return "; ".join(dict.fromkeys(problems))

    def _candidate_folders(self, announced: str) -> list[Path]:
        """Return folders that may have the spool, the most likely one first."""
        if self._folder is not None:
            return [self._folder]
        folders = []
        path = Path(announced[:_PATH_MAX])
        if (
            announced
            and "\0" not in announced
            and path.is_absolute()
            and path.name == f"{self.line}.spool"
        ):
            folders.append(path.parent)
        default = find_line_folder(self.line)
        return folders if default in folders else [*folders, default]

    def _open(self, path: Path) -> None:
        fd = open_line_file(path, owners=self._owners)
        try:
            status = os.fstat(fd)
            line = read_line_name(os.pread(fd, HEADER_BYTES, 0))
            if line != self.line:
                raise DataError("is not a spool of this line")
            self._slots = (status.st_size - HEADER_BYTES) // SLOT_BYTES
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._path = fd, path
        self._status = status


class LineVerifiers:
    """A verifier for each line that publishes at one address. One thread."""

    def __init__(self) -> None:
        self._by_line: dict[str, LineVerifier] = {}

    def for_line(self, line: str) -> LineVerifier | None:
        """Return the verifier of a line; None for an invalid name, or for too many lines."""
        verifier = self._by_line.get(line)
        if verifier is None and len(self._by_line) < _LINES_MAX and _LINE_NAME.fullmatch(line):
            verifier = self._by_line[line] = LineVerifier(line)
        return verifier

    def close(self) -> None:
        """Close all spools."""
        for verifier in self._by_line.values():
            verifier.close()


def forged_error(line: str, problem: str) -> ImpersonationError:
    """Return the error for a heartbeat that is not from the line."""
    return ImpersonationError(
        f"another program sends messages in the line's name: {problem}",
        where=f"{HEARTBEAT_TOPIC}.{line}",
        remedy="Name the line's folder in feed.spool and who owns it in feed.owner, or use keys",
    )
