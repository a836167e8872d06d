from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.plc import PlcOutcome, PlcResult, ProcessImage
from edgeinspect.plclinks import _register_codec
from edgeinspect.plclinks._sparkplug import payload
from edgeinspect.plclinks._sparkplug.node import (
    REBIRTH_METRIC,
    EdgeNode,
    SparkplugMessage,
    initial_commands,
    merge_commands,
)
from edgeinspect.plclinks._sparkplug.payload import DataType, SparkplugMetric, SparkplugPayload

BORN_MS = 1_700_000_000_000


def result(seq: int, captured_ms: int = BORN_MS + 5) -> PlcResult:
    return PlcResult(
        seq,
        1,
        PlcOutcome.PASS,
        1,
        part_id=f"plate-{seq}",
        captured_at_utc_ns=captured_ms * 1_000_000,
    )


def online(seq: int | None = None, **changes: int) -> ProcessImage:
    return ProcessImage(online=True, result=None if seq is None else result(seq, **changes))


def messages(
    node: EdgeNode, image: ProcessImage, now_ms: int = BORN_MS + 10
) -> list[SparkplugMessage]:
    return list(node.messages_for(image, initial_commands(), now_ms))


def kinds(messages: list[SparkplugMessage]) -> list[str]:
    return [message.kind for message in messages]


def named(message: SparkplugMessage) -> dict[str, SparkplugMetric]:
    return {metric.name: metric for metric in message.payload.metrics}


def test_births_have_every_metric_with_type_and_time() -> None:
    node = EdgeNode(3, BORN_MS)
    nbirth, dbirth = messages(node, online())
    assert (nbirth.kind, nbirth.is_node_message, nbirth.payload.seq) == ("NBIRTH", True, 0)
    metrics = named(nbirth)
    assert metrics["bdSeq"] == SparkplugMetric("bdSeq", DataType.INT64, 3, BORN_MS + 10)
    assert metrics["bdSeq"].value == node.death(0).metrics[0].value
    assert metrics[REBIRTH_METRIC].value is False
    assert node.death(0).seq is None
    assert (dbirth.kind, dbirth.is_node_message, dbirth.payload.seq) == ("DBIRTH", False, 1)
    wanted = {*_register_codec.tag_values(ProcessImage()), *initial_commands()}
    assert set(named(dbirth)) == wanted
    assert {"Enable", "FaultReset", "ResultsAck", "TriggerId"} <= wanted
    assert all(metric.timestamp_ms for metric in dbirth.payload.metrics)
    assert named(dbirth)["ResultsAck"].type is DataType.UINT32


def test_the_device_dies_and_is_born_with_the_daemon() -> None:
    node = EdgeNode(0, BORN_MS)
    assert kinds(messages(node, ProcessImage())) == ["NBIRTH"], "no heartbeat was received yet"
    assert kinds(messages(node, online())) == ["DBIRTH"]
    last, death = messages(node, ProcessImage())
    assert named(last)["RejectAll"].value is True
    assert (death.kind, death.payload.metrics, death.payload.seq) == ("DDEATH", (), 3)
    assert messages(node, replace(ProcessImage(), buffered=3)) == [], "a dead device sends nothing"
    assert kinds(messages(node, online())) == ["DBIRTH"]


def test_a_result_is_sent_once_as_data() -> None:
    node = EdgeNode(0, BORN_MS)
    birth = messages(node, online(7))
    assert kinds(birth) == ["NBIRTH", "DBIRTH", "DDATA"]
    assert named(birth[2])["ResultId"].value == 7
    assert messages(node, online(7)) == []
    node.request_rebirth()
    again = messages(node, online(7))
    assert kinds(again) == ["NBIRTH", "DBIRTH"]
    assert named(again[0])["bdSeq"].value == 0
    node.request_rebirth()
    assert kinds(messages(node, online(8))) == ["NBIRTH", "DBIRTH", "DDATA"]
    # A new connection, without a record that the first one has sent the result: again.
    assert kinds(messages(EdgeNode(1, BORN_MS, node.last_result_sent), online(8))) == [
        "NBIRTH",
        "DBIRTH",
    ]
    assert kinds(messages(EdgeNode(1, BORN_MS, (0, 7)), online(8))) == ["NBIRTH", "DBIRTH", "DDATA"]


