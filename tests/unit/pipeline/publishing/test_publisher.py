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
        subscriber = self.peer(zmq.SUB, self.publisher.address)
        subscriber.subscribe(topic)
        assert self.publisher._socket.poll(5_000)
        self.publisher._accept_subscriptions()
        return subscriber

    def receive(self, subscriber: zmq.Socket[bytes] | None = None) -> tuple[bytes, object]:
        topic, body = (subscriber or self.ear).recv_multipart()
        return topic, decode_message(body)


@pytest.fixture
def publishing(tmp_path: Path) -> Iterator[PublisherHarness]:
    publishing = PublisherHarness(tmp_path)
    yield publishing
    publishing.close()


def seqs(publishing: PublisherHarness, count: int) -> list[int]:
    received = [publishing.receive() for _ in range(count)]
    assert {topic for topic, _message in received} <= {b"verdict.t.top.pass"}
    return [message.seq for _topic, message in received]  # type: ignore[attr-defined]


def test_verdicts_are_sent_in_order_up_to_the_first_open_frame(
    publishing: PublisherHarness,
) -> None:
    first, second, third = publishing.open(), publishing.open(), publishing.open()
    publishing.close_frame(third)
    publishing.close_frame(second)
    assert publishing.publisher.publish_ready() == 0
    assert publishing.spool.published_seq == 0
    publishing.close_frame(first)
    assert publishing.publisher.publish_ready() == 3
    assert seqs(publishing, 3) == [1, 2, 3]
    assert publishing.spool.published_seq == 3
    assert publishing.publisher.publish_ready() == 0, "each once"
    assert publishing.ear.poll(50) == 0


def test_the_heartbeat_carries_the_last_seq_that_was_sent(publishing: PublisherHarness) -> None:
    publishing.close_frames(5)
    publishing.open()
    publishing.publisher.publish_ready()
    seqs(publishing, 5)
    for beat, (healthy, inspecting) in enumerate((((True, ""), True), ((False, "hot"), False)), 1):
        publishing.healthy = healthy
        publishing.publisher.send_heartbeat()
        topic, message = publishing.receive()
        assert topic == b"heartbeat.t"
        assert isinstance(message, Heartbeat)
        assert message.last_seq == 5, "not of the frame that is open"
        assert message.epoch == publishing.spool.epoch
        assert message.beat == beat
        assert message.period_ms == HEARTBEAT_NS / 1e6
        assert message.inspecting is inspecting
        assert message.alarm == healthy[1]


def test_overwritten_verdicts_are_counted_and_skipped(
    publishing: PublisherHarness,
) -> None:
    publishing.spool.mark_ledgered(100)
    publishing.close_frames(100)
    assert publishing.publisher.publish_ready() == 64
    assert publishing.publisher.unsent_count == 36
    assert publishing.spool.published_seq == 100
    assert seqs(publishing, 64) == list(range(37, 101))


def test_a_new_subscriber_gets_the_last_value_of_its_topic(publishing: PublisherHarness) -> None:
    publishing.close_frames(2)
    publishing.publisher.publish_ready()
    publishing.publisher._send_multipart([publishing.publisher._status_topic, b'{"of":"a status"}'])
    verdict = publishing.receive(publishing.subscribe("verdict.t.top.pass"))[1]
    assert verdict.seq == 2  # type: ignore[attr-defined]
    assert publishing.subscribe("status").recv_multipart() == [b"status.t", b'{"of":"a status"}']
    beat = publishing.receive(publishing.subscribe("heartbeat"))[1]
    assert isinstance(beat, Heartbeat)
    assert abs(beat.utc_ns - time.time_ns()) < 5e9, "made now: an old one would mislead"
    assert seqs(publishing, 2) == [1, 2]


@pytest.mark.parametrize("topic", ["status", "verdict", "heartbeat", ""])
def test_the_end_of_a_subscription_loses_no_verdict_of_others(
    publishing: PublisherHarness, topic: str
) -> None:
    leaver = publishing.subscribe(topic)
    while leaver.poll(50):  # what a newcomer gets
        leaver.recv_multipart()
    leaver.unsubscribe(topic)
    assert publishing.publisher._socket.poll(5_000)
    publishing.publisher._accept_subscriptions()
    publishing.close_frames(3)
    publishing.publisher.publish_ready()
    assert seqs(publishing, 3) == [1, 2, 3]
    assert leaver.poll(50) == 0


@pytest.mark.parametrize("junk", [b"", b"\x02verdict", b"junk", b"x" * 1_025])
def test_a_message_from_a_subscriber_loses_no_verdict(
    publishing: PublisherHarness, junk: bytes
) -> None:
    stranger = publishing.peer(zmq.XSUB, publishing.publisher.address)
    stranger.send(junk)
    assert publishing.publisher._socket.poll(1_000) or len(junk) > 1024  # it was shut out
    publishing.publisher._accept_subscriptions()
    publishing.close_frames(3)
    publishing.publisher.publish_ready()
    assert seqs(publishing, 3) == [1, 2, 3]


def test_the_last_heartbeat_is_not_inspecting(publishing: PublisherHarness) -> None:
    publishing.close_frames(3)
    publishing.publisher.stop()
    publishing.publisher.run()
    assert seqs(publishing, 3) == [1, 2, 3], "what is closed by then is sent"
    beat = publishing.receive()[1]
    assert isinstance(beat, Heartbeat)
    assert (beat.last_seq, beat.inspecting) == (3, False)


def test_the_closing_thread_sends_unless_another_is_sending(publishing: PublisherHarness) -> None:
    publishing.close_frames(2)
    publishing.publisher.try_send()
    assert seqs(publishing, 2) == [1, 2]
    publishing.close_frames(1)
    with publishing.publisher._lock:
        publishing.publisher.try_send()  # it does not wait, and the thread is woken for it
        assert publishing.ear.poll(50) == 0
    threading.Timer(0.2, publishing.publisher.stop).start()
    publishing.publisher.run()
    assert seqs(publishing, 1) == [3]


@pytest.mark.slow
def test_a_subscription_that_comes_while_another_thread_sends_is_answered(
    publishing: PublisherHarness,
) -> None:
    """What a send receives as well does not show on the socket's descriptor again."""
    thread = threading.Thread(target=publishing.publisher.run)
    thread.start()
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            publishing.close_frames(1)
            publishing.publisher.try_send()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(100):
            subscriber = publishing.peer(zmq.SUB, publishing.publisher.address)
            subscriber.subscribe("verdict")
            assert subscriber.poll(5_000), "it was never welcomed"
            subscriber.close()
    finally:
        done.set()
        sender.join()
        publishing.publisher.stop()
        thread.join()


def test_an_address_in_use_is_an_error(publishing: PublisherHarness) -> None:
    said = pytest.raises(AddressError, match=r"publish\.verdicts: tcp://.* cannot be bound")
    with zmq.Context() as context, said:  # which ends, as no socket was left open
        publishing.make(publishing.publisher.address, context)
