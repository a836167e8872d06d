"""MQTT with Sparkplug B payloads: for the plant's side, not for an ejector.

NBIRTH and DBIRTH say every metric once per connection, DDATA what changed, NDEATH is the
broker's word when this gateway vanishes. A result is applied when the broker has confirmed
its DDATA (QoS 1; Sparkplug's own text has QoS 0, which can lose one with the connection).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.domain.plc import NO_COMMANDS, PlcCommands, PlcImage
from edgeinspect.errors import MissingExtraError
from edgeinspect.plclinks import _map, _sparkplug
from edgeinspect.plclinks._courier import Courier
from edgeinspect.plclinks._sparkplug import DataType, Metric, Payload
from edgeinspect.ports import PlcLink

if TYPE_CHECKING:
    from paho.mqtt.client import Client

REQUIRES = (("paho", "plc"),)

TopicName = Annotated[str, Meta(pattern=r"^[^/+#\s]{1,64}$")]
REBIRTH = "Node Control/Rebirth"

_TYPES = {
    "bits": DataType.UINT16,
    "uint16": DataType.UINT16,
    "uint32": DataType.UINT32,
    "int32": DataType.INT32,
    "text": DataType.STRING,
}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: mqtt`."""

    host: str
    """The broker."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1883
    group: TopicName = "edgeinspect"
    """Sparkplug's group id."""
    node: TopicName
    """Sparkplug's edge node id; one per gateway."""
    device: TopicName
    """Sparkplug's device id: the line."""
    username: str | None = None
    password_file: str | None = None
    """File whose first line is the password."""
    ca_file: str | None = None
    """Certificate authority of the broker; given, the connection is TLS."""
    keepalive_s: Annotated[int, Meta(ge=1, le=3600)] = 2
    """The broker tells of our death after 1.5 times this silence."""
    acknowledge: bool = False
    """True if a subscriber writes `ResultsAck` (DCMD) for each result."""
    timeout_ms: Annotated[float, Meta(ge=50, le=60_000)] = 2_000
    """Longest wait for the broker's confirmation."""


