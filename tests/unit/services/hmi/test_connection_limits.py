"""Connections on a real server: idle, slow, incomplete, too many."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeinspect.services.hmi.http import protocol
from edgeinspect.services.hmi.http.client_address import is_in_networks, parse_networks
from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter, LimitedListener
from edgeinspect.services.hmi.http.request_guard import RequestGuard
from edgeinspect.services.hmi.http.server import make_server

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SHORT = POST + b"Content-Length: 100\r\n\r\n{"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n5"


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body() or b"here")


async def much(_request: Request) -> Response:
    async def endless() -> Any:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    return StreamingResponse(endless())


async def still(_request: Request) -> Response:
    async def silent() -> Any:
        yield b"begun"
        await asyncio.sleep(60)

    return StreamingResponse(silent())


class LimitedServer:
    """An app behind the request guard, on its own port."""

    def __init__(self, most: int, most_each: int, trusted: tuple[str, ...] = ()) -> None:
        networks = parse_networks(trusted)
        self.gate = ConnectionLimiter(
            most, most_each, lambda address: is_in_networks(address, networks)
        )
        app = Starlette(
            routes=[
                Route("/", echo, methods=["GET", "POST"]),
                Route("/much", much),
                Route("/still", still),
            ]
        )
        self.server = make_server(RequestGuard(app, ["localhost"]), self.gate, None)
        bound = socket.create_server(("127.0.0.1", 0))
        self.port: int = bound.getsockname()[1]
        self.listener = LimitedListener(bound, self.gate)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.thread.start()
        wait_for(lambda: self.server.started)

    def connect(self, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(source, 0))
        if data:
            client.sendall(data)
        return client

    def request(self, source: str = "127.0.0.1") -> int:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.listener.close()


def wait_for(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def ends(client: socket.socket) -> bytes:
    """Return what a client receives until it is disconnected."""
    client.settimeout(20)
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65_536):
            got += data[-300:]
    client.close()
    return bytes(got)


@pytest.fixture
def served() -> Iterator[LimitedServer]:
    made = LimitedServer(120, 40)
    yield made
    made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "DRAIN_TIMEOUT_S"):
        monkeypatch.setattr(protocol, name, 0.3)
    monkeypatch.setattr(protocol, "KEEP_ALIVE_S", 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", SHORT],
)
def test_idle_connections_of_one_client_do_not_affect_others(
    served: LimitedServer, data: bytes
) -> None:
    """All clients are served: the oldest idle connection of the busy client is closed."""
    clients = [served.connect(data) for _ in range(250)]
    assert served.request() == 200
    assert served.request("127.0.0.2") == 200
    wait_for(lambda: len(served.gate) <= 41)
    assert served.gate.refused_count >= 250 - 40
    for client in clients:
        client.close()
    wait_for(lambda: len(served.gate) == 0)


def test_idle_connections_of_many_clients_are_replaced(served: LimitedServer) -> None:
    clients = [served.connect(source=f"127.0.0.{2 + i % 8}") for i in range(300)]
    assert served.request("127.0.0.99") == 200
    assert len(served.gate) <= 121
    for client in clients:
        client.close()


def test_active_connection_is_never_closed(served: LimitedServer) -> None:
    request = b"GET /still HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [served.connect(request) for _ in range(40)]
    for client in clients:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    late = served.connect()
    sent_bytes = ends(late)
    assert sent_bytes.startswith(b"HTTP/1.1 429")
    assert b"edgeinspect-overload: connections" in sent_bytes.lower()
    assert b"Retry-After" in sent_bytes
    assert served.request("127.0.0.2") == 200
    for client in (*clients, late):
        client.close()


def test_trusted_proxy_has_no_client_limit() -> None:
    served = LimitedServer(200, 10, ("127.0.0.7",))
    request = b"GET /still HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [served.connect(request, "127.0.0.7") for _ in range(60)]
    for client in clients:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.close()
    served.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: loc", b"HTTP/1.1 408"),
        (SHORT, b"HTTP/1.1 408"),
        (CHUNKED, b"HTTP/1.1 408"),
    ],
)
def test_slow_sender_is_disconnected(served: LimitedServer, data: bytes, answer: bytes) -> None:
    sent_bytes = ends(served.connect(data))
    assert sent_bytes.startswith(answer)
    assert bool(sent_bytes) == bool(answer)


@pytest.mark.usefixtures("quick")
def test_dripping_bytes_do_not_extend_the_timeout(served: LimitedServer) -> None:
    client = served.connect(b"GET / HTTP/1.1\r\n")
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < 20:
            client.sendall(b"X-A: b\r\n")
            time.sleep(0.05)
            if client.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK):
                break
    client.close()
    assert time.monotonic() - begun < 15


def test_refuses_a_body_with_two_lengths_and_closes(
    served: LimitedServer,
) -> None:
    smuggled = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    both = POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with served.connect(both + smuggled) as client:
        sent_bytes = b"".join(iter(lambda: client.recv(65_536), b""))
    assert sent_bytes.startswith(b"HTTP/1.1 400")
    assert sent_bytes.count(b"HTTP/1.1 ") == 1


@pytest.mark.usefixtures("quick")
def test_slow_reader_is_disconnected(served: LimitedServer) -> None:
    client = served.connect(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: len(served.gate) == 1)
    wait_for(lambda: len(served.gate) == 0)
    client.close()


def test_connection_is_reused(served: LimitedServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    for _ in range(5):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"here"
    assert len(served.gate) == 1
    connection.close()


def test_disconnects_and_invalid_heads_log_no_traceback(
    served: LimitedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    digits = b"9" * 5_000
    for data in (
        SHORT,
        CHUNKED + digits,
        POST + b"Content-Length: " + digits + b"\r\n\r\n",
        b"\x16\x03\x01\x00\xff" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50,
        b"GET /" + b"x" * 40_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ):
        for _ in range(3):
            client = served.connect(data)
            client.shutdown(socket.SHUT_WR)
            ends(client)
            client.close()
    wait_for(lambda: len(served.gate) == 0)
    assert served.request() == 200
    received = capfd.readouterr()
    assert "Traceback" not in received.out + received.err
