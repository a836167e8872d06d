"""The feed over real sockets: once, in order, and explicit about what is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from edgeinspect.client import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    Subscriber,
    VerdictFeed,
    VerdictReceived,
    VerdictsLost,
    send_request,
)
from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError, DeviceLostError
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.wire.messages import Heartbeat, encode_message, heartbeat_topic
from edgeinspect.wire.requests import ChallengeRequest, TriggerRequest
from tests.flow.frame_source import ASSESSMENTS, FakeLine


@pytest.fixture
def feeder(tmp_path: Path) -> Iterator[FakeLine]:
    one = FakeLine(tmp_path)
    yield one
    one.close()


def feed_on(feeder: FakeLine, **more: object) -> VerdictFeed:
    return VerdictFeed(
        feeder.publisher.address, feeder.replay_server.address, name="t", line="press", **more
    )  # type: ignore[arg-type]


def events(
    feed: VerdictFeed, until: Callable[[list[FeedEvent]], bool], timeout_s: float = 10
) -> list[FeedEvent]:
    """Events, heartbeats left out, until a condition holds."""
    found: list[FeedEvent] = []
    end = time.monotonic() + timeout_s
    while not until(found):
        assert time.monotonic() < end, f"only {found}"
        event = feed.receive(50)
        if event is not None and not isinstance(event, StatusReceived):
            found.append(event)
    return found


def seqs(found: list[FeedEvent]) -> list[int]:
    return [event.verdict.seq for event in found if isinstance(event, VerdictReceived)]


def hear(feed: VerdictFeed) -> None:
    """Wait for a first heartbeat."""
    end = time.monotonic() + 10
    while not isinstance(feed.receive(50), StatusReceived):
        assert time.monotonic() < end


def test_verdicts_are_in_order_for_any_order_of_closing(feeder: FakeLine) -> None:
    frames = []
    with feed_on(feeder) as feed:
        hear(feed)
        for number in range(1, 7):
            record = OpenRecord("top", number, number, 0, 0, 0)
            seq = feeder.spool.open(record)
            frames.append(OpenFrame(seq, 0, record, 0, 0, "host"))
        for index in (5, 2, 1, 4):
            feeder.closer.close(frames[index], ASSESSMENTS[0])
        assert feed.receive(100) is None or feed.cursor == 0
        for index in (0, 3):
            feeder.closer.close(frames[index], ASSESSMENTS[1])
        found = events(feed, lambda e: len(e) >= 6)
        assert seqs(found) == [1, 2, 3, 4, 5, 6]


def test_replay_fills_from_the_cursor_and_up_to_a_heartbeat(feeder: FakeLine) -> None:
    feeder.close_frames(700, 1e9)
    with feed_on(feeder, cursor=100) as feed:
        found = events(feed, lambda e: len(e) >= 600)
        assert seqs(found) == list(range(101, 701))
        assert feed.replayed == 600
        feed.ack(700)
        end = time.monotonic() + 5
        while feeder.replay_server.acks.get("t") != 700:
            assert time.monotonic() < end
            feed.receive(20)


def test_a_small_queue_and_stalls_lose_nothing(feeder: FakeLine) -> None:
    with feed_on(feeder, cursor=0, high_water_mark=5) as feed:
        hear(feed)
        got: list[int] = []
        for burst in range(4):
            feeder.close_frames(400, 1e9)
            time.sleep(0.05)  # a subscriber that stalls
            due = 400 * (burst + 1) - len(got)
            got += seqs(events(feed, lambda e, due=due: len(e) >= due))
        assert got == list(range(1, 1601))


def test_overwritten_verdicts_are_reported_as_lost(tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path, slots=64)
    feeder.close_frames(200, 1e9)
    with feed_on(feeder, cursor=10) as feed:
        found = events(feed, lambda e: seqs(e)[-1:] == [200])
        assert found[0] == VerdictsLost(11, 136)
        assert seqs(found) == list(range(137, 201))
    feeder.close()


def test_a_new_daemon_on_the_same_spool_continues(tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path)
    verdicts, replay = feeder.publisher.address, feeder.replay_server.address
    with feed_on(feeder, cursor=0) as feed:
        feeder.close_frames(50, 1e9)
        assert seqs(events(feed, lambda e: len(e) >= 50)) == list(range(1, 51))
        feeder.close()
        again = FakeLine(tmp_path, verdicts=verdicts, replay=replay)
        again.close_frames(50, 1e9)
        found = events(feed, lambda e: len(e) >= 50)
        assert seqs(found) == list(range(51, 101))
        assert not any(isinstance(event, SequenceReset | VerdictsLost) for event in found)
        again.close()


def test_a_lost_spool_is_reported(tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path)
    verdicts, replay = feeder.publisher.address, feeder.replay_server.address
    with feed_on(feeder, cursor=0) as feed:
        feeder.close_frames(50, 1e9)
        events(feed, lambda e: len(e) >= 50)
        feeder.close()
        (tmp_path / "press.spool").unlink()
        time.sleep(0.01)
        again = FakeLine(tmp_path, verdicts=verdicts, replay=replay)
        again.close_frames(5, 1e9)
        found = events(feed, lambda e: len(e) >= 6)
        assert isinstance(found[0], SequenceReset)
        assert seqs(found) == [1, 2, 3, 4, 5]
        again.close()


def test_stale_heartbeats_and_other_lines_change_nothing(feeder: FakeLine) -> None:
    feeder.close_frames(100, 1e9)
    with feed_on(feeder, cursor=0) as feed:
        events(feed, lambda e: len(e) >= 100)

        def say(line: str, epoch: int, last_seq: int) -> FeedEvent | None:
            beat = Heartbeat(
                line=line,
                epoch=epoch,
                last_seq=last_seq,
                beat=1,
                utc_ns=0,
                period_ms=50,
                inspecting=True,
            )
            return feed._on_pub([heartbeat_topic(line), encode_message(beat)])

        assert isinstance(say("press", feeder.spool.epoch, 95), StatusReceived)
        assert say("press", feeder.spool.epoch - 1, 3) is None
        assert say("press-2", feeder.spool.epoch + 9, 3) is None
        assert feed.cursor == 100


def test_without_a_cursor_earlier_verdicts_are_not_delivered(feeder: FakeLine) -> None:
    feeder.close_frames(20, 1e9)
    time.sleep(0.1)
    with feed_on(feeder) as feed:
        hear(feed)
        seq = feeder.close_frame(ASSESSMENTS[0])
        assert seqs(events(feed, lambda e: len(e) >= 1)) == [seq]


def test_new_clients_get_the_last_value_without_effect_on_others(feeder: FakeLine) -> None:
    with Subscriber(feeder.publisher.address, topics=("verdict",)) as first:
        feeder.close_frame(ASSESSMENTS[1])
        got = first.receive(5000)
        assert got is not None
        newcomers = []
        received: list[int] = []
        for _ in range(60):
            newcomers.append(Subscriber(feeder.publisher.address, topics=("verdict.press.top.",)))
            feeder.close_frame(ASSESSMENTS[0])
            if len(newcomers) % 3 == 0:
                newcomers.pop(0).close()
        while (got := first.receive(1000)) is not None:
            assert isinstance(got.message, Verdict)
            received.append(got.message.seq)
        assert received == list(range(2, 62))
        late = Subscriber(feeder.publisher.address, topics=("verdict",))
        last = late.receive(5000)
        assert last is not None
        assert isinstance(last.message, Verdict)
        assert last.message.seq == 61
        for listener in (*newcomers, late):
            listener.close()


def test_a_flood_of_invalid_data_excludes_no_client(feeder: FakeLine) -> None:
    """libzmq forgets whose subscription is whose while junk is queued before it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    flooder = context.socket(zmq.XSUB)
    flooder.linger = 0
    flooder.connect(feeder.publisher.address)
    done = threading.Event()

    def flood() -> None:
        while not done.wait(0.001):
            for _ in range(20):
                flooder.send(b"junk" * 20)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        time.sleep(0.2)
        with (
            feed_on(feeder, cursor=0) as feed,
            Subscriber(feeder.publisher.address, topics=("verdict",)) as listener,
        ):
            hear(feed)
            for _ in range(20):
                feeder.close_frame(ASSESSMENTS[0])
            assert seqs(events(feed, lambda e: len(e) >= 20)) == list(range(1, 21))
            end = time.monotonic() + 20
            while listener.receive(50) is None:
                assert time.monotonic() < end
                feeder.close_frame(ASSESSMENTS[0])
    finally:
        done.set()
        thread.join()
        context.destroy(0)


