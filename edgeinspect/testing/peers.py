"""Peers of a line for tests and benchmarks: a PLC, and a hostile client."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import (
    CAUSE_DEAD_EPOCH,
    CAUSE_LATE,
    CAUSE_LOST,
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_PART_ID,
    CAUSE_TRIGGER_REFUSED,
    CAUSES,
    Decision,
    Verdict,
)
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.wire import Ack, ReplayRequest, TriggerRequest, encode_body

ACK_REGISTER = 202
"""Holding register of `ResultsAck` with the default options of a Modbus server."""
_REJECTED_PASS_CAUSES = {
    CAUSE_LATE,
    CAUSE_DEAD_EPOCH,
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_PART_ID,
    CAUSE_TRIGGER_REFUSED,
}
"""Causes with which the gateway writes a pass as a reject."""


@dataclass(frozen=True)
class PlcResultRecord:
    """One result as a PLC accepted it."""

    result_id: int
    passed: bool
    rejected: bool
    no_verdict: bool
    cause: int
    reject_code: int
    part_id: str
    encoder_count: int
    frames_covered: int = 1

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> PlcResultRecord:
        """Return the result in the values of the register map."""
        return PlcResultRecord(
            int(values["ResultId"]),
            bool(values["Pass"]),
            bool(values["Reject"]),
            bool(values["NoVerdict"]),
            int(values["Cause"]),
            int(values["RejectCode"]),
            str(values["PartId"]),
            int(values["EncoderCount"]),
            int(values["Covers"]),
        )

    @staticmethod
    def expected_for(verdict: Verdict) -> PlcResultRecord:
        """Return the result that a PLC must accept for a verdict in time."""
        return PlcResultRecord(
            verdict.seq,
            verdict.decision is Decision.PASS,
            verdict.decision is not Decision.PASS,
            verdict.decision is Decision.NO_VERDICT,
            CAUSES[verdict.reason],
            verdict.reject_code,
            verdict.part_id or "",
            verdict.encoder_count or 0,
        )

    @property
    def is_lost(self) -> bool:
        """True for the reject that replaces lost verdicts."""
        return self.cause == CAUSE_LOST

    def matches(self, verdict: Verdict) -> bool:
        """Return whether this is the ledger's verdict, or a pass that was written as a reject."""
        exact = PlcResultRecord.expected_for(verdict)
        if self.cause in _REJECTED_PASS_CAUSES and exact.passed:
            names = (self.result_id, self.part_id, self.encoder_count, self.frames_covered)
            same = names == (exact.result_id, exact.part_id, exact.encoder_count, 1)
            return same and self.rejected and not self.passed
        return self == exact


class PlcProgram:
    """The structured text of docs/howto/plc.md, cycle by cycle, with a log."""

    def __init__(self) -> None:
        self.log: list[PlcResultRecord] = []
        self.last_id = 0
        self.sequence_generation = 0
        self.ack = 0

    def cycle(self, values: Mapping[str, Any]) -> int:
        """Process the outputs once; return the acknowledgement to write."""
        if values["Online"] and values["ResultsValid"]:
            if values["ResultIdCheck"] != values["ResultId"]:
                return self.ack  # partly old: read again in the next cycle
            if values["Numbering"] != self.sequence_generation:  # ids begin again at any number
                self.sequence_generation, self.last_id = values["Numbering"], values["ResultId"] - 1
            step = (values["ResultId"] - self.last_id) % (1 << 32)
            if 0 < step < 1 << 31:
                assert not (values["Pass"] and values["Reject"])
                self.log.append(PlcResultRecord.from_values(values))
                self.last_id = values["ResultId"]
            self.ack = values["ResultId"]
        else:
            assert not values["Pass"]
            assert not values["Reject"]
        return self.ack


class ModbusPlc:
    """A PLC as Modbus client: reads the block, accepts results, writes its acknowledgement."""

    def __init__(self, port: int, timeout_s: float = 2.0) -> None:
        self.program = PlcProgram()
        self.values: dict[str, Any] = {}
        """Of the last cycle; empty while the gateway is not reachable."""
        self.disconnect_count = 0
        self._port = port
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._transaction = 0

    def cycle(self) -> bool:
        """Run one cycle; return False if the gateway is not reachable."""
        try:
            read = struct.pack(">BHH", 4, 0, _register_map.OUTPUT_WORDS)
            block = self._request(read)[2:]
            self.values = _register_codec.decode_outputs(block)
            ack = self.program.cycle(self.values)
            if self.values["ResultsValid"]:  # in every cycle, as a gateway may have been restarted
                self._request(struct.pack(">BHHBI", 16, ACK_REGISTER, 2, 4, ack))
        except OSError:
            self.disconnect_count += 1
            self.close()
            return False
        return True

    def _request(self, request: bytes) -> bytes:
        """Send one request; return the reply without its header."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transaction = (self._transaction + 1) % (1 << 16)
        header = struct.pack(">HHHB", self._transaction, 0, len(request) + 1, 1)
        self._socket.sendall(header + request)
        transaction, _protocol, length, _unit = struct.unpack(">HHHB", self._read(7))
        answer = self._read(length - 1)
        if transaction != self._transaction or answer[0] != request[0]:
            raise OSError("a reply to another request")
        return answer

    def _read(self, count: int) -> bytes:
        assert self._socket is not None
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise OSError("closed")
            data += more
        return data

    def close(self) -> None:
        """Disconnect; the next cycle connects again."""
        self.values = {}
        if self._socket is not None:
            self._socket.close()
            self._socket = None


ZMTP_PING = b"\x04\x07\x04PING\0\0"
"""A heartbeat of ZMTP 3.1, which libzmq answers itself."""


def zmtp_client(address: str, kind: str) -> socket.socket:
    """Return a connection after the handshake of a `kind` socket, made without libzmq.

    Raises:
        OSError: The server disconnected.
    """
    scheme, _, where = address.partition("://")
    if scheme == "ipc":
        client = socket.socket(socket.AF_UNIX)
        client.connect(where)
    else:
        host, _, port = where.rpartition(":")
        client = socket.create_connection((host, int(port)))
    client.settimeout(10)
    ready = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind.encode()
    try:
        client.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48))
        client.sendall(b"\x04" + bytes([len(ready)]) + ready)
        received = b""
        while b"READY" not in received:
            more = client.recv(4_096)
            if not more:
                raise ConnectionResetError("disconnected")
            received += more
    except BaseException:
        client.close()
        raise
    return client


def reset_connection(client: socket.socket) -> None:
    """Close a TCP connection by a reset, as at the end of a process with unread data."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


_VALID_REQUESTS = [
    encode_body(ReplayRequest(from_seq=1)),
    encode_body(Ack(name="x", seq=3)),
    encode_body(TriggerRequest(camera="top", part_id="p")),
]


def fuzz_message(rng: random.Random) -> list[bytes]:
    """Return a hostile message for the ROUTER: noise, a changed request, or one too long."""
    kind = rng.randrange(5)
    if kind == 0:
        return [rng.randbytes(rng.randrange(0, 200))]
    if kind == 1:
        body = bytearray(rng.choice(_VALID_REQUESTS))
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        return [bytes(body)]
    if kind == 2:
        return [rng.randbytes(5) for _ in range(rng.randrange(2, 9))]
    if kind == 3:
        return [
            b'{"schema":"edgeinspect.replay/1","from_seq":' + b"9" * rng.randrange(1, 400) + b"}"
        ]
    return [b"[" * rng.randrange(1, 3000)]
