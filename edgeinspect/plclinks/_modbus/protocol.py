"""Modbus/TCP: frames, a small server, and a client. Only what a PLC link needs.

Our own, for three reasons: a read must be one consistent moment (an image is swapped
whole), the gateway must know that the PLC has read a result, and pymodbus' server is
changing its interface. Tested against libmodbus (mbpoll) and pymodbus.

Source: MODBUS Application Protocol V1.1b3; MODBUS Messaging on TCP/IP V1.0b
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Protocol

from edgeinspect.plclinks._connection_limits import discard_unsent

MBAP_HEADER = struct.Struct(">HHHB")
"""Transaction, protocol (0), bytes that follow (the unit included), unit."""
PDU_BYTES_MAX = 253

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


class ModbusExceptionResponse(Exception):  # noqa: N818 - the protocol's own word is exception
    """A request that gets an exception response."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class ModbusMemory(Protocol):
    """What a server serves. Called from one thread; raises `Refused`."""

    def read_bits(self, function: int, address: int, count: int) -> list[bool]:
        """Coils or discrete inputs."""

    def read_words(self, function: int, address: int, count: int) -> bytes:
        """Holding or input registers, 2 bytes each."""

    def write_bits(self, address: int, bits: list[bool]) -> None:
        """Coils."""

    def write_words(self, address: int, words: bytes) -> None:
        """Holding registers."""


def respond(pdu: bytes, memory: ModbusMemory) -> bytes:
    """The response to one request, whatever it holds."""
    function = pdu[0] if pdu else 0
    try:
        return _respond(function, pdu, memory)
    except ModbusExceptionResponse as refused:
        return bytes((function | 0x80, refused.code))
    except struct.error:  # shorter or longer than its function says
        return bytes((function | 0x80, ILLEGAL_VALUE))


def _respond(function: int, pdu: bytes, memory: ModbusMemory) -> bytes:
    if function in (READ_COILS, READ_DISCRETE):
        address, count = struct.unpack(">HH", pdu[1:])
        _require(1 <= count <= 2000)
        packed = pack_bits(memory.read_bits(function, address, count))
        return bytes((function, len(packed))) + packed
    if function in (READ_HOLDING, READ_INPUT):
        address, count = struct.unpack(">HH", pdu[1:])
        _require(1 <= count <= 125)
        words = memory.read_words(function, address, count)
        return bytes((function, len(words))) + words
    if function == WRITE_COIL:
        address, value = struct.unpack(">HH", pdu[1:])
        _require(value in (0, 0xFF00))
        memory.write_bits(address, [value != 0])
        return pdu
    if function == WRITE_REGISTER:
        address, _value = struct.unpack(">HH", pdu[1:])
        memory.write_words(address, pdu[3:])
        return pdu
    if function in (WRITE_COILS, WRITE_REGISTERS):
        address, count, size = struct.unpack(">HHB", pdu[1:6])
        bits = function == WRITE_COILS
        _require(1 <= count <= (1968 if bits else 123))
        _require(size == ((count + 7) // 8 if bits else 2 * count) == len(pdu) - 6)
        if bits:
            memory.write_bits(address, unpack_bits(pdu[6:], count))
        else:
            memory.write_words(address, pdu[6:])
        return pdu[:5]
    raise ModbusExceptionResponse(ILLEGAL_FUNCTION)


def _require(condition: bool) -> None:
    if not condition:
        raise ModbusExceptionResponse(ILLEGAL_VALUE)


def pack_bits(bits: list[bool]) -> bytes:
    """Bits, the first in the least significant place."""
    word = sum(1 << place for place, bit in enumerate(bits) if bit)
    return word.to_bytes((len(bits) + 7) // 8, "little")


def unpack_bits(data: bytes, count: int) -> list[bool]:
    """As `pack_bits`, back."""
    word = int.from_bytes(data, "little")
    return [bool(word >> place & 1) for place in range(count)]


class RequestParser:
    """Cuts a stream into requests. One per connection."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def has_partial_request(self) -> bool:
        """True while a request has come in part."""
        return bool(self._data)

    def feed(self, data: bytes, serve: Callable[[int, bytes], bytes]) -> bytes:
        """Take bytes, answer what is complete.

        Args:
            data: As they came.
            serve: (unit, pdu) to the response's pdu; empty for no response.

        Returns:
            What to send.

        Raises:
            ValueError: This is not Modbus; the connection must be closed.
        """
        self._data += data
        out = bytearray()
        while len(self._data) >= MBAP_HEADER.size:
            transaction, protocol, length, unit = MBAP_HEADER.unpack_from(self._data)
            if protocol != 0 or not 2 <= length <= PDU_BYTES_MAX + 1:
                raise ValueError("not Modbus")
            if len(self._data) < MBAP_HEADER.size - 1 + length:
                break
            pdu = bytes(self._data[MBAP_HEADER.size : MBAP_HEADER.size - 1 + length])
            del self._data[: MBAP_HEADER.size - 1 + length]
            response = serve(unit, pdu)
            if response:
                out += MBAP_HEADER.pack(transaction, 0, len(response) + 1, unit) + response
        return bytes(out)


class ModbusClient:
    """A master. One thread; every failure is an OSError, after which it must be reopened."""

    def __init__(self, host: str, port: int, unit: int, timeout_s: float) -> None:
        """Connect.

        Raises:
            OSError: Nobody there.
        """
        self._unit = unit
        self._transaction = 0
        self._is_awaiting_response = False
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, address: int, count: int) -> bytes:
        """Holding registers, 2 bytes each; at most 125."""
        data = self._request(struct.pack(">BHH", READ_HOLDING, address, count))
        if len(data) != 2 + 2 * count or data[1] != 2 * count:
            raise OSError("the PLC's answer has another length than was asked for")
        return data[2:]

    def write(self, address: int, words: bytes) -> None:
        """Holding registers, at most 123, in one request."""
        count = len(words) // 2
        self._request(struct.pack(">BHHB", WRITE_REGISTERS, address, count, len(words)) + words)

    def close(self) -> None:
        """Disconnect."""
        if self._is_awaiting_response:
            discard_unsent(self._socket)
        self._socket.close()

    def _request(self, pdu: bytes) -> bytes:
        self._transaction = (self._transaction + 1) & 0xFFFF
        head = MBAP_HEADER.pack(self._transaction, 0, len(pdu) + 1, self._unit)
        self._is_awaiting_response = True
        self._socket.sendall(head + pdu)
        while True:
            transaction, protocol, length, _unit = MBAP_HEADER.unpack(
                self._receive_exactly(MBAP_HEADER.size)
            )
            if protocol != 0 or not 2 <= length <= PDU_BYTES_MAX + 1:
                raise OSError("the peer does not speak Modbus")
            answer = self._receive_exactly(length - 1)
            if transaction == self._transaction:  # else an answer that came too late
                break
        self._is_awaiting_response = False
        if answer[0] == pdu[0] | 0x80:
            code = answer[1] if len(answer) > 1 else 0
            raise OSError(f"the PLC refuses function {pdu[0]} with exception {code}")
        if answer[0] != pdu[0]:
            raise OSError("the PLC answers another function than was asked")
        return answer

    def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError("the PLC closed the connection")
            data += more
        return data
