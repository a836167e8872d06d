"""Modbus/TCP: the PLC reads the gateway (`role: server`), or the gateway writes (`client`)."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta

from edgeinspect.domain import NS_PER_MS, NS_PER_S, PART_ID_BYTES, Clock, PlcInputs, ProcessImage
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._connection_limits import (
    AddressAllowlist,
    address_of,
    format_address,
    listen_error,
    peer_to_close,
    strip_brackets,
)
from edgeinspect.plclinks._input_age import PeerActivity
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._modbus.client import ModbusClient, ModbusClientSession
from edgeinspect.plclinks._modbus.inputs import ModbusServerInputs
from edgeinspect.plclinks._modbus.outputs import EncodedImage, ModbusServerOutputs
from edgeinspect.plclinks._polled_inputs import TRIGGER_CHECK_WORDS, PolledInputs
from edgeinspect.plclinks._session_link import SessionLink
from edgeinspect.ports import PlcLink
from edgeinspect.system import RateLimitedLogger, log_events

_RECEIVE_BYTES = 4096
_ADDRESSES_MAX = 256

REQUIRES: tuple[tuple[str, str], ...] = ()

Address = Annotated[int, Meta(ge=0, le=65_000)]
_FIRST_REQUEST_TIMEOUT_NS, _IDLE_TIMEOUT_NS = 5 * NS_PER_S, 600 * NS_PER_S
"""Silence after which a connection is closed: before its first request, and after it."""

_log = structlog.get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: modbus`."""

    role: Literal["server", "client"] = "server"
    """`server`: the PLC polls the gateway. `client`: the gateway writes the PLC's registers."""
    host: str = "127.0.0.1"
    """Server: the interface to listen on. Client: the PLC. IPv4 or IPv6."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 502
    """0: the system chooses the server's port."""
    unit: Annotated[int, Meta(ge=0, le=255)] = 1
    """Unit identifier in a client's requests; a server answers any."""
    output_address: Address = 0
    """First register of the output block, from 0."""
    input_address: Address = 200
    """First holding register of the input block, from 0."""
    word_order: Literal["big", "little"] = "big"
    """Order of the words of a 32-bit value: `big` is the high word first."""
    allow: list[str] = []
    """Server: addresses and networks that may connect; empty allows all. Set the PLC's address:
    a panel or laptop that reads the first words would count as the PLC."""
    clients: Annotated[int, Meta(ge=1, le=64)] = 8
    """Server: largest number of connections; one more closes the one that was silent longest,
    of the address that has the most."""
    peer_timeout_ms: Annotated[float, Meta(ge=50, le=600_000)] = 2_000
    """Server: silence after which the PLC counts as disconnected. Client: longest wait for a
    response."""
    poll_ms: Annotated[float, Meta(ge=1, le=10_000)] = 5
    """Client: time between two reads of the input block."""
    trigger_check: bool = False
    """Client: one more register is read after the input block, `TriggerIdCheck`; a trigger
    counts when the PLC has written its id there too, after everything else."""

    def __post_init__(self) -> None:
        """Reject overlapping blocks."""
        AddressAllowlist(self.allow)
        first, second = self.output_address, self.input_address
        words = _register_map.INPUT_WORDS + (TRIGGER_CHECK_WORDS if self.trigger_check else 0)
        if first < second + words and second < first + _register_map.OUTPUT_WORDS:
            raise ValueError(
                f"output_address ({_register_map.OUTPUT_WORDS} registers) and input_address "
                f"({words}) overlap"
            )
        if self.trigger_check and self.role == "server":
            raise ValueError(
                "trigger_check is for role: client; a server receives each write complete"
            )


class _Connection:
    """One connection of a PLC or any other client. A `_connection_limits.ConnectedPeer`."""

    def __init__(self, client: socket.socket, address: str, now_ns: int) -> None:
        self.socket = client
        self.address = address
        self.activity = PeerActivity(address)
        self.is_established = False
        self.last_received_ns = now_ns
        self.parser = protocol.RequestParser()


