"""A client whose line dies while it is behind, as a process of its own: libzmq may abort it."""

from __future__ import annotations

import subprocess
import sys
import time

import zmq

SUBSCRIBER = """
import sys, time, zmq
from edgeinspect.client.sockets import connect, plain
socket = connect(zmq.Context(), zmq.SUB, sys.argv[1], plain, high_water_mark=50)
socket.subscribe(b"")
sys.stdin.readline()  # the line is dead
time.sleep(1.0)
count = 0
while socket.poll(500):
    socket.recv_multipart()
    count += 1
print(count)
"""


def test_a_line_that_dies_takes_no_client_with_it_that_was_behind() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    line = context.socket(zmq.XPUB)
    line.sndhwm = 0
    line.linger = 0
    port = line.bind_to_random_port("tcp://127.0.0.1")
    client = subprocess.Popen(
        [sys.executable, "-c", SUBSCRIBER, f"tcp://127.0.0.1:{port}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert line.poll(30_000)
        line.recv()
        for _ in range(20_000):
            line.send(bytes(200))
        time.sleep(0.5)  # until it holds back what comes
        context.destroy(0)
        said, errors = client.communicate("\n", timeout=30)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, errors
    assert int(said) > 50, "what had come is read"
