from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.system import append_protobuf_bytes, append_protobuf_int, read_protobuf_fields
from tests import needs

FIELDS = st.lists(
    st.tuples(
        st.integers(1, (1 << 29) - 1), st.integers(0, (1 << 64) - 1) | st.binary(max_size=300)
    )
)


def encode(fields: list[tuple[int, int | bytes]]) -> bytes:
    message = bytearray()
    for field, value in fields:
        if isinstance(value, int):
            append_protobuf_int(message, field, value)
        else:
            append_protobuf_bytes(message, field, value)
    return bytes(message)


@given(FIELDS)
def test_fields_survive_a_round_trip(fields: list[tuple[int, int | bytes]]) -> None:
    message = encode(fields)
    assert list(read_protobuf_fields(message)) == fields
    assert list(read_protobuf_fields(memoryview(message))) == fields


@given(FIELDS.filter(bool), st.data())
def test_a_cut_message_ends_before_a_field_or_is_refused(
    fields: list[tuple[int, int | bytes]], data: st.DataObject
) -> None:
    message = encode(fields)
    cut = message[: data.draw(st.integers(0, len(message) - 1))]
    try:
        found = list(read_protobuf_fields(cut))
    except ValueError:
        return
    assert found == fields[: len(found)]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        fields = list(read_protobuf_fields(message))
    except ValueError:
        return
    assert all(field > 0 for field, _value in fields)


def test_the_runtime_of_protobuf_agrees() -> None:
    """Any with its two fields, and a negative number as its 64-bit two's complement."""
    any_pb2 = needs.library("google.protobuf.any_pb2")
    wrappers = needs.library("google.protobuf.wrappers_pb2")
    message = any_pb2.Any(type_url="a/b", value=b"\0\xff")
    assert list(read_protobuf_fields(message.SerializeToString())) == [(1, b"a/b"), (2, b"\0\xff")]
    assert any_pb2.Any.FromString(encode([(1, b"a/b"), (2, b"\0\xff")])) == message
    negative = wrappers.Int64Value(value=-2).SerializeToString()
    assert list(read_protobuf_fields(negative)) == [(1, (1 << 64) - 2)]
    fixed = wrappers.DoubleValue(value=1.0).SerializeToString()
    assert list(read_protobuf_fields(fixed)) == [(1, fixed[1:])]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"\x00\x01", "field 0"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x0a\x05abc", "field 1 is cut"),
        (b"\x09\x00", "field 1 is cut"),
        (b"\x08" + b"\xff" * 10, "longer than 64 bits"),
        (b"\x08\xff", "a varint is cut"),
    ],
)
def test_what_is_not_protobuf_is_refused(message: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(read_protobuf_fields(message))
