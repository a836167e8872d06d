"""Limits on the clients of PUB and ROUTER; commands come first.

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
from edgeinspect.pipeline.publishing.disk_tasks import DiskTasks
from edgeinspect.pipeline.publishing.publisher import Publisher, PublisherSettings
from edgeinspect.pipeline.publishing.replay_jobs import (
    JOBS_MAX,
    SLICE_VERDICTS,
    ReplayJobs,
    SendResult,
)
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, RequestHandlers
from edgeinspect.pipeline.publishing.subscription_limits import (
    SUBSCRIPTIONS_MAX,
    UNMATCHED_PER_CLIENT_MAX,
    UNMATCHED_TOTAL_MAX,
    SubscriptionLimiter,
)
from edgeinspect.testing.peers import reset_connection, zmtp_client
from edgeinspect.wire import admission, slow_clients, tcp_connections
from edgeinspect.wire.admission import CLIENT_BURST
from edgeinspect.wire.requests import (
    Ack,
    ChallengeRequest,
    CommandResult,
    ReplayBusy,
    ReplayComplete,
    ReplayRequest,
    TriggerRequest,
    decode_reply,
    encode_body,
)
from edgeinspect.wire.slow_clients import SlowClientMonitor
from edgeinspect.wire.tcp_connections import disconnect
from tests.flow.frame_source import FakeLine
from tests.unit.pipeline.publishing.harness import PublishingHarness

Socket = zmq.Socket[bytes]


# -- subscriptions -----------------------------------------------------------------------


class FakeFrame:
    """A subscription as it comes from one connection."""

    def __init__(self, connection: int) -> None:
        self.connection = connection

    def get(self, _what: int) -> int:
        return self.connection


def subscribers(*cameras: str) -> tuple[SubscriptionLimiter, ManualClock, list[int]]:
    clock, ended = ManualClock(), list[int]()
    made = SubscriptionLimiter("press", cameras, clock)
    made.disconnect = ended.append
    return made, clock, ended


def admit(made: SubscriptionLimiter, connection: int, *, useful: bool = True) -> bool:
    return made.allow(FakeFrame(connection), can_match=useful)  # type: ignore[arg-type]


def test_a_client_has_an_allowance_and_then_two_per_second() -> None:
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
    made.remove(7)
    assert admit(made, 7), "a new client under the number begins anew"


def test_unmatched_subscriptions_are_limited_per_client_and_in_total() -> None:
    made, _clock, ended = subscribers()
    assert all(admit(made, 1, useful=False) for _ in range(UNMATCHED_PER_CLIENT_MAX))
    assert not admit(made, 1, useful=False)
    assert ended == [1]
    made.remove(1)
    for client in range(2, 2 + UNMATCHED_TOTAL_MAX // UNMATCHED_PER_CLIENT_MAX):
        assert all(admit(made, client, useful=False) for _ in range(UNMATCHED_PER_CLIENT_MAX))
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


def test_a_flood_of_subscriptions_is_disconnected_and_costs_little(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    flooder = context.socket(zmq.XSUB)
    flooder.linger = 0
    flooder.sndhwm = 0
    monitor = flooder.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    before = rss_mib()
    flooder.connect(fake_line.publisher.address)
    for number in range(20_000):
        flooder.send(b"\x01verdict.press.%d." % number + b"x" * 80)
    assert monitor.poll(20_000), "it was let go"
    time.sleep(0.5)
    assert rss_mib() - before < 60  # 20,000 need 80 MiB in the tree; includes the queue of the test
    turns = fake_line.publisher.progress_count
    end = time.monotonic() + 10
    while fake_line.publisher.progress_count < turns + 3:
        assert time.monotonic() < end, "the publisher stands"
        time.sleep(0.01)
    flooder.disable_monitor()
    monitor.close(0)
    context.destroy(0)
    fake_line.close()


def rss_mib() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 >> 20


@pytest.mark.parametrize("junk", [b"\x02hello", b"verdict.press.top.pass"])
def test_a_client_that_sends_no_subscription_is_disconnected(tmp_path: Path, junk: bytes) -> None:
    """libzmq would assign the next subscription of another client to it."""
    fake_line = FakeLine(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    sender = context.socket(zmq.XSUB)
    sender.linger = 0
    sender.reconnect_ivl = -1
    monitor = sender.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    sender.connect(fake_line.publisher.address)
    sender.send(junk)
    assert monitor.poll(20_000)
    sender.disable_monitor()
    monitor.close(0)
    context.destroy(0)
    fake_line.close()


def test_new_connections_are_limited_and_the_others_wait(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    ears = []
    for _ in range(3 * CLIENT_BURST):
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"heartbeat.press")
        subscriber.connect(fake_line.publisher.address)
        ears.append(subscriber)
    assert ears[0].poll(5_000), "the first ones hear"
    door = fake_line.publisher._admission
    assert door is not None
    end = time.monotonic() + 10
    while not door.pause_count:
        assert time.monotonic() < end
        time.sleep(0.01)
    # How many were accepted before it looked is a matter of what else this PC does.
    assert len(door._clients) >= CLIENT_BURST
    context.destroy(0)
    fake_line.close()


@pytest.mark.parametrize("wire", ["tcp", "ipc"])
def test_a_client_that_does_not_read_is_disconnected_and_one_that_reads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    """Messages for a subscriber that never reads would be queued indefinitely."""
    monkeypatch.setattr(slow_clients, "READ_TIMEOUT_NS", 1_000 * NS_PER_MS)
    monkeypatch.setattr(slow_clients, "CHECK_INTERVAL_NS", 100 * NS_PER_MS)
    desk = PublishingHarness(tmp_path)
    address = "tcp://127.0.0.1:*" if wire == "tcp" else f"ipc://{tmp_path}/verdicts"
    publisher = Publisher(
        desk.context,
        PublisherSettings("press", address, heartbeat_ns=50 * NS_PER_MS, high_water_mark=1_000),
        desk.closer,
        SystemClock(),
        check_alarms=lambda: (True, ""),
    )
    thread = threading.Thread(target=publisher.run)
    thread.start()
    context: zmq.Context[Socket] = zmq.Context()
    mute, subscriber = context.socket(zmq.SUB), context.socket(zmq.SUB)
    mute.rcvhwm = 1
    for socket in (mute, subscriber):
        socket.subscribe(b"")
        socket.connect(publisher.address)
        assert socket.poll(5_000)
    door = publisher._admission
    assert door is not None
    end = time.monotonic() + 60
    while len(door._clients) < 2:  # the first message may arrive before the connection event
        assert time.monotonic() < end
        time.sleep(0.01)
    while len(door._clients) > 1:
        assert time.monotonic() < end
        with publisher._lock:
            publisher._send_multipart([b"status.press", bytes(50_000)])
        time.sleep(0.001)
        while subscriber.poll(0):
            subscriber.recv_multipart()
    received = b""
    while received != b"still there":
        assert time.monotonic() < end
        with publisher._lock:  # again and again: on a busy PC its queue may be full
            publisher._send_multipart([b"status.press", b"still there"])
        while received != b"still there" and subscriber.poll(50):
            received = subscriber.recv_multipart()[1]
    assert door.disconnected_count == 1
    publisher.stop()
    thread.join()
    context.destroy(0)
    publisher.close()
    desk.close()


def test_clients_from_the_source_of_a_flood_connect_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "FLOOD_ADMIT_INTERVAL_NS", 3_600_000 * NS_PER_MS)
    monkeypatch.setattr(admission, "_HANDSHAKE_NS", 3_600_000 * NS_PER_MS)
    fake_line = FakeLine(tmp_path)
    port = fake_line.publisher.address.rpartition(":")[2]
    door = fake_line.publisher._admission
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

    def subscriber(source: str) -> Socket:
        made = context.socket(zmq.SUB)
        made.subscribe(b"heartbeat.press")
        made.connect(f"tcp://{source}:0;127.0.0.1:{port}")
        return made

    door._admitted_at_ns = SystemClock().now_ns()  # one got in just now
    waits, other = subscriber("127.0.0.1"), subscriber("127.0.0.2")
    assert other.poll(10_000), "who comes from elsewhere does not pay for it"
    assert not waits.poll(300)
    door._floods.clear()
    assert waits.poll(10_000)
    context.destroy(0)
    fake_line.close()


def test_a_peer_that_was_reset_is_removed_after_the_keepalive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reset is dropped, and the ROUTER sends it nothing that could fail."""
    # Without socket filters in the kernel the reset itself is received.
    quick = tuple((option, 1) for option, _value in tcp_connections._KEEPALIVE)
    monkeypatch.setattr(tcp_connections, "_KEEPALIVE", quick)
    fake_line = FakeLine(tmp_path)
    door = fake_line.replay_server._admission
    assert door is not None
    client = zmtp_client(fake_line.replay_server.address, "DEALER")
    assert len(door._clients) == 1
    reset_connection(client)
    end = time.monotonic() + 20
    while door._clients:
        assert time.monotonic() < end
        time.sleep(0.05)
    fake_line.close()


