"""A line with CURVE over real sockets: which clients are served, refused and reported."""

from __future__ import annotations

import errno
import os
import socket as sockets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import zmq
from structlog.testing import capture_logs

from edgeinspect.client import VerdictFeed, VerdictReceived
from edgeinspect.client.sockets import Socket, SocketSetup
from edgeinspect.domain.clock import SystemClock
from edgeinspect.errors import AddressError, DataError
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.services.gateway.service import build_gateway
from edgeinspect.wire import curve_authenticator, curve_keys, slow_clients
from edgeinspect.wire.requests import ReplayRequest, TriggerRequest, encode_body
from tests.faults.harness import RunningLine, wait_for
from tests.unit.services.gateway.test_gateway import CONFIG, FakeLink


class CurveFixture:
    """A running line with keys, and a client of it that is let in."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "keys"
        self.root = root
        self.server = curve_keys.create_server_keys(self.folder)
        self.secrets: dict[str, Path] = {}
        self.new_client("ear")
        self.add_client("ear")
        self.running = RunningLine(
            root,
            rate_hz=100,
            frames=100_000,
            publish=f", curve: {self.folder}",
            prepare=self.prepare("ear"),
        )
        self.running.line.start(warm_up_rounds=1)
        self.door = self.running.line._sockets._authenticator
        assert self.door is not None

    def new_client(self, name: str) -> None:
        self.secrets[name] = curve_keys.create_key_pair(self.root / "own", name)[1]

    def add_client(self, name: str) -> Path:
        return curve_keys.add_client(self.folder, self.secrets[name].with_suffix(".key"))

    def prepare(self, name: str) -> SocketSetup:
        return lambda socket: curve_keys.use_client_keys(self.secrets[name], self.server, socket)

    def feed(self, name: str, cursor: int | None = None) -> VerdictFeed:
        line = self.running.line
        return VerdictFeed(
            line.publisher.address,
            line.replay_server.address,
            name=name,
            cursor=cursor,
            setup_socket=self.prepare(name),
        )

    def refusals(self, logs: Sequence[Mapping[str, object]]) -> set[object]:
        return {entry["problem"] for entry in logs if entry["event"] == "client.refused"}


@pytest.fixture
def curve_line(tmp_path: Path) -> Iterator[CurveFixture]:
    curve_line = CurveFixture(tmp_path)
    yield curve_line
    curve_line.running.stop()


def strangers(
    curve_line: CurveFixture, name: str | None
) -> tuple[zmq.Context[Socket], list[Socket]]:
    """A subscriber and a dealer, with a client's keys or with none."""
    context: zmq.Context[Socket] = zmq.Context()
    line = curve_line.running.line
    made = []
    for kind, address in (
        (zmq.SUB, line.publisher.address),
        (zmq.DEALER, line.replay_server.address),
    ):
        socket = context.socket(kind)
        socket.linger = 0
        if name is not None:
            curve_line.prepare(name)(socket)
        if kind == zmq.SUB:
            socket.subscribe("")
        socket.connect(address)
        if kind == zmq.DEALER:
            for request in (ReplayRequest(from_seq=1), TriggerRequest(camera="top")):
                socket.send(encode_body(request))
        made.append(socket)
    return context, made


@pytest.mark.parametrize("name", ["stranger", None], ids=["unknown-key", "no-key"])
def test_an_unknown_client_receives_nothing_and_is_logged(
    curve_line: CurveFixture, name: str | None
) -> None:
    curve_line.new_client("stranger")
    with capture_logs() as logs:
        context, sockets = strangers(curve_line, name)
        heard_before = len(curve_line.running.verdicts)
        time.sleep(1.5)
        received = [socket.poll(0) for socket in sockets]
        assert received == [0, 0]
        assert len(curve_line.running.verdicts) > heard_before + 50, "the line did speak meanwhile"
    context.destroy(0)
    why = "unknown key" if name else "no key, or no CURVE"
    assert curve_line.refusals(logs) == {why}
    assert curve_line.door is not None
    assert curve_line.door.rejected_count >= 2, "at both sockets"
    assert (
        curve_line.running.line.replay_server.replayed_count
        == curve_line.running.line.replay_server.dropped_count
        == 0
    )


def test_strangers_are_logged_once_a_second_however_often_they_come(
    curve_line: CurveFixture,
) -> None:
    curve_line.new_client("stranger")
    with capture_logs() as logs:
        crowd = [strangers(curve_line, "stranger") for _ in range(10)]
        assert curve_line.door is not None
        wait_for(lambda: curve_line.door.rejected_count >= 20, 10)
        for context, _sockets in crowd:
            context.destroy(0)
    assert len([entry for entry in logs if entry["event"] == "client.refused"]) <= 5


