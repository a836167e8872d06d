"""Only messages that agree with the line's spool are trusted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from edgeinspect.client import (
    ClientKeysConfig,
    FeedEvent,
    LineVerifier,
    LineVerifiers,
    StatusReceived,
    Subscriber,
    VerdictFeed,
    VerdictReceived,
    find_line,
)
from edgeinspect.domain.plc import PlcError
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.errors import ImpersonationError, UsageError
from edgeinspect.services.gateway.line_monitor import LineMonitor
from edgeinspect.wire.messages import Heartbeat, decode_verdict, encode_message, heartbeat_topic
from edgeinspect.wire.requests import NoLongerHeld, ReplayComplete
from edgeinspect.wire.requests import encode_body as encode_answer
from tests.flow.frame_source import ASSESSMENTS, FakeLine

Socket = zmq.Socket[bytes]


@pytest.fixture
def feeder(tmp_path: Path) -> Iterator[FakeLine]:
    one = FakeLine(tmp_path)
    yield one
    one.close()


class Forger:
    """A PUB and a ROUTER in the line's name."""

    def __init__(self) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self.pub = self.context.socket(zmq.PUB)
        self.router = self.context.socket(zmq.ROUTER)
        ports = [each.bind_to_random_port("tcp://127.0.0.1") for each in (self.pub, self.router)]
        self.verdicts, self.replay = (f"tcp://127.0.0.1:{port}" for port in ports)

    def beat(self, epoch: int, last_seq: int, *, spool: str = "", inspecting: bool = True) -> None:
        beat = Heartbeat(
            line="press",
            epoch=epoch,
            last_seq=last_seq,
            beat=1,
            utc_ns=0,
            period_ms=50,
            inspecting=inspecting,
            spool=spool,
        )
        self.pub.send_multipart([heartbeat_topic("press"), encode_message(beat)])

    def verdict(self, true: Verdict, **changes: object) -> None:
        forged = msgspec.structs.replace(true, decision=Decision.PASS, **changes)
        self.pub.send_multipart([b"verdict.press.top.pass", encode_message(forged)])


@pytest.fixture
def forger() -> Iterator[Forger]:
    one = Forger()
    yield one
    one.context.destroy(0)


def feed_on(place: FakeLine | Forger, verifier: LineVerifier, **more: object) -> VerdictFeed:
    if isinstance(place, FakeLine):
        addresses = place.publisher.address, place.replay_server.address
    else:
        addresses = place.verdicts, place.replay
    return VerdictFeed(*addresses, name="t", line="press", verifier=verifier, **more)  # type: ignore[arg-type]


def until(
    feed: VerdictFeed, wanted: Callable[[FeedEvent], bool], turn: Callable[[], None] = int
) -> FeedEvent:  # type: ignore[assignment]
    end = time.monotonic() + 10
    while time.monotonic() < end:
        turn()
        event = feed.receive(20)
        if event is not None and wanted(event):
            return event
    raise AssertionError("nothing came")


