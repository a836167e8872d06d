"""What strangers send to the replay address is dropped, counted, and slows nothing down."""

from __future__ import annotations

import random
import time
from pathlib import Path

import zmq

from edgeinspect.client import Feed
from edgeinspect.testing.peers import mutate
from tests.flow.frame_source import FINDINGS, Feeder


def test_noise_is_dropped_and_the_line_answers_on(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    rng = random.Random(7)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.linger = 0
    stranger.sndhwm = 100_000
    stranger.connect(feeder.replay.address)
    count = 5_000
    for _ in range(count):
        stranger.send_multipart(mutate(rng))
    feeder.judge_many(200, 1e9)
    with Feed(feeder.publisher.address, feeder.replay.address, name="f", cursor=0) as feed:
        end = time.monotonic() + 60
        while feed.cursor != 200:
            assert time.monotonic() < end
            feed.receive(50)
    end = time.monotonic() + 60
    while feeder.replay.dropped < count // 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    feeder.judge(FINDINGS[0])
    context.destroy(0)
    feeder.close()


def test_a_message_beyond_the_limit_ends_its_connection(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.linger = 0
    monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    stranger.connect(feeder.replay.address)
    stranger.send(b"x" * 1_000_000)
    assert monitor.poll(5_000)
    assert feeder.replay.dropped == 0
    stranger.disable_monitor()
    context.destroy(0)
    feeder.close()
