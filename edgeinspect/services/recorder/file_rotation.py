"""Where a recording goes: one file up to a size, or a folder whose oldest files make room."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgeinspect.domain import NS_PER_S
from edgeinspect.errors import StorageError
from edgeinspect.storage.recording import (
    RECORDING_SUFFIX,
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
    RecordingWriter,
)

FAILED = "failed"
_TIMESTAMP_FORMAT = "%Y%m%dT%H%M%S"
_FILES_PER_FOLDER = 8
"""A folder's bound is shared by so many files, so that an eighth goes when room is needed."""


class RotatingWriter:
    """The files of a recording while it is made. One thread."""

    def __init__(
        self, out: Path, line: str, max_bytes: int, make_info: Callable[[], RecordingInfo]
    ) -> None:
        """Nothing is made before the first `begin`.

        Args:
            out: `NAME.mcap`, or a folder, which is made if it is not there.
            line: Whose files in the folder may be removed.
            max_bytes: Bound of the file, or of all files of this line in the folder.
            about: The first message of a file that begins now.
        """
        self.out = out
        self.is_rotating = out.suffix != RECORDING_SUFFIX
        self.frame_count = self.without_image_count = self.missed_count = 0
        self._line = line
        self._max_bytes = max_bytes
        self._file_bytes = max_bytes // _FILES_PER_FOLDER if self.is_rotating else max_bytes
        self._make_info = make_info
        self._writer: RecordingWriter | None = None
        self._configurations: dict[str, RecordedConfiguration] = {}
        self._finished_counts = (0, 0, 0)

    def open_first_file(self, utc_ns: int) -> None:
        """Make the first file; raises as `RecordingWriter`."""
        self._writer = self._open_file(utc_ns)

    def has_room_for(self, added_bytes: int, utc_ns: int) -> bool:
        """True if so many bytes more are within the bound, after making room in a folder."""
        assert self._writer is not None
        if self._writer.size_bytes + added_bytes <= self._file_bytes:
            return True
        if not self.is_rotating:
            return False
        self._finish_file("continued in the next file", utc_ns)
        self._writer = self._open_file(utc_ns)
        return self._writer.size_bytes + added_bytes <= self._file_bytes

    def write_configuration(self, configuration: RecordedConfiguration, utc_ns: int) -> None:
        """Keep a configuration, in this file and in all that follow."""
        assert self._writer is not None
        self._configurations[configuration.hash] = configuration
        self._writer.write_configuration(configuration, utc_ns)

    def write_clock_reading(self, reading: ClockReading) -> None:
        """Keep a reading of both clocks."""
        assert self._writer is not None
        self._writer.write_clock(reading)

    def write_missed(self, missed: MissedVerdicts, utc_ns: int) -> None:
        """Say which verdicts are not here."""
        assert self._writer is not None
        self.missed_count += missed.to_seq - missed.from_seq + 1
        self._writer.write_missed(missed, utc_ns)

    def write_frame(self, record: FrameRecord, camera: str, seq: int, utc_ns: int) -> None:
        """Keep one frame; ask `takes` before."""
        assert self._writer is not None
        self._writer.write_frame(record, camera, seq, utc_ns)
        self.frame_count += 1

    def flush(self, *, to_disk: bool) -> None:
        """As `RecordingWriter.flush`."""
        assert self._writer is not None
        self._writer.flush(to_disk=to_disk)

    def finish(self, reason: str, utc_ns: int) -> None:
        """End the last file in order; one that failed before its first frame is removed."""
        if self._writer is not None:
            path = self._writer.path
            self._finish_file(reason, utc_ns)
            if reason == FAILED and not self.frame_count:
                path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave the last file as it is: the disk has failed."""
        if self._writer is not None:
            self._writer.close_unfinished()
            self._writer = None

    def _finish_file(self, reason: str, utc_ns: int) -> None:
        assert self._writer is not None
        now = (self.frame_count, self.without_image_count, self.missed_count)
        counts = [after - before for after, before in zip(now, self._finished_counts, strict=True)]
        self._finished_counts = now
        end = RecordingEnd(
            why=reason, frames=counts[0], without_picture=counts[1], missed=counts[2]
        )
        writer, self._writer = self._writer, None
        writer.finish(end, utc_ns)

    def _open_file(self, utc_ns: int) -> RecordingWriter:
        path = self.out
        if self.is_rotating:
            self._make_room()
            path = (
                self.out
                / f"{self._line}-{_next_timestamp(utc_ns, self._files())}Z{RECORDING_SUFFIX}"
            )
        writer = RecordingWriter(path, self._make_info())
        for configuration in self._configurations.values():
            writer.write_configuration(configuration, utc_ns)
        return writer

    def _files(self) -> list[Path]:
        """This line's files, the oldest first."""
        ours = re.compile(
            rf"{re.escape(self._line)}-\d{{8}}T\d{{6}}\.\d{{9}}Z{re.escape(RECORDING_SUFFIX)}"
        )
        return sorted(
            path for path in self.out.glob(f"*{RECORDING_SUFFIX}") if ours.fullmatch(path.name)
        )

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


def _next_timestamp(utc_ns: int, files: Sequence[Path]) -> str:
    """What a new file is named by: the time, or just after the last file if the clock is behind.

    The order of the names is the order of the files, or a clock that was set back would have
    the newest removed first.
    """
    now = _timestamp(utc_ns)
    last = files[-1].name.removesuffix(f"Z{RECORDING_SUFFIX}").rpartition("-")[2] if files else ""
    if now > last:
        return now
    seconds, _, ns = last.partition(".")
    at_s = calendar.timegm(time.strptime(seconds, _TIMESTAMP_FORMAT))
    return _timestamp(at_s * NS_PER_S + int(ns) + 1)


def _timestamp(utc_ns: int) -> str:
    seconds, ns = divmod(utc_ns, NS_PER_S)
    return f"{time.strftime(_TIMESTAMP_FORMAT, time.gmtime(seconds))}.{ns:09}"


def record_size_bytes(record: FrameRecord) -> int:
    """Bytes that a frame takes in the file, a little more than less."""
    return len(record.pixels) + len(record.verdict) + 512


def encoded_size_bytes(message: msgspec.Struct) -> int:
    """Bytes of a small message."""
    return len(msgspec.json.encode(message)) + 512
