"""The contract of every PLC link in the registry, each with a peer on loopback."""

from __future__ import annotations

import contextlib
import gc
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from edgeinspect import registry
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.plc import PlcError, PlcOutcome, PlcResult, ProcessImage
from edgeinspect.errors import MissingExtraError
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._modbus.client import ModbusClient
from edgeinspect.ports import PlcLink
from tests.system.plant import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
ReadTags = Callable[[], dict[str, Any]]
"""Returns what the peer reads now, by tag name."""


@contextmanager
def modbus_peer(port: int, folder: Path) -> Iterator[tuple[dict[str, Any], Callable[[], ReadTags]]]:
    clients: list[ModbusClient] = []

    def connect() -> ReadTags:
        client = ModbusClient("127.0.0.1", port, 1, 2.0)
        clients.append(client)
        return lambda: _register_codec.decode_outputs(client.read(0, _register_map.OUTPUT_WORDS))

    yield {"port": port}, connect
    for client in clients:
        client.close()


@contextmanager
def s7_peer(port: int, folder: Path) -> Iterator[tuple[dict[str, Any], Callable[[], ReadTags]]]:
    from tests.system.test_gateway_s7 import INPUT_DB, OUTPUT_DB, Plc

    plc = Plc()
    options = {"host": "127.0.0.1", "port": plc.port, "output_db": OUTPUT_DB, "input_db": INPUT_DB}
    yield options, lambda: lambda: plc.values
    plc.close()


@contextmanager
def mqtt_peer(port: int, folder: Path) -> Iterator[tuple[dict[str, Any], Callable[[], ReadTags]]]:
    from tests.system import test_gateway_mqtt

    broker = test_gateway_mqtt.running_broker(folder)
    with broker as port:
        host = test_gateway_mqtt.Host(port)
        options = {"host": "127.0.0.1", "port": port, "node": "plc-1", "device": "press"}
        yield options, lambda: lambda: host.values
        host.close()


@contextmanager
def opcua_peer(port: int, folder: Path) -> Iterator[tuple[dict[str, Any], Callable[[], ReadTags]]]:
    from tests.system.test_gateway_opcua import Client

    clients: list[Client] = []

    def connect() -> ReadTags:
        client = Client(
            port, acknowledge=False, tags=tuple(_register_codec.tag_values(ProcessImage()))
        )
        clients.append(client)
        return lambda: client.values

    yield {"port": port}, connect
    for client in clients:
        client.close()


PEERS = {"modbus": modbus_peer, "s7": s7_peer, "mqtt": mqtt_peer, "opcua": opcua_peer}


@pytest.fixture(params=registry.plugin_names("plclink"))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    reason = registry.missing_reason("plclink", name)
    if reason:
        pytest.skip(f"link {name}: {reason}")
    assert name in PEERS, f"add a peer on loopback for the link {name} here"
    return name


@pytest.fixture
def linked(kind: str, tmp_path: Path) -> Iterator[tuple[PlcLink, ReadTags]]:
    module = registry.load_plugin("plclink", kind)
    with ExitStack() as stack:
        options, connect = stack.enter_context(PEERS[kind](free_port(), tmp_path))
        link = module.build(module.Options(**options), SystemClock())
        assert isinstance(link, PlcLink)
        link.open()
        stack.callback(link.close)
        link.write(ProcessImage(error=PlcError.STARTING))
        yield link, connect()


def online(revision: int, seq: int, outcome: PlcOutcome, **more: Any) -> ProcessImage:
    result = PlcResult(seq, 1, outcome, 1, part_id=f"plate-{seq}", **more)
    return ProcessImage(revision=revision, online=True, result=result, last_id=seq - 1)


def peer_reads(read_tags: ReadTags, **wanted: Any) -> bool:
    try:
        values = read_tags()
    except OSError:
        return False
    return all(values.get(name) == value for name, value in wanted.items())


