"""Targets: messages of the wire, and how each receiver processes a valid one."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import zmq

from edgeinspect.client.feed import VerdictFeed
from edgeinspect.client.sockets import parse_message
from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.part_verdict import PartVerdict
from edgeinspect.domain.plc import PlcOutcome, ProcessImage
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.errors import EdgeInspectError
from edgeinspect.imaging.run_length import decode_classes
from edgeinspect.pipeline.publishing.part_verdicts import PartAggregator
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, RequestHandlers
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.services.gateway.handshake import CompletedResult, ResultCompletion, ResultTotals
from edgeinspect.services.gateway.journal import encode_record, next_record
from edgeinspect.services.gateway.plc_results import result_for_verdict
from edgeinspect.storage.ledger.schema import late_row, verdict_columns
from edgeinspect.wire import messages, requests
from tests.fuzz.examples import EXAMPLES
from tests.fuzz.target import Target


def _is_message(body: bytes) -> bool:
    try:
        messages.decode_message(body)
    except ValueError:
        return False
    return True


BODIES = [messages.encode_message(message) for message in EXAMPLES.values()]
VERDICTS = [body for body in BODIES if b'"edgeinspect.verdict/1"' in body]
MESSAGES = [body for body in BODIES if _is_message(body)]
MASKS = [body for body in BODIES if b'"edgeinspect.mask/1"' in body]
BEATS = [body for body in BODIES if b"heartbeat/1" in body or b"status/1" in body]
REQUESTS = [
    requests.encode_body(message)
    for message in EXAMPLES.values()
    if isinstance(message, requests.LineRequest)
]
ANSWERS = [
    requests.encode_body(message)
    for message in EXAMPLES.values()
    if isinstance(message, requests.LineReply)
]


class _Spool:
    """An empty spool, with the attributes that a replay needs."""

    epoch, oldest_seq, last_seq, published_seq = 7, 1, 0, 0

    def read(self, seq: int) -> bytes | None:
        return None


def _refuse(*_arguments: object) -> Any:
    raise EdgeInspectError("not here")


def router_request(data: bytes, _folder: Path) -> None:
    """Pass a message to the ROUTER's thread, on a socket without clients."""
    _ROUTER.handle(data)


class _Router:
    """The server, created at the first message and used for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replay: ReplayServer | None = None

    def handle(self, data: bytes) -> None:
        with self._lock:
            if self._replay is None:
                self._replay = ReplayServer(
                    context=zmq.Context(),
                    address="inproc://fuzz",
                    spool=_Spool(),
                    handlers=RequestHandlers(
                        trigger=_refuse,
                        read_challenge=_refuse,
                        add_trigger_count=_refuse,
                        record_operator_action=_refuse,
                    ),
                    clock=ManualClock(),
                )
            for parts in ([b"\0id", data], [b"\0id", b"", data], [b"\0id", data, data, data]):
                self._replay._on_message(parts)


_ROUTER = _Router()


def client_message(data: bytes, _folder: Path) -> None:
    """Pass a message to both sockets of a client."""
    with VerdictFeed("inproc://a", "inproc://b", name="fuzz", line="strip", cursor=1) as feed:
        for parts in (
            [b"verdict.strip.top.pass", data],
            [b"heartbeat.strip", data],
            [data],
            [b"verdict.strip.top.pass", VERDICTS[0], data],
        ):
            _quietly(lambda parts=parts: feed._on_pub(parts))
        for parts in ([data], [b"verdict", data], [b"", data, data]):
            _quietly(lambda parts=parts: feed._on_replay(parts))


def _quietly(act: Any) -> None:
    try:
        act()
    except EdgeInspectError:
        pass


def show_plc(data: bytes, _folder: Path) -> None:
    """Convert a verdict to the PLC's block and the gateway's journal."""
    verdict = messages.decode_verdict(data)
    for now_ns in (5, 10 * NS_PER_S):
        result = result_for_verdict(
            verdict,
            now_ns=5,
            utc_ns=1_795_230_000_000_000_000,
            sent_at_ns=4,
            clock_stepped=now_ns == 5,
            newest_epoch=7,
            no_verdict_as=PlcOutcome.REJECT,
        ).result_at(now_ns)
        assert result.outcome is not PlcOutcome.PASS or verdict.decision is Decision.PASS
        image = ProcessImage(revision=1, online=True, result=result)
        assert len(_register_codec.encode_outputs(image)) == 2 * _register_map.OUTPUT_WORDS
        _register_codec.tag_values(image)
        _register_codec.swap_words(_register_codec.encode_outputs(image), _register_map.OUTPUT_TAGS)
        completed = CompletedResult(ResultCompletion.ACKED, result, 7)
        record = next_record(None, ResultTotals(), result.seq, result.epoch, 5, completed)
        encode_record(record)


def keep(data: bytes, _folder: Path) -> None:
    """Convert a verdict to the ledger's columns and add it to a part."""
    verdict_columns(data)
    verdict = messages.decode_verdict(data)
    row = late_row(verdict)
    struct.pack("<qqq", *row[:3])
    book = PartAggregator("strip", ("top", "side"), 200_000_000)
    book.add(verdict, 5, 6, 7)
    book.expire(10**18, 7)


def mask(data: bytes, _folder: Path) -> None:
    decoded = messages.decode_mask(data)
    if decoded.height_px * decoded.width_px < 1 << 20:
        decode_classes(decoded.runs, decoded.height_px, decoded.width_px)


def any_message(data: bytes, _folder: Path) -> None:
    message = parse_message([b"verdict.strip.top.pass", data]).message
    assert isinstance(message, (Verdict, messages.Heartbeat, messages.Status, PartVerdict))


TARGETS = [
    Target("wire: message", any_message, MESSAGES),
    Target("wire: verdict to PLC", show_plc, VERDICTS),
    Target("wire: verdict to ledger", keep, VERDICTS),
    Target("wire: mask", mask, MASKS),
    Target("wire: subscriber", client_message, BODIES),
    Target("wire: request", lambda data, _f: requests.decode_request(data), REQUESTS),
    Target("wire: answer", lambda data, _f: requests.decode_reply(data), ANSWERS),
    Target("wire: ROUTER", router_request, REQUESTS),
]
