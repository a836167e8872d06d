"""OPC UA server: the vision system's state, a ResultReady event per result, and the map's tags.

Names follow OPC 40100-1 (Machine Vision): the objects and properties are called as there,
with plain text for its identifier structures; it is not a certified implementation.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeinspect.domain.clock import Clock
from edgeinspect.domain.plc import PlcError, PlcImage, PlcInputs, PlcResult
from edgeinspect.errors import ConfigError, Fault, MissingExtraError
from edgeinspect.plclinks import _map
from edgeinspect.ports import PlcLink

REQUIRES = (("asyncua", "plc"),)

NAMESPACE = "urn:edgeinspect:machine-vision"
_COMPLETED = 1
"""ResultState of OPC 40100-1, 12.19."""

_AGAIN_S = 1.0

_STATES = {
    PlcError.STARTING: "Preoperational",
    PlcError.STOPPING: "Halted",
    PlcError.HEARTBEAT_LOST: "Error",
    PlcError.WIRE: "Error",
}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: opcua`."""

    host: str = "127.0.0.1"
    """The interface to listen on."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 4840
    certificate: str | None = None
    """Server certificate (DER or PEM); with it and `private_key` only encrypted sessions."""
    private_key: str | None = None
    acknowledge: bool = True
    """False if clients live from events alone and nobody writes `ResultsAck`."""

    def __post_init__(self) -> None:
        """Both or none."""
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together")


class OpcUaServer:
    """A server in a thread and an event loop of its own. See `ports.PlcLink`.

    An image is written tag by tag with the status last and its event after; images that
    were overtaken are left out, results never (the handshake waits for each).
    """

    def __init__(self, options: Options, ua: Any, server_type: Any) -> None:
        """Nothing is bound yet; `ua` and `server_type` are asyncua's."""
        self.acknowledges = options.acknowledge
        self._options = options
        self._ua = ua
        self._server_type = server_type
        self._image: PlcImage | None = None
        self._inputs = PlcInputs(problem="not started")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None
        self._stop = False
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._written: dict[str, _map.Value] = {}
        self._state = ""
        self._told: tuple[int, int] = (-1, -1)

    def open(self) -> None:
        self._thread = threading.Thread(target=self._main, name="opcua", daemon=True)
        self._thread.start()
        self._opened.wait(30)
        if self._error is not None:
            where = f"{self._options.host}:{self._options.port}"
            fault = Fault("link.port", f"cannot be served: {self._error}", where)
            raise ConfigError([fault]) from self._error

    def show(self, image: PlcImage) -> None:
        self._image = image
        self._wake()

    def poll(self) -> PlcInputs:
        return self._inputs

    def close(self) -> None:
        self._stop = True
        self._wake()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _wake(self) -> None:
        loop, changed = self._loop, self._changed
        if loop is not None and changed is not None:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:  # the loop has ended
                pass

    # -- the server's thread --------------------------------------------------------

    def _main(self) -> None:
        while not self._stop:
            try:
                asyncio.run(self._serve())
            except Exception as error:  # whatever the library raises, the line goes on
                self._inputs = PlcInputs(False, -1, None, str(error) or type(error).__name__)
                if not self._opened.is_set():
                    self._error = error
                    self._opened.set()
                    return
                time.sleep(_AGAIN_S)

    async def _serve(self) -> None:
        self._written.clear()
        self._state = ""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        server = self._server_type()
        await self._build(server)
        await server.start()
        self._opened.set()
        try:
            while not self._stop:
                await self._turn(server)
            await self._turn(server)
            await asyncio.sleep(0.1)  # what was shown last must leave before the sockets do
        finally:
            await server.stop()

    async def _turn(self, server: Any) -> None:
        assert self._changed is not None
        try:
            await asyncio.wait_for(self._changed.wait(), 0.005)
        except asyncio.TimeoutError:  # look for what clients wrote
            pass
        self._changed.clear()
        image = self._image
        if image is None:
            return
        # A result that nobody is there to hear is not delivered.
        connected = any(c.processor.session is not None for c in server.bserver.clients)
        if connected or image.result is None:
            await self._write(server, image)
            if image.result is not None and self._told != (image.numbering, image.result.seq):
                self._told = (image.numbering, image.result.seq)
                await self._announce(image.result)
        commands = _map.commands(
            {name: server.read_attribute_value(node).Value.Value
             for name, node in self._commands.items()}
        )  # fmt: skip
        problem = "" if connected else "no client has a session"
        delivered = image.revision if connected else -1
        self._inputs = PlcInputs(connected, delivered, commands, problem)

    async def _write(self, server: Any, image: PlcImage) -> None:
        values = _map.values(image)
        status = {bit.name for bit in _map.STATUS_BITS}
        for name in sorted(values, key=lambda name: name in status):
            if self._written.get(name) != values[name]:
                await self._set(server, self._tags[name], values[name])
                self._written[name] = values[name]
        state = _STATES.get(image.error, "Operational") if not image.online else "Operational"
        if state != self._state:
            self._state = state
            await self._set(server, self._state_node, state)

    async def _set(self, server: Any, tag: tuple[Any, Any], value: _map.Value) -> None:
        node, kind = tag
        variant = self._ua.Variant(value, kind)
        await server.write_attribute_value(node, self._ua.DataValue(variant))

    async def _announce(self, result: PlcResult) -> None:
        """One ResultReady event."""
        event = self._ready.event
        event.ResultId = str(result.seq)
        event.IsPartial = False
        event.IsSimulated = result.simulated
        event.ResultState = _COMPLETED
        event.PartId = result.part_id
        event.JobId = f"{result.camera}/{result.epoch}/{result.seq}"
        event.RecipeId = result.recipe_id
        event.Pass = result.outcome.value == "pass"
        event.Reject = result.outcome.value == "reject"
        event.NoVerdict = result.no_verdict
        event.Cause = result.cause
        event.RejectCode = result.reject_code
        event.EncoderCount = result.encoder_count or 0
        event.Covers = result.covers
        event.Severity = 500 if event.Reject else 100
        await self._ready.trigger(message=f"result {result.seq}: {result.outcome.value}")

    # -- the address space ----------------------------------------------------------

    async def _build(self, server: Any) -> None:
        ua, options = self._ua, self._options
        await server.init()
        server.set_endpoint(f"opc.tcp://{options.host}:{options.port}/edgeinspect")
        server.set_server_name("edgeinspect")
        if options.certificate is not None:
            await server.load_certificate(options.certificate)
            await server.load_private_key(options.private_key)
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        else:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        space = await server.register_namespace(NAMESPACE)
        kinds = {
            "bits": ua.VariantType.UInt16,
            "uint16": ua.VariantType.UInt16,
            "uint32": ua.VariantType.UInt32,
            "int32": ua.VariantType.Int32,
            "text": ua.VariantType.String,
        }
        types = {tag.name: kinds[tag.type] for tag in (*_map.OUTPUTS, *_map.INPUTS)}
        system = await server.nodes.objects.add_object(space, "VisionSystem")
        machine = await system.add_object(space, "VisionStateMachine")
        state = await machine.add_variable(
            space, "CurrentState", "Preoperational", ua.VariantType.String
        )
        self._state_node = (state.nodeid, ua.VariantType.String)
        outputs = await system.add_object(space, "Outputs")
        self._tags: dict[str, tuple[Any, Any]] = {}
        for name, value in _map.values(PlcImage()).items():
            kind = types.get(name, ua.VariantType.Boolean)
            node = await outputs.add_variable(
                ua.NodeId(f"Outputs.{name}", space), ua.QualifiedName(name, space), value, kind
            )
            self._tags[name] = (node.nodeid, kind)
        inputs = await system.add_object(space, "Inputs")
        self._commands: dict[str, Any] = {}
        blank = _map.decode_block(bytes(2 * _map.INPUT_WORDS), _map.INPUTS, _map.COMMAND_BITS)
        for name, value in blank.items():
            if name == "Command":
                continue
            kind = types.get(name, ua.VariantType.Boolean)
            node = await inputs.add_variable(
                ua.NodeId(f"Inputs.{name}", space), ua.QualifiedName(name, space), value, kind
            )
            await node.set_writable()
            self._commands[name] = node.nodeid
        ready_type = await server.create_custom_event_type(
            space, "ResultReadyEventType", ua.ObjectIds.BaseEventType, _properties(ua)
        )
        self._ready = await server.get_event_generator(ready_type, system.nodeid)


def _properties(ua: Any) -> list[tuple[str, Any]]:
    kinds = ua.VariantType
    return [
        ("ResultId", kinds.String),
        ("IsPartial", kinds.Boolean),
        ("IsSimulated", kinds.Boolean),
        ("ResultState", kinds.Int32),
        ("PartId", kinds.String),
        ("JobId", kinds.String),
        ("RecipeId", kinds.String),
        ("Pass", kinds.Boolean),
        ("Reject", kinds.Boolean),
        ("NoVerdict", kinds.Boolean),
        ("Cause", kinds.UInt16),
        ("RejectCode", kinds.UInt16),
        ("EncoderCount", kinds.Int64),
        ("Covers", kinds.UInt32),
    ]


def build(options: Options, clock: Clock) -> PlcLink:
    """A link; nothing is opened yet.

    Raises:
        MissingExtraError: asyncua is not installed.
    """
    try:
        from asyncua import ua
        from asyncua.server.server import Server
    except ImportError as error:
        raise MissingExtraError("plc", "asyncua", where="link opcua") from error
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # errors are raised
    return OpcUaServer(options, ua, Server)
