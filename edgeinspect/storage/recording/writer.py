"""Writes one recording: an MCAP file of chunks with a CRC each.

Chunks go to the page cache in order, so `kill -9` at any instant loses only what was not written
yet and truncates at most the last chunk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import msgspec

from edgeinspect.errors import OutputError
from edgeinspect.storage.recording.messages import (
    MCAP_PROFILE,
    TOPIC_CLOCK,
    TOPIC_CONFIGURATION,
    TOPIC_END,
    TOPIC_FRAME,
    TOPIC_INFO,
    TOPIC_MISSED,
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)

_CHUNK_BYTES = 64 << 10
"""A chunk is written when it is longer: for most cameras with each frame."""
_INDEX_RESERVE_BYTES = 1 << 20
"""Space for the index at the end."""
_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


class RecordingWriter:
    """One file being written. One thread."""

    def __init__(self, path: Path, about: RecordingInfo) -> None:
        """Create the file.

        Raises:
            OutputError: There is a file of that name, or it cannot be created.
            ModuleNotFoundError: The extra `record` is not installed.
        """
        from mcap.writer import CompressionType, Writer

        self.path = path
        self.frames = 0
        self._file = _UnbufferedFile(path)
        self._writer: Any = Writer(  # its annotations allow a buffered stream only
            cast(Any, self._file), chunk_size=_CHUNK_BYTES, compression=CompressionType.NONE
        )
        self._channels: dict[str, int] = {}
        self._writer.start(profile=MCAP_PROFILE, library=f"edgeinspect {about.edgeinspect}")
        self._write_json(TOPIC_INFO, about, about.began_utc_ns)

    @property
    def size_bytes(self) -> int:
        """Size of the file if it is finished now."""
        return self._file.size_bytes + _INDEX_RESERVE_BYTES

    def write_configuration(self, configuration: RecordedConfiguration, utc_ns: int) -> None:
        """Write a configuration; before the first verdict that names it."""
        self._write_json(TOPIC_CONFIGURATION, configuration, utc_ns)

    def write_clock(self, reading: ClockReading) -> None:
        """Write a reading of both clocks."""
        self._write_json(TOPIC_CLOCK, reading, reading.utc_ns)

    def write_missed(self, missed: MissedVerdicts, utc_ns: int) -> None:
        """Write which verdicts are not in this recording."""
        self._write_json(TOPIC_MISSED, missed, utc_ns)

    def write_frame(self, record: FrameRecord, camera: str, seq: int, utc_ns: int) -> None:
        """Write a frame with its verdict; frames come in the order of their verdicts."""
        topic = f"{TOPIC_FRAME}.{camera}"
        channel = self._channel_id(topic, "msgpack")
        self._write_message(channel, _to_msgpack(record), utc_ns, seq & 0xFFFF_FFFF)
        self.frames += 1

    def finish(self, end: RecordingEnd, utc_ns: int) -> None:
        """Write the end and the index, and close the file."""
        self._write_json(TOPIC_END, end, utc_ns)
        try:
            self._writer.finish()
            self._file.sync()
        finally:
            self._file.close()

    def flush(self, *, to_disk: bool = False) -> None:
        """Write the open chunk; `to_disk` waits until it survives a power cut."""
        self._writer.flush()
        if to_disk:
            self._file.sync()

    def close_unfinished(self) -> None:
        """Close the file as it is, after a failure of the disk."""
        self._file.close()

    def _write_json(self, topic: str, message: msgspec.Struct, utc_ns: int) -> None:
        self._write_message(self._channel_id(topic, "json"), _to_json(message), utc_ns)

    def _channel_id(self, topic: str, encoding: str) -> int:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._writer.register_channel(topic, encoding, schema_id=0)
            self._channels[topic] = channel
        return channel

    def _write_message(self, channel: int, data: bytes, utc_ns: int, sequence: int = 0) -> None:
        at_ns = max(0, utc_ns)
        self._writer.add_message(channel, at_ns, data, at_ns, sequence)


class _UnbufferedFile:
    """A file without a buffer in this process: writes go to the page cache."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:
            raise OutputError(
                "exists already",
                where=str(path),
                remedy="Choose another name: no recording is overwritten",
            ) from None
        except OSError as error:
            raise OutputError(f"cannot be created: {error.strerror}", where=str(path)) from error

    def write(self, data: bytes) -> int:
        remaining = memoryview(data)
        while remaining:
            try:
                written = os.write(self._file, remaining)
            except OSError as error:
                raise OutputError(
                    f"cannot be written: {error.strerror}",
                    where=str(self._path),
                    remedy="The recording up to here can be replayed",
                ) from error
            self.size_bytes += written
            remaining = remaining[written:]
        return len(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise OutputError(
                f"cannot be written: {error.strerror}", where=str(self._path)
            ) from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
