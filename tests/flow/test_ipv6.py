"""IPv6 addresses: what the check accepts can be bound and connected."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgeinspect.client import VerdictFeed, VerdictReceived
from edgeinspect.config.cross_checks import address_problem
from tests.flow.frame_source import ASSESSMENTS, FakeLine


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_line_on_ipv6(tmp_path: Path) -> None:
    assert address_problem("tcp://[::1]:6600") is None
    fake_line = FakeLine(tmp_path, verdicts="tcp://[::1]:*", replay="tcp://[::1]:*")
    try:
        assert fake_line.publisher.address.startswith("tcp://[::1]:")
        feed = VerdictFeed(
            fake_line.publisher.address, fake_line.replay_server.address, name="six", cursor=0
        )
        try:
            seqs = [fake_line.close_frame(assessment) for assessment in ASSESSMENTS]
            received: list[int] = []
            for _ in range(500):
                event = feed.receive(50)
                if isinstance(event, VerdictReceived):
                    received.append(event.verdict.seq)
                    feed.ack(event.verdict.seq)
                if received == seqs:
                    break
            assert received == seqs
        finally:
            feed.close()
    finally:
        fake_line.close()
