"""Modbus/TCP: the functions that a PLC link needs.

Not pymodbus, because a read must return one consistent image, the gateway must know that
the PLC has read a result, and the interface of pymodbus' server changes. Tested against
libmodbus (mbpoll) and pymodbus.

Source: MODBUS Application Protocol V1.1b3; MODBUS Messaging on TCP/IP V1.0b
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

MBAP_HEADER = struct.Struct(">HHHB")
"""Transaction, protocol (0), number of bytes that follow (the unit included), unit."""
PDU_BYTES_MAX = 253

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


class ModbusExceptionResponse(Exception):  # noqa: N818 - the protocol's own word is exception
    """A request is answered with an exception response."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class ModbusMemory(Protocol):
    """The bits and registers of a server. For one thread; raises `ModbusExceptionResponse`."""

    def read_bits(self, function: int, address: int, count: int) -> list[bool]:
        """Return coils or discrete inputs."""

    def read_words(self, function: int, address: int, count: int) -> bytes:
        """Return holding or input registers, 2 bytes each."""

    def write_bits(self, address: int, bits: list[bool]) -> None:
        """Write coils."""

    def write_words(self, address: int, words: bytes) -> None:
        """Write holding registers."""


def respond(pdu: bytes, memory: ModbusMemory) -> bytes:
    """Return the response PDU to a request PDU of any content."""
    function = pdu[0] if pdu else 0
    try:
        return _respond(function, pdu, memory)
    except ModbusExceptionResponse as refused:
        return bytes((function | 0x80, refused.code))
    except struct.error:  # shorter or longer than its function requires
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
    """Pack bits into bytes, the first bit in the least significant place."""
    word = sum(1 << place for place, bit in enumerate(bits) if bit)
    return word.to_bytes((len(bits) + 7) // 8, "little")


def unpack_bits(data: bytes, count: int) -> list[bool]:
    """Unpack `count` bits; the inverse of `pack_bits`."""
    word = int.from_bytes(data, "little")
    return [bool(word >> place & 1) for place in range(count)]


class RequestParser:
    """Splits the stream of one connection into requests."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def has_partial_request(self) -> bool:
        """True while part of a request has been received."""
        return bool(self._data)

    def feed(self, data: bytes, serve: Callable[[int, bytes], bytes]) -> bytes:
        """Process received bytes.

        Args:
            data: The bytes.
            serve: Returns the response PDU for (unit, request PDU); empty for no response.

        Returns:
            The bytes to send.

        Raises:
            ValueError: The stream is not Modbus; the connection must be closed.
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
