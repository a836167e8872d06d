"""The gateway's loop on the real feed of a line with a slow heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from edgeinspect.domain.clock import SystemClock
from edgeinspect.services.gateway.gateway import Gateway
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.services.gateway.service import build_gateway
from tests.flow.frame_source import ASSESSMENTS, FakeLine
from tests.system.plant import wait_for
from tests.unit.services.gateway.test_gateway import CONFIG, FakeLink


def test_an_old_heartbeat_after_a_restart_resets_no_sequence(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path, heartbeat_ms=700)
    feed = msgspec.structs.replace(
        CONFIG.feed, verdicts=fake_line.publisher.address, replay=fake_line.replay_server.address
    )
    config = msgspec.structs.replace(CONFIG, feed=feed, fail_safe_ms=5_000.0)

    def live(until: Callable[[Gateway, GatewayJournal], bool]) -> None:
        journal = GatewayJournal(tmp_path / "j", name="plc-1", capacity=256)
        gateway = build_gateway(config, FakeLink(), journal, SystemClock())
        gateway._write_image()

        def done() -> bool:
            gateway.step(5)
            received = gateway.line_monitor.status(gateway._clock.now_ns()).online
            return received and until(gateway, journal)

        wait_for(done, 5.0)
        gateway._feed.close()
        journal.close()

    live(lambda gateway, journal: journal.last_record is not None)
    for end in (10, 20, 30):
        for index in range(10):
            fake_line.close_frame(ASSESSMENTS[index % len(ASSESSMENTS)])
        live(lambda gateway, journal, end=end: journal.cursor == end)
    journal = GatewayJournal(tmp_path / "j", name="plc-1", capacity=256)
    assert [record.seq for record in journal.read_records() if record.completion] == list(
        range(1, 31)
    )
    assert journal.last_record is not None
    assert {record.sequence_generation for record in journal.read_records()} == {
        journal.last_record.sequence_generation
    }
    journal.close()
    fake_line.close()
