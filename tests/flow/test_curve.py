"""A line with keys, over real sockets: who hears it, who does not, and what is said of them."""

from __future__ import annotations

import errno
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
from edgeinspect.services.gateway.journal import Journal
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
        self.rig = RunningLine(
            root,
            rate_hz=100,
            frames=100_000,
            publish=f", curve: {self.folder}",
            prepare=self.prepare("ear"),
        )
        self.rig.line.start(warm_up_rounds=1)
        self.door = self.rig.line._sockets._authenticator
        assert self.door is not None

    def new_client(self, name: str) -> None:
        self.secrets[name] = curve_keys.create_key_pair(self.root / "own", name)[1]

    def add_client(self, name: str) -> Path:
        return curve_keys.add_client(self.folder, self.secrets[name].with_suffix(".key"))

    def prepare(self, name: str) -> SocketSetup:
        return lambda socket: curve_keys.use_client_keys(self.secrets[name], self.server, socket)

    def feed(self, name: str, cursor: int | None = None) -> VerdictFeed:
        line = self.rig.line
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
def keyed(tmp_path: Path) -> Iterator[CurveFixture]:
    keyed = CurveFixture(tmp_path)
    yield keyed
    keyed.rig.stop()


def strangers(keyed: CurveFixture, name: str | None) -> tuple[zmq.Context[Socket], list[Socket]]:
    """A subscriber and a dealer, with a client's keys or with none."""
    context: zmq.Context[Socket] = zmq.Context()
    line = keyed.rig.line
    made = []
    for kind, address in (
        (zmq.SUB, line.publisher.address),
        (zmq.DEALER, line.replay_server.address),
    ):
        socket = context.socket(kind)
        socket.linger = 0
        if name is not None:
            keyed.prepare(name)(socket)
        if kind == zmq.SUB:
            socket.subscribe("")
        socket.connect(address)
        if kind == zmq.DEALER:
            for request in (ReplayRequest(from_seq=1), TriggerRequest(camera="top")):
                socket.send(encode_body(request))
        made.append(socket)
    return context, made


@pytest.mark.parametrize("name", ["stranger", None], ids=["unknown-key", "no-key"])
def test_who_is_not_known_hears_nothing_and_is_logged(
    keyed: CurveFixture, name: str | None
) -> None:
    keyed.new_client("stranger")
    with capture_logs() as logs:
        context, sockets = strangers(keyed, name)
        heard_before = len(keyed.rig.verdicts)
        time.sleep(1.5)
        received = [socket.poll(0) for socket in sockets]
        assert received == [0, 0]
        assert len(keyed.rig.verdicts) > heard_before + 50, "the line did speak meanwhile"
    context.destroy(0)
    why = "unknown key" if name else "no key, or no CURVE"
    assert keyed.refusals(logs) == {why}
    assert keyed.door is not None
    assert keyed.door.rejected_count >= 2, "at both sockets"
    assert (
        keyed.rig.line.replay_server.replayed_count
        == keyed.rig.line.replay_server.dropped_count
        == 0
    )


def test_strangers_are_logged_once_a_second_however_often_they_come(keyed: CurveFixture) -> None:
    keyed.new_client("stranger")
    with capture_logs() as logs:
        crowd = [strangers(keyed, "stranger") for _ in range(10)]
        assert keyed.door is not None
        wait_for(lambda: keyed.door.rejected_count >= 20, 10)
        for context, _sockets in crowd:
            context.destroy(0)
    assert len([entry for entry in logs if entry["event"] == "client.refused"]) <= 5


