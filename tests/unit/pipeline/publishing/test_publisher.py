"""The publisher's steps, without its thread: order, heartbeat, last values."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edgeinspect.errors import AddressError
from edgeinspect.pipeline.publishing.publisher import Publisher, PublisherSettings
from edgeinspect.wire.messages import Heartbeat, decode_message
from tests.unit.pipeline.publishing.harness import HEARTBEAT_NS, PublishingHarness


class PublisherHarness(PublishingHarness):
    """A publisher that is stepped by hand, and one subscriber to everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.healthy = (True, "")
        self.publisher = self.make("tcp://127.0.0.1:*")
        self.close_callbacks.append(self.publisher.close)
        self.ear = self.subscribe("")
        self.receive()  # what a newcomer gets

    def make(
        self, address: str, context: zmq.Context[zmq.Socket[bytes]] | None = None
    ) -> Publisher:
        return Publisher(
            context or self.context,
            PublisherSettings("t", address, heartbeat_ns=HEARTBEAT_NS, high_water_mark=1_000),
            self.closer,
            self.clock,
            check_alarms=lambda: self.healthy,
        )

    def subscribe(self, topic: str) -> zmq.Socket[bytes]:
        ear = self.peer(zmq.SUB, self.publisher.address)
        ear.subscribe(topic)
        assert self.publisher._socket.poll(5_000)
        self.publisher._accept_subscriptions()
        return ear

    def receive(self, ear: zmq.Socket[bytes] | None = None) -> tuple[bytes, object]:
        topic, body = (ear or self.ear).recv_multipart()
        return topic, decode_message(body)


@pytest.fixture
def press(tmp_path: Path) -> Iterator[PublisherHarness]:
    press = PublisherHarness(tmp_path)
    yield press
    press.close()


def seqs(press: PublisherHarness, count: int) -> list[int]:
    heard = [press.receive() for _ in range(count)]
    assert {topic for topic, _message in heard} <= {b"verdict.t.top.pass"}
    return [message.seq for _topic, message in heard]  # type: ignore[attr-defined]


def test_verdicts_leave_in_order_and_wait_for_the_first_open_frame(press: PublisherHarness) -> None:
    first, second, third = press.open(), press.open(), press.open()
    press.close_frame(third)
    press.close_frame(second)
    assert press.publisher.publish_ready() == 0
    assert press.spool.published_seq == 0
    press.close_frame(first)
    assert press.publisher.publish_ready() == 3
    assert seqs(press, 3) == [1, 2, 3]
    assert press.spool.published_seq == 3
    assert press.publisher.publish_ready() == 0, "each once"
    assert press.ear.poll(50) == 0


def test_the_heartbeat_carries_the_last_seq_that_was_sent(press: PublisherHarness) -> None:
    press.close_frames(5)
    press.open()
    press.publisher.publish_ready()
    seqs(press, 5)
    for beat, (healthy, inspecting) in enumerate((((True, ""), True), ((False, "hot"), False)), 1):
        press.healthy = healthy
        press.publisher.send_heartbeat()
        topic, message = press.receive()
        assert topic == b"heartbeat.t"
        assert isinstance(message, Heartbeat)
        assert message.last_seq == 5, "not of the frame that is open"
        assert message.epoch == press.spool.epoch
        assert message.beat == beat
        assert message.period_ms == HEARTBEAT_NS / 1e6
        assert message.inspecting is inspecting
        assert message.alarm == healthy[1]


def test_a_gap_that_the_spool_overwrote_is_counted_and_does_not_stop_it(
    press: PublisherHarness,
) -> None:
    press.spool.mark_ledgered(100)
    press.close_frames(100)
    assert press.publisher.publish_ready() == 64
    assert press.publisher.unsent_count == 36
    assert press.spool.published_seq == 100
    assert seqs(press, 64) == list(range(37, 101))


def test_a_newcomer_gets_the_last_value_of_what_it_asked_for(press: PublisherHarness) -> None:
    press.close_frames(2)
    press.publisher.publish_ready()
    press.publisher._send_multipart([press.publisher._status_topic, b'{"of":"a status"}'])
    verdict = press.receive(press.subscribe("verdict.t.top.pass"))[1]
    assert verdict.seq == 2  # type: ignore[attr-defined]
    assert press.subscribe("status").recv_multipart() == [b"status.t", b'{"of":"a status"}']
    beat = press.receive(press.subscribe("heartbeat"))[1]
    assert isinstance(beat, Heartbeat)
    assert abs(beat.utc_ns - time.time_ns()) < 5e9, "made now: an old one would mislead"
    assert seqs(press, 2) == [1, 2]


@pytest.mark.parametrize("topic", ["status", "verdict", "heartbeat", ""])
def test_who_unsubscribes_takes_no_verdict_from_the_others(
    press: PublisherHarness, topic: str
) -> None:
    leaver = press.subscribe(topic)
    while leaver.poll(50):  # what a newcomer gets
        leaver.recv_multipart()
    leaver.unsubscribe(topic)
    assert press.publisher._socket.poll(5_000)
    press.publisher._accept_subscriptions()
    press.close_frames(3)
    press.publisher.publish_ready()
    assert seqs(press, 3) == [1, 2, 3]
    assert leaver.poll(50) == 0


@pytest.mark.parametrize("junk", [b"", b"\x02verdict", b"junk", b"x" * 1_025])
def test_a_message_from_a_subscriber_takes_no_verdict_from_anyone(
    press: PublisherHarness, junk: bytes
) -> None:
    stranger = press.peer(zmq.XSUB, press.publisher.address)
    stranger.send(junk)
    assert press.publisher._socket.poll(1_000) or len(junk) > 1024  # it was shut out
    press.publisher._accept_subscriptions()
    press.close_frames(3)
    press.publisher.publish_ready()
    assert seqs(press, 3) == [1, 2, 3]


def test_it_ends_with_a_heartbeat_that_does_not_inspect(press: PublisherHarness) -> None:
    press.close_frames(3)
    press.publisher.stop()
    press.publisher.run()
    assert seqs(press, 3) == [1, 2, 3], "what is closed by then is sent"
    beat = press.receive()[1]
    assert isinstance(beat, Heartbeat)
    assert (beat.last_seq, beat.inspecting) == (3, False)


def test_whoever_closes_may_send_unless_another_sends(press: PublisherHarness) -> None:
    press.close_frames(2)
    press.publisher.try_send()
    assert seqs(press, 2) == [1, 2]
    press.close_frames(1)
    with press.publisher._lock:
        press.publisher.try_send()  # it does not wait, and the thread is woken for it
        assert press.ear.poll(50) == 0
    threading.Timer(0.2, press.publisher.stop).start()
    press.publisher.run()
    assert seqs(press, 1) == [3]


def test_a_subscription_that_comes_while_another_thread_sends_is_answered(
    press: PublisherHarness,
) -> None:
    """What a send takes in by the way does not show on the socket's descriptor again."""
    thread = threading.Thread(target=press.publisher.run)
    thread.start()
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            press.close_frames(1)
            press.publisher.try_send()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(100):
            ear = press.peer(zmq.SUB, press.publisher.address)
            ear.subscribe("verdict")
            assert ear.poll(5_000), "it was never welcomed"
            ear.close()
    finally:
        done.set()
        sender.join()
        press.publisher.stop()
        thread.join()


def test_a_taken_address_is_said(press: PublisherHarness) -> None:
    said = pytest.raises(AddressError, match=r"publish\.verdicts: tcp://.* cannot be bound")
    with zmq.Context() as context, said:  # which ends: nothing of it was left open
        press.make(press.publisher.address, context)
