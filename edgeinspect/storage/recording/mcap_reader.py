"""Reads the messages of an MCAP file in order, as untrusted input.

The reader of the library mcap (1.6) was weighed and left out. It trusts lengths before it has the
bytes, accepts a chunk without a checksum, and raises the same errors for a truncated file, which
is normal after a crash, and for a damaged one. This reader needs no more memory than the file, or
one chunk, has bytes. Source: https://mcap.dev/spec
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeinspect.errors import DataError
from edgeinspect.system import open_regular

MAGIC = b"\x89MCAP0\r\n"
MAX_RECORD_BYTES = 512 << 20
"""Longest record or chunk that is read."""

_RECORD_HEAD = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQI")  # start, end, size, crc; then compression and records
_FOOTER = struct.Struct("<BQQQI")  # opcode, length, start of the summary, of its offsets, crc
_STATISTICS = struct.Struct("<QHIIII")  # messages, schemas, channels, attachments, metadata, chunks
_FOOTER_OP, _CHANNEL_OP, _MESSAGE_OP, _CHUNK_OP, _STATISTICS_OP, _DATA_END_OP = 2, 4, 5, 6, 11, 15
_MAX_CHANNELS = 4096


@dataclass(frozen=True, slots=True)
class McapMessage:
    """One message of the file, undecoded."""

    topic: str
    encoding: str
    log_utc_ns: int
    data: memoryview


class McapReader:
    """Reads one file from its beginning, once. One thread.

    After the last message `truncation` describes how the file ends; it is empty if the file
    was finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncation = ""
        self._channels: dict[int, tuple[str, str]] = {}

    def messages(self) -> Iterator[McapMessage]:
        """Yield every message up to the end of the file or its truncation.

        Raises:
            DataError: It cannot be read, is no MCAP file, or is damaged before its end.
        """
        try:
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(len(MAGIC))
                if head != MAGIC:
                    if MAGIC.startswith(head.rstrip(b"\0")):
                        self.truncation = "nothing was written before it was truncated"
                        return
                    raise self._error("is not a recording: it is no MCAP file")
                file.seek(max(len(MAGIC), size - len(MAGIC)))
                finished = file.read(len(MAGIC)) == MAGIC
                counted = _counted_chunks(file, size) if finished else None
                file.seek(len(MAGIC))
                count = 0
                for chunk, at in self._read_chunks(file, size, finished):
                    yield from self._parse_chunk(chunk, at)
                    count += 1
                if counted is not None and count != counted:
                    # The type of a record has no checksum: a chunk that has become one of
                    # another type is skipped.
                    raise self._error(f"is damaged: {count} of its {counted} chunks can be read")
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from error

    def _read_chunks(
        self, file: BinaryIO, size: int, finished: bool
    ) -> Iterator[tuple[memoryview, int]]:
        """Yield the records of each chunk, and its offset.

        A finished file also ends with the magic: then what looks like a truncation is damage.
        """
        at = len(MAGIC)
        while True:
            head = file.read(_RECORD_HEAD.size)
            opcode, length = _RECORD_HEAD.unpack(head) if len(head) == _RECORD_HEAD.size else (0, 0)
            end = at + _RECORD_HEAD.size + length
            if opcode == _DATA_END_OP:
                return
            problem = ""
            if len(head) < _RECORD_HEAD.size:
                problem = f"truncated at byte {at}"
            elif opcode == 0 and _is_all_zeros(file, head):
                problem = f"truncated at byte {at}: only zeros follow"
            elif end > size:
                problem = f"truncated at byte {at}, within a record"
            elif opcode in (_CHANNEL_OP, _MESSAGE_OP):
                raise self._error("has records outside chunks, which have no checksum", at)
            elif opcode != _CHUNK_OP:
                file.seek(end)
            elif length > MAX_RECORD_BYTES:
                raise self._error(f"has a record of {length} bytes", at)
            else:
                chunk = self._read_chunk(memoryview(file.read(length)), at)
                if chunk is not None:
                    yield chunk, at
                elif end == size or _is_all_zeros(file, b""):
                    problem = f"truncated at byte {at}, within a chunk"
                else:
                    raise self._error("is damaged: a checksum differs", at)
            if problem and finished:
                raise self._error("is damaged: it was finished, and breaks off before its end", at)
            if problem:
                self.truncation = problem
                return
            at = end

    def _read_chunk(self, body: memoryview, at: int) -> memoryview | None:
        """Return the records of a chunk; None if its checksum differs."""
        try:
            _start, _end, size, crc = _CHUNK.unpack_from(body)
            compression, after = _read_string(body, _CHUNK.size)
            (length,) = struct.unpack_from("<Q", body, after)
        except (struct.error, ValueError) as error:
            raise self._error("is damaged: a chunk's head cannot be read", at) from error
        data = body[after + 8 : after + 8 + length]
        if len(data) != length or size > MAX_RECORD_BYTES:
            raise self._error("is damaged: a chunk is longer than its record", at)
        if compression == "zstd":
            data = self._decompress(data, size, at)
        elif compression:
            raise self._error(
                f"has chunks packed with {compression[:20]!r}",
                at,
                remedy="Convert it to zstd: `mcap compress`",
            )
        if zlib.crc32(data) != crc:
            return None
        return data

    def _decompress(self, data: memoryview, size: int, at: int) -> memoryview:
        import zstandard

        try:
            if zstandard.get_frame_parameters(data).content_size != size:
                raise self._error("is damaged: a chunk has another length than its header", at)
            return memoryview(zstandard.ZstdDecompressor().decompress(data))
        except zstandard.ZstdError as error:
            raise self._error(f"is damaged: {error}", at) from error

    def _parse_chunk(self, chunk: memoryview, at: int) -> Iterator[McapMessage]:
        place = 0
        while place < len(chunk):
            if len(chunk) - place < _RECORD_HEAD.size:
                raise self._error("is damaged: a chunk ends within a record", at)
            opcode, length = _RECORD_HEAD.unpack_from(chunk, place)
            place += _RECORD_HEAD.size
            if length > len(chunk) - place:
                raise self._error("is damaged: a record is longer than its chunk", at)
            yield from self._parse_record(opcode, chunk[place : place + length], at)
            place += length

    def _parse_record(self, opcode: int, body: memoryview, at: int) -> Iterator[McapMessage]:
        try:
            if opcode == _CHANNEL_OP:
                (number,) = struct.unpack_from("<H", body)
                topic, after = _read_string(body, 4)
                encoding, _after = _read_string(body, after)
                if len(self._channels) >= _MAX_CHANNELS:
                    raise self._error("has more channels than a line has cameras", at)
                self._channels[number] = (topic, encoding)
            elif opcode == _MESSAGE_OP:
                number, _sequence, log_ns, _published_ns = _MESSAGE.unpack_from(body)
                topic, encoding = self._channels[number]
                yield McapMessage(topic, encoding, log_ns, body[_MESSAGE.size :])
        except (struct.error, ValueError, KeyError) as error:
            raise self._error("is damaged: a record cannot be read", at) from error

    def _error(self, problem: str, at: int | None = None, remedy: str = "") -> DataError:
        where = f"{self.path}, byte {at}" if at is not None else str(self.path)
        return DataError(problem, where=where, remedy=remedy)


