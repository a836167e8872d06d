"""The OPC UA gateway with an asyncua client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeinspect import registry
from edgeinspect.domain.verdict import Decision
from edgeinspect.plclinks import _register_map
from tests.flow.frame_source import CONFIG_HASH
from tests.system.plant import Plant, free_port, plant, wait_for

reason = registry.missing_reason("plclink", "opcua")
NAMESPACE = "urn:edgeinspect:machine-vision"


class Client:
    """A client with subscriptions to ResultReady and to the state, in its own thread."""

    def __init__(
        self,
        port: int,
        *,
        acknowledge: bool,
        tags: tuple[str, ...] = ("Online", "RejectAll", "ErrorCode", "Pass"),
    ) -> None:
        self._tags = tags
        self.events: list[Any] = []
        self.values: dict[str, Any] = {}
        self._acknowledge = acknowledge
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._connect(port))

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _connect(self, port: int) -> None:
        from asyncua import Client as UaClient

        for attempt in range(300):
            self._client = UaClient(f"opc.tcp://127.0.0.1:{port}/edgeinspect")
            try:
                await self._client.connect()
                break
            except OSError:
                assert attempt < 299
                await asyncio.sleep(0.1)
        space = await self._client.get_namespace_index(NAMESPACE)
        system = await self._client.nodes.objects.get_child(f"{space}:VisionSystem")
        self._ack = self._client.get_node(f"ns={space};s=Inputs.ResultsAck")
        ready = await self._client.nodes.base_event_type.get_child(f"{space}:ResultReadyEventType")
        self._subscription = await self._client.create_subscription(10, self)
        nodes = {name: self._client.get_node(f"ns={space};s=Outputs.{name}") for name in self._tags}
        nodes["CurrentState"] = await system.get_child(
            [f"{space}:VisionStateMachine", f"{space}:CurrentState"]
        )
        self._names = {node: name for name, node in nodes.items()}
        await self._subscription.subscribe_data_change(list(nodes.values()))
        await self._subscription.subscribe_events(system, ready, queuesize=10_000)

    def datachange_notification(self, node: Any, value: Any, _data: Any) -> None:
        self.values[self._names[node]] = value

    async def event_notification(self, event: Any) -> None:
        self.events.append(event)
        if self._acknowledge:
            from asyncua import ua

            await self._ack.write_value(int(event.ResultId), ua.VariantType.UInt32)

    def status_change_notification(self, _status: Any) -> None:
        pass

    def online(self) -> bool:
        return bool(self.values.get("Online"))

    def fail_safe(self) -> bool:
        return bool(self.values.get("RejectAll"))

    def close(self) -> None:
        try:
            self._call(self._client.disconnect())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()


@pytest.fixture(params=[False, True], ids=["events", "acknowledged"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Plant, Client]]:
    if reason:
        pytest.skip(f"link opcua: {reason}")
    port = free_port()
    link = {"type": "opcua", "port": port, "acknowledge": request.param}
    with plant(tmp_path, link) as built:
        client = Client(port, acknowledge=request.param)
        wait_for(client.online, 20)
        yield built, client
        client.close()


def test_result_ready_for_each_verdict(
    served: tuple[Plant, Client], request: pytest.FixtureRequest
) -> None:
    built, client = served
    built.heartbeat_stops(client.fail_safe, client.online)
    assert client.values["CurrentState"] == "Operational"
    count = 200 if "acknowledged" in request.node.name else 1_000
    built.request_verdicts(count, 200)
    built.wait_for_verdicts()
    wait_for(lambda: len(client.events) >= count, 30, f"{len(client.events)} events")
    verdicts = built.verdicts_written()
    assert len(verdicts) == len(client.events) == count
    for verdict, event in zip(verdicts, client.events, strict=True):
        assert int(event.ResultId) == verdict.seq
        assert event.PartId == verdict.part_id
        assert event.JobId == f"top/{verdict.epoch}/{verdict.seq}"
        assert event.RecipeId == CONFIG_HASH
        assert event.IsSimulated is verdict.simulated
        assert event.IsPartial is False
        assert event.Pass is (verdict.decision is Decision.PASS)
        assert event.Reject is (verdict.decision is not Decision.PASS)
        assert event.NoVerdict is (verdict.decision is Decision.NO_VERDICT)
        assert event.RejectCode == verdict.reject_code
    assert _register_map.MAP_VERSION == 1
