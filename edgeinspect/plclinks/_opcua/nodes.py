"""The nodes of the vision system in the server's address space.

The names of objects and properties follow OPC 40100-1 (Machine Vision), with plain text for
its identifier structures; it is not a certified implementation.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from asyncua import ua

from edgeinspect import __version__
from edgeinspect.domain import PlcError, PlcResult, ProcessImage
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._opcua.attributes import MapAttributeService
from edgeinspect.plclinks._opcua.inputs import TAG_TYPES, initial_values
from edgeinspect.plclinks._opcua.limits import NODES_PER_READ, NODES_PER_REQUEST
from edgeinspect.plclinks._opcua.listener import BoundedServer

NAMESPACE = "urn:edgeinspect:machine-vision"
PRODUCT = "urn:edgeinspect:gateway"
_RESULT_COMPLETED = 1
"""ResultState of OPC 40100-1, 12.19."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STATES = {
    PlcError.STARTING: "Preoperational",
    PlcError.STOPPING: "Halted",
    PlcError.HEARTBEAT_LOST: "Error",
    PlcError.WIRE: "Error",
}
_STATUS_NAMES = {bit.name for bit in _register_map.STATUS_BITS}
_VARIANT = ua.VariantType
_EVENT_PROPERTIES = [
    ("ResultId", _VARIANT.String),
    ("IsPartial", _VARIANT.Boolean),
    ("IsSimulated", _VARIANT.Boolean),
    ("ResultState", _VARIANT.Int32),
    ("PartId", _VARIANT.String),
    ("JobId", _VARIANT.String),
    ("RecipeId", _VARIANT.String),
    ("Pass", _VARIANT.Boolean),
    ("Reject", _VARIANT.Boolean),
    ("NoVerdict", _VARIANT.Boolean),
    ("Cause", _VARIANT.UInt16),
    ("RejectCode", _VARIANT.UInt16),
    ("EncoderCount", _VARIANT.Int64),
    ("Covers", _VARIANT.UInt32),
]