def test_a_result_has_its_capture_time_and_a_delayed_one_is_historical() -> None:
    node = EdgeNode(0, BORN_MS)
    messages(node, online())
    late = named(messages(node, online(1, captured_ms=BORN_MS - 15_000))[0])
    assert late["ResultId"].timestamp_ms == BORN_MS - 15_000
    assert late["ResultId"].is_historical
    assert late["PartId"].is_historical
    live = named(messages(node, online(2), BORN_MS + 20)[0])
    assert live["ResultId"].timestamp_ms == BORN_MS + 5
    assert not live["ResultId"].is_historical
    after_result = named(messages(node, online(), BORN_MS + 30)[0])
    assert after_result["ResultsValid"].timestamp_ms == BORN_MS + 30
    other = named(messages(node, replace(online(), buffered=4), BORN_MS + 40)[0])
    assert {name: metric.timestamp_ms for name, metric in other.items()} == {
        "Buffered": BORN_MS + 40
    }


STEPS = st.one_of(
    st.just("offline"),
    st.just("online"),
    st.just("rebirth"),
    st.integers(1, 6),
)


@given(st.lists(STEPS, max_size=600))
def test_any_order_of_images_is_in_sequence(steps: list[str | int]) -> None:
    node = EdgeNode(0, BORN_MS)
    expected: int | None = None
    alive = False
    sent: list[int] = []
    for step in steps:
        if step == "rebirth":
            node.request_rebirth()
        image = online(step) if isinstance(step, int) else ProcessImage(online=step == "online")
        for message in messages(node, image):
            seq = message.payload.seq
            assert seq is not None
            assert 0 <= seq <= 255
            if message.kind == "NBIRTH":
                assert seq == 0
                alive = False
            else:
                assert seq == expected
            if message.kind == "DDATA":
                assert alive
                if "ResultId" in named(message) and named(message)["ResultsValid"].value:
                    sent.append(int(named(message)["ResultId"].value))
            alive = {"DBIRTH": True, "DDEATH": False}.get(message.kind, alive)
            expected = (seq + 1) % 256
    # A result that was hidden and shown again is sent again, with the same id.
    shown = [step for step in steps if isinstance(step, int)]
    assert _changes(sent) == _changes(shown)
    assert len(sent) <= len(shown)


def _changes(ids: list[int]) -> list[int]:
    return [each for at, each in enumerate(ids) if at == 0 or ids[at - 1] != each]


def test_only_commands_with_the_right_name_and_type_are_accepted() -> None:
    hostile = (
        SparkplugMetric("ResultsAck", DataType.STRING, "7"),
        SparkplugMetric("ResultsAck", DataType.INT64, 7),
        SparkplugMetric("FaultReset", DataType.UINT32, 1),
        SparkplugMetric("Pass", DataType.BOOLEAN, True),
        SparkplugMetric("TriggerId", DataType.UINT32, 70_000),
    )
    assert merge_commands(initial_commands(), SparkplugPayload(1, hostile, 0)) == initial_commands()
    good = (SparkplugMetric("ResultsAck", DataType.UINT32, 4_000_000_000),)
    assert (
        merge_commands(initial_commands(), SparkplugPayload(1, good, 0))["ResultsAck"]
        == 4_000_000_000
    )


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_decoded_or_refused(junk: bytes) -> None:
    node = EdgeNode(0, BORN_MS)
    for message in messages(node, online(7)):
        data = payload.encode_payload(message.payload)
        assert payload.decode_payload(data) == message.payload
        try:
            payload.decode_payload(data[: len(junk)] + junk)
        except ValueError:
            pass
