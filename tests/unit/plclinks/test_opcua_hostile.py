"""Hostile requests to a server without a certificate: rejected without effect on others."""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from edgeinspect.domain.plc import PlcOutcome, PlcResult
from edgeinspect.plclinks import opcua
from tests.opcua_harness import (
    NAMESPACE,
    RunningServer,
    connect,
    disconnect,
    input_node_id,
    run_async,
    serve,
    skip_reason,
    write_raw,
)
from tests.system.plant import wait_for

pytestmark = pytest.mark.skipif(bool(skip_reason), reason=f"link opcua: {skip_reason}")
CLIENTS = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serve(tmp_path_factory.mktemp("open"), clients=CLIENTS) as built:
        yield built


def hostile_values() -> list[tuple[str, Any, set[str]]]:
    from asyncua import ua

    kinds = ua.VariantType
    mismatch = {"BadTypeMismatch"}
    bad = ua.StatusCode(ua.StatusCodes.Bad)

    def of(value: Any, kind: Any, **more: Any) -> Any:
        return ua.DataValue(ua.Variant(value, kind, **more))

    return [
        ("ResultsAck", of([1, 2, 3], kinds.UInt32), mismatch),
        ("ResultsAck", of([], kinds.UInt32), mismatch),
        ("ResultsAck", of([1], kinds.UInt32), mismatch),
        ("ResultsAck", of([1, 2], kinds.UInt32, Dimensions=[1, 2]), mismatch),
        ("TriggerId", of([1, 2], kinds.UInt16), mismatch),
        ("TriggerPartId", of(["a", "b"], kinds.String), mismatch),
        ("FaultReset", of([True], kinds.Boolean), mismatch),
        ("ResultsAck", of("abc", kinds.String), mismatch),
        ("ResultsAck", of(math.nan, kinds.Double), mismatch),
        ("ResultsAck", of(1e308, kinds.Double), mismatch),
        ("ResultsAck", of(7, kinds.Int64), mismatch),
        ("TriggerEncoder", of(7, kinds.UInt32), mismatch),
        ("TriggerId", of(True, kinds.Boolean), mismatch),
        ("FaultReset", of(1, kinds.Byte), mismatch),
        ("ResultsAck", of(None, kinds.Null), mismatch),
        ("TriggerPartId", of(None, kinds.String), mismatch),
        ("TriggerPartId", of(b"plate", kinds.ByteString), mismatch),
        ("ResultsAck", of(ua.DataValue(ua.Variant(1, kinds.UInt32)), kinds.DataValue), mismatch),
        ("ResultsAck", ua.DataValue(None, bad), {"BadWriteNotSupported", "BadTypeMismatch"}),
        ("ResultsAck", ua.DataValue(ua.Variant(7, kinds.UInt32), bad), {"BadWriteNotSupported"}),
        ("ResultsAck", of("x" * (1 << 20), kinds.String), mismatch),
        ("TriggerPartId", of("x" * (1 << 20), kinds.String), {"BadOutOfRange"}),
        ("TriggerPartId", of("a\0b", kinds.String), {"BadOutOfRange"}),
        ("TriggerPartId", of("4711\r\n", kinds.String), {"BadOutOfRange"}),
        ("TriggerPartId", of("4711\x85", kinds.String), {"BadOutOfRange"}),
        ("TriggerPartId", of("\udcff", kinds.String), {"BadOutOfRange"}),
    ]


def test_a_hostile_write_changes_nothing(served: RunningServer) -> None:
    async def work() -> None:
        from asyncua import ua

        other, attacker = await connect(served.client()), await connect(served.client())
        before = served.link.poll().commands
        for name, value, wanted in hostile_values():
            got = await write_raw(attacker, input_node_id(name), value)
            assert got in wanted, (name, got, str(value)[:80])
            assert served.link.poll().commands == before
        good = ua.DataValue(ua.Variant(7, ua.VariantType.UInt32))
        assert await write_raw(attacker, input_node_id("ResultsAck"), good, rng="0:1") == (
            "BadIndexRangeInvalid"
        )
        assert (
            await write_raw(attacker, input_node_id("ResultsAck"), good, attribute=4)
            == "BadNotWritable"
        )
        for attribute in (99, 0, 4_000_000_000):
            got = await write_raw(attacker, input_node_id("ResultsAck"), good, attribute=attribute)
            assert got == "BadAttributeIdInvalid"
        assert await write_raw(attacker, ua.NodeId("Inputs.Nothing", 2), good) == "BadNodeIdUnknown"
        for node in (ua.NodeId("Outputs.ResultId", 2), ua.NodeId(2258), ua.NodeId(85)):
            assert await write_raw(attacker, node, good) in (
                "BadNotWritable",
                "BadAttributeIdInvalid",
            )
        assert served.link.poll().commands == before
        assert await other.get_namespace_array(), "the other session is not affected"
        assert await write_raw(attacker, input_node_id("ResultsAck"), good) == "Good"
        await asyncio.sleep(0.05)
        commands = served.link.poll().commands
        assert commands is not None
        assert commands.results_ack == 7
        for client in (other, attacker):
            await disconnect(client)

    run_async(work)


