"""The MQTT gateway with mosquitto and a subscriber that decodes Sparkplug B."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeinspect import registry
from edgeinspect.plclinks._sparkplug import payload as _sparkplug
from edgeinspect.testing.peers import PlcProgram
from tests import needs
from tests.system.plant import expected, free_port, plant, wait_for

reason = registry.missing_reason("plclink", "mqtt")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with running_broker(tmp_path) as port:
        yield port


@contextmanager
def running_broker(tmp_path: Path) -> Iterator[int]:
    """Run mosquitto on loopback; yield its port."""
    if reason:
        pytest.skip(f"link mqtt: {reason}")
    program = needs.program("mosquitto")
    with broker_at(tmp_path, free_port(), program) as port:
        yield port


@contextmanager
def broker_at(tmp_path: Path, port: int, program: str) -> Iterator[int]:
    """Run mosquitto at this port."""
    file = tmp_path / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (tmp_path / "mosquitto.log").open("ab") as log:
        child = subprocess.Popen([program, "-c", str(file)], stdout=log, stderr=log)
    try:
        yield port
    finally:
        child.terminate()
        child.wait(5)


class Host:
    """A Sparkplug host: keeps every metric, logs every result, counts births and deaths."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as mqtt

        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        self.kinds: list[str] = []
        self.messages: list[tuple[str, _sparkplug.SparkplugPayload]] = []
        self.wrong: list[str] = []
        """Messages with a wrong QoS, or retained."""
        self.deaths: list[float] = []
        self.gaps = 0
        self._seq: int | None = None
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="host")
        self.client.on_message = self._on_message
        self.client.on_connect = lambda *_: self.client.subscribe("spBv1.0/edgeinspect/#", qos=1)
        for attempt in range(100):
            try:
                self.client.connect("127.0.0.1", port)
                break
            except OSError:
                assert attempt < 99
                time.sleep(0.02)
        self.client.loop_start()

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        _space, group, kind, node, *_device = message.topic.split("/")
        assert (group, node) == ("edgeinspect", "plc-1")
        if kind.endswith("CMD"):
            return
        payload = _sparkplug.decode_payload(message.payload)
        self.kinds.append(kind)
        self.messages.append((kind, payload))
        if message.retain or message.qos != (1 if kind == "NDEATH" else 0):
            self.wrong.append(kind)
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

    def results(self) -> list[dict[str, _sparkplug.SparkplugMetric]]:
        """Return the metrics of each DDATA with a result."""
        found = []
        for kind, payload in list(self.messages):
            metrics = {metric.name: metric for metric in payload.metrics}
            if kind == "DDATA" and "ResultId" in metrics and metrics["ResultsValid"].value:
                found.append(metrics)
        return found

    def bd_seqs(self) -> list[tuple[str, Any]]:
        """Return the bdSeq of each birth and death of the node."""
        return [
            (kind, metric.value)
            for kind, payload in list(self.messages)
            for metric in payload.metrics
            if metric.name == "bdSeq"
        ]

    def command(self, **values: Any) -> None:
        metrics = tuple(
            _sparkplug.SparkplugMetric(name, _sparkplug.DataType.BOOLEAN, value)
            for name, value in values.items()
        )
        payload = _sparkplug.encode_payload(_sparkplug.SparkplugPayload(1, metrics, 0))
        self.client.publish("spBv1.0/edgeinspect/NCMD/plc-1", payload, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_thousand_verdicts_births_and_deaths(broker: int, tmp_path: Path) -> None:
    host = Host(broker)
    link = {"type": "mqtt", "host": "127.0.0.1", "port": broker, "node": "plc-1", "device": "press"}
    with plant(tmp_path, link) as built:
        wait_for(host.online)
        assert host.kinds[:2] == ["NBIRTH", "DBIRTH"]
        built.heartbeat_stops(host.fail_safe, host.online)
        built.request_verdicts(1_000, 250)
        wait_for(lambda: len(host.program.log) >= 400)
        died = time.monotonic()
        built.gateway.kill()
        wait_for(lambda: host.deaths)
        assert host.deaths[0] - died < 0.5
        built.start_gateway()
        wait_for(lambda: len(host.program.log) >= 1_000, 30)
        built.wait_for_verdicts()
        assert host.program.log == expected(built.verdicts_written())
        assert host.gaps == 0
        before = host.kinds.count("NBIRTH")
        host.command(**{"Node Control/Rebirth": True})
        wait_for(lambda: host.kinds.count("NBIRTH") > before)
        wait_for(host.online)
    wait_for(lambda: len(host.deaths) == 2)
    assert not host.wrong, "births and data have QoS 0, deaths of the node 1, none is retained"
    # Each start of the gateway counts from 0; a rebirth keeps the number of its connection.
    assert host.bd_seqs() == [
        ("NBIRTH", 0),
        ("NDEATH", 0),
        ("NBIRTH", 0),
        ("NBIRTH", 0),
        ("NDEATH", 0),
    ]
    assert host.kinds.count("DDEATH") >= 1, "the daemon was stopped, and the line with it"
    assert host.kinds[-2:] == ["DDEATH", "NDEATH"]
    host.close()


def test_a_broker_that_was_away_gets_historical_data(tmp_path: Path) -> None:
    if reason:
        pytest.skip(f"link mqtt: {reason}")
    program = needs.program("mosquitto")
    port = free_port()
    link = {
        "type": "mqtt",
        "host": "127.0.0.1",
        "port": port,
        "node": "plc-1",
        "device": "press",
        "state_file": str(tmp_path / "bdseq"),
    }
    with broker_at(tmp_path, port, program):
        host = Host(port)
        with plant(tmp_path, link) as built:
            wait_for(host.online)
            built.request_verdicts(20, 50)
            built.wait_for_verdicts()
            wait_for(lambda: len(host.results()) == 20)
            host.close()
            before = host
            built.gateway.kill()
            built.request_verdicts(60, 100)
            built.wait_for_verdicts()
            host = Host(port)
            built.start_gateway()
            wait_for(host.online)
            wait_for(lambda: len({int(each["ResultId"].value) for each in host.results()}) >= 60)
            built.request_verdicts(20, 50)
            built.wait_for_verdicts()
            wait_for(lambda: len({int(each["ResultId"].value) for each in host.results()}) >= 80)
            captured_ms = {
                verdict.seq: verdict.captured_at_utc_ns // 1_000_000
                for verdict in built.verdicts_written()
            }
            assert not any(each["ResultId"].is_historical for each in before.results())
            for each in host.results():
                at_ms = captured_ms[int(each["ResultId"].value)]
                for name in ("ResultId", "Pass", "PartId", "Cause"):
                    assert each[name].timestamp_ms == at_ms
                    assert each[name].is_historical == (each["ResultId"].value <= 80)
            assert next(value for _kind, value in host.bd_seqs()) == 1, "continued across a restart"
        host.close()


def test_nothing_is_published_until_the_primary_host_is_online(broker: int, tmp_path: Path) -> None:
    host = Host(broker)

    def state(online: bool, timestamp: int, name: str = "scada", raw: bytes = b"") -> None:
        data = raw or json.dumps({"online": online, "timestamp": timestamp}).encode()
        host.client.publish(f"spBv1.0/STATE/{name}", data, qos=1, retain=True).wait_for_publish(5)

    link = {
        "type": "mqtt",
        "host": "127.0.0.1",
        "port": broker,
        "node": "plc-1",
        "device": "press",
        "primary_host": "scada",
    }
    state(True, 1, name="another")
    state(True, 1, raw=b"[" * 4_000)
    with plant(tmp_path, link) as built:
        wait_for(lambda: '"online": true' in built.gateway.log.read_text())
        built.request_verdicts(10, 100)
        built.wait_for_verdicts()
        time.sleep(0.5)
        assert not host.kinds, "another host or an invalid STATE does not count"
        state(True, 1_000)
        wait_for(lambda: len(host.results()) == 10)
        assert host.kinds[0] == "NBIRTH"
        state(False, 999)
        built.request_verdicts(10, 100)
        built.wait_for_verdicts()
        wait_for(lambda: len(host.results()) == 20)
        assert "NDEATH" not in host.kinds, "an older STATE than the last one is ignored"
        state(False, 1_000)
        wait_for(lambda: "NDEATH" in host.kinds)
        built.request_verdicts(10, 100)
        built.wait_for_verdicts()
        time.sleep(0.5)
        assert host.kinds[-1] == "NDEATH"
        state(False, (1 << 63) - 1)  # from a host whose clock is far ahead
        state(True, time.time_ns() // 1_000_000 + 60_000)
        wait_for(
            lambda: {int(each["ResultId"].value) for each in host.results()} >= {*range(1, 31)}
        )
        assert next(value for _kind, value in host.bd_seqs()) < host.bd_seqs()[-1][1]
    wait_for(lambda: len(host.deaths) == 2)
    host.close()


def test_invalid_messages_on_a_command_topic_are_dropped(broker: int, tmp_path: Path) -> None:
    host = Host(broker)
    link = {"type": "mqtt", "host": "127.0.0.1", "port": broker, "node": "plc-1", "device": "press"}
    seed = random.Random(5)
    metric = b"\x0a\x0aResultsAck\x20\x07"
    hostile = [
        b"",
        b"\xff" * 50,
        b"\x12" * 2_000,
        b"\x12\xff\xff\xff\xff\x0f",
        b"\x08" + b"\xff" * 11,
        b"\x12\x0f" + metric + b"\x50",
        b"\x0b" * 100,
        bytes(70_000),
        b"\x12\x02\x0a\x7f",
        *(seed.randbytes(seed.randrange(200)) for _ in range(200)),
    ]
    with plant(tmp_path, link) as built:
        wait_for(host.online)
        for data in hostile:
            for topic in ("NCMD/plc-1", "DCMD/plc-1/press"):
                host.client.publish(f"spBv1.0/edgeinspect/{topic}", data, qos=1)
        ack = (_sparkplug.SparkplugMetric("ResultsAck", _sparkplug.DataType.UINT32, 4_000_000_000),)
        good = _sparkplug.encode_payload(_sparkplug.SparkplugPayload(1, ack, 0))
        host.client.publish("spBv1.0/edgeinspect/DCMD/plc-1/press", good, qos=1)
        wait_for(lambda: host.values.get("ResultsAck") == 4_000_000_000, what="it is repeated")
        built.request_verdicts(2, 100)
        built.wait_for_verdicts()
        wait_for(lambda: len(host.results()) == 2)
        assert host.kinds.count("NBIRTH") == 1, "the session was not closed"
        assert built.gateway.child.poll() is None
    host.close()


def test_a_failed_connection_uses_no_bd_seq(tmp_path: Path) -> None:
    if reason:
        pytest.skip(f"link mqtt: {reason}")
    program = needs.program("mosquitto")
    port = free_port()
    link = {"type": "mqtt", "host": "127.0.0.1", "port": port, "node": "plc-1", "device": "press"}
    with ExitStack() as held:
        with broker_at(tmp_path, port, program):
            host = Host(port)
            built = held.enter_context(plant(tmp_path, link))
            wait_for(host.online)
            built.request_verdicts(10, 50)
            built.wait_for_verdicts()
            wait_for(lambda: len(host.results()) == 10)
            host.close()
        built.request_verdicts(30, 50)
        built.wait_for_verdicts()
        time.sleep(1)
        with broker_at(tmp_path, port, program):
            host = Host(port)
            missed = {*range(11, 41)}
            wait_for(lambda: missed <= {int(each["ResultId"].value) for each in host.results()})
            assert [value for kind, value in host.bd_seqs() if kind == "NBIRTH"] == [1]
            host.close()