@pytest.mark.parametrize(("scheme", "filters"), [("tcp", True), ("tcp", False), ("ipc", True)])
def test_a_disconnected_client_is_removed_though_it_keeps_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, filters: bool
) -> None:
    if not filters:  # as under a kernel that lets root alone
        monkeypatch.setattr(tcp_connections, "_SO_ATTACH_FILTER", 9_999)
    address = f"ipc://{tmp_path}/r" if scheme == "ipc" else "tcp://127.0.0.1:*"
    fake_line = FakeLine(tmp_path, replay=address)
    door = fake_line.replay_server._admission
    assert door is not None
    client = zmtp_client(fake_line.replay_server.address, "DEALER")
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
    disconnect(descriptor)
    end = time.monotonic() + 20
    while door._clients and time.monotonic() < end:
        time.sleep(0.01)
    ended.set()
    flooding.join()
    client.close()
    assert not door._clients
    fake_line.close()


# -- backlog of clients that do not read --------------------------------------------------


def test_the_backlog_of_all_clients_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "BACKLOG_BYTES_MAX", 3_000_000)
    pairs = [sockets.socketpair() for _ in range(3)]
    for near, _far in pairs:
        near.setblocking(False)
    reads, little, much = (near.fileno() for near, _far in pairs)
    clock, sent = ManualClock(), [0, 0]
    made = SlowClientMonitor(clock, lambda: (sent[0], sent[1]), messages_max=1_000)

    def fill(near: sockets.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(4_096))

    def look(sent_bytes: int, messages: int) -> list[int]:
        clock.advance(300 * NS_PER_MS)
        sent[0] += sent_bytes
        sent[1] += messages
        return [client for client, _why in made.check((reads, little, much))]

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
    for _ in range(30):  # ZeroMQ queues no more messages than the high-water mark
        pairs[1][1].recv(4_096)  # it reads a little each time
        assert look(200_000, 1_000) == []
    for pair in pairs:
        for end in pair:
            end.close()


