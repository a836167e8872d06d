"""MQTT with Sparkplug B payloads: for plant systems, not for an ejector.

`_sparkplug.node` decides which births, data and deaths are published, with QoS 0 as Sparkplug
3.0 requires. QoS 0 has no confirmation, so each batch is followed by a request without effect
that the broker must answer (UNSUBSCRIBE). It handles a connection's packets in order, so its
answer means that the batch has arrived. Only then is a result applied.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from edgeinspect.domain import NS_PER_MS, Clock, PlcCommands, ProcessImage
from edgeinspect.errors import MissingExtraError
from edgeinspect.plclinks._connection_limits import format_address, strip_brackets
from edgeinspect.plclinks._input_age import PeerActivity, PollTimes
from edgeinspect.plclinks._named_inputs import NamedInputs
from edgeinspect.plclinks._session_link import SessionLink
from edgeinspect.plclinks._sparkplug import payload as _sparkplug
from edgeinspect.plclinks._sparkplug.node import (
    REBIRTH_METRIC,
    EdgeNode,
    initial_commands,
    merge_commands,
    split_commands,
)
from edgeinspect.ports import PlcLink
from edgeinspect.system import (
    DecodeError,
    RateLimitedLogger,
    decode_json,
    log_events,
    read_text,
    write_atomic,
)

if TYPE_CHECKING:
    from paho.mqtt.client import Client

REQUIRES = (("paho", "plc"),)

TopicName = Annotated[str, Meta(pattern=r"^[^/+#\s]{1,64}$")]
_PASSWORD_BYTES_MAX = _STATE_BYTES_MAX = 4_096
_PROBLEM_CHARACTERS_MAX = 300

_log = structlog.get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: mqtt`."""

    host: str
    """The broker."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1883
    """Of the broker; 8883 is usual with TLS."""
    group: TopicName = "edgeinspect"
    """Sparkplug group id."""
    node: TopicName
    """Sparkplug edge node id; one per gateway."""
    device: TopicName
    """Sparkplug device id: the line."""
    primary_host: TopicName | None = None
    """Id of the host that must be online: data waits while its STATE is not."""
    state_file: str | None = None
    """File that keeps the number of the last connection (bdSeq) across restarts of the gateway;
    if absent, each start counts from 0."""
    username: str | None = None
    """Login at the broker; without it none is sent."""
    password_file: str | None = None
    """File whose first line is the password."""
    ca_file: str | None = None
    """Certificate authority of the broker; if set, the connection uses TLS."""
    keepalive_s: Annotated[int, Meta(ge=1, le=3600)] = 2
    """The broker publishes the gateway's will after 1.5 times this silence."""
    acknowledge: bool = False
    """True if a subscriber writes `ResultsAck` (DCMD) for each result."""
    timeout_ms: Annotated[float, Meta(ge=50, le=60_000)] = 2_000
    """Longest wait for the broker's confirmation."""