class ModbusServer:
    """A `ports.PlcLink` that serves one image at a time; a read never mixes two.

    Its thread answers requests; `write` and `poll` only exchange references with it.
    """

    acknowledges = True
    part_id_bytes = PART_ID_BYTES

    def __init__(self, options: Options, clock: Clock) -> None:
        """Create a server that does not listen yet."""
        self._options = options
        self._clock = clock
        little = options.word_order == "little"
        self._outputs = ModbusServerOutputs(clock, low_word_first=little)
        self._inputs = ModbusServerInputs(low_word_first=little)
        self._last_contact_by_address: dict[str, int] = {}
        """`last_contact_ns` of closed connections that wrote triggers, by address."""
        self._previous_poll_ns = self._poll_ns = clock.now_ns()
        self._last_request_ns: int | None = None
        self._selector: selectors.BaseSelector
        self._connections: dict[socket.socket, _Connection] = {}
        self._allowlist = AddressAllowlist(options.allow)
        self._throttled_log = RateLimitedLogger(_log, clock)
        self.errors = 0
        """Requests that raised an unexpected exception."""
        self._thread: threading.Thread | None = None
        self._stop = False
        self.port = options.port
        """The port of the server."""

    def open(self) -> None:
        options = self._options
        try:
            host = strip_brackets(options.host)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            both = host == "::" and socket.has_dualstack_ipv6()
            listener = socket.create_server(
                (host, options.port), family=family, backlog=128, dualstack_ipv6=both
            )
        except OSError as error:
            raise listen_error(error, format_address(options.host, options.port)) from error
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._stop = False
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name="modbus", daemon=True
        )
        self._thread.start()

    def write(self, image: ProcessImage) -> None:
        self._outputs.set_image(image)

    def poll(self) -> PlcInputs:
        last_request_ns = self._last_request_ns
        timeout_ns = self._options.peer_timeout_ms * NS_PER_MS
        if last_request_ns is None or self._clock.now_ns() - last_request_ns > timeout_ns:
            silence = f" for {self._options.peer_timeout_ms:g} ms" if last_request_ns else " yet"
            problem = f"no request{silence} at port {self.port}"
            return PlcInputs(False, self._outputs.delivered, None, problem)
        return PlcInputs(True, self._outputs.delivered, self._inputs.commands())

    def close(self) -> None:
        self._stop = True
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    # -- the server's thread --------------------------------------------------------

    def _run(self, listener: socket.socket) -> None:
        try:
            while not self._stop:
                # What is found now had not arrived when the previous poll began.
                self._previous_poll_ns, self._poll_ns = self._poll_ns, self._clock.now_ns()
                for key, _events in self._selector.select(0.05):
                    if key.fileobj is listener:
                        self._accept(listener)
                    elif key.fileobj in self._connections:  # else closed in this iteration
                        self._serve(self._connections[key.fileobj])
                self._close_idle()
        finally:
            for client in (*self._connections, listener):
                client.close()
            self._connections.clear()
            self._selector.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, name = listener.accept()
        except OSError:  # disconnected, or too many open files: then close one
            if len(self._connections) > 1:
                self._close_connection(peer_to_close(self._connections.values(), ""))
            return
        address = address_of(name)
        if not self._allowlist.allows(address):
            client.close()
            problem = "this address may not connect"
            self._throttled_log.warning(log_events.PEER_REFUSED, problem=problem, address=address)
            return
        if len(self._connections) >= self._options.clients:
            self._close_connection(peer_to_close(self._connections.values(), address))
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[client] = _Connection(client, address, self._clock.now_ns())
        self._selector.register(client, selectors.EVENT_READ)

    def _close_idle(self) -> None:
        now_ns = self._clock.now_ns()
        for each in list(self._connections.values()):
            timeout_ns = _IDLE_TIMEOUT_NS if each.is_established else _FIRST_REQUEST_TIMEOUT_NS
            if now_ns - each.last_received_ns > timeout_ns:
                self._close_connection(each)

    def _serve(self, connection: _Connection) -> None:
        if not connection.is_established:  # only now are its previous connections closed
            previous_ns = self._previous_contact_ns(connection.address)
            connection.activity = PeerActivity(connection.address, previous_ns)
        try:
            self._answer(connection)
        except (OSError, ValueError):
            self._close_connection(connection)
        except Exception as error:  # no input may end the thread
            self.errors += 1
            self._throttled_log.error(
                log_events.PEER_FAILED,
                problem=f"{type(error).__name__}: {error}"[:300],
                address=connection.address,
                faults=self.errors,
            )
            self._close_connection(connection)

    def _answer(self, connection: _Connection) -> None:
        """Answer what a connection has received; raise if it must be closed."""
        data = connection.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        connection.last_received_ns = self._clock.now_ns()
        connection.activity.record_message(connection.last_received_ns, self._previous_poll_ns)
        transaction = _Transaction(self, connection.activity)
        out = connection.parser.feed(data, lambda _unit, pdu: protocol.respond(pdu, transaction))
        if out:
            # A client that does not read its responses is disconnected, not waited for.
            if connection.socket.send(out) != len(out):
                raise BlockingIOError
            connection.is_established = True
            self._last_request_ns = self._clock.now_ns()
            # Only now: a response that was not sent has delivered nothing.
            if transaction.image_read is not None:
                self._outputs.mark_read(transaction.image_read)
        if len(data) < _RECEIVE_BYTES and not connection.parser.has_partial_request:
            connection.activity.record_answered()

    def _close_connection(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        del self._connections[connection.socket]
        last_contact_ns = self._inputs.remove_peer(connection.activity)
        if last_contact_ns is not None:
            if len(self._last_contact_by_address) >= _ADDRESSES_MAX:
                self._last_contact_by_address.pop(next(iter(self._last_contact_by_address)))
            self._last_contact_by_address[connection.address] = last_contact_ns
        connection.socket.close()

    def _previous_contact_ns(self, address: str) -> int | None:
        """Return the last contact of closed connections of an address.

        None if there were none, or if another writer of that address is connected.
        """
        if any(each.address == address for each in self._inputs.peers()):
            return None
        return self._last_contact_by_address.get(address)


class _Transaction:
    """One batch of requests of a connection. A `protocol.ModbusMemory`."""

    def __init__(self, server: ModbusServer, peer: PeerActivity | None = None) -> None:
        self._server = server
        self._peer = peer or PeerActivity()
        self._options = server._options
        self.image_read: EncodedImage | None = None
        """The newest image of which the result id and the status word were read."""

    def read_bits(self, function: int, address: int, count: int) -> list[bool]:
        if function == protocol.READ_DISCRETE:
            bits = self._server._outputs.readable_image().bits
        else:
            bits = self._server._inputs.coils()
        if address + count > len(bits):
            raise protocol.ModbusExceptionResponse(protocol.ILLEGAL_ADDRESS)
        return bits[address : address + count]

    def read_words(self, function: int, address: int, count: int) -> bytes:
        first = self._options.output_address
        if first <= address and address + count <= first + _register_map.OUTPUT_WORDS:
            at = address - first
            block = self._server._outputs.readable_image()
            newest = self.image_read.revision if self.image_read is not None else -1
            if at == 0 and count >= 3 and block.revision >= newest:  # id and status in one request
                self.image_read = block
            return block.words[2 * at : 2 * (at + count)]
        at = address - self._options.input_address
        if (
            function == protocol.READ_HOLDING
            and at >= 0
            and at + count <= _register_map.INPUT_WORDS
        ):
            return self._server._inputs.read(at, count)
        raise protocol.ModbusExceptionResponse(protocol.ILLEGAL_ADDRESS)

    def write_bits(self, address: int, bits: list[bool]) -> None:
        if address + len(bits) > 16:
            raise protocol.ModbusExceptionResponse(protocol.ILLEGAL_ADDRESS)
        word = self._server._inputs.coils()
        word[address : address + len(bits)] = bits
        self._write(0, protocol.pack_bits(word)[::-1])

    def write_words(self, address: int, words: bytes) -> None:
        at = address - self._options.input_address
        if at < 0 or 2 * at + len(words) > 2 * _register_map.INPUT_WORDS:
            raise protocol.ModbusExceptionResponse(protocol.ILLEGAL_ADDRESS)
        self._write(at, words)

    def _write(self, word: int, words: bytes) -> None:
        # What this batch reads has not been sent yet, so this write cannot acknowledge it.
        server = self._server
        server._inputs.write(word, words, self._peer, server._outputs.delivered)


def build(options: Options, clock: Clock) -> PlcLink:
    """Build the link, not opened yet."""
    if options.role == "server":
        return ModbusServer(options, clock)
    host, timeout_s = strip_brackets(options.host), options.peer_timeout_ms / 1000
    inputs = PolledInputs(clock, has_trigger_check=options.trigger_check)

    def connect() -> ModbusClientSession:
        return ModbusClientSession(
            ModbusClient(host, options.port, options.unit, timeout_s),
            inputs,
            output_address=options.output_address,
            input_address=options.input_address,
            low_word_first=options.word_order == "little",
        )

    return SessionLink(
        connect,
        clock,
        poll_ms=options.poll_ms,
        where=format_address(host, options.port),
        part_id_bytes=PART_ID_BYTES,
    )
