"""The Modbus client of a link: writes the output block into the PLC and reads the input block."""

from __future__ import annotations

import socket
import struct

from edgeinspect.domain import PlcCommands, ProcessImage
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._connection_limits import discard_unsent
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._polled_inputs import PolledInputs


class ModbusClientSession:
    """One connection to a PLC that is a Modbus server. A `_session_link.PlcSession`."""

    not_ready_reason = ""

    def __init__(
        self,
        client: ModbusClient,
        inputs: PolledInputs,
        *,
        output_address: int,
        input_address: int,
        low_word_first: bool,
    ) -> None:
        """Use an open connection.

        Args:
            client: Owned by the session.
            inputs: The inputs of the PLC, across its connections.
            output_address: First register of the output block.
            input_address: First register of the input block.
            low_word_first: True if the low word of a 32-bit value comes first.
        """
        self._client = client
        self._inputs = inputs
        self._output_address = output_address
        self._input_address = input_address
        self._low_word_first = low_word_first

    def write(self, image: ProcessImage) -> None:
        block = _register_codec.encode_outputs(image)
        if self._low_word_first:
            block = _register_codec.swap_words(block, _register_map.OUTPUT_TAGS)
        self._client.write(self._output_address, block)

    def read_commands(self) -> PlcCommands:
        return self._inputs.read_commands(self._read_block)

    def close(self) -> None:
        self._client.close()

    def _read_block(self) -> bytes:
        block = self._client.read(self._input_address, self._inputs.word_count)
        if self._low_word_first:
            block = _register_codec.swap_words(block, _register_map.INPUT_TAGS)
        return block


class ModbusClient:
    """A Modbus client. For one thread; after an OSError the connection must be reopened."""

    def __init__(self, host: str, port: int, unit: int, timeout_s: float) -> None:
        """Connect.

        Raises:
            OSError: The server cannot be reached.
        """
        self._unit = unit
        self._transaction = 0
        self._is_awaiting_response = False
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, address: int, count: int) -> bytes:
        """Read at most 125 holding registers, 2 bytes each."""
        data = self._request(struct.pack(">BHH", protocol.READ_HOLDING, address, count))
        if len(data) != 2 + 2 * count or data[1] != 2 * count:
            raise OSError("the PLC's response does not have the requested length")
        return data[2:]

    def write(self, address: int, words: bytes) -> None:
        """Write at most 123 holding registers in one request."""
        count = len(words) // 2
        self._request(
            struct.pack(">BHHB", protocol.WRITE_REGISTERS, address, count, len(words)) + words
        )

    def close(self) -> None:
        """Disconnect."""
        if self._is_awaiting_response:
            discard_unsent(self._socket)
        self._socket.close()

    def _request(self, pdu: bytes) -> bytes:
        self._transaction = (self._transaction + 1) & 0xFFFF
        head = protocol.MBAP_HEADER.pack(self._transaction, 0, len(pdu) + 1, self._unit)
        self._is_awaiting_response = True
        self._socket.sendall(head + pdu)
        while True:
            transaction, protocol_id, length, _unit = protocol.MBAP_HEADER.unpack(
                self._receive_exactly(protocol.MBAP_HEADER.size)
            )
            if protocol_id != 0 or not 2 <= length <= protocol.PDU_BYTES_MAX + 1:
                raise OSError("the peer's response is not Modbus")
            answer = self._receive_exactly(length - 1)
            if transaction == self._transaction:  # else a response that came too late
                break
        self._is_awaiting_response = False
        if answer[0] == pdu[0] | 0x80:
            code = answer[1] if len(answer) > 1 else 0
            raise OSError(f"the PLC rejects function {pdu[0]} with exception {code}")
        if answer[0] != pdu[0]:
            raise OSError("the PLC's response has another function than the request")
        return answer

    def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError("the PLC closed the connection")
            data += more
        return data