def test_services_without_permission(served: RunningServer) -> None:
    async def work() -> None:
        from asyncua import ua

        client = await connect(served.client())
        item = ua.AddNodesItem()
        item.ParentNodeId, item.BrowseName = ua.NodeId(85), ua.QualifiedName("x", 2)
        reference = ua.AddReferencesItem()
        deleted = ua.DeleteNodesItem()
        deleted.NodeId = ua.NodeId("Inputs.Enable", 2)
        for request in (
            client.uaclient.add_nodes([item]),
            client.uaclient.add_references([reference]),
            client.uaclient.delete_nodes(ua.DeleteNodesParameters([deleted])),
            client.uaclient.delete_references([ua.DeleteReferencesItem()]),
            client.uaclient.register_server(ua.RegisteredServer()),
        ):
            with pytest.raises(ua.UaError, match="BadServiceUnsupported"):
                await request
        call = ua.CallMethodRequest()
        call.ObjectId, call.MethodId = ua.NodeId(2253), ua.NodeId(11492)
        (result,) = await client.uaclient.call([call])
        assert result.StatusCode.name == "BadMethodInvalid"
        assert await client.get_node(input_node_id("Enable")).read_value() in (False, True)
        await disconnect(client)

    run_async(work)


def test_requests_over_the_limits_are_rejected(served: RunningServer) -> None:
    async def work() -> None:
        from asyncua import ua

        client, other = await connect(served.client()), await connect(served.client())
        read = ua.ReadValueId(NodeId=ua.NodeId(2255), AttributeId=ua.AttributeIds.Value)
        with pytest.raises(ua.UaError, match="BadTooManyOperations"):
            await client.uaclient.read(ua.ReadParameters(NodesToRead=[read] * 1_001))
        with pytest.raises(ua.UaError, match="BadRequestTooLarge"):
            await client.uaclient.read(ua.ReadParameters(NodesToRead=[read] * 40_000))
        path = ua.BrowsePath(StartingNode=ua.NodeId(84))
        element = ua.RelativePathElement(TargetName=ua.QualifiedName("Objects", 0))
        path.RelativePath.Elements = [element] * 200
        (found,) = await client.uaclient.translate_browsepaths_to_nodeids([path])
        assert found.StatusCode.name == "BadNoMatch"
        for _ in range(8):
            await client.create_subscription(0.001, _IgnoringHandler())
        with pytest.raises(ua.UaError, match="BadTooMany"):
            await client.create_subscription(0.001, _IgnoringHandler())
        subscription = await other.create_subscription(100, _IgnoringHandler())
        nodes = [other.get_node(ua.NodeId("Outputs.Online", 2))] * 600
        with pytest.raises(ua.UaError, match="BadTooMany"):
            await subscription.subscribe_data_change(nodes)
        # A subscription of another session does not exist for it.
        mine = subscription.subscription_id
        (status,) = await client.uaclient.delete_subscriptions([mine])
        assert status.name == "BadSubscriptionIdInvalid"
        moved = await client.uaclient.transfer_subscriptions(
            ua.TransferSubscriptionsParameters([mine], True)
        )
        assert moved[0].StatusCode.name == "BadUserAccessDenied"
        for each in (client, other):
            await disconnect(each)

    run_async(work)


class _IgnoringHandler:
    def datachange_notification(self, *_: Any) -> None:
        pass

    def event_notification(self, *_: Any) -> None:
        pass


def test_the_cost_of_a_where_clause() -> None:
    from asyncua import ua

    from edgeinspect.plclinks._opcua.limits import WHERE_COST_MAX, where_cost

    def both(index: int) -> Any:
        operands = [ua.ElementOperand(index), ua.ElementOperand(index)]
        return ua.ContentFilterElement(ua.FilterOperator.And, operands)

    assert where_cost([both(index + 1) for index in range(40)]) > WHERE_COST_MAX
    assert where_cost([both(0)]) == math.inf
    assert where_cost([]) == 0
    leaf = ua.ContentFilterElement(ua.FilterOperator.IsNull, [ua.LiteralOperand()])
    assert where_cost([both(1), leaf]) < 10


