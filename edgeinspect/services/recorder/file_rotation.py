"""Writes a recording to one bounded file, or to a folder whose oldest files are removed."""

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
from edgeinspect.system import list_matching

FAILED = "failed"
_TIMESTAMP_FORMAT = "%Y%m%dT%H%M%S"
_FILES_PER_FOLDER = 8
"""Files that share the limit of a folder: removing the oldest frees an eighth."""


class RotatingWriter:
    """Writes the files of one recording. One thread."""

    def __init__(
        self, out: Path, line: str, max_bytes: int, make_info: Callable[[], RecordingInfo]
    ) -> None:
        """Create nothing before `open_first_file`.

        Args:
            out: `NAME.mcap`, or a folder, created if missing.
            line: Only this line's files in the folder are removed.
            max_bytes: Limit of the file, or of all files of this line in the folder.
            make_info: Returns the first message of a new file.
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
        """Create the first file; raises as `RecordingWriter`."""
        self._writer = self._open_file(utc_ns)

    def has_room_for(self, added_bytes: int, utc_ns: int) -> bool:
        """Return True if this many bytes fit, after starting the next file of a folder."""
        assert self._writer is not None
        if self._writer.size_bytes + added_bytes <= self._file_bytes:
            return True
        if not self.is_rotating:
            return False
        self._finish_file("continued in the next file", utc_ns)
        self._writer = self._open_file(utc_ns)
        return self._writer.size_bytes + added_bytes <= self._file_bytes

    def write_configuration(self, configuration: RecordedConfiguration, utc_ns: int) -> None:
        """Write a configuration to this file and to all later ones."""
        assert self._writer is not None
        self._configurations[configuration.hash] = configuration
        self._writer.write_configuration(configuration, utc_ns)

    def write_clock_reading(self, reading: ClockReading) -> None:
        """Write a reading of both clocks."""
        assert self._writer is not None
        self._writer.write_clock(reading)

    def write_missed(self, missed: MissedVerdicts, utc_ns: int) -> None:
        """Write which verdicts are missing."""
        assert self._writer is not None
        self.missed_count += missed.to_seq - missed.from_seq + 1
        self._writer.write_missed(missed, utc_ns)

    def write_frame(self, record: FrameRecord, camera: str, seq: int, utc_ns: int) -> None:
        """Write one frame; check `has_room_for` first."""
        assert self._writer is not None
        self._writer.write_frame(record, camera, seq, utc_ns)
        self.frame_count += 1

    def flush(self, *, to_disk: bool) -> None:
        """As `RecordingWriter.flush`."""
        assert self._writer is not None
        self._writer.flush(to_disk=to_disk)

    def finish(self, reason: str, utc_ns: int) -> None:
        """Finish the last file; remove it if it failed before its first frame."""
        if self._writer is not None:
            path = self._writer.path
            self._finish_file(reason, utc_ns)
            if reason == FAILED and not self.frame_count:
                path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave the last file unfinished: the disk has failed."""
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
        """Return this line's files, the oldest first."""
        pattern = re.compile(
            rf"{re.escape(self._line)}-\d{{8}}T\d{{6}}\.\d{{9}}Z{re.escape(RECORDING_SUFFIX)}"
        )
        files = list_matching(self.out, f"*{RECORDING_SUFFIX}")
        return [path for path in files if pattern.fullmatch(path.name)]

    def _make_room(self) -> None:
        """Remove the oldest files of this line until one more fits."""
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
    """Return the timestamp in a new file's name: now, or just after the last file's.

    Names sort in the order of the files, also after the clock was set back; otherwise the
    newest file would be removed first.
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
    """Return an upper estimate of a frame's size in the file."""
    return len(record.pixels) + len(record.verdict) + 512


def encoded_size_bytes(message: msgspec.Struct) -> int:
    """Return an upper estimate of a small message's size in the file."""
    return len(msgspec.json.encode(message)) + 512
