"""Writing one recording file: an MCAP file whose every chunk is whole or not there.

Each frame leaves in a chunk with its own CRC and in one stream of writes to the page cache, so
`kill -9` at any instant costs what was not yet written and at most cuts the last chunk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import msgspec

from edgeinspect.errors import StorageError, UsageError
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
"""A chunk is written when it has become longer: for most cameras with each frame."""
_INDEX_RESERVE_BYTES = 1 << 20
"""Kept free for the index at the end."""
_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


class RecordingWriter:
    """One file being written. One thread."""

    def __init__(self, path: Path, about: RecordingInfo) -> None:
        """Make the file.

        Raises:
            UsageError: There is a file of that name.
            StorageError: It cannot be made.
            ModuleNotFoundError: The extra `record` is not installed.
        """
        from mcap.writer import CompressionType, Writer

        self.path = path
        self.frames = 0
        self._file = _UnbufferedFile(path)
        self._writer: Any = Writer(  # its types know no stream but a buffered one
            cast(Any, self._file), chunk_size=_CHUNK_BYTES, compression=CompressionType.NONE
        )
        self._channels: dict[str, int] = {}
        self._writer.start(profile=MCAP_PROFILE, library=f"edgeinspect {about.edgeinspect}")
        self._write_json(TOPIC_INFO, about, about.began_utc_ns)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file by now, with what its end will need."""
        return self._file.size_bytes + _INDEX_RESERVE_BYTES

    def write_configuration(self, configuration: RecordedConfiguration, utc_ns: int) -> None:
        """Keep a configuration; before the first verdict that names it."""
        self._write_json(TOPIC_CONFIGURATION, configuration, utc_ns)

    def write_clock(self, reading: ClockReading) -> None:
        """Keep a reading of both clocks."""
        self._write_json(TOPIC_CLOCK, reading, reading.utc_ns)

    def write_missed(self, missed: MissedVerdicts, utc_ns: int) -> None:
        """Say which verdicts are not in this recording."""
        self._write_json(TOPIC_MISSED, missed, utc_ns)

    def write_frame(self, record: FrameRecord, camera: str, seq: int, utc_ns: int) -> None:
        """Keep a frame with its verdict; frames come in the order of their verdicts."""
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
        """Write what a chunk still holds back; `to_disk` waits until no power cut can take it."""
        self._writer.flush()
        if to_disk:
            self._file.sync()

    def close_unfinished(self) -> None:
        """Close the file as it is: after the disk has failed."""
        self._file.close()

    def _write_json(self, topic: str, message: msgspec.Struct, utc_ns: int) -> None:
        self._write_message(self._channel_id(topic, "json"), _to_json(message), utc_ns)

    def _channel_id(self, topic: str, encoding: str) -> int:
        known = self._channels.get(topic)
        if known is None:
            known = self._writer.register_channel(topic, encoding, schema_id=0)
            self._channels[topic] = known
        return known

    def _write_message(self, channel: int, data: bytes, utc_ns: int, sequence: int = 0) -> None:
        at_ns = max(0, utc_ns)
        self._writer.add_message(channel, at_ns, data, at_ns, sequence)


class _UnbufferedFile:
    """A file without a buffer of ours: what is written is in the page cache."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:
            raise UsageError(
                "is there already",
                where=str(path),
                remedy="Give another name: no recording is overwritten",
            ) from None
        except OSError as error:
            raise StorageError(f"cannot be made: {error.strerror}", where=str(path)) from error

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            try:
                done = os.write(self._file, left)
            except OSError as error:
                raise StorageError(
                    f"cannot be written: {error.strerror}",
                    where=str(self._path),
                    remedy="What was recorded by now can be replayed",
                ) from error
            self.size_bytes += done
            left = left[done:]
        return len(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        """Nothing is held back."""

    def sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise StorageError(
                f"cannot be written: {error.strerror}", where=str(self._path)
            ) from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