def test_a_filter_that_raises_does_not_affect_other_clients(served: RunningServer) -> None:
    async def work() -> None:
        from asyncua import ua

        client, hostile = await connect(served.client()), await connect(served.client())
        events: list[Any] = []

        class Handler(_IgnoringHandler):
            def event_notification(self, event: Any) -> None:
                events.append(event)

        bad = await hostile.create_subscription(10, _IgnoringHandler())
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = ua.NodeId(ua.ObjectIds.Server)
        item.ItemToMonitor.AttributeId = ua.AttributeIds.EventNotifier
        item.RequestedParameters.Filter = ua.EventFilter()
        clause = ua.SimpleAttributeOperand()
        clause.BrowsePath = None
        clause.AttributeId = 4_000_000_000
        item.RequestedParameters.Filter.SelectClauses = [clause]
        params = ua.CreateMonitoredItemsParameters(bad.subscription_id)
        params.ItemsToCreate = [item]
        await hostile.uaclient.create_monitored_items(params)

        subscription = await client.create_subscription(10, Handler())
        ready = await client.nodes.base_event_type.get_child("2:ResultReadyEventType")
        await subscription.subscribe_events(client.nodes.server, ready)
        decided = datetime(2026, 11, 28, 12, 0, 0, 500_000, timezone.utc)
        captured_ns = int(decided.timestamp() * 1e9) - 400_000
        served.write_image(
            result=PlcResult(
                41, 5, PlcOutcome.REJECT, 10, processing_us=400, captured_at_utc_ns=captured_ns
            )
        )
        await asyncio.to_thread(wait_for, lambda: events)
        assert events[0].ResultId == "41"
        assert events[0].SourceName == "VisionSystem"
        assert events[0].Time == decided
        ask = ua.ReadValueId(
            NodeId=ua.NodeId("Outputs.ResultId", 2), AttributeId=ua.AttributeIds.Value
        )
        both = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[ask])
        (value,) = await client.uaclient.read(both)
        assert value.Value.Value == 41
        assert value.SourceTimestamp == decided
        assert abs((datetime.now(timezone.utc) - value.ServerTimestamp).total_seconds()) < 30
        served.write_image()
        for each in (client, hostile):
            await disconnect(each)

    run_async(work)


def test_values_have_time_stamps_and_namespaces_have_metadata(served: RunningServer) -> None:
    async def work() -> None:
        client = await connect(served.client())
        changes: list[Any] = []

        class Handler(_IgnoringHandler):
            def datachange_notification(self, _node: Any, _value: Any, data: Any) -> None:
                changes.append(data.monitored_item.Value)

        subscription = await client.create_subscription(10, Handler())
        outputs = await client.nodes.objects.get_child(["2:VisionSystem", "2:Outputs"])
        await subscription.subscribe_data_change(await outputs.get_children())
        await asyncio.to_thread(wait_for, lambda: len(changes) > 30)
        assert all(each.SourceTimestamp and each.ServerTimestamp for each in changes)
        namespaces = await client.nodes.server.get_child("0:Namespaces")
        metadata = await namespaces.get_child(f"2:{NAMESPACE}")
        assert await (await metadata.get_child("0:NamespaceUri")).read_value() == NAMESPACE
        await disconnect(client)

    run_async(work)


def test_250_idle_connections_do_not_exclude_a_client(served: RunningServer) -> None:
    async def work() -> None:
        plc = await connect(served.client())
        idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(250)]
        try:
            began = time.monotonic()
            newcomer = await connect(served.client())
            assert time.monotonic() - began < 5
            assert await newcomer.get_namespace_array()
            assert await plc.get_namespace_array(), "an active session stays open"
            listener = 2 * CLIENTS
            alive = sum(_is_open(each) for each in idle)
            assert alive <= listener
            await disconnect(newcomer)
        finally:
            for each in idle:
                each.close()
        await disconnect(plc)

    run_async(work)


def _is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.02)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_one_session_too_many_closes_the_one_silent_longest(served: RunningServer) -> None:
    async def work() -> None:
        plc = await connect(served.client())
        others = []
        for _ in range(2 * CLIENTS):
            others.append(await connect(served.client()))
            assert await plc.get_namespace_array(), "an active session stays open"
        for each in (*others, plc):
            await disconnect(each)

    run_async(work)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", 8 + len(body)) + body


HELLO = message(b"HELF", struct.pack("<5I", 0, 65_535, 65_535, 0, 0) + struct.pack("<i", -1))