def test_the_backlog_of_slow_readers_is_limited_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read a little now and then, so that they are never idle."""
    monkeypatch.setattr(slow_clients, "BACKLOG_BYTES_MAX", 20 << 20)
    desk = PublishingHarness(tmp_path)
    publisher = Publisher(
        desk.context,
        PublisherSettings(
            "press", f"ipc://{tmp_path}/v", heartbeat_ns=50 * NS_PER_MS, high_water_mark=10_000
        ),
        desk.closer,
        SystemClock(),
        check_alarms=lambda: (True, ""),
    )
    thread = threading.Thread(target=publisher.run)
    thread.start()
    slow = [zmtp_client(f"ipc://{tmp_path}/v", "SUB") for _ in range(4)]
    for one in slow:
        one.sendall(b"\x00\x01\x01")  # subscribe to everything
        message = b""
        while b"heartbeat" not in message:
            message += one.recv(4_096) or pytest.fail("let go")
    door = publisher._admission
    assert door is not None
    end = time.monotonic() + 30
    while not door.disconnected_count:
        assert time.monotonic() < end
        with publisher._lock:
            publisher._send_multipart([b"status.press", bytes(100_000)])
        for one in slow:
            with contextlib.suppress(OSError):
                one.recv(1_000)
        time.sleep(0.005)
    assert publisher._sent_totals[0] < 200 << 20
    publisher.stop()
    thread.join()
    for one in slow:
        one.close()
    publisher.close()
    desk.close()


# -- the ROUTER --------------------------------------------------------------------------


def test_an_endless_message_ends_its_connection(tmp_path: Path) -> None:
    """ZeroMQ queues any number of its parts: 3 GiB in three seconds."""
    fake_line = FakeLine(tmp_path, replay=f"ipc://{tmp_path}/r")
    endless = zmtp_client(f"ipc://{tmp_path}/r", "DEALER")
    sent_bytes = 0
    with contextlib.suppress(ConnectionError):
        while sent_bytes < 1 << 30:
            endless.sendall((b"\x01\x64" + bytes(100)) * 100)
            sent_bytes += 10_200
            time.sleep(0.001)
    assert sent_bytes < 1 << 30, "it was let go"
    endless.close()
    door = fake_line.replay_server._admission
    assert door is not None
    assert door.disconnected_count == 1
    fake_line.close()


def test_a_client_that_sends_complete_messages_quickly_stays(tmp_path: Path) -> None:
    fake_line = FakeLine(tmp_path)
    context: zmq.Context[Socket] = zmq.Context()
    busy = context.socket(zmq.DEALER)
    busy.linger = 0
    busy.connect(fake_line.replay_server.address)
    for seq in range(4_000):
        busy.send(encode_body(Ack(name="busy", seq=seq)))
    end = time.monotonic() + 30
    while fake_line.replay_server.acks.get("busy") != 3_999:
        assert time.monotonic() < end
        time.sleep(0.01)
    door = fake_line.replay_server._admission
    assert door is not None
    assert door.disconnected_count == 0
    context.destroy(0)
    fake_line.close()


def test_replay_goes_in_slices_and_each_client_in_turn(tmp_path: Path) -> None:
    desk = PublishingHarness(tmp_path, 512)
    desk.close_frames(200)
    desk.spool.mark_published(200)
    given: list[tuple[bytes, int]] = []

    def send(client: bytes, parts: list[bytes]) -> SendResult:
        if client == b"full":
            return SendResult.QUEUE_FULL
        given.append((client, len(parts)))
        return SendResult.SENT

    clock = ManualClock()
    jobs = ReplayJobs(desk.spool, clock, send)
    for client in (b"full", b"a", b"b"):
        jobs.add(client, ReplayRequest(from_seq=1, limit=100))
    for _ in range(4):
        assert jobs.send_slice()
    counts = [
        sum(1 for client, size in given if client == name and size == 2) for name in (b"a", b"b")
    ]
    assert counts == [2 * SLICE_VERDICTS, 2 * SLICE_VERDICTS]
    while jobs.send_slice():
        pass
    assert len(jobs) == 1, "who does not read waits alone"
    clock.advance(1_100 * NS_PER_MS)
    assert not jobs.send_slice()
    assert not len(jobs), "and has to ask again"
    desk.close()


def test_more_requests_than_allowed_are_answered_with_busy(tmp_path: Path) -> None:
    desk = PublishingHarness(tmp_path, 64)
    answers: list[object] = []

    def send(_client: bytes, parts: list[bytes]) -> SendResult:
        answers.append(decode_reply(parts[-1]))
        return SendResult.SENT

    jobs = ReplayJobs(desk.spool, ManualClock(), send)
    for number in range(JOBS_MAX):
        jobs.add(b"%d" % number, ReplayRequest(from_seq=1))
    assert not answers
    jobs.add(b"0", ReplayRequest(from_seq=5))
    jobs.add(b"one more", ReplayRequest(from_seq=6))
    epoch = desk.spool.epoch
    assert answers == [ReplayBusy(epoch=epoch, from_seq=5), ReplayBusy(epoch=epoch, from_seq=6)]
    desk.close()


class SlowDiskHarness(PublishingHarness):
    """A replay server whose challenge images are on a disk that hangs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 4_096)
        self.disk = threading.Event()
        self.sent: list[str] = []
        self.replay = ReplayServer(
            self.context,
            "tcp://127.0.0.1:*",
            self.spool,
            RequestHandlers(lambda camera, part: None, self._challenge),
            SystemClock(),
        )
        thread = threading.Thread(target=self.replay.run)
        thread.start()
        self.close_callbacks += [self.replay.stop, thread.join, self.replay.close]

    def _challenge(self, _camera: str | None, image: str) -> object:
        self.disk.wait(30)
        if image == "none":
            raise UsageError("there is none")
        return lambda: self.sent.append(image)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDiskHarness]:
    monkeypatch.setattr(disk_tasks, "READ_TIMEOUT_NS", 300 * NS_PER_MS)
    one = SlowDiskHarness(tmp_path)
    yield one
    one.disk.set()
    one.close()