def refused(feed: VerdictFeed, turn: Callable[[], None]) -> str:
    """Return the feed's error about messages of another sender."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        turn()
        try:
            event = feed.receive(20)
        except ImpersonationError as error:
            assert error.where == "heartbeat.press"
            return str(error)
        assert event is None, "a forged message was trusted"
    raise AssertionError("nothing was refused")


def test_the_line_is_trusted_live_and_by_replay(feeder: FakeLine, tmp_path: Path) -> None:
    feeder.close_frames(100, 1e9)
    for verifier in (
        LineVerifier("press"),
        LineVerifier("press", tmp_path),
    ):  # folder from the heartbeat, or configured
        with feed_on(feeder, verifier, cursor=0) as feed:
            for seq in range(1, feeder.spool.last_seq + 1):
                event = until(feed, lambda event: isinstance(event, VerdictReceived))
                assert isinstance(event, VerdictReceived)
                assert event.verdict.seq == seq
            seq = feeder.close_frame(ASSESSMENTS[0])
            event = until(feed, lambda event: isinstance(event, VerdictReceived))
            assert isinstance(event, VerdictReceived)
            assert (event.verdict.seq, event.replayed) == (seq, False)


@pytest.mark.parametrize("announced", ["", "/nowhere/press.spool", "its own", "\0", "x" * 5_000])
def test_an_epoch_that_is_not_in_the_spool_is_refused(
    forger: Forger, feeder: FakeLine, tmp_path: Path, announced: str
) -> None:
    where = str(feeder.spool.path) if announced == "its own" else announced
    with feed_on(forger, LineVerifier("press")) as feed:
        message = refused(feed, lambda: forger.beat(feeder.spool.epoch + 1, 7, spool=where))
        assert "another program sends messages" in message
        assert (feed.cursor, feed.epoch) == (None, 0)


def test_an_epoch_of_a_stopped_daemon_is_refused(forger: Forger, tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path)
    feeder.close_frames(5, 1e9)
    epoch = feeder.spool.epoch
    feeder.close()
    spool = str(feeder.spool.path)
    with feed_on(forger, LineVerifier("press", tmp_path)) as feed:
        assert "is not of the daemon" in refused(feed, lambda: forger.beat(epoch, 7, spool=spool))


def test_a_killed_daemon_is_refused_by_its_lock(forger: Forger, feeder: FakeLine) -> None:
    """The spool still has its epoch, and its lock is not held."""
    epoch = feeder.spool.epoch
    feeder.spool._file_lock.release()
    spool = str(feeder.spool.path)
    with feed_on(forger, LineVerifier("press")) as feed:
        assert "no daemon holds" in refused(feed, lambda: forger.beat(epoch, 7, spool=spool))


def test_a_forged_verdict_of_the_current_epoch_is_not_delivered(
    forger: Forger, feeder: FakeLine
) -> None:
    """A sender that uses the true epoch still cannot write the spool."""
    feeder.close_frames(3, 1e9)
    body = feeder.spool.read(3)
    assert body is not None
    true, spool, epoch = decode_verdict(body), str(feeder.spool.path), feeder.spool.epoch

    def attack() -> None:
        forger.beat(epoch, 3, spool=spool)
        forger.verdict(true, seq=1)
        forger.verdict(true, seq=4)
        while forger.router.poll(0):
            client = forger.router.recv_multipart()[0]
            for seq in (1, 2, 3):
                forged = encode_message(
                    msgspec.structs.replace(true, seq=seq, decision=Decision.PASS)
                )
                forger.router.send_multipart([client, b"verdict", forged])
            for answer in (
                ReplayComplete(epoch=epoch, from_seq=1, to_seq=3, last_seq=3),
                NoLongerHeld(epoch=epoch, from_seq=1, oldest_seq=3),
            ):
                forger.router.send_multipart([client, encode_answer(answer)])

    with feed_on(forger, LineVerifier("press"), cursor=0) as feed:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            attack()
            event = feed.receive(20)
            assert event is None or isinstance(event, StatusReceived), event
        assert feed.cursor == 0


def test_a_restarted_daemon_is_trusted_from_its_first_heartbeat(tmp_path: Path) -> None:
    first = FakeLine(tmp_path)
    address, replay = first.publisher.address, first.replay_server.address
    with feed_on(first, LineVerifier("press", tmp_path)) as feed:
        until(feed, lambda event: isinstance(event, StatusReceived))
        first.close_frame(ASSESSMENTS[0])
        until(feed, lambda event: isinstance(event, VerdictReceived))
        first.close()
        second = FakeLine(tmp_path, verdicts=address, replay=replay)
        event = until(
            feed,
            lambda event: (
                isinstance(event, StatusReceived) and event.message.epoch == second.spool.epoch
            ),
        )
        assert isinstance(event, StatusReceived)
        seq = second.close_frame(ASSESSMENTS[0])
        event = until(feed, lambda event: isinstance(event, VerdictReceived))
        assert isinstance(event, VerdictReceived)
        assert event.verdict.seq == seq
    second.close()


def test_the_last_message_of_a_daemon_is_delivered(forger: Forger, tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path)
    epoch, spool = feeder.spool.epoch, str(feeder.spool.path)
    with feed_on(forger, LineVerifier("press", tmp_path)) as feed:
        until(
            feed,
            lambda e: isinstance(e, StatusReceived),
            lambda: forger.beat(epoch, 0, spool=spool),
        )
        feeder.close()
        while feed.receive(0) is not None:
            pass
        event = until(
            feed,
            lambda e: isinstance(e, StatusReceived),
            lambda: forger.beat(epoch, 0, spool=spool, inspecting=False),
        )
        assert isinstance(event, StatusReceived)
        assert isinstance(event.message, Heartbeat)
        assert not event.message.inspecting
        while feed.receive(200) is not None:  # repeated until the first was received
            pass
        silence_ms = feed.silence_ms
        forger.beat(epoch, 0, spool=spool)  # a late message: neither trusted nor an error
        assert feed.receive(100) is None
        assert feed.silence_ms > silence_ms
        with pytest.raises(ImpersonationError):  # another sender that imitates a running line
            until(
                feed,
                lambda _event: False,
                lambda: forger.beat(epoch, 0, spool=spool, inspecting=False),
            )


def test_a_gateway_is_fail_safe_with_an_alarm_at_once() -> None:
    watch = LineMonitor(10**9)
    watch.on_invalid_message("heartbeat.press")
    assert watch.status(0).error is PlcError.WIRE
    assert not watch.status(0).online


def test_a_subscriber_ignores_messages_of_other_senders(forger: Forger, feeder: FakeLine) -> None:
    feeder.close_frames(2, 1e9)
    body = feeder.spool.read(1)
    assert body is not None
    for verifier in (LineVerifier("press"), LineVerifiers()):
        with Subscriber(forger.verdicts, verifier=verifier) as subscriber:
            end = time.monotonic() + 10
            while not subscriber.rejection_reason:
                assert time.monotonic() < end
                forger.verdict(decode_verdict(body))
                forger.beat(feeder.spool.epoch + 1, 9)
                assert subscriber.receive(20) is None
    with Subscriber(feeder.publisher.address, verifier=LineVerifiers()) as subscriber:
        assert subscriber.receive(5_000) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can chown files")
def test_a_spool_of_another_user_is_not_trusted(forger: Forger, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    feeder = FakeLine(base / "memory")
    for path in (base, base / "memory", *(base / "memory").iterdir()):
        os.chown(path, 12345, 12345)
    epoch, spool = feeder.spool.epoch, str(feeder.spool.path)
    with feed_on(forger, LineVerifier("press")) as feed:
        assert "12345" in refused(feed, lambda: forger.beat(epoch, 7, spool=spool))
    with feed_on(forger, LineVerifier("press", owners=(12345,))) as feed:
        until(
            feed,
            lambda e: isinstance(e, StatusReceived),
            lambda: forger.beat(epoch, 7, spool=spool),
        )
    feeder.close()


def test_a_line_is_verified_where_possible() -> None:
    assert find_line("press").verifier() is not None
    assert find_line("press", "tcp://127.0.0.1:1", "tcp://localhost:2").verifier() is not None
    remote = ("press", "tcp://10.0.0.1:1", "tcp://10.0.0.1:2")
    with pytest.raises(UsageError, match="nothing proves that it is the line"):
        find_line(*remote)
    assert find_line(*remote, spool="/dev/shm/x").verifier() is not None
    assert find_line(*remote, unproven=True).verifier() is None
    assert find_line("press", keys=ClientKeysConfig(secret="s", server="p")).verifier() is None
    assert find_line("press", unproven=True).verifier() is None