def _counted_chunks(file: BinaryIO, size: int) -> int | None:
    """Return the number of chunks by the summary at the end of a file; None without one."""
    footer_at = size - len(MAGIC) - _FOOTER.size
    file.seek(max(0, footer_at))
    footer = file.read(_FOOTER.size)
    if footer_at < 0 or len(footer) < _FOOTER.size or footer[0] != _FOOTER_OP:
        return None
    at = _FOOTER.unpack(footer)[2]
    while len(MAGIC) <= at < footer_at:
        file.seek(at)
        head = file.read(_RECORD_HEAD.size + _STATISTICS.size)
        if len(head) < _RECORD_HEAD.size:
            return None
        opcode, length = _RECORD_HEAD.unpack_from(head)
        if opcode == _STATISTICS_OP and len(head) == _RECORD_HEAD.size + _STATISTICS.size:
            return int(_STATISTICS.unpack_from(head, _RECORD_HEAD.size)[5])
        at += _RECORD_HEAD.size + length
    return None


def _read_string(body: memoryview, at: int) -> tuple[str, int]:
    """Return a length-prefixed string, and the offset after it."""
    (length,) = struct.unpack_from("<I", body, at)
    data = bytes(body[at + 4 : at + 4 + length])
    if len(data) != length:
        raise ValueError("a string is longer than its record")
    return data.decode("utf-8"), at + 4 + length


def _is_all_zeros(file: BinaryIO, head: bytes) -> bool:
    """Return whether only zeros follow, as a power cut leaves them."""
    while True:
        if any(head):
            return False
        head = file.read(1 << 20)
        if not head:
            return True
