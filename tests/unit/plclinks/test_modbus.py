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
from edgeinspect.plclinks import _register_map, modbus
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._modbus.client import ModbusClient
from edgeinspect.services.gateway.handshake import Completion, Handshake, HandshakeSettings
from edgeinspect.services.gateway.line_monitor import LineStatus
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


def ask(server: modbus.ModbusServer, pdu: bytes) -> bytes:
    return protocol.respond(pdu, modbus._Transaction(server))


def test_delivered_is_what_the_plc_has_read(server: modbus.ModbusServer) -> None:
    server.write(online(3, 1))
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert not server.poll().is_connected
    client.read(200, 4)
    wait_for(lambda: server.poll().is_connected)
    assert server.poll().delivered_revision == -1
    client.read(0, 2)
    time.sleep(0.05)  # it is noted after the answer has left
    assert server.poll().delivered_revision == -1, "two words are no result id"
    client.read(0, _register_map.OUTPUT_WORDS)
    wait_for(lambda: server.poll().delivered_revision == 3)
    client.write(202, (77).to_bytes(4, "big"))
    commands = server.poll().commands
    assert commands is not None
    assert commands.results_ack == 77
    client.close()


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_gateway_that_stood_still_gives_out_no_pass_past_its_act_by(order: str) -> None:
    """Its server wakes up before the loop that would withdraw the pass."""
    clock = ManualClock()
    link = modbus.build(modbus.Options(port=0, word_order=order), clock)  # type: ignore[arg-type]
    assert isinstance(link, modbus.ModbusServer)
    link.open()
    client = ModbusClient("127.0.0.1", link.port, 1, 5.0)

    def read() -> dict[str, object]:
        block = client.read(0, _register_map.OUTPUT_WORDS)
        block = (
            _register_map.swap_words(block, _register_map.OUTPUT_TAGS)
            if order == "little"
            else block
        )
        return _register_map.decode_block(
            block, _register_map.OUTPUT_TAGS, _register_map.STATUS_BITS
        )

    def passed(seq: int) -> ProcessImage:
        result = PlcResult(seq, 1, PlcOutcome.PASS, 1, act_by_at_ns=clock.now_ns() + NS_PER_S)
        return ProcessImage(revision=seq, online=True, result=result, last_id=seq - 1)

    try:
        link.write(passed(7))
        clock.advance(NS_PER_S)
        seen = read()
        assert not ask(link, struct.pack(">BHH", 2, 0, 16))[2] & 1 << 3
        assert (seen["Online"], seen["ResultsValid"], seen["Pass"]) == (True, False, False)
        assert (seen["ResultId"], seen["ResultIdCheck"]) == (6, 0)
        assert link.poll().delivered_revision == -1, "nobody has read it"

        link.write(passed(8))
        assert read()["Pass"]
        wait_for(lambda: link.poll().delivered_revision == 8)
        clock.advance(NS_PER_S)
        assert read()["Pass"], "whoever has read it may read it again"
    finally:
        client.close()
        link.close()


def test_an_image_that_was_under_way_does_not_come_behind_the_next_connection() -> None:
    """The system would send it again, for minutes, as soon as the cable is back."""
    with socket.create_server(("127.0.0.1", 0)) as plc:
        client = ModbusClient("127.0.0.1", plc.getsockname()[1], 1, 0.1)
        peer, _address = plc.accept()
        with peer:
            peer.settimeout(5.0)
            with pytest.raises(OSError, match="timed out"):
                client.write(0, bytes(4))
            client.close()
            peer.recv(4096)
            with pytest.raises(ConnectionResetError):  # else it was closed in order, and sends on
                peer.recv(4096)


def test_an_ack_says_what_had_been_read_before_it(server: modbus.ModbusServer) -> None:
    """Only the order tells an answer from an id that stood in the PLC since long ago."""
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    for revision, ack in ((3, 1), (5, 2), (8, 2)):
        server.write(online(revision, ack))
        client.write(202, ack.to_bytes(4, "big"))
        client.read(0, _register_map.OUTPUT_WORDS)
        client.write(202, ack.to_bytes(4, "big"))  # the same id again: it is as old as it was
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


def test_a_plc_that_answers_faster_than_the_gateway_looks_is_heard(
    server: modbus.ModbusServer,
) -> None:
    """On a new journal: read and written between two looks, its first word is an answer."""
    rules = HandshakeSettings(
        acknowledges=True, ack_timeout_ns=NS_PER_S, buffer_size=4, heartbeat_interval_ns=NS_PER_S
    )
    handshake = Handshake(rules, is_new_journal=True)
    handshake.enqueue(PendingResult(PlcResult(1, 1, PlcOutcome.PASS, 1), None))
    handshake.process_inputs(server.poll(), 0)
    server.write(handshake.update_image(LineStatus(True, PlcError.NONE, "", 1, 0), 0))
    client = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert int.from_bytes(client.read(0, _register_map.OUTPUT_WORDS)[:4], "big") == 1
    client.write(202, (1).to_bytes(4, "big"))
    assert [done.completion for done in handshake.process_inputs(server.poll(), 0)] == [
        Completion.ACKED
    ]
    client.close()


