from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_S, SystemClock
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import PlcError, PlcOutcome, PlcResult, ProcessImage
from edgeinspect.errors import DeviceLostError
from edgeinspect.plclinks import _register_codec, _register_map, modbus
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._modbus.client import ModbusClient
from edgeinspect.services.gateway.handshake import Handshake, HandshakeSettings, ResultCompletion
from edgeinspect.services.gateway.line_monitor import GatewayLineStatus
from edgeinspect.services.gateway.plc_results import PendingResult
from tests.system.plant import wait_for


@pytest.fixture
def server() -> Iterator[modbus.ModbusServer]:
    link = modbus.build(modbus.Options(port=0, clients=4), SystemClock())
    assert isinstance(link, modbus.ModbusServer)
    link.open()
    yield link
    link.close()


def online(revision: int, seq: int) -> ProcessImage:
    result = PlcResult(seq, 1, PlcOutcome.PASS, 1, part_id=f"plate-{seq}")
    return ProcessImage(revision=revision, online=True, result=result)


def respond(server: modbus.ModbusServer, pdu: bytes) -> bytes:
    return protocol.respond(pdu, modbus._Transaction(server))


def test_an_image_is_delivered_when_the_plc_has_read_it(server: modbus.ModbusServer) -> None:
    server.write(online(3, 1))
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert not server.poll().is_connected
    client.read(200, 4)
    wait_for(lambda: server.poll().is_connected)
    assert server.poll().delivered_revision == -1
    client.read(0, 2)
    time.sleep(0.05)  # recorded after the response was sent
    assert server.poll().delivered_revision == -1, "two words do not include the status"
    client.read(0, _register_map.OUTPUT_WORDS)
    wait_for(lambda: server.poll().delivered_revision == 3)
    client.write(202, (77).to_bytes(4, "big"))
    commands = server.poll().commands
    assert commands is not None
    assert commands.results_ack == 77
    client.close()


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_stopped_gateway_serves_no_pass_after_its_act_by(order: str) -> None:
    """The server may run before the loop that would withdraw the pass."""
    clock = ManualClock()
    link = modbus.build(modbus.Options(port=0, word_order=order), clock)  # type: ignore[arg-type]
    assert isinstance(link, modbus.ModbusServer)
    link.open()
    client = ModbusClient("127.0.0.1", link.port, 1, 5.0)

    def read() -> dict[str, object]:
        block = client.read(0, _register_map.OUTPUT_WORDS)
        block = (
            _register_codec.swap_words(block, _register_map.OUTPUT_TAGS)
            if order == "little"
            else block
        )
        return _register_codec.decode_outputs(block)

    def passed(seq: int) -> ProcessImage:
        result = PlcResult(seq, 1, PlcOutcome.PASS, 1, act_by_at_ns=clock.now_ns() + NS_PER_S)
        return ProcessImage(revision=seq, online=True, result=result, last_id=seq - 1)

    try:
        link.write(passed(7))
        clock.advance(NS_PER_S)
        found = read()
        assert not respond(link, struct.pack(">BHH", 2, 0, 16))[2] & 1 << 3
        assert (found["Online"], found["ResultsValid"], found["Pass"]) == (True, False, False)
        assert (found["ResultId"], found["ResultIdCheck"]) == (6, 0)
        assert link.poll().delivered_revision == -1, "it has not been read"

        link.write(passed(8))
        assert read()["Pass"]
        wait_for(lambda: link.poll().delivered_revision == 8)
        clock.advance(NS_PER_S)
        assert read()["Pass"], "a pass that was read may be read again"
    finally:
        client.close()
        link.close()


def test_unsent_data_is_discarded_with_the_connection() -> None:
    """The system would retransmit it for minutes, once the cable is plugged in again."""
    with socket.create_server(("127.0.0.1", 0)) as plc:
        client = ModbusClient("127.0.0.1", plc.getsockname()[1], 1, 0.1)
        peer, _address = plc.accept()
        with peer:
            peer.settimeout(5.0)
            with pytest.raises(OSError, match="timed out"):
                client.write(0, bytes(4))
            client.close()
            peer.recv(4096)
            with pytest.raises(
                ConnectionResetError
            ):  # otherwise it was closed in order, and continues to send
                peer.recv(4096)