def ask(dealer: Socket, request: object) -> CommandResult:
    dealer.send(encode_body(request))
    assert dealer.poll(10_000)
    answer = decode_reply(dealer.recv_multipart()[-1])
    assert isinstance(answer, CommandResult)
    return answer


def test_a_trigger_does_not_wait_for_replay_or_for_a_disk(slow: SlowDiskHarness) -> None:
    slow.close_frames(4_000)
    slow.spool.mark_published(4_000)
    for _ in range(10):
        idle_client = slow.peer(zmq.DEALER, slow.replay.address)
        for _ in range(20):
            idle_client.send(encode_body(ReplayRequest(from_seq=1, limit=4096)))
        idle_client.send(encode_body(ChallengeRequest(picture="x")))
    caller = slow.peer(zmq.DEALER, slow.replay.address)
    for _ in range(5):
        began = time.monotonic()
        assert ask(caller, TriggerRequest(camera="top")).accepted
        assert time.monotonic() - began < 5  # some 10 ms; it was as long as all the replay


def test_an_image_that_is_read_too_late_is_refused_and_never_injected(
    slow: SlowDiskHarness,
) -> None:
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


def test_commands_that_wait_for_a_disk_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    made = DiskTasks(SystemClock())
    for _ in range(16):
        made.submit(lambda: (held.wait(30), None)[1], "x", lambda problem: None)
    with pytest.raises(UsageError, match="wait for a disk"):
        made.submit(lambda: None, "x", lambda problem: None)
    held.set()
    end = time.monotonic() + 10
    while len(made):
        assert time.monotonic() < end
        made.answer_finished()
    made.stop()


def test_a_replay_is_complete_after_busy(slow: SlowDiskHarness) -> None:
    slow.close_frames(300)
    slow.spool.mark_published(300)
    dealer = slow.peer(zmq.DEALER, slow.replay.address)
    dealer.send(encode_body(ReplayRequest(from_seq=1, limit=300)))
    dealer.send(encode_body(ReplayRequest(from_seq=1, limit=300)))
    seen: list[object] = []
    bodies = 0
    while not any(isinstance(each, ReplayComplete) for each in seen):
        parts = dealer.recv_multipart()
        if len(parts) == 2:
            bodies += 1
        else:
            seen.append(decode_reply(parts[0]))
    assert bodies == 300
    assert all(isinstance(each, (ReplayBusy, ReplayComplete)) for each in seen)