def test_the_peer_reads_every_image_in_turn(linked: tuple[PlcLink, ReadTags], kind: str) -> None:
    link, read_tags = linked
    if kind == "mqtt":  # a device that has never been online is not born
        wait_for(lambda: link.poll().delivered_revision >= 0, 20)
        assert read_tags() == {}
    else:
        wait_for(
            lambda: peer_reads(read_tags, RejectAll=True, Pass=False, Reject=False, ErrorCode=1), 60
        )
    for number in range(1, 21):
        outcome = PlcOutcome.PASS if number % 2 else PlcOutcome.REJECT
        link.write(online(number, number, outcome, encoder_count=-number))
        wanted = {
            "ResultId": number,
            "Pass": bool(number % 2),
            "Reject": not number % 2,
            "Online": True,
            "PartId": f"plate-{number}",
        }
        wait_for(lambda wanted=wanted: peer_reads(read_tags, **wanted))
        wait_for(lambda number=number: link.poll().delivered_revision >= number)
        assert peer_reads(read_tags, EncoderCount=-number, ResultIdCheck=number)
    link.write(ProcessImage(revision=21, error=PlcError.HEARTBEAT_LOST, last_id=20))
    wait_for(
        lambda: peer_reads(
            read_tags,
            Online=False,
            RejectAll=True,
            Pass=False,
            Reject=False,
            ResultsValid=False,
            ErrorCode=2,
            PartId="",
        )
    )


WAITING = re.compile(
    r"R?[Ll]ock\.acquire|e?poll\.poll|select|sleep|_ThreadHandle\.join|SimpleQueue\.get"
    r"|socket\.(accept|connect|recv|send)\w*"
)
"""Functions in C that wait for another thread or for a peer; any wait in Python ends in one."""


def waits_in(call: Callable[[], object]) -> list[str]:
    """Return the functions that wait, of those that a call runs in this thread."""
    found = []

    def record(frame: FrameType, event: str, function: Any) -> None:
        caller = frame.f_code.co_name
        # By `_write_to_self` asyncio wakes its loop, with a socket that never blocks.
        is_call = event == "c_call" and caller != "_write_to_self"
        if is_call and WAITING.fullmatch(function.__qualname__):
            found.append(f"{caller}: {function.__qualname__}")

    gc.disable()  # what it finalises in this thread may wait
    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


@pytest.mark.parametrize(
    "call",
    [
        lambda: time.sleep(0),
        lambda: threading.Event().wait(0.001),
        lambda: select.select([], [], [], 0),
        lambda: ModbusClient("127.0.0.1", 1, 1, 0.1).read(0, 1),
    ],
    ids=["sleep", "event", "select", "socket"],
)
def test_a_wait_is_seen(call: Callable[[], object]) -> None:
    def call_without_error() -> None:
        with contextlib.suppress(OSError):
            call()

    assert waits_in(call_without_error)


def test_write_and_poll_never_wait(linked: tuple[PlcLink, ReadTags]) -> None:
    link, _see = linked

    def write_and_poll() -> None:
        for number in range(1, 500):
            link.write(online(number, number, PlcOutcome.REJECT))
            link.poll()

    assert waits_in(write_and_poll) == []


def test_close_twice(linked: tuple[PlcLink, ReadTags]) -> None:
    link, _see = linked
    link.close()
    link.close()


def test_without_a_peer_a_link_is_not_connected(kind: str, tmp_path: Path) -> None:
    module = registry.load_plugin("plclink", kind)
    options: dict[str, Any] = {"port": free_port()}
    for name in module.Options.__struct_fields__:
        if name == "host":
            options["host"] = "127.0.0.1"
        if name in ("output_db", "input_db"):
            options[name] = 1 + (name == "input_db")
        if name in ("node", "device"):
            options[name] = "x"
    link = module.build(module.Options(**options), SystemClock())
    link.open()
    link.write(online(1, 1, PlcOutcome.PASS))
    wait_for(lambda: link.poll().problem)
    time.sleep(0.3)
    got = link.poll()
    assert (got.is_connected, got.delivered_revision) == (False, -1)
    link.close()


@pytest.mark.parametrize("name", registry.plugin_names("plclink"))
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = registry.load_plugin("plclink", name)
    for package, extra in module.REQUIRES:
        for loaded in [each for each in sys.modules if each.split(".")[0] == package]:
            monkeypatch.setitem(sys.modules, loaded, None)
        monkeypatch.setitem(sys.modules, package, None)
        options = {"host": "h", "output_db": 1, "input_db": 2, "node": "n", "device": "d"}
        fields = module.Options.__struct_fields__
        built = module.Options(**{k: v for k, v in options.items() if k in fields})
        with pytest.raises(MissingExtraError) as caught:
            module.build(built, SystemClock())
        assert (caught.value.exit_code, caught.value.extra) == (69, extra)
