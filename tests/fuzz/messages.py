"""Targets: messages of the wire, and what each receiver does with one that decodes."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import zmq

from edgeinspect.client.feed import Feed
from edgeinspect.client.sockets import read
from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.part_verdict import PartVerdict
from edgeinspect.domain.plc import Outcome, PlcImage
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.errors import EdgeInspectError
from edgeinspect.imaging.run_length import decode_classes
from edgeinspect.pipeline.publishing.part_verdicts import PartBook
from edgeinspect.pipeline.publishing.replay_server import Replay
from edgeinspect.plclinks import _register_map
from edgeinspect.services.gateway.handshake import Applied, How
from edgeinspect.services.gateway.journal import _record
from edgeinspect.services.gateway.journal import encode as encode_record
from edgeinspect.services.gateway.plc_results import from_verdict
from edgeinspect.storage.ledger.schema import late_row, verdict_columns
from edgeinspect.wire import messages, requests
from tests.fuzz.examples import EXAMPLES
from tests.fuzz.target import Target


def _is_message(body: bytes) -> bool:
    try:
        messages.decode(body)
    except ValueError:
        return False
    return True


BODIES = [messages.encode(message) for message in EXAMPLES.values()]
VERDICTS = [body for body in BODIES if b'"edgeinspect.verdict/1"' in body]
MESSAGES = [body for body in BODIES if _is_message(body)]
MASKS = [body for body in BODIES if b'"edgeinspect.mask/1"' in body]
BEATS = [body for body in BODIES if b"heartbeat/1" in body or b"status/1" in body]
REQUESTS = [
    requests.encode(message)
    for message in EXAMPLES.values()
    if isinstance(message, requests.Request)
]
ANSWERS = [
    requests.encode(message)
    for message in EXAMPLES.values()
    if isinstance(message, requests.Answer)
]


class _Spool:
    """As much of a spool as a replay needs: nothing in it."""

    epoch, oldest_seq, last_seq, published_seq = 7, 1, 0, 0

    def read(self, seq: int) -> bytes | None:
        return None


def _refuse(*_arguments: object) -> Any:
    raise EdgeInspectError("not here")


def ask_router(data: bytes, _folder: Path) -> None:
    """The ROUTER's thread itself, on a socket that nobody is at."""
    _ROUTER.hear(data)


class _Router:
    """Made at the first message, kept for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replay: Replay | None = None

    def hear(self, data: bytes) -> None:
        with self._lock:
            if self._replay is None:
                self._replay = Replay(
                    context=zmq.Context(),
                    address="inproc://fuzz",
                    spool=_Spool(),
                    clock=ManualClock(),
                    trigger=_refuse,
                    challenge=_refuse,
                    operate=_refuse,
                    count_triggers=_refuse,
                )
            for parts in ([b"\0id", data], [b"\0id", b"", data], [b"\0id", data, data, data]):
                self._replay._hear(parts)


_ROUTER = _Router()


def receive(data: bytes, _folder: Path) -> None:
    """Both sockets of a subscriber."""
    with Feed("inproc://a", "inproc://b", name="fuzz", line="strip", cursor=1) as feed:
        for parts in (
            [b"verdict.strip.top.pass", data],
            [b"heartbeat.strip", data],
            [data],
            [b"verdict.strip.top.pass", VERDICTS[0], data],
        ):
            _quietly(lambda parts=parts: feed._hear_pub(parts))
        for parts in ([data], [b"verdict", data], [b"", data, data]):
            _quietly(lambda parts=parts: feed._hear_replay(parts))


def _quietly(act: Any) -> None:
    try:
        act()
    except EdgeInspectError:
        pass


def show_plc(data: bytes, _folder: Path) -> None:
    """A verdict all the way into the PLC's block and the gateway's journal."""
    verdict = messages.decode_verdict(data)
    for now_ns in (5, 10 * NS_PER_S):
        result = from_verdict(
            verdict,
            now_ns=5,
            utc_ns=1_795_230_000_000_000_000,
            sent_at_ns=4,
            clock_stepped=now_ns == 5,
            newest_epoch=7,
            no_verdict_as=Outcome.REJECT,
        ).at(now_ns)
        assert result.outcome is not Outcome.PASS or verdict.decision is Decision.PASS
        image = PlcImage(revision=1, online=True, result=result)
        assert len(_register_map.encode_outputs(image)) == 2 * _register_map.OUTPUT_WORDS
        _register_map.values(image)
        _register_map.swap_words(_register_map.encode_outputs(image), _register_map.OUTPUTS)
        applied = Applied(How.ACKED, result, 7)
        encode_record(_record(None, result.seq, result.epoch, 5, How.ACKED, applied))


def keep(data: bytes, _folder: Path) -> None:
    """A verdict into the ledger's columns and a part's book."""
    verdict_columns(data)
    verdict = messages.decode_verdict(data)
    row = late_row(verdict)
    struct.pack("<qqq", *row[:3])
    book = PartBook("strip", ("top", "side"), 200_000_000)
    book.take(verdict, 5, 6, 7)
    book.expire(10**18, 7)


def mask(data: bytes, _folder: Path) -> None:
    told = messages.decode_mask(data)
    if told.height_px * told.width_px < 1 << 20:
        decode_classes(told.runs, told.height_px, told.width_px)


def any_message(data: bytes, _folder: Path) -> None:
    message = read([b"verdict.strip.top.pass", data]).message
    assert isinstance(message, (Verdict, messages.Heartbeat, messages.Status, PartVerdict))


TARGETS = [
    Target("wire: message", any_message, MESSAGES),
    Target("wire: verdict to PLC", show_plc, VERDICTS),
    Target("wire: verdict to ledger", keep, VERDICTS),
    Target("wire: mask", mask, MASKS),
    Target("wire: subscriber", receive, BODIES),
    Target("wire: request", lambda data, _f: requests.decode_request(data), REQUESTS),
    Target("wire: answer", lambda data, _f: requests.decode_answer(data), ANSWERS),
    Target("wire: ROUTER", ask_router, REQUESTS),
]
