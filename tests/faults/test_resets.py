"""Peers that end by a reset, behind what they sent: libzmq must not see it first, or it aborts.

The line is a process of its own, since it is the process that would end. Over TCP: a Unix
socket cannot be kept from saying at once that its peer has gone (docs/explanation/security.md).
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeinspect.testing.peers import ZMTP_PING, reset_connection, zmtp_client
from edgeinspect.wire.tcp_connections import drop_packets

ROOT = Path(__file__).parents[2]
Line = tuple["subprocess.Popen[str]", str, str]


def may_filter() -> bool:
    with socket.socket() as one:
        try:
            drop_packets(one)
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not may_filter(), reason="this kernel lets root alone filter")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    any_port = "tcp://127.0.0.1:*"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.flow.frame_source", str(tmp_path), any_port, any_port],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            _ready, verdicts, replay = process.stdout.readline().split()
            yield process, verdicts, replay
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["SUB", "DEALER"])
@pytest.mark.parametrize("between", [1, 100])
def test_a_reset_behind_a_flood_with_heartbeats_ends_no_line(
    line: Line, kind: str, between: int
) -> None:
    process, verdicts, replay = line
    address, message = {
        "SUB": (verdicts, b"\x00\x05\x01verd"),
        "DEALER": (replay, b"\x00\x05hello"),
    }[kind]
    flood = (message * between + ZMTP_PING) * (30_000 // (len(message) * between) + 1)
    for pause_s in (0.0, 0.05, 0.0):
        with contextlib.suppress(OSError):  # disconnected early: the flood was detected
            client = zmtp_client(address, kind)
            client.settimeout(1)
            with contextlib.suppress(OSError):
                client.sendall(flood)
            time.sleep(pause_s)
            reset_connection(client)
        time.sleep(0.3)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("judge 5 100\n")
    process.stdin.flush()
    assert process.stdout.readline().split() == ["done", "5"], process.poll()
    process.stdin.close()
    assert process.wait(20) == 0
