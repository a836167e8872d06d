"""Where a recording goes: one file up to a size, or a folder whose oldest files make room."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.errors import StorageError
from edgeinspect.storage.recording.messages import (
    SUFFIX,
    About,
    ClockReading,
    Configuration,
    End,
    FrameRecord,
    Missed,
)
from edgeinspect.storage.recording.writer import RecordingWriter

FAILED = "failed"
_FORMAT = "%Y%m%dT%H%M%S"
_PARTS = 8
"""A folder's bound is shared by so many files, so that an eighth goes when room is needed."""


class Reel:
    """The files of a recording while it is made. One thread."""

    def __init__(self, out: Path, line: str, max_bytes: int, about: Callable[[], About]) -> None:
        """Nothing is made before the first `begin`.

        Args:
            out: `NAME.mcap`, or a folder, which is made if it is not there.
            line: Whose files in the folder may be removed.
            max_bytes: Bound of the file, or of all files of this line in the folder.
            about: The first message of a file that begins now.
        """
        self.out = out
        self.rolls = out.suffix != SUFFIX
        self.frames = self.without_picture = self.missed = 0
        self._line = line
        self._max_bytes = max_bytes
        self._file_bytes = max_bytes // _PARTS if self.rolls else max_bytes
        self._about = about
        self._writer: RecordingWriter | None = None
        self._configurations: dict[str, Configuration] = {}
        self._counted = (0, 0, 0)

    def begin(self, utc_ns: int) -> None:
        """Make the first file; raises as `RecordingWriter`."""
        self._writer = self._make(utc_ns)

    def takes(self, more_bytes: int, utc_ns: int) -> bool:
        """True if so many bytes more are within the bound, after making room in a folder."""
        assert self._writer is not None
        if self._writer.size_bytes + more_bytes <= self._file_bytes:
            return True
        if not self.rolls:
            return False
        self._end("continued in the next file", utc_ns)
        self._writer = self._make(utc_ns)
        return self._writer.size_bytes + more_bytes <= self._file_bytes

    def configuration(self, configuration: Configuration, utc_ns: int) -> None:
        """Keep a configuration, in this file and in all that follow."""
        assert self._writer is not None
        self._configurations[configuration.hash] = configuration
        self._writer.configuration(configuration, utc_ns)

    def clock(self, reading: ClockReading) -> None:
        """Keep a reading of both clocks."""
        assert self._writer is not None
        self._writer.clock(reading)

    def lost(self, missed: Missed, utc_ns: int) -> None:
        """Say which verdicts are not here."""
        assert self._writer is not None
        self.missed += missed.to_seq - missed.from_seq + 1
        self._writer.missed(missed, utc_ns)

    def frame(self, record: FrameRecord, camera: str, seq: int, utc_ns: int) -> None:
        """Keep one frame; ask `takes` before."""
        assert self._writer is not None
        self._writer.frame(record, camera, seq, utc_ns)
        self.frames += 1

    def flush(self, *, to_disk: bool) -> None:
        """As `RecordingWriter.flush`."""
        assert self._writer is not None
        self._writer.flush(to_disk=to_disk)

    def finish(self, why: str, utc_ns: int) -> None:
        """End the last file in order; one that failed before its first frame is removed."""
        if self._writer is not None:
            path = self._writer.path
            self._end(why, utc_ns)
            if why == FAILED and not self.frames:
                path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave the last file as it is: the disk has failed."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _end(self, why: str, utc_ns: int) -> None:
        assert self._writer is not None
        now = (self.frames, self.without_picture, self.missed)
        counts = [after - before for after, before in zip(now, self._counted, strict=True)]
        self._counted = now
        end = End(why=why, frames=counts[0], without_picture=counts[1], missed=counts[2])
        writer, self._writer = self._writer, None
        writer.finish(end, utc_ns)

    def _make(self, utc_ns: int) -> RecordingWriter:
        path = self.out
        if self.rolls:
            self._make_room()
            path = self.out / f"{self._line}-{_next_stamp(utc_ns, self._files())}Z{SUFFIX}"
        writer = RecordingWriter(path, self._about())
        for configuration in self._configurations.values():
            writer.configuration(configuration, utc_ns)
        return writer

    def _files(self) -> list[Path]:
        """This line's files, the oldest first."""
        ours = re.compile(rf"{re.escape(self._line)}-\d{{8}}T\d{{6}}\.\d{{9}}Z{re.escape(SUFFIX)}")
        return sorted(path for path in self.out.glob(f"*{SUFFIX}") if ours.fullmatch(path.name))

    def _make_room(self) -> None:
        """Remove the oldest files of this line until one more is within the bound."""
        try:
            files = self._files()
            sizes = [path.stat().st_size for path in files]
            while files and sum(sizes) + self._file_bytes > self._max_bytes:
                files.pop(0).unlink()
                sizes.pop(0)
        except OSError as error:
            raise StorageError(
                f"the oldest recording cannot be removed: {error.strerror}", where=str(self.out)
            ) from error


def _next_stamp(utc_ns: int, files: Sequence[Path]) -> str:
    """What a new file is named by: the time, or just after the last file if the clock is behind.

    The order of the names is the order of the files, or a clock that was set back would have
    the newest removed first.
    """
    now = _stamp(utc_ns)
    last = files[-1].name.removesuffix(f"Z{SUFFIX}").rpartition("-")[2] if files else ""
    if now > last:
        return now
    seconds, _, ns = last.partition(".")
    at_s = calendar.timegm(time.strptime(seconds, _FORMAT))
    return _stamp(at_s * NS_PER_S + int(ns) + 1)


def _stamp(utc_ns: int) -> str:
    return f"{time.strftime(_FORMAT, time.gmtime(utc_ns // NS_PER_S))}.{utc_ns % NS_PER_S:09}"


def size_of(record: FrameRecord) -> int:
    """Bytes that a frame takes in the file, a little more than less."""
    return len(record.pixels) + len(record.verdict) + 512


def encoded(message: msgspec.Struct) -> int:
    """Bytes of a small message."""
    return len(msgspec.json.encode(message)) + 512