def test_a_second_writer_of_the_same_address_is_no_new_connection_of_the_first(
    server: modbus.ModbusServer,
) -> None:
    """Its block may have stood there for hours; that the first is there proves nothing."""

    def write(client: ModbusClient, trigger_id: int) -> int | None:
        client.write(200, struct.pack(">HHIi32s", 0, trigger_id, 0, 0, b"p"))
        wait_for(lambda: server.poll().is_connected)  # known a moment after the answer has left
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
    for trigger_id in (4, 5, 6):  # one that hangs up after each write is known by its address
        plc.close()
        plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
        assert write(plc, trigger_id) is not None
    plc.close()


def test_coils_are_the_command_word(server: modbus.ModbusServer) -> None:
    assert ask(server, struct.pack(">BHH", 5, 1, 0xFF00))[0] == 5
    server._last_request_ns = SystemClock().now_ns()
    commands = server.poll().commands
    assert commands is not None
    assert (commands.enable, commands.fault_reset) == (False, True)
    assert ask(server, struct.pack(">BHH", 1, 0, 16)) == bytes((1, 2, 2, 0))


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
def test_what_cannot_be_answered_is_refused(
    server: modbus.ModbusServer, pdu: bytes, code: int
) -> None:
    assert ask(server, pdu) == bytes((pdu[0] | 0x80, code))


@given(st.binary(min_size=1, max_size=253))
def test_any_request_has_an_answer(pdu: bytes) -> None:
    server = modbus.ModbusServer(modbus.Options(), SystemClock())
    server.write(online(1, 1))
    answer = ask(server, pdu)
    assert 2 <= len(answer) <= 253


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 1 << 32))
def test_a_stream_may_be_cut_anywhere(pdus: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    pdus = [pdu or b"\x04" for pdu in pdus]
    stream = b"".join(
        protocol.MBAP_HEADER.pack(n, 0, len(pdu) + 1, 1) + pdu for n, pdu in enumerate(pdus)
    )
    parser, seen, out = protocol.RequestParser(), [], b""
    while stream:
        cut = rng.randint(1, len(stream))
        out += parser.feed(stream[:cut], lambda _unit, pdu: seen.append(pdu) or b"ok")  # type: ignore[func-returns-value]
        stream = stream[cut:]
    assert seen == pdus
    assert out.count(b"ok") >= len(pdus)


def test_noise_and_floods_do_not_stop_the_server(server: modbus.ModbusServer) -> None:
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


def test_only_those_who_are_allowed(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(port=0, allow=["192.0.2.1"]), SystemClock())
    link.open()
    client = ModbusClient("127.0.0.1", link.port, 1, 2.0)
    with pytest.raises(OSError, match=r"closed|reset"):
        client.read(0, 4)
    client.close()
    link.close()


def test_a_taken_port_may_be_free_in_a_moment(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(port=server.port), SystemClock())
    with pytest.raises(DeviceLostError, match=r"link\.port: cannot listen: Address already in use"):
        link.open()


def test_little_word_order(server: modbus.ModbusServer) -> None:
    link = modbus.ModbusServer(modbus.Options(word_order="little"), SystemClock())
    link.write(online(1, 0x12345678))
    words = ask(link, struct.pack(">BHH", 4, 0, 2))[2:]
    assert words.hex() == "56781234"


def test_an_ipv6_host_is_served() -> None:
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


def test_allow_takes_networks_and_mapped_addresses(server: modbus.ModbusServer) -> None:
    from edgeinspect.plclinks._connection_limits import AddressAllowlist, address_of

    allowed = AddressAllowlist(["192.0.2.0/24", "2001:db8::5"])
    assert allowed.allows("192.0.2.77")
    assert allowed.allows("2001:db8::5")
    assert not allowed.allows("198.51.100.1")
    assert address_of(("::ffff:192.0.2.7", 5, 0, 0)) == "192.0.2.7"
    assert address_of(("fe80::1%eth0", 5, 0, 0)) == "fe80::1"
    with pytest.raises(ValueError, match="is not an address"):
        modbus.Options(allow=["plc"])


def test_250_idle_connections_keep_no_plc_out(server: modbus.ModbusServer) -> None:
    server.write(online(3, 1))
    plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    idle = []
    for number in range(250):
        idle.append(socket.create_connection(("127.0.0.1", server.port), 2))
        if number % 10 == 0:
            assert plc.read(0, 2) == (1).to_bytes(4, "big"), "the PLC that speaks stays"
    late = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    assert late.read(0, 2) == (1).to_bytes(4, "big"), "and the next one gets in"
    assert len(server._connections) <= 4
    for each in (*idle, plc, late):
        each.close()


def test_whoever_does_not_read_is_dropped_without_waiting(server: modbus.ModbusServer) -> None:
    server.write(online(3, 1))
    plc = ModbusClient("127.0.0.1", server.port, 1, 2.0)
    deaf = socket.create_connection(("127.0.0.1", server.port), 2)
    deaf.setblocking(False)
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 76)
    slowest = 0.0
    for _ in range(400):
        try:
            deaf.send(request * 300)
        except OSError:
            pass
        began = time.monotonic()
        plc.read(0, 2)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.0, "one peer's full buffer costs the others nothing"
    deaf.close()
    plc.close()


def test_an_error_of_ours_ends_one_connection_only(
    server: modbus.ModbusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> bytes:
        raise RuntimeError("something nobody had thought of")

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
