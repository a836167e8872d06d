"""Sparkplug B payloads: encodes and decodes the fields that the map needs.

A payload is `timestamp = 1`, repeated `metrics = 2`, `seq = 3`; a metric `name = 1`,
`timestamp = 3`, `datatype = 4`, `is_historical = 5` and one of `int_value = 10`,
`long_value = 11`, `boolean_value = 14`, `string_value = 15`. Generated code would need the
protobuf runtime for these few fields; a test compares with that runtime.

UInt32 is sent as a long, as Eclipse Tahu's encoders in Java, C and JavaScript do (the last
reads nothing else), although the specification says uint32; both are read.

Source: Eclipse Sparkplug 3.0.0, chapter 6; sparkplug_b.proto of Eclipse Tahu
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from edgeinspect.system import append_protobuf_bytes, append_protobuf_int, read_protobuf_fields

_PAYLOAD_BYTES_MAX = 1 << 20
_METRICS_MAX = 1_000


class DataType(IntEnum):
    """The Sparkplug data types that are used here."""

    INT32 = 3
    INT64 = 4
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True, slots=True)
class SparkplugMetric:
    """One value."""

    name: str
    type: DataType
    value: bool | int | str
    timestamp_ms: int | None = None
    """Time of the value, ms since 1970; None for the payload's own time."""
    is_historical: bool = False
    """True for a value that was delayed: it must not become the current one."""


@dataclass(frozen=True, slots=True)
class SparkplugPayload:
    """One message."""

    timestamp_ms: int
    metrics: tuple[SparkplugMetric, ...]
    seq: int | None
    """0 to 255; None for NDEATH."""


def encode_payload(payload: SparkplugPayload) -> bytes:
    """Encode a payload."""
    out = bytearray()
    append_protobuf_int(out, 1, payload.timestamp_ms)
    for metric in payload.metrics:
        append_protobuf_bytes(out, 2, _encode_metric(metric, payload.timestamp_ms))
    if payload.seq is not None:
        append_protobuf_int(out, 3, payload.seq)
    return bytes(out)


def decode_payload(data: bytes) -> SparkplugPayload:
    """Decode a payload; unknown fields and types are ignored.

    Raises:
        ValueError: The bytes are not a payload, or exceed its limits.
    """
    if len(data) > _PAYLOAD_BYTES_MAX:
        raise ValueError(f"is longer than {_PAYLOAD_BYTES_MAX} bytes")
    timestamp_ms, seq = 0, None
    metrics: list[SparkplugMetric] = []
    for field, value in read_protobuf_fields(data):
        if field == 1 and isinstance(value, int):
            timestamp_ms = value
        elif field == 3 and isinstance(value, int):
            seq = value
        elif field == 2 and isinstance(value, bytes):
            metric = _decode_metric(value)
            if len(metrics) >= _METRICS_MAX:
                raise ValueError(f"has more than {_METRICS_MAX} metrics")
            if metric is not None:
                metrics.append(metric)
    return SparkplugPayload(timestamp_ms, tuple(metrics), seq)


def _encode_metric(metric: SparkplugMetric, timestamp_ms: int) -> bytes:
    out = bytearray()
    append_protobuf_bytes(out, 1, metric.name.encode())
    at_ms = timestamp_ms if metric.timestamp_ms is None else metric.timestamp_ms
    append_protobuf_int(out, 3, at_ms)
    append_protobuf_int(out, 4, metric.type.value)
    if metric.is_historical:
        append_protobuf_int(out, 5, 1)
    value = metric.value
    if isinstance(value, str):
        append_protobuf_bytes(out, 15, value.encode())
    elif metric.type is DataType.BOOLEAN:
        append_protobuf_int(out, 14, int(value))
    elif metric.type is DataType.UINT32:
        append_protobuf_int(out, 11, value % (1 << 32))
    elif metric.type in (DataType.INT64, DataType.UINT64):
        append_protobuf_int(out, 11, value % (1 << 64))
    else:  # a signed value is sent as the unsigned one of the same bits
        append_protobuf_int(out, 10, value % (1 << 32))
    return bytes(out)


def _decode_metric(data: bytes) -> SparkplugMetric | None:
    """Decode a metric; None if its type is unknown, or it has no value of that type."""
    name, kind = "", 0
    timestamp_ms: int | None = None
    historical = False
    value: int | str | None = None
    for field, found in read_protobuf_fields(data):
        if field == 1 and isinstance(found, bytes):
            name = found.decode("utf-8", "replace")
        elif field == 3 and isinstance(found, int):
            timestamp_ms = found
        elif field == 4 and isinstance(found, int):
            kind = found
        elif field == 5 and isinstance(found, int):
            historical = bool(found)
        elif field in (10, 11, 14) and isinstance(found, int):
            value = found
        elif field == 15 and isinstance(found, bytes):
            # Invalid UTF-8 stays recognizable: a part id must not become a valid "?".
            value = found.decode("utf-8", "surrogateescape")
    if value is None or kind not in set(DataType):
        return None
    type_ = DataType(kind)
    if isinstance(value, str) != (type_ is DataType.STRING):
        return None
    if isinstance(value, int):
        value = _to_python(value, type_)
    return SparkplugMetric(name, type_, value, timestamp_ms, historical)


_BITS = {
    DataType.INT32: 32,
    DataType.INT64: 64,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
}


def _to_python(value: int, type_: DataType) -> bool | int:
    if type_ is DataType.BOOLEAN:
        return bool(value)
    bits = _BITS[type_]
    if value >> bits and type_ not in (DataType.INT32, DataType.INT64):
        raise ValueError(f"has a number beyond {type_.name}")
    value %= 1 << bits
    if type_ in (DataType.INT32, DataType.INT64) and value >> (bits - 1):
        return value - (1 << bits)
    return value
