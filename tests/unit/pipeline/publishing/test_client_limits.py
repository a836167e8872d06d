"""What anybody may ask of PUB and ROUTER: bounded for each client, and orders first.

Figures under load: benchmarks/client_bounds.py.
"""

from __future__ import annotations

import contextlib
import socket as sockets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edgeinspect.domain.clock import NS_PER_MS, SystemClock
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import UsageError
from edgeinspect.pipeline.publishing import disk_tasks
from edgeinspect.pipeline.publishing.disk_tasks import Errands
from edgeinspect.pipeline.publishing.publisher import Publisher
from edgeinspect.pipeline.publishing.replay_jobs import JOBS_MAX, SLICE, ReplayJobs, Sent
from edgeinspect.pipeline.publishing.replay_server import Replay
from edgeinspect.pipeline.publishing.subscription_limits import (
    SUBSCRIPTIONS_MAX,
    USELESS_EACH_MAX,
    USELESS_MAX,
    Subscribers,
)
from edgeinspect.testing.peers import reset, zmtp_client
from edgeinspect.wire import admission, slow_clients, tcp_connections
from edgeinspect.wire.admission import AT_ONCE
from edgeinspect.wire.requests import (
    Ack,
    Busy,
    ChallengeRequest,
    Replayed,
    ReplayRequest,
    Triggered,
    TriggerRequest,
    decode_answer,
    encode,
)
from edgeinspect.wire.slow_clients import Untaken
from edgeinspect.wire.tcp_connections import hang_up
from tests.flow.frame_source import Feeder
from tests.unit.pipeline.publishing.harness import Desk

Socket = zmq.Socket[bytes]


# -- subscriptions -----------------------------------------------------------------------


class FakeFrame:
    """A subscription as it comes from one connection."""

    def __init__(self, connection: int) -> None:
        self.connection = connection

    def get(self, _what: int) -> int:
        return self.connection


def subscribers(*cameras: str) -> tuple[Subscribers, ManualClock, list[int]]:
    clock, ended = ManualClock(), list[int]()
    made = Subscribers("press", cameras, clock)
    made.let_go = ended.append
    return made, clock, ended


def admit(made: Subscribers, connection: int, *, useful: bool = True) -> bool:
    return made.admit(FakeFrame(connection), useful=useful)  # type: ignore[arg-type]


def test_a_client_has_so_many_and_then_two_a_second() -> None:
    made, clock, ended = subscribers()
    assert all(admit(made, 7) for _ in range(SUBSCRIPTIONS_MAX))
    clock.advance(1_000 * NS_PER_MS)
    assert admit(made, 7)
    assert admit(made, 7)
    assert not ended
    assert not admit(made, 7)
    assert not admit(made, 7), "and nothing more of it"
    assert ended == [7]
    assert admit(made, 8), "another client has its own"
    made.forget(7)
    assert admit(made, 7), "a new client under the number begins anew"


