"""The ROUTER: what it sends again, what is gone, what it counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.frame import Part
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import AddressError, UsageError
from edgeinspect.pipeline.capture.triggers import PendingTrigger, PendingTriggers
from edgeinspect.pipeline.publishing.replay_server import (
    LEDGER_ENTRIES_MAX,
    ReplayServer,
    RequestHandlers,
)
from edgeinspect.pipeline.publishing.trigger_expiry import QUEUE_AGE_MAX_NS
from edgeinspect.system import boot_id
from edgeinspect.wire.requests import (
    Ack,
    ChallengeRequest,
    CommandResult,
    LineReply,
    NoLongerHeld,
    OperatorRequest,
    ReplayComplete,
    ReplayRequest,
    TriggerCount,
    TriggerRequest,
    decode_reply,
    encode_body,
)
from tests.system.plant import wait_for
from tests.unit.pipeline.publishing.harness import PublishingHarness, Socket

SLOTS = 64


class ReplayServerHarness(PublishingHarness):
    """A replay in its thread, and one dealer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SLOTS)
        self.triggered: list[tuple[str, Part]] = []
        self.pending_triggers = PendingTriggers()
        self.counted: list[TriggerCount] = []
        self.challenged: list[tuple[str | None, str]] = []
        self.replay = ReplayServer(
            self.context,
            "tcp://127.0.0.1:*",
            self.spool,
            RequestHandlers(
                self._trigger,
                lambda camera, image: self.challenged.append((camera, image)),
                add_trigger_count=self._count,
            ),
            self.clock,
        )
        thread = threading.Thread(target=self.replay.run)
        thread.start()
        self.close_callbacks += [self.replay.stop, thread.join, self.replay.close]
        self.dealer = self.peer(zmq.DEALER, self.replay.address)

    def _trigger(self, camera: str, part: Part) -> PendingTrigger | None:
        if camera != "top":
            raise UsageError(f"there is no camera '{camera}'")
        pending = self.pending_triggers.add(part)
        self.triggered.append((camera, pending.part))
        return pending if part.encoder_count != 7 else None

    def _count(self, message: TriggerCount) -> None:
        if message.camera != "top":
            raise UsageError("there is no such camera")
        self.counted.append(message)

    def request(self, from_seq: int, **limit: int) -> tuple[list[bytes], LineReply]:
        self.dealer.send(encode_body(ReplayRequest(from_seq=from_seq, **limit)))
        return self.answer()

    def answer(self, dealer: Socket | None = None) -> tuple[list[bytes], LineReply]:
        """Verdicts up to the answer that ends them."""
        bodies: list[bytes] = []
        while len(parts := (dealer or self.dealer).recv_multipart()) == 2:
            assert parts[0] == b"verdict"
            bodies.append(parts[1])
        return bodies, decode_reply(parts[0])

    def settle(self) -> None:
        """Wait until everything that was sent before has been received."""
        self.dealer.send(encode_body(TriggerRequest(camera="nobody")))
        while not isinstance(self.answer()[1], CommandResult):
            pass


@pytest.fixture
def router(tmp_path: Path) -> Iterator[ReplayServerHarness]:
    router = ReplayServerHarness(tmp_path)
    yield router
    router.close()


def test_published_verdicts_are_sent_again_unchanged(router: ReplayServerHarness) -> None:
    sent = router.close_frames(10)
    router.spool.mark_published(8)
    epoch = router.spool.epoch
    bodies, answer = router.request(3)
    assert bodies == sent[2:8], "what is not published yet comes in its turn"
    assert answer == ReplayComplete(epoch=epoch, from_seq=3, to_seq=8, last_seq=8)
    bodies, answer = router.request(3, limit=2)
    assert bodies == sent[2:4]
    assert answer == ReplayComplete(epoch=epoch, from_seq=3, to_seq=4, last_seq=8)
    assert router.replay.replayed_count == 8