class _Session:
    """One connection: birth, data, and the commands that come back."""

    def __init__(self, mqtt: Any, options: Options, clock: Clock, birth: int) -> None:
        """Connect; returns when the broker has taken us in."""
        self._mqtt = mqtt
        self._options = options
        self._clock = clock
        self._timeout_s = options.timeout_ms / 1000
        self._base = f"spBv1.0/{options.group}"
        self._bd_seq = Metric("bdSeq", DataType.INT64, birth % 256)
        self._seq = 0
        self._shown: dict[str, _map.Value] | None = None
        self._commands: dict[str, Any] | None = None
        self._rebirth = False
        self._problem = ""
        self._connected = threading.Event()
        self._client = self._connect()

    def show(self, image: PlcImage) -> None:
        values = _map.values(image)
        if self._shown is None or self._rebirth:
            self._give_birth(values)
        else:
            self._send("DDATA", self._changes(values))
        self._shown = values

    def commands(self) -> PlcCommands | None:
        if self._problem:
            raise ConnectionResetError(self._problem)
        if self._rebirth and self._shown is not None:
            self._give_birth(self._shown)
        return None if self._commands is None else _map.commands(self._commands)

    def close(self) -> None:
        try:
            # A node that says goodbye itself must send the message that its will would be.
            self._client.publish(self._topic("NDEATH", node=True), self._death(), qos=1)
            self._client.disconnect()
            self._client.loop_stop()
        except (OSError, ValueError, RuntimeError):  # it is gone, which is all that is wanted
            pass

    # -- the connection -------------------------------------------------------------

    def _connect(self) -> Client:
        options = self._options
        client: Client = self._mqtt.Client(
            self._mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"{options.group}-{options.node}",
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.will_set(self._topic("NDEATH", node=True), self._death(), qos=1, retain=False)
        if options.username is not None:
            client.username_pw_set(options.username, _password(options.password_file))
        if options.ca_file is not None:
            client.tls_set(ca_certs=options.ca_file)
        client.connect(options.host, options.port, keepalive=options.keepalive_s)
        client.loop_start()
        if not self._connected.wait(self._timeout_s) or self._problem:
            client.loop_stop()
            raise ConnectionError(self._problem or "the broker does not answer")
        client.subscribe(self._topic("NCMD", node=True), qos=1)
        client.subscribe(self._topic("DCMD"), qos=1)
        return client

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self._problem = f"the broker refuses: {reason}"
        self._connected.set()

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        self._problem = self._problem or f"the connection ended: {reason}"

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        """A command. Anybody on the broker may send anything here."""
        try:
            payload = _sparkplug.decode(message.payload)
        except ValueError:
            return
        known = dict(self._commands or _no_commands())
        for metric in payload.metrics:
            if metric.name == REBIRTH and metric.value is True:
                self._rebirth = True
            elif metric.name in known and type(metric.value) is type(known[metric.name]):
                known[metric.name] = metric.value
        self._commands = known

    # -- messages -------------------------------------------------------------------

    def _give_birth(self, values: dict[str, _map.Value]) -> None:
        self._rebirth = False
        self._seq = 0
        node = (self._bd_seq, Metric(REBIRTH, DataType.BOOLEAN, False))
        self._send("NBIRTH", node, node=True)
        self._send("DBIRTH", tuple(_metric(name, value) for name, value in values.items()))

    def _changes(self, values: dict[str, _map.Value]) -> tuple[Metric, ...]:
        """What changed; with a new result, everything about it, changed or not."""
        assert self._shown is not None
        fresh = values["ResultsValid"] and values["ResultId"] != self._shown["ResultId"]
        return tuple(
            _metric(name, value)
            for name, value in values.items()
            if value != self._shown[name] or (fresh and name in _map.OF_RESULT)
        )

    def _send(self, kind: str, metrics: tuple[Metric, ...], *, node: bool = False) -> None:
        payload = Payload(self._clock.utc_ns() // NS_PER_MS, metrics, self._seq)
        self._seq = (self._seq + 1) % 256
        topic = self._topic(kind, node=node)
        sent = self._client.publish(topic, _sparkplug.encode(payload), qos=1)
        sent.wait_for_publish(self._timeout_s)
        if not sent.is_published():
            raise TimeoutError(self._problem or f"{kind} was not confirmed by the broker")

    def _death(self) -> bytes:
        now_ms = self._clock.utc_ns() // NS_PER_MS
        return _sparkplug.encode(Payload(now_ms, (self._bd_seq,), None))

    def _topic(self, kind: str, *, node: bool = False) -> str:
        topic = f"{self._base}/{kind}/{self._options.node}"
        return topic if node else f"{topic}/{self._options.device}"


_TAG_TYPES = {tag.name: _TYPES[tag.type] for tag in _map.OUTPUTS}


def _metric(name: str, value: _map.Value) -> Metric:
    return Metric(name, _TAG_TYPES.get(name, DataType.BOOLEAN), value)


def _no_commands() -> dict[str, Any]:
    return {
        "Enable": NO_COMMANDS.enable,
        "FaultReset": NO_COMMANDS.fault_reset,
        "ResultsAck": NO_COMMANDS.results_ack,
        "TriggerId": NO_COMMANDS.trigger_id,
        "TriggerEncoder": NO_COMMANDS.trigger_encoder,
        "TriggerPartId": NO_COMMANDS.trigger_part_id,
    }


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    return Path(path).read_text(encoding="utf-8").splitlines()[0]


def build(options: Options, clock: Clock) -> PlcLink:
    """A link; nothing is opened yet.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
    """
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise MissingExtraError("plc", "paho", where="link mqtt") from error
    births = iter(range(clock.utc_ns() // NS_PER_S % 256, 1 << 62))
    return Courier(
        lambda: _Session(mqtt, options, clock, next(births)),
        clock,
        poll_ms=20,
        where=f"{options.host}:{options.port}",
        acknowledges=options.acknowledge,
    )
