"""The MQTT gateway, a real mosquitto, and a subscriber that decodes Sparkplug B."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeinspect import registry
from edgeinspect.plclinks import _sparkplug
from edgeinspect.testing_peers import PlcProgram
from tests.system.plant import expected, free_port, plant, wait_for

reason = registry.missing_reason("plclink", "mqtt")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with running_broker(tmp_path) as port:
        yield port


@contextmanager
def running_broker(tmp_path: Path) -> Iterator[int]:
    """A mosquitto on loopback; gives its port."""
    if reason:
        pytest.skip(f"link mqtt: {reason}")
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("mosquitto is not installed: apt package mosquitto")
    port = free_port()
    file = tmp_path / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (tmp_path / "mosquitto.log").open("wb") as log:
        child = subprocess.Popen([program, "-c", str(file)], stdout=log, stderr=log)
    try:
        yield port
    finally:
        child.terminate()
        child.wait(5)


class Host:
    """A Sparkplug host: keeps every metric, logs every result, hears births and deaths."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as mqtt

        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        self.said: list[str] = []
        self.deaths: list[float] = []
        self.gaps = 0
        self._seq: int | None = None
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="host")
        self.client.on_message = self._hear
        self.client.on_connect = lambda *_: self.client.subscribe("spBv1.0/#", qos=1)
        for attempt in range(100):
            try:
                self.client.connect("127.0.0.1", port)
                break
            except OSError:
                assert attempt < 99
                time.sleep(0.02)
        self.client.loop_start()

    def _hear(self, _client: Any, _userdata: Any, message: Any) -> None:
        _space, group, kind, node, *_device = message.topic.split("/")
        assert (group, node) == ("edgeinspect", "plc-1")
        payload = _sparkplug.decode(message.payload)
        self.said.append(kind)
        if kind == "NDEATH":
            self.deaths.append(time.monotonic())
            self.values = {}
            self._seq = None
            return
        if kind == "NBIRTH":
            assert payload.seq == 0
        elif self._seq is not None and payload.seq != (self._seq + 1) % 256:
            self.gaps += 1
        self._seq = payload.seq
        if kind in ("DBIRTH", "DDATA"):
            values = {**self.values, **{m.name: m.value for m in payload.metrics}}
            self.program.cycle(values)
            self.values = values

    def online(self) -> bool:
        return bool(self.values.get("Online"))

    def fail_safe(self) -> bool:
        return bool(self.values.get("RejectAll"))

    def command(self, **values: Any) -> None:
        metrics = tuple(
            _sparkplug.Metric(name, _sparkplug.DataType.BOOLEAN, value)
            for name, value in values.items()
        )
        payload = _sparkplug.encode(_sparkplug.Payload(1, metrics, 0))
        self.client.publish("spBv1.0/edgeinspect/NCMD/plc-1", payload, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_thousand_verdicts_births_and_deaths(broker: int, tmp_path: Path) -> None:
    host = Host(broker)
    link = {"type": "mqtt", "host": "127.0.0.1", "port": broker, "node": "plc-1",
            "device": "press"}  # fmt: skip
    with plant(tmp_path, link) as built:
        wait_for(host.online)
        assert host.said[:2] == ["NBIRTH", "DBIRTH"]
        built.heartbeat_stops(host.fail_safe, host.online)
        built.judge(1_000, 250)
        wait_for(lambda: len(host.program.log) >= 400)
        died = time.monotonic()
        built.gateway.kill()
        wait_for(lambda: host.deaths)
        assert host.deaths[0] - died < 0.5
        built.start_gateway()
        wait_for(lambda: len(host.program.log) >= 1_000, 30)
        built.judged()
        assert host.program.log == expected(built.verdicts_written())
        assert host.gaps == 0
        before = host.said.count("NBIRTH")
        host.command(**{"Node Control/Rebirth": True})
        wait_for(lambda: host.said.count("NBIRTH") > before)
        wait_for(host.online)
    wait_for(lambda: len(host.deaths) == 2)
    host.close()
