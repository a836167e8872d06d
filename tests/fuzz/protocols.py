"""Fuzz targets: what a PLC, a broker or a browser may send."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._sparkplug import payload
from edgeinspect.services.hmi.action_routes import _ChallengeBody, _LoginBody, _PromoteBody
from edgeinspect.services.hmi.alarm_log import _parse_detail
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.services.hmi.read_routes import json_response
from edgeinspect.services.hmi.shift_counters import shift_bounds
from edgeinspect.storage.archive.format import frame_folder, frame_name
from edgeinspect.system import decode_json, read_protobuf_fields
from edgeinspect.wire.messages import Heartbeat, Status, decode_message, decode_verdict
from tests.fuzz.messages import BEATS, VERDICTS
from tests.fuzz.target import Target


class _Registers:
    """The registers of a server."""

    def read_bits(self, function: int, address: int, count: int) -> list[bool]:
        self._check_range(address, count)
        return [False] * count

    def read_words(self, function: int, address: int, count: int) -> bytes:
        self._check_range(address, count)
        return bytes(2 * count)

    def write_bits(self, address: int, bits: list[bool]) -> None:
        self._check_range(address, len(bits))

    def write_words(self, address: int, words: bytes) -> None:
        self._check_range(address, len(words) // 2)

    @staticmethod
    def _check_range(address: int, count: int) -> None:
        if address + count > 400:
            raise protocol.ModbusExceptionResponse(protocol.ILLEGAL_ADDRESS)


def modbus(data: bytes, _folder: Path) -> None:
    """One request, and a stream of requests."""
    memory = _Registers()
    answer = protocol.respond(data, memory)
    assert 2 <= len(answer) <= 253
    parser = protocol.RequestParser()
    for at in range(0, len(data), 7):
        try:
            parser.feed(data[at : at + 7], lambda _unit, pdu: protocol.respond(pdu, memory))
        except ValueError:  # not Modbus: the connection is closed
            return


def block(data: bytes, _folder: Path) -> None:
    """An input block."""
    size = 2 * _register_map.INPUT_WORDS
    _register_codec.decode_commands(data[:size].ljust(size, b"\0"))


def protobuf(data: bytes, _folder: Path) -> None:
    """The fields of a message, and of the messages in it."""
    for _field, value in read_protobuf_fields(memoryview(data)):
        if isinstance(value, memoryview):
            list(read_protobuf_fields(value))


def sparkplug(data: bytes, _folder: Path) -> None:
    payload.decode_payload(data)


def _line_state() -> LineState:
    return LineState(
        "strip",
        clock=ManualClock(),
        silence_timeout_ns=1,
        shift_bounds=lambda at: shift_bounds(at, ["06:00"]),
    )


def verdict_in_hmi(data: bytes, _folder: Path) -> None:
    """A verdict in the HMI, and in the archive's file names."""
    verdict = decode_verdict(data)
    state = _line_state()
    state.on_verdict(verdict, data, replayed=False)
    state.add_past_reject(verdict, data)
    json_response(
        [
            state.heartbeat_payload(),
            state.shift_payload(),
            state.trend_payload(),
            state.rejects_payload(),
        ]
    )
    frame_folder(verdict)
    frame_name(verdict)


def heartbeat_in_hmi(data: bytes, _folder: Path) -> None:
    message = decode_message(data)
    state = _line_state()
    if isinstance(message, (Heartbeat, Status)):
        state.on_heartbeat(message)
    json_response([state.heartbeat_payload(), state.alarms_payload()])


def request_body(data: bytes, _folder: Path) -> None:
    for kind in (_LoginBody, _ChallengeBody, _PromoteBody):
        try:
            decode_json(data, kind)
        except ValueError:
            continue


def alarm_detail(data: bytes, _folder: Path) -> None:
    _parse_detail(data.decode("utf-8", "replace"))


_PAYLOAD = payload.encode_payload(
    payload.SparkplugPayload(
        1_795_230_000_000,
        seq=3,
        metrics=(payload.SparkplugMetric("Inputs/ResultsAck", payload.DataType.UINT32, 17),),
    )
)

TARGETS = [
    Target(
        "protocol: Modbus",
        modbus,
        [
            b"\x10\x00\xc8\x00\x02\x04\x00\x01\x00\x02",
            b"\x04\x00\x00\x00\x4c",
            b"\x0f\x00\x00\x00\x02\x01\x03",
            b"\x00\x01\x00\x00\x00\x06\x01\x04\x00\x00\x00\x4c",
        ],
    ),
    Target("protocol: PLC's block", block, [bytes(range(2 * _register_map.INPUT_WORDS))]),
    Target("protocol: protobuf", protobuf, [_PAYLOAD], (ValueError,)),
    Target("protocol: Sparkplug", sparkplug, [_PAYLOAD], (ValueError,)),
    Target("HMI: verdict", verdict_in_hmi, VERDICTS),
    Target("HMI: heartbeat", heartbeat_in_hmi, BEATS),
    Target(
        "HMI: body of a request", request_body, [b'{"name":"anna","password":"a long password"}']
    ),
    Target(
        "HMI: detail of an event", alarm_detail, [b'{"alarm":"camera top is lost","by":"anna"}']
    ),
]