def test_what_matches_nothing_is_bounded_for_each_and_for_all() -> None:
    made, _clock, ended = subscribers()
    assert all(admit(made, 1, useful=False) for _ in range(USELESS_EACH_MAX))
    assert not admit(made, 1, useful=False)
    assert ended == [1]
    made.forget(1)
    for client in range(2, 2 + USELESS_MAX // USELESS_EACH_MAX):
        assert all(admit(made, client, useful=False) for _ in range(USELESS_EACH_MAX))
    assert not admit(made, 999, useful=False), "all together have had theirs"
    assert admit(made, 1_000), "who wants what there is gets it"


@pytest.mark.parametrize(
    ("topic", "useful"),
    [
        (b"", True),
        (b"v", True),
        (b"verdict.press.", True),
        (b"verdict.press.to", True),
        (b"verdict.press.top.", True),
        (b"verdict.press.top.re", True),
        (b"heartbeat.pr", True),
        (b"part.press.no_verdict", True),
        (b"status.press", True),
        (b"verdict.other.", False),
        (b"verdict.press.side.pass", False),
        (b"\xff", False),
        (b"verdict.press.17.xxxx", False),
        (b"verdict.press.top.pass.x", False),
    ],
)
def test_which_subscriptions_can_match(topic: bytes, useful: bool) -> None:
    assert subscribers("top")[0].may_match(topic) is useful


def test_a_flood_of_subscriptions_ends_its_connection_and_costs_little(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    flooder = context.socket(zmq.XSUB)
    flooder.linger = 0
    flooder.sndhwm = 0
    monitor = flooder.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    before = rss_mib()
    flooder.connect(feeder.publisher.address)
    for number in range(20_000):
        flooder.send(b"\x01verdict.press.%d." % number + b"x" * 80)
    assert monitor.poll(20_000), "it was let go"
    time.sleep(0.5)
    assert rss_mib() - before < 60  # 20,000 take 80 MiB in the tree; its own queue is here too
    turns = feeder.publisher.turns
    end = time.monotonic() + 10
    while feeder.publisher.turns < turns + 3:
        assert time.monotonic() < end, "the publisher stands"
        time.sleep(0.01)
    flooder.disable_monitor()
    monitor.close(0)
    context.destroy(0)
    feeder.close()


def rss_mib() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 >> 20


@pytest.mark.parametrize("junk", [b"\x02hello", b"verdict.press.top.pass"])
def test_who_sends_what_is_no_subscription_is_disconnected(tmp_path: Path, junk: bytes) -> None:
    """libzmq would take the next subscription of another for its own."""
    feeder = Feeder(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    sender = context.socket(zmq.XSUB)
    sender.linger = 0
    sender.reconnect_ivl = -1
    monitor = sender.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    sender.connect(feeder.publisher.address)
    sender.send(junk)
    assert monitor.poll(20_000)
    sender.disable_monitor()
    monitor.close(0)
    context.destroy(0)
    feeder.close()


def test_so_many_connect_at_once_and_the_others_wait(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    ears = []
    for _ in range(3 * AT_ONCE):
        ear = context.socket(zmq.SUB)
        ear.subscribe(b"heartbeat.press")
        ear.connect(feeder.publisher.address)
        ears.append(ear)
    assert ears[0].poll(5_000), "the first ones hear"
    door = feeder.publisher._admission
    assert door is not None
    end = time.monotonic() + 10
    while not door.refused:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert len(door._clients) < 3 * AT_ONCE
    context.destroy(0)
    feeder.close()


@pytest.mark.parametrize("wire", ["tcp", "ipc"])
def test_who_takes_nothing_is_let_go_and_who_reads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    """What is queued for a subscriber that never reads would be held for ever."""
    monkeypatch.setattr(slow_clients, "UNTAKEN_NS", 500 * NS_PER_MS)
    monkeypatch.setattr(slow_clients, "LOOK_UNTAKEN_NS", 100 * NS_PER_MS)
    desk = Desk(tmp_path)
    address = "tcp://127.0.0.1:*" if wire == "tcp" else f"ipc://{tmp_path}/verdicts"
    publisher = Publisher(
        context=desk.context,
        address=address,
        high_water_mark=1_000,
        heartbeat_ns=50 * NS_PER_MS,
        line="press",
        spool=desk.spool,
        traces=desk.closer.traces,
        clock=SystemClock(),
        health=lambda: (True, ""),
    )
    thread = threading.Thread(target=publisher.run)
    thread.start()
    context: zmq.Context[Socket] = zmq.Context()
    mute, ear = context.socket(zmq.SUB), context.socket(zmq.SUB)
    mute.rcvhwm = 1
    for socket in (mute, ear):
        socket.subscribe(b"")
        socket.connect(publisher.address)
        assert socket.poll(5_000)
    door = publisher._admission
    assert door is not None
    end = time.monotonic() + 20
    while (
        len(door._clients) < 2
    ):  # the first message may come before the door is told of its client
        assert time.monotonic() < end
        time.sleep(0.01)
    while len(door._clients) > 1:
        assert time.monotonic() < end
        with publisher._lock:
            publisher._say([b"status.press", bytes(50_000)])
        time.sleep(0.001)
        while ear.poll(0):
            ear.recv_multipart()
    assert door.cut == 1
    with publisher._lock:
        publisher._say([b"status.press", b"still there"])
    while ear.recv_multipart()[1] != b"still there":
        pass
    publisher.stop()
    thread.join()
    context.destroy(0)
    publisher.dispose()
    desk.dispose()


def test_where_a_flood_came_from_gets_in_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "FLOOD_PAUSE_NS", 3_600_000 * NS_PER_MS)
    monkeypatch.setattr(admission, "_HANDSHAKE_NS", 3_600_000 * NS_PER_MS)
    feeder = Feeder(tmp_path)
    port = feeder.publisher.address.rpartition(":")[2]
    door = feeder.publisher._admission
    assert door is not None
    context: zmq.Context[Socket] = zmq.Context()
    flooder = context.socket(zmq.XSUB)
    flooder.sndhwm = 0
    flooder.reconnect_ivl = -1
    flooder.connect(f"tcp://127.0.0.1:{port}")
    for number in range(2_000):
        flooder.send(b"\x01verdict.press.%d." % number + b"x" * 80)
    end = time.monotonic() + 20
    while not door._floods:
        assert time.monotonic() < end
        time.sleep(0.01)
    flooder.close(0)

    def ear(source: str) -> Socket:
        made = context.socket(zmq.SUB)
        made.subscribe(b"heartbeat.press")
        made.connect(f"tcp://{source}:0;127.0.0.1:{port}")
        return made

    door._let_in_at_ns = SystemClock().now_ns()  # one got in just now
    waits, other = ear("127.0.0.1"), ear("127.0.0.2")
    assert other.poll(10_000), "who comes from elsewhere does not pay for it"
    assert not waits.poll(300)
    door._floods.clear()
    assert waits.poll(10_000)
    context.destroy(0)
    feeder.close()


def test_a_peer_that_was_reset_is_gone_when_the_kernel_has_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reset is dropped, and the ROUTER sends it nothing that could fail."""
    # Where the kernel lets nobody filter, the reset itself is seen.
    quick = tuple((option, 1) for option, _value in tcp_connections._KEEPALIVE)
    monkeypatch.setattr(tcp_connections, "_KEEPALIVE", quick)
    feeder = Feeder(tmp_path)
    door = feeder.replay._admission
    assert door is not None
    client = zmtp_client(feeder.replay.address, "DEALER")
    assert len(door._clients) == 1
    reset(client)
    end = time.monotonic() + 20
    while door._clients:
        assert time.monotonic() < end
        time.sleep(0.05)
    feeder.close()


@pytest.mark.parametrize(("scheme", "filters"), [("tcp", True), ("tcp", False), ("ipc", True)])
def test_who_is_let_go_is_gone_though_it_goes_on_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, filters: bool
) -> None:
    if not filters:  # as under a kernel that lets root alone
        monkeypatch.setattr(tcp_connections, "_SO_ATTACH_FILTER", 9_999)
    address = f"ipc://{tmp_path}/r" if scheme == "ipc" else "tcp://127.0.0.1:*"
    feeder = Feeder(tmp_path, replay=address)
    door = feeder.replay._admission
    assert door is not None
    client = zmtp_client(feeder.replay.address, "DEALER")
    client.settimeout(0.05)
    (descriptor,) = door._clients
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                client.send(b"\x00\x05hello" * 1_000)

    flooding = threading.Thread(target=flood)
    flooding.start()
    time.sleep(0.3)  # what comes is never all read
    hang_up(descriptor)
    end = time.monotonic() + 20
    while door._clients and time.monotonic() < end:
        time.sleep(0.01)
    ended.set()
    flooding.join()
    client.close()
    assert not door._clients
    feeder.close()


# -- what waits for who does not read ----------------------------------------------------


def test_all_together_may_be_behind_by_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "UNTAKEN_BYTES_MAX", 3_000_000)
    pairs = [sockets.socketpair() for _ in range(3)]
    for near, _far in pairs:
        near.setblocking(False)
    reads, little, much = (near.fileno() for near, _far in pairs)
    clock, sent = ManualClock(), [0, 0]
    made = Untaken(clock, lambda: (sent[0], sent[1]), messages_max=1_000)

    def fill(near: sockets.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(4_096))

    def look(sent_bytes: int, messages: int) -> list[int]:
        clock.advance(300 * NS_PER_MS)
        sent[0] += sent_bytes
        sent[1] += messages
        return [client for client, _why in made.look((reads, little, much))]

    assert look(1_000_000, 100) == []
    fill(pairs[2][0])
    assert look(2_000_000, 100) == []
    fill(pairs[1][0])
    assert look(200_000, 100) == [], "who reads is never behind"
    assert look(1_000_000, 100) == [much], "who is furthest behind"
    made.forget(much)
    pairs[2][0].close()
    pairs[2][1].close()
    assert look(1_000, 1) == []
    for _ in range(30):  # ZeroMQ keeps no more than so many messages of them
        pairs[1][1].recv(4_096)  # a little is taken each time: it is not deaf
        assert look(200_000, 1_000) == []
    for pair in pairs:
        for end in pair:
            end.close()


def test_bytes_bound_what_trickling_readers_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take a little now and then, so that they are never deaf."""
    monkeypatch.setattr(slow_clients, "UNTAKEN_BYTES_MAX", 20 << 20)
    desk = Desk(tmp_path)
    publisher = Publisher(
        context=desk.context,
        address=f"ipc://{tmp_path}/v",
        high_water_mark=10_000,
        heartbeat_ns=50 * NS_PER_MS,
        line="press",
        spool=desk.spool,
        traces=desk.closer.traces,
        clock=SystemClock(),
        health=lambda: (True, ""),
    )
    thread = threading.Thread(target=publisher.run)
    thread.start()
    slow = [zmtp_client(f"ipc://{tmp_path}/v", "SUB") for _ in range(4)]
    for one in slow:
        one.sendall(b"\x00\x01\x01")  # subscribe to everything
        said = b""
        while b"heartbeat" not in said:
            said += one.recv(4_096) or pytest.fail("let go")
    door = publisher._admission
    assert door is not None
    end = time.monotonic() + 30
    while not door.cut:
        assert time.monotonic() < end
        with publisher._lock:
            publisher._say([b"status.press", bytes(100_000)])
        for one in slow:
            with contextlib.suppress(OSError):
                one.recv(1_000)
        time.sleep(0.005)
    assert publisher._sent[0] < 200 << 20
    publisher.stop()
    thread.join()
    for one in slow:
        one.close()
    publisher.dispose()
    desk.dispose()


# -- the ROUTER --------------------------------------------------------------------------


def test_a_message_without_an_end_ends_its_connection(tmp_path: Path) -> None:
    """ZeroMQ keeps any number of its parts: it took 3 GiB in three seconds."""
    feeder = Feeder(tmp_path, replay=f"ipc://{tmp_path}/r")
    endless = zmtp_client(f"ipc://{tmp_path}/r", "DEALER")
    sent_bytes = 0
    with contextlib.suppress(ConnectionError):
        while sent_bytes < 1 << 30:
            endless.sendall((b"\x01\x64" + bytes(100)) * 100)
            sent_bytes += 10_200
            time.sleep(0.001)
    assert sent_bytes < 1 << 30, "it was let go"
    endless.close()
    door = feeder.replay._admission
    assert door is not None
    assert door.cut == 1
    feeder.close()


def test_who_sends_whole_messages_faster_than_they_are_heard_stays(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    busy = context.socket(zmq.DEALER)
    busy.linger = 0
    busy.connect(feeder.replay.address)
    for seq in range(4_000):
        busy.send(encode(Ack(name="busy", seq=seq)))
    end = time.monotonic() + 30
    while feeder.replay.acks.get("busy") != 3_999:
        assert time.monotonic() < end
        time.sleep(0.01)
    door = feeder.replay._admission
    assert door is not None
    assert door.cut == 0
    context.destroy(0)
    feeder.close()


def test_replay_goes_in_slices_and_each_client_in_turn(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 512)
    desk.judge(200)
    desk.spool.mark_published(200)
    given: list[tuple[bytes, int]] = []

    def send(client: bytes, parts: list[bytes]) -> Sent:
        if client == b"full":
            return Sent.FULL
        given.append((client, len(parts)))
        return Sent.YES

    clock = ManualClock()
    jobs = ReplayJobs(desk.spool, clock, send)
    for client in (b"full", b"a", b"b"):
        jobs.take(client, ReplayRequest(from_seq=1, limit=100))
    for _ in range(4):
        assert jobs.step()
    counts = [
        sum(1 for client, size in given if client == name and size == 2) for name in (b"a", b"b")
    ]
    assert counts == [2 * SLICE, 2 * SLICE]
    while jobs.step():
        pass
    assert len(jobs) == 1, "who does not read waits alone"
    clock.advance(1_100 * NS_PER_MS)
    assert not jobs.step()
    assert not len(jobs), "and has to ask again"
    desk.dispose()


def test_more_than_it_can_give_is_answered_with_busy(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 64)
    answers: list[object] = []

    def send(_client: bytes, parts: list[bytes]) -> Sent:
        answers.append(decode_answer(parts[-1]))
        return Sent.YES

    jobs = ReplayJobs(desk.spool, ManualClock(), send)
    for number in range(JOBS_MAX):
        jobs.take(b"%d" % number, ReplayRequest(from_seq=1))
    assert not answers
    jobs.take(b"0", ReplayRequest(from_seq=5))
    jobs.take(b"one more", ReplayRequest(from_seq=6))
    epoch = desk.spool.epoch
    assert answers == [Busy(epoch=epoch, from_seq=5), Busy(epoch=epoch, from_seq=6)]
    desk.dispose()


class Slow(Desk):
    """A replay whose challenge pictures lie on a disk that hangs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 4_096)
        self.disk = threading.Event()
        self.sent: list[str] = []
        self.replay = Replay(
            context=self.context,
            address="tcp://127.0.0.1:*",
            spool=self.spool,
            clock=SystemClock(),
            trigger=lambda camera, part: None,
            challenge=self._challenge,
        )
        thread = threading.Thread(target=self.replay.run)
        thread.start()
        self.disposals += [self.replay.stop, thread.join, self.replay.dispose]

    def _challenge(self, _camera: str | None, picture: str) -> object:
        self.disk.wait(30)
        if picture == "none":
            raise UsageError("there is none")
        return lambda: self.sent.append(picture)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(disk_tasks, "LIMIT_NS", 300 * NS_PER_MS)
    one = Slow(tmp_path)
    yield one
    one.disk.set()
    one.dispose()


def ask(dealer: Socket, request: object) -> Triggered:
    dealer.send(encode(request))
    assert dealer.poll(10_000)
    answer = decode_answer(dealer.recv_multipart()[-1])
    assert isinstance(answer, Triggered)
    return answer


def test_a_trigger_does_not_wait_for_replay_or_for_a_disk(slow: Slow) -> None:
    slow.judge(4_000)
    slow.spool.mark_published(4_000)
    for _ in range(10):
        deaf = slow.peer(zmq.DEALER, slow.replay.address)
        for _ in range(20):
            deaf.send(encode(ReplayRequest(from_seq=1, limit=4096)))
        deaf.send(encode(ChallengeRequest(picture="x")))
    caller = slow.peer(zmq.DEALER, slow.replay.address)
    for _ in range(5):
        began = time.monotonic()
        assert ask(caller, TriggerRequest(camera="top")).accepted
        assert time.monotonic() - began < 5  # some 10 ms; it was as long as all the replay


def test_a_picture_that_is_read_too_late_is_refused_and_never_sent(slow: Slow) -> None:
    caller = slow.peer(zmq.DEALER, slow.replay.address)
    answer = ask(caller, ChallengeRequest(picture="late"))
    assert (answer.accepted, "could not be read" in answer.problem) == (False, True)
    assert "still being read" in ask(caller, ChallengeRequest(picture="next")).problem
    slow.disk.set()
    end = time.monotonic() + 10
    while not ask(caller, ChallengeRequest(picture="good")).accepted:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert set(slow.sent) == {"good"}, "what was refused is not sent when the disk comes back"
    assert "there is none" in ask(caller, ChallengeRequest(picture="none")).problem


def test_so_many_orders_wait_for_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    made = Errands(SystemClock())
    for _ in range(16):
        made.take(lambda: (held.wait(30), None)[1], "x", lambda problem: None)
    with pytest.raises(UsageError, match="wait for a disk"):
        made.take(lambda: None, "x", lambda problem: None)
    held.set()
    end = time.monotonic() + 10
    while len(made):
        assert time.monotonic() < end
        made.finish()
    made.stop()


def test_an_answer_after_busy_is_whole(slow: Slow) -> None:
    slow.judge(300)
    slow.spool.mark_published(300)
    dealer = slow.peer(zmq.DEALER, slow.replay.address)
    dealer.send(encode(ReplayRequest(from_seq=1, limit=300)))
    dealer.send(encode(ReplayRequest(from_seq=1, limit=300)))
    seen: list[object] = []
    bodies = 0
    while not any(isinstance(each, Replayed) for each in seen):
        parts = dealer.recv_multipart()
        if len(parts) == 2:
            bodies += 1
        else:
            seen.append(decode_answer(parts[0]))
    assert bodies == 300
    assert all(isinstance(each, (Busy, Replayed)) for each in seen)