class SparkplugHostState(msgspec.Struct, frozen=True):
    """A STATE message of a Sparkplug host, version 3."""

    online: bool
    timestamp: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class _NodeState:
    """State across connections: the bdSeq, the last result sent, the number of dropped messages."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.last_result_sent: tuple[int, int] | None = None
        self.host_timestamp_ms = 0
        """Timestamp of the newest accepted STATE of the primary host."""
        self.dropped_messages = 0
        self._path = path
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._bd_seq = self._read_bd_seq()

    @property
    def next_bd_seq(self) -> int:
        """The bdSeq of the next connection."""
        return (self._bd_seq + 1) % 256

    def save_connect(self) -> None:
        """Advance the bdSeq after a CONNECT was sent; a failed connection does not use one."""
        self._bd_seq = self.next_bd_seq
        if self._path is not None:
            write_atomic(self._path, f"{self._bd_seq}\n".encode())

    def report_dropped(self, topic: str, problem: BaseException) -> None:
        """Count and log a message that is not valid."""
        self.dropped_messages += 1
        text = f"{topic[:100]}: {type(problem).__name__}: {problem}"[:_PROBLEM_CHARACTERS_MAX]
        self._throttled_log.warning(
            log_events.PEER_FAILED, problem=text, faults=self.dropped_messages
        )

    def _read_bd_seq(self) -> int:
        if self._path is None:
            return -1
        try:
            return int(read_text(self._path, 64)) % 256
        except (OSError, ValueError):  # missing or not readable: count from 0
            return -1


class _MqttSession:
    """One connection to the broker. A `_session_link.PlcSession`."""

    def __init__(self, mqtt: Any, options: Options, clock: Clock, state: _NodeState) -> None:
        """Connect; returns when the broker has accepted the connection."""
        self._mqtt = mqtt
        self._options = options
        self._clock = clock
        self._state = state
        self._timeout_s = options.timeout_ms / 1000
        self._base = f"spBv1.0/{options.group}"
        self._node = EdgeNode(state.next_bd_seq, self._now_ms(), state.last_result_sent)
        self._commands: dict[str, Any] | None = None
        self._image: ProcessImage | None = None
        self._is_host_online = options.primary_host is None
        self._has_host_gone = False
        self._is_born = False
        self._echoed_commands: dict[str, Any] | None = None
        """Commands that were repeated to the hosts by DDATA."""
        self._inputs = NamedInputs()
        self._activity = PeerActivity()
        self._poll_times = PollTimes(clock.now_ns())
        self._problem = ""
        self._connected = threading.Event()
        self._confirmed = threading.Condition()
        self._confirmations: set[int] = set()
        self._client = self._connect()

    @property
    def not_ready_reason(self) -> str:
        self._raise_if_ended()
        if self._is_host_online:
            return ""
        return f"the primary host {self._options.primary_host} is not online"

    def write(self, image: ProcessImage) -> None:
        self._image = image
        now_ms = self._now_ms()
        inputs = self._commands or initial_commands()
        sent = False
        for message in self._node.messages_for(image, inputs, now_ms):
            topic = self._topic(message.kind, node=message.is_node_message)
            self._client.publish(topic, _sparkplug.encode_payload(message.payload), qos=0)
            sent = self._is_born = True
        if sent:
            self._confirm()
        self._state.last_result_sent = self._node.last_result_sent

    def read_commands(self) -> PlcCommands | None:
        self._poll_times.record_poll(self._clock.now_ns())
        self._raise_if_ended()
        if self._image is not None and self._is_host_online and self._is_born:
            commands = self._commands
            if self._node.is_rebirth_requested or (
                commands is not None and commands != self._echoed_commands
            ):
                self._echoed_commands = commands
                self.write(self._image)
        return None if self._commands is None else self._inputs.commands()

    def _raise_if_ended(self) -> None:
        """Raise if the connection has ended, or must end."""
        if self._problem:
            raise ConnectionResetError(self._problem)
        if self._has_host_gone:
            raise ConnectionResetError(f"the primary host {self._options.primary_host} is offline")

    def close(self) -> None:
        try:
            # A node that disconnects itself must publish the NDEATH of its will.
            if not self._problem:
                death = _sparkplug.encode_payload(self._node.death(self._now_ms()))
                sent = self._client.publish(self._topic("NDEATH", node=True), death, qos=1)
                sent.wait_for_publish(min(self._timeout_s, 0.5))
            self._client.disconnect()
            self._client.loop_stop()
        except (OSError, ValueError, RuntimeError):  # disconnected already
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
        client.on_unsubscribe = self._on_unsubscribed
        will = _sparkplug.encode_payload(self._node.death(self._now_ms()))
        client.will_set(self._topic("NDEATH", node=True), will, qos=1, retain=False)
        if options.username is not None:
            client.username_pw_set(options.username, _password(options.password_file))
        if options.ca_file is not None:
            client.tls_set(ca_certs=options.ca_file)
        client.connect(strip_brackets(options.host), options.port, keepalive=options.keepalive_s)
        self._state.save_connect()
        connection: Any = client.socket()
        if connection is not None:  # otherwise each confirmation waits 40 ms for a delayed ACK
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.loop_start()
        if not self._connected.wait(self._timeout_s) or self._problem:
            client.loop_stop()
            raise ConnectionError(self._problem or "the broker does not answer")
        client.subscribe(self._topic("NCMD", node=True), qos=1)
        client.subscribe(self._topic("DCMD"), qos=1)
        if options.primary_host is not None:
            client.subscribe(f"spBv1.0/STATE/{options.primary_host}", qos=1)
        return client

    def _confirm(self) -> None:
        """Wait until the broker has handled everything that was published.

        Source: MQTT 3.1.1, 3.10.4: UNSUBSCRIBE of a topic without subscription is answered too
        """
        _result, number = self._client.unsubscribe(f"{self._topic('NCMD', node=True)}/none")
        with self._confirmed:
            arrived = self._confirmed.wait_for(
                lambda: self._problem or self._has_host_gone or number in self._confirmations,
                self._timeout_s,
            )
            self._confirmations.discard(number or 0)
        self._raise_if_ended()
        if not arrived:
            raise TimeoutError("the broker does not confirm")

    def _on_unsubscribed(self, _c: Any, _u: Any, number: int, *_more: Any) -> None:
        with self._confirmed:
            self._confirmations.add(number)
            self._confirmed.notify_all()

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self._problem = f"the broker refuses: {reason}"
        self._connected.set()

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        with self._confirmed:
            self._problem = self._problem or f"the connection ended: {reason}"
            self._confirmed.notify_all()

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        """Handle a command or a STATE; any client of the broker may publish any bytes here."""
        try:
            self._handle_message(message)
        except Exception as error:  # an exception here would end the library's thread
            self._state.report_dropped(str(getattr(message, "topic", "")), error)

    def _handle_message(self, message: Any) -> None:
        kind = message.topic.split("/")[2]
        if message.topic.startswith("spBv1.0/STATE/"):
            self._handle_host_state(message.payload)
            return
        if message.retain:  # of unknown age
            raise ValueError("a command must not be retained")
        payload = _sparkplug.decode_payload(message.payload)
        if kind == "NCMD":
            if any(
                metric.name == REBIRTH_METRIC and metric.value is True for metric in payload.metrics
            ):
                self._node.request_rebirth()
        else:
            now_ns = self._clock.now_ns()
            self._activity.record_message(now_ns, self._poll_times.arrived_after_ns(now_ns))
            self._inputs.write(self._activity, *split_commands(payload))
            self._commands = merge_commands(self._commands or initial_commands(), payload)

    def _handle_host_state(self, data: bytes) -> None:
        """Handle a STATE of the primary host; one older than the last is ignored."""
        if len(data) > _STATE_BYTES_MAX:
            raise DecodeError(f"a STATE is longer than {_STATE_BYTES_MAX} bytes")
        state: SparkplugHostState = decode_json(data, SparkplugHostState)
        if state.timestamp < self._state.host_timestamp_ms:
            return
        # A time in the future would make every later STATE look old.
        self._state.host_timestamp_ms = min(state.timestamp, self._now_ms())
        if state.online:
            self._is_host_online = True
        elif self._is_born:
            # This connection publishes NDEATH and ends; the next one waits for the host.
            with self._confirmed:
                self._has_host_gone = True
                self._confirmed.notify_all()
        else:
            self._is_host_online = False

    def _now_ms(self) -> int:
        return max(0, self._clock.utc_ns() // NS_PER_MS)

    def _topic(self, kind: str, *, node: bool = False) -> str:
        topic = f"{self._base}/{kind}/{self._options.node}"
        return topic if node else f"{topic}/{self._options.device}"


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    lines = read_text(path, _PASSWORD_BYTES_MAX).splitlines()
    return lines[0] if lines else ""


def build(options: Options, clock: Clock) -> PlcLink:
    """Build the link, not opened yet.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
    """
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise MissingExtraError("plc", "paho", where="link mqtt") from error
    state = _NodeState(Path(options.state_file) if options.state_file else None, clock)
    return SessionLink(
        lambda: _MqttSession(mqtt, options, clock, state),
        clock,
        poll_ms=20,
        where=format_address(options.host, options.port),
        acknowledges=options.acknowledge,
    )
