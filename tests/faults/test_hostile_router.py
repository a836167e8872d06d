"""What strangers send to the replay address is dropped, counted, and slows nothing down."""

from __future__ import annotations

import random
import time
from pathlib import Path

import zmq

from edgeinspect.client import VerdictFeed
from edgeinspect.testing.peers import fuzz_message
from tests.flow.frame_source import ASSESSMENTS, FakeLine


def test_noise_is_dropped_and_the_line_keeps_answering(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path)
    rng = random.Random(7)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.linger = 0
    stranger.sndhwm = 100_000
    stranger.connect(fake_line.replay_server.address)
    count = 5_000
    for _ in range(count):
        stranger.send_multipart(fuzz_message(rng))
    fake_line.close_frames(200, 1e9)
    with VerdictFeed(
        fake_line.publisher.address, fake_line.replay_server.address, name="f", cursor=0
    ) as feed:
        end = time.monotonic() + 60
        while feed.cursor != 200:
            assert time.monotonic() < end
            feed.receive(50)
    end = time.monotonic() + 60
    while fake_line.replay_server.dropped_count < count // 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    fake_line.close_frame(ASSESSMENTS[0])
    context.destroy(0)
    fake_line.close()


def test_a_message_beyond_the_limit_ends_its_connection(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.linger = 0
    monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    stranger.connect(fake_line.replay_server.address)
    stranger.send(b"x" * 1_000_000)
    assert monitor.poll(5_000)
    assert fake_line.replay_server.dropped_count == 0
    stranger.disable_monitor()
    context.destroy(0)
    fake_line.close()
