"""The Modbus client of a link: writes the output block into the PLC and reads the input block."""

from __future__ import annotations

from edgeinspect.domain import PlcCommands, ProcessImage
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._polled_inputs import PolledInputs


class ModbusClientSession:
    """One connection to a PLC that is a Modbus server. A `_session_link.PlcSession`."""

    not_ready_reason = ""

    def __init__(
        self,
        host: str,
        port: int,
        unit: int,
        timeout_s: float,
        inputs: PolledInputs,
        *,
        output_address: int,
        input_address: int,
        low_word_first: bool,
    ) -> None:
        """Connect.

        Args:
            host: The PLC.
            port: Of its server.
            unit: Identifier in our requests.
            timeout_s: Longest wait for an answer.
            inputs: What was read over earlier connections.
            output_address: First register of what we show.
            input_address: First register of what the PLC writes.
            little: True if the low word of a 32-bit value comes first.

        Raises:
            OSError: Nobody there.
        """
        self._inputs = inputs
        self._output_address = output_address
        self._input_address = input_address
        self._low_word_first = low_word_first
        self._client = protocol.ModbusClient(host, port, unit, timeout_s)

    def write(self, image: ProcessImage) -> None:
        block = _register_map.encode_outputs(image)
        if self._low_word_first:
            block = _register_map.swap_words(block, _register_map.OUTPUT_TAGS)
        self._client.write(self._output_address, block)

    def read_commands(self) -> PlcCommands:
        return self._inputs.read_commands(self._read_block)

    def _read_block(self) -> bytes:
        block = self._client.read(self._input_address, self._inputs.word_count)
        return (
            _register_map.swap_words(block, _register_map.INPUT_TAGS)
            if self._low_word_first
            else block
        )

    def close(self) -> None:
        self._client.close()