def test_so_many_may_be_shaking_hands_and_the_oldest_goes(
    keyed: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections need no key, and each costs a handle: 1,000 of them would end the daemon."""
    monkeypatch.setattr(curve_authenticator, "HANDSHAKES_MAX", 8)
    line = keyed.rig.line
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

    # Long before their own handshakes' time is up: 5 s.
    wait_for(lambda: sum(map(is_ended, made[:30])) >= 25, 4)
    with keyed.feed("ear") as feed:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)
    for each in made:
        each.close()


def test_who_comes_too_often_with_a_key_comes_later_by_itself(
    keyed: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve_authenticator, "KEY_CONNECTION_BURST", 2)
    monkeypatch.setattr(curve_authenticator, "KEY_CONNECTIONS_PER_S", 1)
    with zmq.Context() as context:
        ears = []
        for _ in range(5):
            ear = context.socket(zmq.SUB)
            ear.linger = 0
            ear.reconnect_ivl = 100
            keyed.prepare("ear")(ear)
            ear.subscribe(b"heartbeat")
            ear.connect(keyed.rig.line.publisher.address)
            ears.append(ear)
        assert keyed.door is not None
        with capture_logs() as logs:
            wait_for(lambda: keyed.door.rejected_count >= 1, 10)
        assert any("too often" in str(problem) for problem in keyed.refusals(logs))
        for ear in ears:
            assert ear.poll(30_000), "each is let in in its turn, without a new socket"
            ear.close()


def test_who_asks_too_much_with_a_key_is_let_go_and_its_successor_is_heard(
    keyed: CurveFixture,
) -> None:
    """The successor has the same descriptor."""
    context: zmq.Context[Socket] = zmq.Context()
    for _ in range(3):
        greedy = context.socket(zmq.XSUB)
        greedy.linger = 0
        greedy.reconnect_ivl = -1
        monitor = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        keyed.prepare("ear")(greedy)
        greedy.connect(keyed.rig.line.publisher.address)
        for number in range(200):
            greedy.send(b"\x01verdict.%d." % number)
        assert monitor.poll(20_000), "it was let go"
        greedy.disable_monitor()
        monitor.close(0)
        greedy.close()
        ear = context.socket(zmq.SUB)
        keyed.prepare("ear")(ear)
        ear.subscribe(b"heartbeat")
        ear.connect(keyed.rig.line.publisher.address)
        assert ear.poll(20_000)
        ear.close(0)
    context.destroy(0)


def test_who_does_not_read_is_let_go_with_a_key_too(
    keyed: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keyed.feed("ear") as feed, capture_logs() as logs:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)
        monkeypatch.setattr(slow_clients, "BACKLOG_BYTES_MAX", -1)
        wait_for(lambda: any(entry["event"] == "client.cut" for entry in logs), 20)
        monkeypatch.undo()
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)


def test_a_folder_of_keys_that_cannot_be_read_now_shuts_nobody_out(
    keyed: CurveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle(*_arguments: object) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files")

    assert keyed.door is not None
    monkeypatch.setattr(Path, "glob", no_handle)
    with capture_logs() as logs:
        keyed.door.refresh()
    monkeypatch.undo()
    assert any("Too many open files" in str(problem) for problem in keyed.refusals(logs))
    with keyed.feed("ear") as feed:
        wait_for(lambda: isinstance(feed.receive(20), VerdictReceived), 20)


def test_a_client_is_let_in_and_shut_out_while_the_line_runs(keyed: CurveFixture) -> None:
    keyed.new_client("page")
    with keyed.feed("page", cursor=0) as feed:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert feed.receive(20) is None
        allowed = keyed.add_client("page")
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
        # Those who are still let in were cut off for a moment, and miss nothing by replay.
        with keyed.feed("ear", cursor=0) as other:
            wait_for(lambda: other.receive(50) is not None and other.cursor > shut_out_at)
        keyed.add_client("page")
        wait_for(lambda: feed.receive(50) is not None and feed.cursor > shut_out_at)


def test_who_stays_misses_nothing_when_another_is_shut_out(keyed: CurveFixture) -> None:
    keyed.new_client("page")
    allowed = keyed.add_client("page")
    seqs: list[int] = []
    stop = threading.Event()

    def listen() -> None:
        with keyed.feed("ear", cursor=0) as feed:
            while not stop.is_set():
                event = feed.receive(50)
                if isinstance(event, VerdictReceived):
                    seqs.append(event.verdict.seq)

    ear = threading.Thread(target=listen)
    ear.start()
    wait_for(lambda: len(seqs) > 30)
    allowed.unlink()
    cut_at = keyed.rig.line.spool.last_seq
    wait_for(lambda: bool(seqs) and seqs[-1] > cut_at + 100)
    stop.set()
    ear.join(5)
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_gateway_with_keys(keyed: CurveFixture, tmp_path: Path) -> None:
    keyed.new_client("plc-1")
    line = keyed.rig.line
    curve = {"secret": str(keyed.secrets["plc-1"]), "server": str(keyed.server)}
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
    journal = Journal(tmp_path / "j", name="plc-1", capacity=100_000)
    link = FakeLink()
    gateway = build_gateway(config, link, journal, SystemClock())
    thread = threading.Thread(target=gateway.run)
    thread.start()
    time.sleep(0.5)
    assert journal.cursor is None
    assert not link.images[-1].online
    keyed.add_client("plc-1")
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
    journal = Journal(tmp_path / "j", name="plc-1", capacity=64)
    with pytest.raises(DataError, match="read by others"):
        build_gateway(config, FakeLink(), journal, SystemClock())
    journal.close()


def type_curve() -> type:
    from edgeinspect.client.line_config import ClientKeysConfig

    return ClientKeysConfig


@pytest.mark.parametrize("taken", ["verdicts", "replay"])
def test_a_taken_address_ends_the_start_and_hangs_nothing(tmp_path: Path, taken: str) -> None:
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