def test_an_ack_has_the_revision_that_was_read_before_it(server: modbus.ModbusServer) -> None:
    """Only the order distinguishes an answer from an old id in the register."""
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    for revision, ack in ((3, 1), (5, 2), (8, 2)):
        server.write(online(revision, ack))
        client.write(202, ack.to_bytes(4, "big"))
        client.read(0, _register_map.OUTPUT_WORDS)
        client.write(202, ack.to_bytes(4, "big"))  # the same id again does not count as newer
        commands = server.poll().commands
        assert commands is not None
        before = {3: -1, 5: 3, 8: 3}[revision]
        assert (commands.results_ack, commands.ack_after) == (ack, before)
    server.write(online(9, 3))
    client.read(0, _register_map.OUTPUT_WORDS)
    client.write(202, (3).to_bytes(4, "big"))
    commands = server.poll().commands
    assert commands is not None
    assert (commands.results_ack, commands.ack_after) == (3, 9)
    client.close()


def test_an_ack_between_two_polls_counts_on_a_new_journal(
    server: modbus.ModbusServer,
) -> None:
    """Read and written between two polls, the first ack is an answer."""
    rules = HandshakeSettings(
        acknowledges=True, ack_timeout_ns=NS_PER_S, buffer_size=4, heartbeat_interval_ns=NS_PER_S
    )
    handshake = Handshake(rules, is_new_journal=True)
    handshake.enqueue(PendingResult(PlcResult(1, 1, PlcOutcome.PASS, 1), None))
    handshake.process_inputs(server.poll(), 0)
    server.write(handshake.update_image(GatewayLineStatus(True, PlcError.NONE, "", 1, 0), 0))
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert int.from_bytes(client.read(0, _register_map.OUTPUT_WORDS)[:4], "big") == 1
    client.write(202, (1).to_bytes(4, "big"))
    assert [done.completion for done in handshake.process_inputs(server.poll(), 0)] == [
        ResultCompletion.ACKED
    ]
    client.close()


def test_a_second_writer_of_an_address_is_not_a_reconnection_of_the_first(
    server: modbus.ModbusServer,
) -> None:
    """Its block may be hours old; that the first writer is connected does not matter."""

    def write(client: ModbusClient, trigger_id: int) -> int | None:
        client.write(200, struct.pack(">HHIi32s", 0, trigger_id, 0, 0, b"p"))
        wait_for(lambda: server.poll().is_connected)  # recorded after the response was sent
        commands = server.poll().commands
        assert commands is not None
        assert commands.trigger_id == trigger_id
        return commands.trigger_since_ns

    plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    write(plc, 1)
    assert write(plc, 2) is not None
    panel = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert write(panel, 7) is None
    assert write(plc, 3) is not None
    panel.close()
    for trigger_id in (4, 5, 6):  # a client that reconnects for each write is known by its address
        plc.close()
        plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
        assert write(plc, trigger_id) is not None
    plc.close()


def test_coils_are_the_command_word(server: modbus.ModbusServer) -> None:
    assert respond(server, struct.pack(">BHH", 5, 1, 0xFF00))[0] == 5
    server._last_request_ns = SystemClock().now_ns()
    commands = server.poll().commands
    assert commands is not None
    assert (commands.enable, commands.fault_reset) == (False, True)
    assert respond(server, struct.pack(">BHH", 1, 0, 16)) == bytes((1, 2, 2, 0))


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (struct.pack(">BHH", 4, 0, 0), 3),
        (struct.pack(">BHH", 4, 0, 126), 3),
        (struct.pack(">BHH", 4, 0, 100), 2),
        (struct.pack(">BHH", 4, 65535, 2), 2),
        (struct.pack(">BHH", 3, 199, 2), 2),
        (struct.pack(">BHH", 2, 10, 7), 2),
        (struct.pack(">BHH", 5, 0, 1), 3),
        (struct.pack(">BHH", 6, 0, 1), 2),
        (struct.pack(">BHHB", 16, 200, 2, 4) + b"\0\0", 3),
        (struct.pack(">BHHB", 16, 221, 2, 4) + b"\0\0\0\0", 2),
        (b"\x04\x00", 3),
        (b"\x2b\x0e\x01\x00", 1),
    ],
)
def test_an_invalid_request_gets_an_exception_response(
    server: modbus.ModbusServer, pdu: bytes, code: int
) -> None:
    assert respond(server, pdu) == bytes((pdu[0] | 0x80, code))


