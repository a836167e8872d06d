from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.plclinks._sparkplug import payload as _sparkplug
from edgeinspect.plclinks._sparkplug.payload import DataType, SparkplugMetric, SparkplugPayload
from tests import needs

RANGES = {
    DataType.INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    DataType.INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    DataType.UINT16: st.integers(0, (1 << 16) - 1),
    DataType.UINT32: st.integers(0, (1 << 32) - 1),
    DataType.UINT64: st.integers(0, (1 << 64) - 1),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: st.text(max_size=40),
}
METRICS = st.one_of(
    *(
        st.builds(
            SparkplugMetric,
            st.text(max_size=20),
            st.just(kind),
            values,
            st.integers(0, (1 << 63) - 1),
            st.booleans(),
        )
        for kind, values in RANGES.items()
    )
)
PAYLOADS = st.builds(
    SparkplugPayload,
    st.integers(0, (1 << 63) - 1),
    st.lists(METRICS, max_size=8).map(tuple),
    st.none() | st.integers(0, 255),
)


@given(PAYLOADS)
def test_a_payload_survives_a_round_trip(payload: SparkplugPayload) -> None:
    assert _sparkplug.decode_payload(_sparkplug.encode_payload(payload)) == payload


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        _sparkplug.decode_payload(data)
    except ValueError:
        pass


@given(PAYLOADS, st.data())
def test_a_cut_payload_is_decoded_or_refused(payload: SparkplugPayload, data: Any) -> None:
    whole = _sparkplug.encode_payload(payload)
    cut = data.draw(st.integers(0, len(whole)))
    try:
        _sparkplug.decode_payload(whole[:cut])
    except ValueError:
        pass


def message_type() -> Any:
    """Return the Payload message for the protobuf runtime, from the published field numbers."""
    needs.library("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_test.proto", package="t")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for owner, name, number, kind in (
        (payload, "timestamp", 1, kinds.TYPE_UINT64),
        (payload, "seq", 3, kinds.TYPE_UINT64),
        (metric, "name", 1, kinds.TYPE_STRING),
        (metric, "alias", 2, kinds.TYPE_UINT64),
        (metric, "timestamp", 3, kinds.TYPE_UINT64),
        (metric, "datatype", 4, kinds.TYPE_UINT32),
        (metric, "is_historical", 5, kinds.TYPE_BOOL),
        (metric, "int_value", 10, kinds.TYPE_UINT32),
        (metric, "long_value", 11, kinds.TYPE_UINT64),
        (metric, "float_value", 12, kinds.TYPE_FLOAT),
        (metric, "double_value", 13, kinds.TYPE_DOUBLE),
        (metric, "boolean_value", 14, kinds.TYPE_BOOL),
        (metric, "string_value", 15, kinds.TYPE_STRING),
    ):
        owner.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics",
        number=2,
        type=kinds.TYPE_MESSAGE,
        label=kinds.LABEL_REPEATED,
        type_name=".t.Payload.Metric",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Payload"))


def test_the_runtime_of_protobuf_agrees() -> None:
    runtime = message_type()
    metrics = (
        SparkplugMetric("Online", DataType.BOOLEAN, True, 1),
        SparkplugMetric("ActByMs", DataType.INT32, -5, 2),
        SparkplugMetric("ResultId", DataType.UINT32, 4_000_000_000, 3, True),
        SparkplugMetric("bdSeq", DataType.INT64, -1, 4),
        SparkplugMetric("PartId", DataType.STRING, "plate-ü", 5),
    )
    payload = SparkplugPayload(1_700_000_000_000, metrics, 200)
    read = runtime.FromString(_sparkplug.encode_payload(payload))
    assert (read.timestamp, read.seq) == (payload.timestamp_ms, 200)
    assert [metric.name for metric in read.metrics] == [metric.name for metric in metrics]
    assert read.metrics[0].boolean_value is True
    assert read.metrics[1].int_value == (1 << 32) - 5
    # As Eclipse Tahu encodes it; its JavaScript reads nothing else.
    assert read.metrics[2].long_value == 4_000_000_000
    assert not read.metrics[2].HasField("int_value")
    assert [metric.timestamp for metric in read.metrics] == [1, 2, 3, 4, 5]
    assert [metric.is_historical for metric in read.metrics] == [False, False, True, False, False]
    assert read.metrics[3].long_value == (1 << 64) - 1
    assert read.metrics[4].string_value == "plate-ü"
    extra = read.metrics.add(name="speed", datatype=9, float_value=1.5)
    extra.alias = 3
    assert _sparkplug.decode_payload(read.SerializeToString()) == payload
