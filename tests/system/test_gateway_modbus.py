"""The Modbus gateway with real peers: libmodbus and mbpoll (C), pymodbus."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.testing.peers import ACK_REGISTER, PlcProgram
from tests import needs
from tests.system import libmodbus
from tests.system.plant import (
    Plant,
    expected,
    free_port,
    plant,
    wait_for,
)


@pytest.fixture(autouse=True)
def _needs_libmodbus() -> None:
    if libmodbus.load_library() is None:
        pytest.skip("libmodbus is not installed: apt-get install mbpoll")


class Plc:
    """A PLC that is a Modbus client: reads the block, takes results, writes its ack."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        self._master: libmodbus.LibmodbusClient | None = None

    def cycle(self) -> bool:
        """Run one scan; return False while the gateway is away."""
        try:
            if self._master is None:
                self._master = libmodbus.LibmodbusClient(self.port)
            block = self._master.input_registers(0, _register_map.OUTPUT_WORDS)
            self.values = _register_codec.decode_outputs(block)
            ack = self.program.cycle(self.values)
            # In every scan, as in docs/howto/plc.md: a gateway may have been restarted, and one
            # with a new journal ignores the first ack as an old one.
            self._master.write_registers(ACK_REGISTER, ack.to_bytes(4, "big"))
        except OSError:
            self.close()
            self.values = {}
            return False
        return True

    def online(self) -> bool:
        return self.cycle() and bool(self.values["Online"])

    def fail_safe(self) -> bool:
        return self.cycle() and bool(self.values["RejectAll"]) and not self.values["Pass"]

    def take(self, count: int, timeout_s: float = 40.0) -> None:
        until = time.monotonic() + timeout_s
        while len(self.program.log) < count:
            assert time.monotonic() < until, f"{len(self.program.log)} of {count}"
            if not self.cycle():
                time.sleep(0.01)

    def close(self) -> None:
        if self._master is not None:
            self._master.close()
            self._master = None