def test_requests_get_a_reply(feeder: FakeLine) -> None:
    address = feeder.replay_server.address
    assert send_request(address, TriggerRequest(camera="top", part_id="p")).accepted
    refused = send_request(address, TriggerRequest(camera="side"))
    assert not refused.accepted
    assert "no camera" in refused.problem
    assert send_request(address, ChallengeRequest(picture="x.png")).accepted
    with pytest.raises(DeviceLostError, match="no reply"):
        send_request("tcp://127.0.0.1:1", TriggerRequest(camera="top"), timeout_ms=200)


def test_invalid_addresses_and_messages() -> None:
    with pytest.raises(DataError, match="not an address"):
        Subscriber("nonsense")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publisher = context.socket(zmq.PUB)
    publisher.linger = 0
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    with Subscriber(f"tcp://127.0.0.1:{port}", topics=("",)) as listener:
        end = time.monotonic() + 10

        def hear_foreign() -> None:
            while time.monotonic() < end:
                publisher.send_multipart([b"verdict.x", b'{"schema": "other/9"}'])
                listener.receive(50)

        with pytest.raises(DataError, match="cannot be read"):
            hear_foreign()
    context.destroy(0)


def test_silence_is_measured(feeder: FakeLine) -> None:
    with feed_on(feeder) as feed:
        hear(feed)
        assert feed.silence_ms < 5_000
        feed._heartbeat_at_ns -= 700 * NS_PER_MS
        assert feed.silence_ms >= 700
