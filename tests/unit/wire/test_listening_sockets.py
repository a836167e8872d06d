"""Binding: exit codes and messages, stale sockets, and pausing."""

from __future__ import annotations

import os
import socket as sockets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edgeinspect.errors import AddressError, ConfigError
from edgeinspect.wire import listening_sockets

Socket = zmq.Socket[bytes]
UNIX = sockets.AF_UNIX


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Socket]:
    monkeypatch.setattr(listening_sockets, "_RETRY_INTERVAL_S", 0.001)
    context: zmq.Context[Socket] = zmq.Context()
    yield context.socket(zmq.ROUTER)
    context.destroy(0)


def answers(router: Socket, address: str) -> bool:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.ipv6 = True
        dealer.connect(address)
        dealer.send(b"x")
        return bool(router.poll(2_000)) and router.recv_multipart()[-1] == b"x"


def test_a_port_in_use_exits_with_75_and_names_its_process(router: Socket) -> None:
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match="Address already in use") as caught:
            listening_sockets.bind(router, f"tcp://127.0.0.1:{port}", "publish.verdicts")
    assert caught.value.exit_code == 75
    assert f"pid {os.getpid()}" in str(caught.value)


def test_a_file_that_is_closed_meanwhile_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = os.listdir

    def with_closed(path: Path) -> list[str]:
        return ["999999", *everything(path)]

    monkeypatch.setattr(os, "listdir", with_closed)
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert f"(pid {os.getpid()}, " in listening_sockets.process_holding(address)


def test_an_address_that_does_not_exist_yet_is_bound(router: Socket) -> None:
    bound = listening_sockets.bind(router, "tcp://203.0.113.9:*", "publish.verdicts")
    endpoint = router.last_endpoint
    assert isinstance(endpoint, bytes)
    assert endpoint.startswith(b"tcp://203.0.113.9:")
    bound.release()


def test_a_missing_interface_exits_with_75(router: Socket) -> None:
    with pytest.raises((AddressError, ConfigError)) as caught:
        listening_sockets.bind(router, "tcp://nosuchif0:23456", "publish.verdicts")
    assert caught.value.exit_code == 75


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "*", "lo"])
def test_every_kind_of_host_is_bound(router: Socket, host: str) -> None:
    bound = listening_sockets.bind(router, f"tcp://{host}:*", "publish.replay")
    endpoint = router.last_endpoint
    assert isinstance(endpoint, bytes)
    address = endpoint.decode().rstrip("\0").replace("0.0.0.0", "127.0.0.1")
    assert answers(router, address)
    assert bound._listener is not None, "it can be shut, and drops resets"
    bound.release()


def test_a_socket_file_is_for_the_group_and_is_removed(router: Socket, tmp_path: Path) -> None:
    path = tmp_path / "s"
    bound = listening_sockets.bind(router, f"ipc://{path}", "publish.verdicts")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert answers(router, f"ipc://{path}")
    router.close(0)
    bound.release()
    assert not path.exists()


def test_a_stale_socket_is_removed_and_a_living_one_is_not(router: Socket, tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = sockets.socket(UNIX)
    dead.bind(str(path))
    dead.close()
    bound = listening_sockets.bind(router, f"ipc://{path}", "publish.verdicts")
    second = router.context.socket(zmq.ROUTER)
    with pytest.raises(AddressError, match="already in use"):
        listening_sockets.bind(second, f"ipc://{path}", "publish.verdicts")
    second.close(0)
    assert answers(router, f"ipc://{path}"), "the first one still has it"
    bound.release()


def test_a_file_that_is_no_socket_is_kept(router: Socket, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        listening_sockets.bind(router, f"ipc://{tmp_path}/s", "publish.verdicts")
    assert (tmp_path / "s").read_text() == "mine"
    with pytest.raises(ConfigError, match="107 bytes"):
        listening_sockets.bind(router, f"ipc://{tmp_path}/{'x' * 120}", "publish.verdicts")


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_pausing_keeps_connected_clients_and_can_be_resumed(
    router: Socket, tmp_path: Path, kind: str
) -> None:
    address = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/s"
    bound = listening_sockets.bind(router, address, "publish.replay")
    endpoint = router.last_endpoint
    assert isinstance(endpoint, bytes)
    address = endpoint.decode().rstrip("\0")
    inside = router.context.socket(zmq.DEALER)
    inside.connect(address)
    inside.send(b"before")
    assert router.poll(5_000)
    router.recv_multipart()
    bound.pause_accepting()
    outside = router.context.socket(zmq.DEALER)
    outside.reconnect_ivl = 20
    outside.connect_timeout = 100
    outside.connect(address)
    outside.send(b"outside")
    inside.send(b"inside")
    assert router.poll(5_000)
    assert router.recv_multipart()[-1] == b"inside"
    assert not router.poll(300)
    bound.resume_accepting()
    assert router.poll(10_000)
    assert router.recv_multipart()[-1] == b"outside"
    inside.close(0)
    outside.close(0)
    bound.release()