class PymodbusPlc:
    """A PLC that is a Modbus server (pymodbus) with a program that scans its registers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        wait_for(lambda: self.values)

    async def _run(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        registers = SimData(0, values=[0] * 300, datatype=DataType.REGISTERS)
        server = ModbusTcpServer(
            SimDevice(1, simdata=[registers]), address=("127.0.0.1", self.port)
        )
        await server.serve_forever(background=True)
        while not self._stop:
            words = await server.async_getValues(1, 3, 0, _register_map.OUTPUT_WORDS)
            block = b"".join(int(word).to_bytes(2, "big") for word in words)
            self.values = _register_codec.decode_outputs(block)
            ack = self.program.cycle(self.values)
            await server.async_setValues(1, 16, ACK_REGISTER, [ack >> 16, ack & 0xFFFF])
            await asyncio.sleep(0.001)
        await server.shutdown()

    def online(self) -> bool:
        return bool(self.values["Online"])

    def fail_safe(self) -> bool:
        return bool(self.values["RejectAll"])

    def close(self) -> None:
        self._stop = True
        self._thread.join(5)


def test_writes_to_a_pymodbus_server(tmp_path: Path) -> None:
    needs.library("pymodbus")
    plc = PymodbusPlc()
    link = {"type": "modbus", "role": "client", "port": plc.port, "poll_ms": 1}
    with plant(tmp_path, link) as built:
        wait_for(plc.online)
        built.heartbeat_stops(plc.fail_safe, plc.online)
        built.request_verdicts(1_000, 250)
        wait_for(lambda: len(plc.program.log) >= 500)
        built.gateway.kill()
        built.start_gateway()
        wait_for(lambda: len(plc.program.log) >= 1_000, 30)
        built.wait_for_verdicts()
        assert plc.program.log == expected(built.verdicts_written())
    plc.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Plant, Plc]]:
    port = free_port()
    with plant(tmp_path, {"type": "modbus", "port": port}) as built:
        plc = Plc(port)
        wait_for(plc.online, what="the gateway online")
        yield built, plc
        plc.close()


def test_a_thousand_verdicts_through_kill_9_of_the_gateway(served: tuple[Plant, Plc]) -> None:
    built, plc = served
    built.heartbeat_stops(plc.fail_safe, plc.online)
    built.request_verdicts(1_000, 250)
    for count in (200, 450, 700):
        plc.take(count)
        built.gateway.kill()
        built.start_gateway()
    plc.take(1_000)
    assert built.wait_for_verdicts() == 1_000
    verdicts = built.verdicts_written()
    assert plc.program.log == expected(verdicts)
    wait_for(lambda: plc.cycle() and plc.values["ResultsTotal"] == 1_000)
    assert plc.values["ForcedTotal"] == plc.values["LostTotal"] == 0
    built.gateway.signal(signal.SIGTERM)
    assert built.gateway.end() == 0
    applied = [record for record in built.journal() if record.outcome is not None]
    assert [record.seq for record in applied] == [verdict.seq for verdict in verdicts]
    assert [record.reject_code for record in applied] == [v.reject_code for v in verdicts]


def test_the_daemon_is_killed_and_restarted(served: tuple[Plant, Plc]) -> None:
    built, plc = served
    built.request_verdicts(20, 200)
    plc.take(20)
    built.wait_for_verdicts()
    built.feeder.kill()
    wait_for(plc.fail_safe, 2.0)
    assert plc.values["ErrorCode"] == 2
    built.start_feeder()
    wait_for(plc.online)
    built.request_verdicts(20, 200)
    plc.take(40)
    assert plc.program.log == expected(built.verdicts_written())


def test_a_stopped_gateway_shows_fail_safe_and_disconnects(served: tuple[Plant, Plc]) -> None:
    built, plc = served
    stopped: list[float] = []
    built.gateway.signal(signal.SIGTERM)
    while plc.cycle():
        if plc.values["RejectAll"]:
            stopped.append(plc.values["ErrorCode"])
    assert stopped
    assert set(stopped) == {4}
    assert built.gateway.end() == 0


def test_mbpoll_reads_what_libmodbus_reads(served: tuple[Plant, Plc]) -> None:
    needs.program("mbpoll")
    built, plc = served

    def mbpoll(*arguments: str) -> dict[int, int]:
        done = subprocess.run(
            ["mbpoll", "-m", "tcp", "-0", "-1", "-p", str(plc.port), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return {int(at): int(v) for at, v in re.findall(r"^\[(\d+)\]:\s+(\d+)", done.stdout, re.M)}

    built.request_verdicts(5, 200)
    for seq in range(1, 6):
        wait_for(lambda seq=seq: plc_reads(plc, seq))
        bits = mbpoll("-t", "1", "-r", "0", "-c", "16", "127.0.0.1")
        words = mbpoll("-t", "3", "-r", "0", "-c", str(_register_map.OUTPUT_WORDS), "127.0.0.1")
        for bit in _register_map.STATUS_BITS:
            if bit.name != "Heartbeat":
                assert bool(bits[bit.bit]) == plc.values[bit.name], bit.name
        block = b"".join(words[at].to_bytes(2, "big") for at in range(_register_map.OUTPUT_WORDS))
        got = _register_codec.decode_outputs(block)
        plc.program.cycle(got)
        mbpoll("-t", "4", "-r", str(ACK_REGISTER), "127.0.0.1", "0", str(seq))
    assert plc.program.log == expected(built.verdicts_written())


def plc_reads(plc: Plc, seq: int) -> bool:
    """Whether the block has this result; does not take or acknowledge it."""
    if plc._master is None:
        plc._master = libmodbus.LibmodbusClient(plc.port)
    block = plc._master.input_registers(0, _register_map.OUTPUT_WORDS)
    plc.values = _register_codec.decode_outputs(block)
    return bool(plc.values["ResultsValid"]) and plc.values["ResultId"] == seq


def test_a_thousand_verdicts_by_mbpoll(tmp_path: Path) -> None:
    for needed in ("mbpoll", "stdbuf"):
        needs.program(needed)
    port = free_port()
    with plant(tmp_path, {"type": "modbus", "port": port}) as built:
        plc = Plc(port)
        wait_for(plc.online)
        built.request_verdicts(1_000, 250)
        poll = subprocess.Popen(
            [
                "stdbuf",
                "-oL",
                "mbpoll",
                "-m",
                "tcp",
                "-0",
                "-t",
                "3",
                "-r",
                "0",
                "-c",
                str(_register_map.OUTPUT_WORDS),
                "-l",
                "11",
                "-p",
                str(port),
                "127.0.0.1",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert poll.stdout is not None
        assert plc._master is not None
        words: list[int] = []
        try:
            for line in poll.stdout:
                found = re.match(r"\[(\d+)\]:\s+(\d+)", line)
                if not found or int(found[1]) != len(words):
                    words = []
                if found and int(found[1]) == len(words):
                    words.append(int(found[2]))
                if len(words) == _register_map.OUTPUT_WORDS:
                    block = b"".join(word.to_bytes(2, "big") for word in words)
                    values = _register_codec.decode_outputs(block)
                    ack = plc.program.cycle(values)
                    plc._master.write_registers(ACK_REGISTER, ack.to_bytes(4, "big"))
                    words = []
                    if len(plc.program.log) == 1_000:
                        break
        finally:
            poll.kill()
            poll.wait()
            poll.stdout.close()
            plc.close()
        built.wait_for_verdicts()
        assert plc.program.log == expected(built.verdicts_written())