def test_handshakes_are_limited_and_the_oldest_is_closed(
    curve_line: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections need no key, and each costs a handle: 1,000 of them would end the daemon."""
    monkeypatch.setattr(curve_authenticator, "HANDSHAKES_MAX", 8)
    line = curve_line.running.line
    host, port = line.publisher.address.removeprefix("tcp://").split(":")
    made = [sockets.create_connection((host, int(port)), timeout=5) for _ in range(40)]
    for each in made:
        each.settimeout(0)

    def is_ended(each: sockets.socket) -> bool:
        try:
            while each.recv(100):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

    # Long before the timeout of their handshakes, 5 s.
    wait_for(lambda: sum(map(is_ended, made[:30])) >= 25, 4)
    with curve_line.feed("ear") as feed:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)
    for each in made:
        each.close()


def test_a_client_that_connects_too_often_connects_later_by_itself(
    curve_line: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve_authenticator, "KEY_CONNECTION_BURST", 2)
    monkeypatch.setattr(curve_authenticator, "KEY_CONNECTIONS_PER_S", 1)
    with zmq.Context() as context:
        ears = []
        for _ in range(5):
            subscriber = context.socket(zmq.SUB)
            subscriber.linger = 0
            subscriber.reconnect_ivl = 100
            curve_line.prepare("ear")(subscriber)
            subscriber.subscribe(b"heartbeat")
            subscriber.connect(curve_line.running.line.publisher.address)
            ears.append(subscriber)
        assert curve_line.door is not None
        with capture_logs() as logs:
            wait_for(lambda: curve_line.door.rejected_count >= 1, 10)
        assert any("too often" in str(problem) for problem in curve_line.refusals(logs))
        for subscriber in ears:
            assert subscriber.poll(30_000), "each is let in in its turn, without a new socket"
            subscriber.close()


def test_a_client_with_too_many_requests_is_disconnected_and_its_successor_served(
    curve_line: CurveFixture,
) -> None:
    """The successor has the same descriptor."""
    context: zmq.Context[Socket] = zmq.Context()
    for _ in range(3):
        greedy = context.socket(zmq.XSUB)
        greedy.linger = 0
        greedy.reconnect_ivl = -1
        monitor = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        curve_line.prepare("ear")(greedy)
        greedy.connect(curve_line.running.line.publisher.address)
        for number in range(200):
            greedy.send(b"\x01verdict.%d." % number)
        assert monitor.poll(20_000), "it was let go"
        greedy.disable_monitor()
        monitor.close(0)
        greedy.close()
        subscriber = context.socket(zmq.SUB)
        curve_line.prepare("ear")(subscriber)
        subscriber.subscribe(b"heartbeat")
        subscriber.connect(curve_line.running.line.publisher.address)
        assert subscriber.poll(20_000)
        subscriber.close(0)
    context.destroy(0)


def test_a_client_with_a_key_that_does_not_read_is_disconnected(
    curve_line: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with curve_line.feed("ear") as feed, capture_logs() as logs:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)
        monkeypatch.setattr(slow_clients, "BACKLOG_BYTES_MAX", -1)
        wait_for(lambda: any(entry["event"] == "client.cut" for entry in logs), 20)
        monkeypatch.undo()
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)


def test_unreadable_keys_exclude_no_known_client(
    curve_line: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle(*_arguments: object) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files")

    assert curve_line.door is not None
    monkeypatch.setattr(os, "listdir", no_handle)
    with capture_logs() as logs:
        curve_line.door.refresh()
    monkeypatch.undo()
    assert any("Too many open files" in str(problem) for problem in curve_line.refusals(logs))
    with curve_line.feed("ear") as feed:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)


def test_a_client_is_let_in_and_shut_out_while_the_line_runs(curve_line: CurveFixture) -> None:
    curve_line.new_client("page")
    with curve_line.feed("page", cursor=0) as feed:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert feed.receive(20) is None
        allowed = curve_line.add_client("page")
        let_in_at = time.monotonic()
        first = next(event for event in feed if isinstance(event, VerdictReceived))
        assert time.monotonic() - let_in_at < 2.0
        assert first.verdict.seq == 1, "what was sent before it was let in is replayed"
        wait_for(lambda: isinstance(feed.receive(50), VerdictReceived))

        allowed.unlink()
        time.sleep(1.0)
        while feed.receive(0) is not None:
            pass  # what was under way
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert feed.receive(20) is None, "its connection was ended, and it stays out"
        shut_out_at = feed.cursor
        # The remaining clients were disconnected for a moment, and miss nothing by replay.
        with curve_line.feed("ear", cursor=0) as other:
            wait_for(lambda: other.receive(50) is not None and other.cursor > shut_out_at)
        curve_line.add_client("page")
        wait_for(lambda: feed.receive(50) is not None and feed.cursor > shut_out_at)


def test_a_client_misses_nothing_when_another_is_removed(curve_line: CurveFixture) -> None:
    curve_line.new_client("page")
    allowed = curve_line.add_client("page")
    seqs: list[int] = []
    stop = threading.Event()

    def listen() -> None:
        with curve_line.feed("ear", cursor=0) as feed:
            while not stop.is_set():
                event = feed.receive(50)
                if isinstance(event, VerdictReceived):
                    seqs.append(event.verdict.seq)

    subscriber = threading.Thread(target=listen)
    subscriber.start()
    wait_for(lambda: len(seqs) > 30)
    allowed.unlink()
    cut_at = curve_line.running.line.spool.last_seq
    wait_for(lambda: bool(seqs) and seqs[-1] > cut_at + 100)
    stop.set()
    subscriber.join(5)
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_gateway_with_keys(curve_line: CurveFixture, tmp_path: Path) -> None:
    curve_line.new_client("plc-1")
    line = curve_line.running.line
    curve = {"secret": str(curve_line.secrets["plc-1"]), "server": str(curve_line.server)}
    feed = msgspec.convert(
        {
            "line": "rig",
            "verdicts": line.publisher.address,
            "replay": line.replay_server.address,
            "curve": curve,
        },
        type(CONFIG.feed),
    )
    config = msgspec.structs.replace(CONFIG, feed=feed, fail_safe_ms=5_000.0)
    journal = GatewayJournal(tmp_path / "j", name="plc-1", capacity=100_000)
    link = FakeLink()
    gateway = build_gateway(config, link, journal, SystemClock())
    thread = threading.Thread(target=gateway.run)
    thread.start()
    time.sleep(0.5)
    assert journal.cursor is None
    assert not link.images[-1].online
    curve_line.add_client("plc-1")
    wait_for(lambda: journal.last_record is not None and journal.last_record.totals.results >= 50)
    gateway.stop()
    thread.join(5)
    seqs = [record.seq for record in journal.read_records() if record.outcome is not None]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    journal.close()
    assert line.replay_server.acks["plc-1"] > 0


def test_a_gateways_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    server = curve_keys.create_server_keys(tmp_path / "keys")
    secret = curve_keys.create_key_pair(tmp_path / "own", "plc-1")[1]
    secret.chmod(0o644)
    curve = msgspec.convert({"secret": str(secret), "server": str(server)}, type_curve())
    config = msgspec.structs.replace(CONFIG, feed=msgspec.structs.replace(CONFIG.feed, curve=curve))
    journal = GatewayJournal(tmp_path / "j", name="plc-1", capacity=64)
    with pytest.raises(DataError, match="read by others"):
        build_gateway(config, FakeLink(), journal, SystemClock())
    journal.close()


def type_curve() -> type:
    from edgeinspect.client.line_config import ClientKeysConfig

    return ClientKeysConfig


@pytest.mark.parametrize("taken", ["verdicts", "replay"])
def test_an_address_in_use_ends_the_start_without_a_hang(tmp_path: Path, taken: str) -> None:
    curve_keys.create_server_keys(tmp_path / "keys")
    context: zmq.Context[Socket] = zmq.Context()
    holder = context.socket(zmq.PUB)
    port = holder.bind_to_random_port("tcp://127.0.0.1")
    from edgeinspect.config.loader import parse_config
    from edgeinspect.pipeline.line import Line, WorkerEngines
    from edgeinspect.testing.doubles import brightness_gate
    from tests.faults.harness import SHAPE, UnpluggableCamera

    addresses = {"verdicts": "tcp://127.0.0.1:*", "replay": "tcp://127.0.0.1:*"}
    addresses[taken] = f"tcp://127.0.0.1:{port}"
    loaded = parse_config(
        f"""\
schema: 1
line: rig
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
engines: {{gate: {{type: ov, model: scripted}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish: {{verdicts: "{addresses["verdicts"]}", replay: "{addresses["replay"]}",
  curve: {tmp_path / "keys"}}}
spool: {{folder: {tmp_path}, slots: 64}}
"""
    )
    with pytest.raises(AddressError, match=rf"publish\.{taken}: tcp://.* cannot be bound"):
        Line(
            loaded.config,
            config_hash=loaded.hash,
            cameras={"top": UnpluggableCamera(10, 1)},
            worker_engines=[WorkerEngines(brightness_gate(SHAPE, lambda: None), None)],
            clock=SystemClock(),
        )
    context.destroy(0)
