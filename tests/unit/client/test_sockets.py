"""A client with a backlog whose line dies, in its own process, which libzmq could abort."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import zmq

CLIENT = """
import sys, time, zmq
from edgeinspect.client.sockets import connect_socket, no_encryption
kind, address, mark = sys.argv[1:]
socket = connect_socket(zmq.Context(), int(kind), address, no_encryption, int(mark))
if int(kind) == zmq.SUB:
    socket.subscribe(b"")
else:
    socket.send(b"here")
sys.stdin.readline()  # the line is dead
time.sleep(1.0)
count = 0
socket.rcvtimeo = 500
try:
    while True:
        socket.recv_multipart()
        count += 1
except zmq.Again:
    print(count)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mark"), [(zmq.SUB, 50), (zmq.DEALER, 50), (zmq.DEALER, 100_000)])
def test_a_line_that_dies_aborts_no_client_with_a_backlog(kind: int, mark: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    line = context.socket(zmq.XPUB if kind == zmq.SUB else zmq.ROUTER)
    line.sndhwm = 0
    line.linger = 0
    port = line.bind_to_random_port("tcp://127.0.0.1")
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(int(kind)), f"tcp://127.0.0.1:{port}", str(mark)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert line.poll(30_000)
        to = line.recv_multipart()[:-1]
        for _ in range(20_000):
            line.send_multipart([*to, b"verdict.press.top.pass", bytes(200)])
        time.sleep(0.5)  # until its queue is full
        context.destroy(0)
        count, errors = client.communicate("\n", timeout=30)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, errors
    assert int(count) >= 50, "received messages are read"
