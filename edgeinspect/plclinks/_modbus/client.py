"""The session with a PLC that is the Modbus server: we write its registers, and read them."""

from __future__ import annotations

from edgeinspect.domain.plc import PlcCommands, PlcImage
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._modbus import protocol
from edgeinspect.plclinks._polled_inputs import PolledInputs


class ClientSession:
    """Our side of one connection. See `_courier.Session`."""

    waits_for = ""

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
        little: bool,
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
        self._little = little
        self._client = protocol.Client(host, port, unit, timeout_s)

    def show(self, image: PlcImage) -> None:
        block = _register_map.encode_outputs(image)
        if self._little:
            block = _register_map.swap_words(block, _register_map.OUTPUTS)
        self._client.write(self._output_address, block)

    def commands(self) -> PlcCommands:
        return self._inputs.take(self._read)

    def _read(self) -> bytes:
        block = self._client.read(self._input_address, self._inputs.words)
        return _register_map.swap_words(block, _register_map.INPUTS) if self._little else block

    def close(self) -> None:
        self._client.close()
