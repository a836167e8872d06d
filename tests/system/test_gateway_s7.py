"""The S7 gateway with python-snap7's server as the PLC, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeinspect import registry
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.testing.peers import PlcProgram
from tests.system.plant import expected, free_port, plant, wait_for

reason = registry.missing_reason("plclink", "s7")
OUTPUT_DB, INPUT_DB = 10, 11


class Plc:
    """An S7 PLC with two data blocks and a program that scans them."""

    def __init__(self) -> None:
        from snap7.server import Server
        from snap7.type import SrvArea

        self.port = free_port()
        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        self.outputs = bytearray(2 * _register_map.OUTPUT_WORDS)
        self.inputs = bytearray(2 * _register_map.INPUT_WORDS)
        self._area = SrvArea.DB
        self._server_type = Server
        self.start()
        self._stop = threading.Event()
        self._scan = threading.Thread(target=self._run, daemon=True)
        self._scan.start()

    def start(self) -> None:
        self.server = self._server_type(log=False)
        self.server.register_area(self._area, OUTPUT_DB, self.outputs)
        self.server.register_area(self._area, INPUT_DB, self.inputs)
        self.server.start(self.port)

    def _run(self) -> None:
        while not self._stop.wait(0.0005):
            block = bytes(self.outputs)
            self.values = _register_codec.decode_outputs(block)
            self.inputs[4:8] = self.program.cycle(self.values).to_bytes(4, "big")

    def online(self) -> bool:
        return bool(self.values["Online"])

    def fail_safe(self) -> bool:
        return bool(self.values["RejectAll"])

    def close(self) -> None:
        self._stop.set()
        self._scan.join()
        self.server.stop()


@pytest.fixture
def plc() -> Iterator[Plc]:
    if reason:
        pytest.skip(f"link s7: {reason}")
    built = Plc()
    yield built
    built.close()


def test_a_thousand_verdicts_and_a_lost_plc(plc: Plc, tmp_path: Path) -> None:
    link = {
        "type": "s7",
        "host": "127.0.0.1",
        "port": plc.port,
        "output_db": OUTPUT_DB,
        "input_db": INPUT_DB,
        "poll_ms": 1,
    }
    with plant(tmp_path, link) as built:
        wait_for(lambda: plc.values and plc.online())
        built.heartbeat_stops(plc.fail_safe, plc.online)
        built.request_verdicts(1_000, 250)
        wait_for(lambda: len(plc.program.log) >= 300)
        plc.server.stop()
        time.sleep(0.3)
        plc.start()
        wait_for(lambda: len(plc.program.log) >= 600)
        built.gateway.kill()
        built.start_gateway()
        wait_for(lambda: len(plc.program.log) >= 1_000, 30)
        built.wait_for_verdicts()
        assert plc.program.log == expected(built.verdicts_written())
        wait_for(lambda: plc.values["ResultsTotal"] == 1_000)
        assert plc.values["ForcedTotal"] == plc.values["LostTotal"] == 0


def test_a_short_or_missing_block_is_named(tmp_path: Path) -> None:
    if reason:
        pytest.skip(f"link s7: {reason}")
    from snap7.server import Server
    from snap7.type import SrvArea

    from edgeinspect.domain.clock import SystemClock
    from edgeinspect.domain.plc import ProcessImage
    from edgeinspect.plclinks import s7

    server, port = Server(log=False), free_port()
    sizes = {10: 100, 11: 20, 20: 400, 21: 400}
    for db, size in sizes.items():
        server.register_area(SrvArea.DB, db, bytearray(size))
    server.start(port)
    cases = {
        (10, 0, 21, 0): ("output_db 10 is 100 bytes long", "need 152"),
        (20, 260, 21, 0): ("output_db 20 is 400 bytes long", "output_start 260", "need 412"),
        (20, 0, 11, 0): ("input_db 11 is 20 bytes long", "input_start 0"),
        (99, 0, 21, 0): ("output_db 99: does not exist",),
        (20, 0, 98, 0): ("input_db 98: does not exist",),
    }
    try:
        for (output_db, output_start, input_db, input_start), wanted in cases.items():
            link = s7.build(
                s7.Options(
                    host="127.0.0.1",
                    port=port,
                    output_db=output_db,
                    output_start=output_start,
                    input_db=input_db,
                    input_start=input_start,
                ),
                SystemClock(),
            )
            link.open()
            link.write(ProcessImage(revision=1))
            try:
                wait_for(lambda link=link: "_db" in link.poll().problem)
                problem = link.poll().problem
                assert all(words in problem for words in wanted), problem
            finally:
                link.close()
    finally:
        server.stop()