class VisionNodes:
    """The vision system's nodes in the address space of a server. For its event loop."""

    def __init__(self, server: BoundedServer, report_error: Callable[[Exception], None]) -> None:
        """Create no nodes yet, see `build`; `report_error` gets what subscriptions raise."""
        self._server = server
        self._report_error = report_error
        self._tags: dict[str, tuple[Any, Any]] = {}
        self._last_values: dict[str, _register_map.TagValue] = {}
        self._state = ""
        self._last_result: tuple[int, int] = (-1, -1)

    async def write(self, image: ProcessImage) -> None:
        """Write what changed, the status last, and send the event of a new result."""
        result = image.result
        fresh = result is not None and self._last_result != (image.sequence_generation, result.seq)
        now = datetime.now(timezone.utc)
        of_result = decided_at(result) or now if result is not None else now
        values = _register_codec.tag_values(image)
        for name in sorted(values, key=lambda name: name in _STATUS_NAMES):
            belongs = name in _register_map.RESULT_TAGS
            if self._last_values.get(name) != values[name] or (fresh and belongs):
                await self._write_value(
                    *self._tags[name], values[name], of_result if belongs else now
                )
                self._last_values[name] = values[name]
        state = _STATES.get(image.error, "Operational") if not image.online else "Operational"
        if state != self._state:
            await self._write_value(*self._state_node, state, now)
            self._state = state
        if result is not None and fresh:
            self._last_result = (image.sequence_generation, result.seq)
            await self._send_event(result, of_result)

    async def _write_value(
        self, node: Any, kind: Any, value: _register_map.TagValue, source: datetime
    ) -> None:
        written = ua.DataValue(
            ua.Variant(value, kind),
            SourceTimestamp=source,
            ServerTimestamp=datetime.now(timezone.utc),
        )
        await self._server.write_attribute_value(node, written)

    async def _send_event(self, result: PlcResult, decided: datetime) -> None:
        """Send a ResultReady event from the vision system and from the Server object.

        Source: OPC UA Part 3, 4.7: the Server object notifies of every event of the server
        """
        event = self._ready.event
        event.EventId = ua.Variant(uuid.uuid4().bytes, ua.VariantType.ByteString)
        event.Time = decided
        event.ReceiveTime = datetime.now(timezone.utc)
        event.LocalTime = ua.TimeZoneDataType(0, False)
        event.Message = ua.LocalizedText(f"result {result.seq}: {result.outcome.value}")
        event.ResultId = str(result.seq)
        event.IsPartial = False
        event.IsSimulated = result.simulated
        event.ResultState = _RESULT_COMPLETED
        event.PartId = result.part_id
        event.JobId = f"{result.camera}/{result.epoch}/{result.seq}"
        event.RecipeId = result.recipe_id
        event.Pass = result.outcome.value == "pass"
        event.Reject = result.outcome.value == "reject"
        event.NoVerdict = result.no_verdict
        event.Cause = result.cause
        event.RejectCode = result.reject_code
        event.EncoderCount = result.encoder_count or 0
        event.Covers = result.frames_covered
        event.Severity = 500 if event.Reject else 100
        for emitter in (event.SourceNode, ua.NodeId(ua.ObjectIds.Server)):
            event.emitting_node = emitter
            for each in list(self._server.iserver.subscription_service.subscriptions.values()):
                try:
                    await each.monitored_item_srv.trigger_event(event)
                except Exception as error:  # the filter of one client must not affect the others
                    self._report_error(error)

    # -- building -------------------------------------------------------------------

    async def build(self, image: ProcessImage) -> None:
        """Create the nodes with the values of the first image, before the server starts."""
        server = self._server
        space = await server.register_namespace(NAMESPACE)
        await self._write_server_info(space)
        system = await server.nodes.objects.add_object(space, "VisionSystem")
        machine = await system.add_object(space, "VisionStateMachine")
        state = await machine.add_variable(
            space, "CurrentState", "Preoperational", ua.VariantType.String
        )
        self._state_node = (state.nodeid, ua.VariantType.String)
        await self._write_value(*self._state_node, "Preoperational", datetime.now(timezone.utc))
        outputs = await system.add_object(space, "Outputs")
        for name, value in _register_codec.tag_values(image).items():
            self._tags[name] = await self._add_variable(outputs, "Outputs", name, value, space)
        inputs = await system.add_object(space, "Inputs")
        attributes: MapAttributeService = server.iserver.attribute_service
        for name, value in initial_values().items():
            node, _kind = await self._add_variable(inputs, "Inputs", name, value, space)
            await server.get_node(node).set_writable()
            attributes.input_names[node] = name
        ready_type = await server.create_custom_event_type(
            space, "ResultReadyEventType", ua.ObjectIds.BaseEventType, _EVENT_PROPERTIES
        )
        self._ready = await server.get_event_generator(ready_type, system.nodeid)
        self._ready.event.SourceNode = system.nodeid
        await server.nodes.server.add_reference(system.nodeid, ua.ObjectIds.HasNotifier)
        await server.nodes.server.set_event_notifier([ua.EventNotifier.SubscribeToEvents])

    async def _add_variable(
        self, parent: Any, group: str, name: str, value: _register_map.TagValue, space: int
    ) -> tuple[Any, Any]:
        kind = TAG_TYPES.get(name, ua.VariantType.Boolean)
        node = await parent.add_variable(
            ua.NodeId(f"{group}.{name}", space), ua.QualifiedName(name, space), value, kind
        )
        await self._write_value(node.nodeid, kind, value, datetime.now(timezone.utc))
        return node.nodeid, kind

    async def _write_server_info(self, space: int) -> None:
        """Write the server's build info, namespace metadata and operation limits."""
        server, now = self._server, datetime.now(timezone.utc)
        await server.set_build_info(
            PRODUCT, "edgeinspect", "edgeinspect gateway", __version__, __version__, now
        )
        namespaces = server.get_node(ua.NodeId(ua.ObjectIds.Server_Namespaces))
        metadata = await namespaces.add_object(
            ua.NodeId("Namespace", space),
            ua.QualifiedName(NAMESPACE, space),
            ua.NodeId(ua.ObjectIds.NamespaceMetadataType),
        )
        for name, value in (
            ("NamespaceUri", ua.Variant(NAMESPACE, ua.VariantType.String)),
            ("NamespaceVersion", ua.Variant(str(_register_map.MAP_VERSION), ua.VariantType.String)),
            ("NamespacePublicationDate", ua.Variant(_NAMESPACE_PUBLISHED, ua.VariantType.DateTime)),
            ("IsNamespaceSubset", ua.Variant(False, ua.VariantType.Boolean)),
        ):
            node = await metadata.get_child(f"0:{name}")
            await node.write_value(ua.DataValue(value, SourceTimestamp=now, ServerTimestamp=now))
        limits = {
            "MaxNodesPerRead": NODES_PER_READ,
            "MaxNodesPerWrite": NODES_PER_REQUEST,
            "MaxNodesPerBrowse": NODES_PER_REQUEST,
            "MaxNodesPerMethodCall": NODES_PER_REQUEST,
            "MaxNodesPerTranslateBrowsePathsToNodeIds": NODES_PER_REQUEST,
            "MaxMonitoredItemsPerCall": NODES_PER_REQUEST,
        }
        prefix = "Server_ServerCapabilities_OperationLimits_"
        for name, limit in limits.items():
            node = server.get_node(ua.NodeId(getattr(ua.ObjectIds, prefix + name)))
            await node.write_value(ua.Variant(limit, ua.VariantType.UInt32))


_NAMESPACE_PUBLISHED = datetime(2026, 11, 21, tzinfo=timezone.utc)
"""Date of the first map."""


def decided_at(result: PlcResult) -> datetime | None:
    """Return the time of a decision: capture plus processing; None if not known."""
    if not result.captured_at_utc_ns:
        return None
    since = timedelta(microseconds=result.captured_at_utc_ns // 1_000 + result.processing_us)
    try:
        return _EPOCH + since
    except OverflowError:
        return None
