"""ZAP: clients wait in their handshake, and their origin is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from edgeinspect.wire.zap import ZAP_ACCEPT, ZapHandler, client_origin


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("localhost:1000:1000:4711", "user 1000"),
        ("pc.plant.example:0:0:1", "user 0"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:1"),
        ("", ""),
    ],
)
def test_the_origin_of_a_client(address: str, where: str) -> None:
    assert client_origin(address) == where


def test_nothing_is_read_from_a_client_before_it_is_accepted(tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.XPUB)
    zap = ZapHandler(context, socket)
    socket.bind(f"ipc://{tmp_path}/s")
    client = context.socket(zmq.SUB)
    client.subscribe(b"verdict")
    client.connect(f"ipc://{tmp_path}/s")
    assert zap.socket.poll(10_000)
    newcomer = zap.next_request(5)
    assert newcomer is not None
    assert (newcomer.key, newcomer.received_at_ns) == ("", 5)
    assert newcomer.origin.startswith("user ")
    assert not socket.poll(200)
    zap.reply(newcomer, ZAP_ACCEPT)
    assert socket.poll(10_000)
    assert socket.recv() == b"\x01verdict"
    assert zap.next_request(6) is None
    zap.close()
    context.destroy(0)
