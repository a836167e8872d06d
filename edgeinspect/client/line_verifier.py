"""Is it the line that speaks? What a client on the line's own PC can see for itself.

Any user of a PC can bind a free TCP port and publish in a line's name. So a client there
looks into the line's spool, which nobody else can have written: the daemon that speaks must
hold its lock and have put its epoch there, and a verdict must stand there as it came. Beyond
the PC the line's key proves it (CURVE), or nothing does, and that must be written out.

Source: docs/wire.md, "Who speaks"; docs/decisions/0020-wire.md
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from edgeinspect.domain import PartVerdict
from edgeinspect.errors import ConfigError, DataError, ImpersonationError
from edgeinspect.storage.shared_memory import find_line_folder, is_line_running, open_line_file
from edgeinspect.storage.spool import (
    ANNOUNCED_EPOCH_AT,
    CURSOR,
    HEADER_BYTES,
    SLOT_BYTES,
    read_closed_payload,
    read_line_name,
)
from edgeinspect.wire import HEARTBEAT_TOPIC, Heartbeat, Status

_LINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_LINES_MAX = 64
_PATH_MAX = 4096


class LineVerifier:
    """Sees in a line's spool whether a message is the line's. One thread.

    A heartbeat costs some 10 µs, a verdict as much; nothing waits for the line.
    """

    def __init__(self, line: str, folder: Path | None = None, owners: Collection[int] = ()) -> None:
        """Nothing is opened.

        Args:
            line: The line's name.
            folder: Of its spool; where the heartbeat says, or where it would be by default,
                when None.
            owners: Users beside root and our own whose spool is believed.
        """
        self.line = line
        self._folder = folder
        self._owners = owners
        self._file = -1
        self._path = Path()
        self._slots = 0
        self._opened: tuple[int, int] = (0, 0)

    def problem_with(self, beat: Heartbeat | Status | PartVerdict) -> str:
        """Why what says an epoch is not believed to be the line's; empty if it is."""
        why = self._attach(beat.spool if isinstance(beat, Heartbeat) else "")
        if why:
            return why
        if self._cell(ANNOUNCED_EPOCH_AT) != beat.epoch:
            return f"{self._path} does not know of a daemon that began at {beat.epoch}"
        if not is_line_running(self._path):
            return f"no daemon holds {self._path}"
        return ""

    def is_in_spool(self, seq: int, body: bytes) -> bool:
        """True if a verdict stands in the line's spool just as it came."""
        if self._file < 0 and self._attach(""):
            return False
        return self._read(seq) == body

    def is_missing(self, seq: int) -> bool:
        """True if the line's spool has no verdict of a frame."""
        if self._file < 0 and self._attach(""):
            return False
        return self._read(seq) is None

    def for_line(self, line: str) -> LineVerifier | None:
        """Itself, if it is that line's."""
        return self if line == self.line else None

    def close(self) -> None:
        """Let go of the spool; harmless when done already."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, seq: int) -> bytes | None:
        at = HEADER_BYTES + seq % self._slots * SLOT_BYTES
        slot = os.pread(self._file, SLOT_BYTES, at)
        if len(slot) < SLOT_BYTES:
            return None
        return read_closed_payload(memoryview(slot), 0, seq)

    def _cell(self, at: int) -> int:
        cell = os.pread(self._file, CURSOR.size, at)
        return int(CURSOR.unpack(cell)[0]) if len(cell) == CURSOR.size else 0

    def _attach(self, told: str) -> str:
        """Open the spool, anew if another has taken its place; returns why it cannot be."""
        if self._file >= 0 and self._is_current():
            return ""
        self.close()
        problems = []
        for folder in self._candidate_folders(told):
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

    def _candidate_folders(self, told: str) -> list[Path]:
        """Folders that may have the spool, the most certain one first."""
        if self._folder is not None:
            return [self._folder]
        places = []
        path = Path(told[:_PATH_MAX])
        if told and "\0" not in told and path.is_absolute() and path.name == f"{self.line}.spool":
            places.append(path.parent)
        default = find_line_folder(self.line)
        return places if default in places else [*places, default]

    def _open(self, path: Path) -> None:
        handle = open_line_file(path, owners=self._owners)
        try:
            status = os.fstat(handle)
            line = read_line_name(os.pread(handle, HEADER_BYTES, 0))
            if line != self.line:
                raise DataError("is no spool of this line")
            self._slots = (status.st_size - HEADER_BYTES) // SLOT_BYTES
        except BaseException:
            os.close(handle)
            raise
        self._file, self._path = handle, path
        self._opened = (status.st_dev, status.st_ino)

    def _is_current(self) -> bool:
        with contextlib.suppress(OSError):
            status = os.stat(self._path, follow_symlinks=False)
            return (status.st_dev, status.st_ino) == self._opened
        return False


class LineVerifiers:
    """A proof for each line that is heard at one address. One thread."""

    def __init__(self) -> None:
        self._by_line: dict[str, LineVerifier] = {}

    def for_line(self, line: str) -> LineVerifier | None:
        """The proof of a line; None for a name that none has, and for too many of them."""
        known = self._by_line.get(line)
        if known is None and len(self._by_line) < _LINES_MAX and _LINE_NAME.fullmatch(line):
            known = self._by_line[line] = LineVerifier(line)
        return known

    def close(self) -> None:
        """Let go of all spools."""
        for proof in self._by_line.values():
            proof.close()


def forged_error(line: str, problem: str) -> ImpersonationError:
    """The error for a heartbeat that is not believed."""
    return ImpersonationError(
        f"somebody speaks in the line's name who is not seen to be the line: {problem}",
        where=f"{HEARTBEAT_TOPIC}.{line}",
        remedy="Name the line's folder in feed.spool and who owns it in feed.owner, or use keys",
    )
