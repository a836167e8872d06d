"""The protobuf wire format: fields and varints, without the protobuf runtime.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX = 10

Buffer = TypeVar("Buffer", bytes, memoryview)


def append_protobuf_int(message: bytearray, field: int, value: int) -> None:
    """Append an integer field; `value` is not negative."""
    _append_varint(message, field << 3 | _VARINT)
    _append_varint(message, value)


def append_protobuf_bytes(message: bytearray, field: int, value: bytes) -> None:
    """Append a length-delimited field: bytes, UTF-8 text, or an encoded message."""
    _append_varint(message, field << 3 | _LENGTH_DELIMITED)
    _append_varint(message, len(value))
    message += value


def read_protobuf_fields(message: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    """Yield (field number, value) in the order of the message.

    A varint is an unsigned 64-bit integer; any other field is a slice of `message`, which
    copies nothing if that is a memoryview.

    Raises:
        ValueError: `message` is cut, or is not a protobuf message.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        field, wire_type = key >> 3, key & 7
        if field == 0:
            raise ValueError("is not a protobuf message: it has a field 0")
        if wire_type == _VARINT:
            value, at = _read_varint(message, at)
            yield field, value
            continue
        if wire_type == _LENGTH_DELIMITED:
            size, at = _read_varint(message, at)
        elif wire_type in _FIXED_BYTES:
            size = _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"field {field} has the unknown wire type {wire_type}")
        if at + size > len(message):
            raise ValueError(f"field {field} is cut")
        yield field, message[at : at + size]
        at += size


def _append_varint(message: bytearray, value: int) -> None:
    while value > 0x7F:
        message.append(value & 0x7F | 0x80)
        value >>= 7
    message.append(value)


def _read_varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the unsigned 64-bit integer that begins at `at`, and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value % (1 << 64), at + index + 1
    raise ValueError("a varint is cut, or longer than 64 bits")