def test_invalid_bytes_close_only_their_connection(
    served: RunningServer,
) -> None:
    seed = random.Random(12)
    tiny = message(b"HELF", struct.pack("<5I", 0, 1, 1, 0, 0) + struct.pack("<i", -1))
    unopened = message(b"MSGF", struct.pack("<4I", 0, 0, 1, 1) + b"\x01\x00\xd2\x01")
    attacks = [
        b"GET / HTTP/1.1\r\n\r\n",
        tiny,
        HELLO + HELLO,
        unopened,
        HELLO + unopened,
        HELLO + message(b"OPNF", os.urandom(200)),
        message(b"HELF", b""),
        b"HELF\xff\xff\xff\xff" + bytes(200_000),
        b"MSGC\x00\x00\x00\x00",
        HELLO + message(b"OPNF", struct.pack("<Ii", 0, 1 << 30)),
    ]
    attacks += [HELLO + message(b"OPNF", seed.randbytes(seed.randrange(200))) for _ in range(100)]

    async def work() -> None:
        other = await connect(served.client())
        for data in attacks:
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.settimeout(5)
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    while await asyncio.to_thread(connection.recv, 65_536):
                        pass
                except TimeoutError:
                    raise
                except OSError:  # closed by the server, as expected
                    pass
        assert await other.get_namespace_array()
        await disconnect(other)

    run_async(work)


def test_mutated_requests(served: RunningServer) -> None:
    """Each mutated body gets a response or closes its own connection."""
    seed = random.Random(3)

    async def work() -> None:
        from asyncua import ua
        from asyncua.ua.ua_binary import struct_to_binary

        other = await connect(served.client())
        names = (
            "Read",
            "Write",
            "Browse",
            "Call",
            "CreateMonitoredItems",
            "CreateSubscription",
            "TranslateBrowsePathsToNodeIds",
            "Publish",
            "HistoryRead",
            "ActivateSession",
            "SetMonitoringMode",
            "TransferSubscriptions",
            "RegisterNodes",
        )
        for name in names:
            client = await connect(served.client())
            protocol = client.uaclient.protocol
            for _ in range(6):
                request = getattr(ua, f"{name}Request")()
                protocol._setup_request_header(request.RequestHeader)
                body = bytearray(struct_to_binary(request))
                tail = len(body) - seed.randrange(1, 12)
                body[tail:] = seed.randbytes(seed.randrange(60))
                data = protocol._connection.message_to_binary(
                    bytes(body), request_id=seed.randrange(10_000, 20_000)
                )
                if protocol.transport is None or protocol.transport.is_closing():
                    break
                protocol.transport.write(data)
                await asyncio.sleep(0.005)
            await disconnect(client)
        assert await other.get_namespace_array()
        await disconnect(other)

    run_async(work)
    assert served.link._thread is not None
    assert served.link._thread.is_alive()


def test_deep_nesting_closes_only_its_connection(served: RunningServer) -> None:
    """A value that is a variant in a variant, 100,000 levels deep."""

    async def work() -> None:
        from asyncua import ua
        from asyncua.ua.ua_binary import struct_to_binary

        other = await connect(served.client())
        for element in (b"\x98\x01\x00\x00\x00", b"\x17\x01", b"\x19\x40"):
            client = await connect(served.client())
            protocol = client.uaclient.protocol
            item = ua.WriteValue()
            item.NodeId, item.AttributeId = input_node_id("ResultsAck"), ua.AttributeIds.Value
            item.Value = ua.DataValue(ua.Variant(1, ua.VariantType.Byte))
            request = ua.WriteRequest()
            request.Parameters.NodesToWrite = [item]
            protocol._setup_request_header(request.RequestHeader)
            body = struct_to_binary(request)
            data = protocol._connection.message_to_binary(
                body[: body.rindex(b"\x03\x01")] + element * 100_000, request_id=777
            )
            protocol.transport.write(data)
            for _ in range(20):
                assert await other.get_namespace_array()
                await asyncio.sleep(0.01)
            await disconnect(client)
        await disconnect(other)

    run_async(work)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"certificate": "x"}, "go together"),
        ({"users": "x"}, "needs certificate"),
        ({"pki": "x"}, "needs certificate"),
        ({"anonymous": True}, "needs certificate"),
        ({"write": {"a": ["*"]}}, "needs certificate"),
        ({"certificate": "x", "private_key": "y", "write": {"a": ["Enabel"]}}, "no input Enabel"),
        ({"allow": ["plc"]}, "is not an address"),
    ],
)
def test_contradictory_options_are_rejected(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        opcua.Options(**options)
