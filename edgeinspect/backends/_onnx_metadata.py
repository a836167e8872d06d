"""The metadata of an ONNX file without the onnx package, which a line PC need not have.

Source: onnx.proto (ModelProto.metadata_props is field 14); the protobuf wire format,
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.system import MODEL_BYTES_MAX, read_regular

METADATA_FIELD = 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def read_metadata(path: Path) -> dict[str, str]:
    """The file's `metadata_props`.

    Raises:
        ValueError: It is cut, or no protobuf message.
        OSError: It cannot be read.
    """
    found: dict[str, str] = {}
    for field, value in _iter_fields(memoryview(read_regular(path, MODEL_BYTES_MAX))):
        if field == METADATA_FIELD:
            entry = {key: bytes(text).decode() for key, text in _iter_fields(value)}
            found[entry.get(1, "")] = entry.get(2, "")
    return found


def _iter_fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Every length-delimited field of a message; those of other kinds are passed over."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _value, at = _read_varint(data, at)
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        elif kind == _BYTES:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError(f"field {field} is cut")
            yield field, data[at : at + size]
            at += size
        else:
            raise ValueError(f"field {field} has the unknown kind {kind}")
        if field == 0 or at > len(data):
            raise ValueError("is no protobuf message")


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a number is cut")