@given(st.binary(min_size=1, max_size=253))
def test_any_request_gets_a_response(pdu: bytes) -> None:
    server = modbus.ModbusServer(modbus.Options(), SystemClock())
    server.write(online(1, 1))
    answer = respond(server, pdu)
    assert 2 <= len(answer) <= 253


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 1 << 32))
def test_a_stream_is_parsed_in_any_pieces(pdus: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    pdus = [pdu or b"\x04" for pdu in pdus]
    stream = b"".join(
        protocol.MBAP_HEADER.pack(n, 0, len(pdu) + 1, 1) + pdu for n, pdu in enumerate(pdus)
    )
    parser, found, out = protocol.RequestParser(), [], b""
    while stream:
        cut = rng.randint(1, len(stream))
        out += parser.feed(stream[:cut], lambda _unit, pdu: found.append(pdu) or b"ok")  # type: ignore[func-returns-value]
        stream = stream[cut:]
    assert found == pdus
    assert out.count(b"ok") >= len(pdus)


def test_noise_and_idle_connections_do_not_stop_the_server(server: modbus.ModbusServer) -> None:
    server.write(online(1, 1))
    rng = random.Random(1)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port)) as noise:
            noise.sendall(rng.randbytes(rng.randint(1, 600)))
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert len(client.read(0, _register_map.OUTPUT_WORDS)) == 2 * _register_map.OUTPUT_WORDS
    client.close()
    for connection in idle:
        connection.close()


def test_an_address_not_in_allow_is_disconnected(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(port=0, allow=["192.0.2.1"]), SystemClock())
    link.open()
    client = ModbusClient("127.0.0.1", link.port, 1, 2.0)
    with pytest.raises(OSError, match=r"closed|reset"):
        client.read(0, 4)
    client.close()
    link.close()


def test_a_port_in_use_is_a_temporary_error(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(port=server.port), SystemClock())
    with pytest.raises(DeviceLostError, match=r"link\.port: cannot listen: Address already in use"):
        link.open()


def test_little_word_order(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(word_order="little"), SystemClock())
    link.write(online(1, 0x12345678))
    words = respond(link, struct.pack(">BHH", 4, 0, 2))[2:]
    assert words.hex() == "56781234"


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    for host in ("::1", "[::1]", "::"):
        link = modbus.build(modbus.Options(port=0, host=host, allow=["::1"]), SystemClock())
        assert isinstance(link, modbus.ModbusServer)
        link.open()
        link.write(online(3, 1))
        client = ModbusClient("::1", link.port, 1, 2.0)
        assert client.read(0, 2) == (1).to_bytes(4, "big")
        client.close()
        link.close()


def test_allow_accepts_networks_and_mapped_addresses(server: modbus.ModbusServer) -> None:
    from edgeinspect.plclinks._connection_limits import AddressAllowlist, address_of

    allowed = AddressAllowlist(["192.0.2.0/24", "2001:db8::5"])
    assert allowed.allows("192.0.2.77")
    assert allowed.allows("2001:db8::5")
    assert not allowed.allows("198.51.100.1")
    assert address_of(("::ffff:192.0.2.7", 5, 0, 0)) == "192.0.2.7"
    assert address_of(("fe80::1%eth0", 5, 0, 0)) == "fe80::1"
    with pytest.raises(ValueError, match="is not an address"):
        modbus.Options(allow=["plc"])


def test_250_idle_connections_do_not_exclude_the_plc(server: modbus.ModbusServer) -> None:
    server.write(online(3, 1))
    plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    idle = []
    for number in range(250):
        idle.append(socket.create_connection(("127.0.0.1", server.port), 2))
        if number % 10 == 0:
            assert plc.read(0, 2) == (1).to_bytes(4, "big"), "the active PLC stays connected"
    late = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert late.read(0, 2) == (1).to_bytes(4, "big"), "a new client is accepted"
    assert len(server._connections) <= 4
    for each in (*idle, plc, late):
        each.close()


def test_a_client_that_does_not_read_is_disconnected_without_waiting(
    server: modbus.ModbusServer,
) -> None:
    server.write(online(3, 1))
    plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    slow = socket.create_connection(("127.0.0.1", server.port), 2)
    slow.setblocking(False)
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 76)
    slowest = 0.0
    for _ in range(400):
        try:
            slow.send(request * 300)
        except OSError:
            pass
        began = time.monotonic()
        plc.read(0, 2)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.0, "one peer's full buffer does not delay the others"
    slow.close()
    plc.close()


def test_an_unexpected_exception_ends_only_its_connection(
    server: modbus.ModbusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> bytes:
        raise RuntimeError("unexpected")

    with monkeypatch.context() as patched:
        patched.setattr(protocol, "respond", explode)
        client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
        with pytest.raises(OSError, match="closed"):
            client.read(0, 2)
        client.close()
    assert server.errors == 1
    server.write(online(3, 1))
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert client.read(0, 2) == (1).to_bytes(4, "big")
    client.close()