def test_operator_entries_for_the_ledger_are_limited(tmp_path: Path) -> None:
    clock, written = ManualClock(), []
    desk = PublishingHarness(tmp_path, SLOTS)
    replay = ReplayServer(
        desk.context,
        "tcp://127.0.0.1:*",
        desk.spool,
        RequestHandlers(
            lambda _camera, _part: None,
            lambda _camera, _picture: None,
            record_operator_action=lambda *words: written.append(words),
        ),
        clock,
    )
    try:
        entry = encode_body(OperatorRequest(actor="anna", action="acknowledge", detail="x" * 500))
        for _ in range(1000):
            replay._on_message([b"client", entry])
        assert len(written) == LEDGER_ENTRIES_MAX
        clock.advance(NS_PER_S)
        for _ in range(1000):
            replay._on_message([b"client", entry])
        assert len(written) == LEDGER_ENTRIES_MAX + 2
        clock.advance(3600 * NS_PER_S)
        for _ in range(1000):
            replay._on_message([b"client", entry])
        assert len(written) == 2 * LEDGER_ENTRIES_MAX + 2
    finally:
        replay.close()
        desk.close()


def test_a_future_seq_gets_an_empty_replay(router: ReplayServerHarness) -> None:
    epoch = router.spool.epoch
    assert router.request(1) == ([], ReplayComplete(epoch=epoch, from_seq=1, to_seq=0, last_seq=0))
    router.close_frames(3)
    router.spool.mark_published(3)
    bodies, answer = router.request(900)
    assert not bodies
    assert answer == ReplayComplete(epoch=epoch, from_seq=900, to_seq=899, last_seq=3)


def test_an_open_frame_is_never_sent(router: ReplayServerHarness) -> None:
    sent = router.close_frames(2)
    seq = router.open()
    router.spool.mark_published(seq)  # as a mistake: the slot itself decides
    bodies, answer = router.request(1)
    assert bodies == sent
    assert isinstance(answer, ReplayComplete)
    assert answer.to_seq == 2


@pytest.mark.parametrize("from_seq", [0, 1, 36])
def test_overwritten_verdicts_are_gone_and_the_oldest_is_named(
    router: ReplayServerHarness, from_seq: int
) -> None:
    router.spool.mark_ledgered(100)
    router.close_frames(100)
    router.spool.mark_published(100)
    oldest = 100 - SLOTS + 1
    bodies, answer = router.request(from_seq)
    assert not bodies
    assert answer == NoLongerHeld(epoch=router.spool.epoch, from_seq=from_seq, oldest_seq=oldest)
    bodies, answer = router.request(oldest)
    assert len(bodies) == SLOTS
    assert router.replay.dropped_count == 0


def test_the_last_ack_of_each_name_is_stored_and_names_are_limited(
    router: ReplayServerHarness,
) -> None:
    for seq in (1, 5, 9):
        router.dealer.send(encode_body(Ack(name="plc-1", seq=seq)))
    for number in range(300):
        router.dealer.send(encode_body(Ack(name=f"n{number}", seq=1)))
    router.settle()
    assert router.replay.acks["plc-1"] == 9
    assert len(router.replay.acks) == 256
    assert router.replay.dropped_count == 45
    router.dealer.send(encode_body(Ack(name="plc-1", seq=10)))
    router.settle()
    assert router.replay.acks["plc-1"] == 10, "a known name is heard though it is full"


def test_commands_are_executed_or_refused_with_a_reason(router: ReplayServerHarness) -> None:
    router.dealer.send(encode_body(TriggerRequest(camera="top", part_id="p-1", encoder_count=7)))
    assert router.answer()[1] == CommandResult(accepted=True)
    assert router.triggered == [("top", Part("p-1", 7, False))]
    router.dealer.send(encode_body(TriggerRequest(camera="side")))
    assert router.answer()[1] == CommandResult(accepted=False, problem="there is no camera 'side'")
    router.dealer.send(encode_body(ChallengeRequest(picture="bad.png")))
    assert router.answer()[1] == CommandResult(accepted=True)
    assert router.challenged == [(None, "bad.png")]


def test_a_trigger_is_answered_with_the_seq_of_its_frame(router: ReplayServerHarness) -> None:
    """A REQ socket too; in the order of the frames, not of the requests."""
    asker = router.peer(zmq.REQ, router.replay.address)
    asker.send(encode_body(TriggerRequest(camera="top", part_id="p-1")))
    router.dealer.send(encode_body(TriggerRequest(camera="top", part_id="p-2")))
    wait_for(lambda: len(router.triggered) == 2)
    parts = {part.part_id: part for _, part in router.triggered}
    router.pending_triggers.resolve(
        Part("p-2"), 99
    )  # equal is not enough: it must be that trigger's
    router.pending_triggers.resolve(parts["p-2"], 12)
    assert router.answer()[1] == CommandResult(accepted=True, seq=12)
    router.pending_triggers.resolve(parts["p-1"], 13)
    assert decode_reply(asker.recv()) == CommandResult(accepted=True, seq=13)


def test_a_trigger_without_a_frame_is_answered_in_time(router: ReplayServerHarness) -> None:
    router.dealer.send(encode_body(TriggerRequest(camera="top", part_id="p-1")))
    assert router.answer()[1] == CommandResult(accepted=True, seq=None)


def test_a_trigger_count_is_forwarded_without_a_reply(router: ReplayServerHarness) -> None:
    router.dealer.send(encode_body(TriggerCount(camera="top", count=5)))
    router.dealer.send(encode_body(TriggerCount(camera="side", count=5)))
    router.settle()
    assert router.counted == [TriggerCount(camera="top", count=5)]
    assert router.replay.dropped_count == 1


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"{}"],
        [b"null"],
        [b"\xff\xfe"],
        [b"[" * 4000],
        [b"a", b"b", b"c", b"d"],
        [b'{"schema":"edgeinspect.replay/1"}'],
        [b'{"schema":"edgeinspect.replay/1","from_seq":-1}'],
        [b'{"schema":"edgeinspect.replay/1","from_seq":1e999}'],
        [b'{"schema":"edgeinspect.replay/1","from_seq":' + b"9" * 400 + b"}"],
        [b'{"schema":"edgeinspect.replay/1","from_seq":1,"limit":0}'],
        [b'{"schema":"edgeinspect.replay/1","from_seq":1,"limit":99999}'],
        [b'{"schema":"edgeinspect.replay/2","from_seq":1}'],
        [b'{"schema":"edgeinspect.ack/1","name":"","seq":1}'],
        [b'{"schema":"edgeinspect.ack/1","name":"' + b"x" * 65 + b'","seq":1}'],
    ],
    ids=lambda parts: repr(parts[0][:48]),
)
def test_invalid_requests_are_dropped_and_counted(
    router: ReplayServerHarness, parts: list[bytes]
) -> None:
    router.close_frames(1)
    router.dealer.send_multipart(parts)
    router.settle()
    assert router.replay.dropped_count == 1
    assert router.replay.replayed_count == 0
    assert router.replay.acks == {}


def test_no_bytes_end_the_server(router: ReplayServerHarness) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    def send(parts: list[bytes]) -> None:
        router.dealer.send_multipart(parts)

    send()
    router.settle()
    assert router.replay.dropped_count > 100


def test_a_client_that_does_not_read_delays_no_other(router: ReplayServerHarness) -> None:
    router.close_frames(60)
    router.spool.mark_published(60)
    greedy = router.peer(zmq.DEALER, router.replay.address)
    for _ in range(50):  # 3,000 verdicts, none of which it reads
        greedy.send(encode_body(ReplayRequest(from_seq=1)))
    bodies, _answer = router.request(1)
    assert len(bodies) == 60


def test_an_address_in_use_is_an_error(router: ReplayServerHarness) -> None:
    message = pytest.raises(AddressError, match=r"publish\.replay: tcp://.* cannot be bound")
    with zmq.Context() as context, message:  # which ends, as no socket was left open
        ReplayServer(
            context,
            router.replay.address,
            router.spool,
            RequestHandlers(lambda camera, part: None, lambda camera, image: None),
            router.clock,
        )


def test_a_trigger_has_its_expiry_or_gets_one(router: ReplayServerHarness) -> None:
    router.dealer.send(encode_body(TriggerRequest(camera="top", encoder_count=7)))
    assert router.answer()[1] == CommandResult(accepted=True)
    now_ns = router.clock.now_ns()
    ends = now_ns + 100 * NS_PER_MS
    router.dealer.send(
        encode_body(
            TriggerRequest(
                camera="top", encoder_count=7, expires_monotonic_ns=ends, boot_id=boot_id.boot_id()
            )
        )
    )
    assert router.answer()[1] == CommandResult(accepted=True)
    first, second = (part.expires_at_ns for _, part in router.triggered)
    assert first is not None
    assert first <= now_ns + QUEUE_AGE_MAX_NS
    assert second == ends
