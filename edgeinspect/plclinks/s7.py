"""Siemens S7: writes the output block into a data block of the PLC and reads the input block.

The data blocks must not be "optimised" in TIA Portal, and PUT/GET must be permitted; see
docs/howto/plc.md. Byte = 2 x word of the map; S7 is big-endian, as the map is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from edgeinspect.domain import PART_ID_BYTES, Clock, PlcCommands, ProcessImage
from edgeinspect.errors import MissingExtraError
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._connection_limits import discard_unsent, format_address, strip_brackets
from edgeinspect.plclinks._polled_inputs import TRIGGER_CHECK_WORDS, PolledInputs
from edgeinspect.plclinks._session_link import SessionLink
from edgeinspect.ports import PlcLink

if TYPE_CHECKING:
    from snap7.client import Client

REQUIRES = (("snap7", "plc"),)

DbNumber = Annotated[int, Meta(ge=1, le=65_535)]
StartByte = Annotated[int, Meta(ge=0, le=65_000, multiple_of=2)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: s7`."""

    host: str
    """The PLC."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 102
    """TCP port of the PLC."""
    rack: Annotated[int, Meta(ge=0, le=7)] = 0
    """Rack of the CPU; 0 for all but a few S7-400."""
    slot: Annotated[int, Meta(ge=0, le=31)] = 1
    """1 for S7-1200 and S7-1500, 2 for S7-300."""
    output_db: DbNumber
    """Data block that the gateway writes."""
    output_start: StartByte = 0
    """First byte in it."""
    input_db: DbNumber
    """Data block that the PLC writes; may be the same one."""
    input_start: StartByte = 0
    """First byte in it."""
    poll_ms: Annotated[float, Meta(ge=1, le=10_000)] = 5
    """Time between two reads of the input block."""
    trigger_check: bool = False
    """One more word is read after the input block, `TriggerIdCheck`; a trigger counts when
    the PLC has written its id there too, after everything else."""

    def __post_init__(self) -> None:
        """Reject overlapping blocks."""
        first, second = self.output_start, self.input_start
        size = 2 * (_register_map.INPUT_WORDS + (TRIGGER_CHECK_WORDS if self.trigger_check else 0))
        if (
            self.output_db == self.input_db
            and first < second + size
            and second < first + 2 * _register_map.OUTPUT_WORDS
        ):
            raise ValueError(
                f"output_start ({2 * _register_map.OUTPUT_WORDS} bytes) and input_start "
                f"({size}) overlap in DB {self.output_db}"
            )


class _S7Session:
    """One connection. A `_session_link.PlcSession`; the library answers within 5 s or raises."""

    not_ready_reason = ""

    def __init__(self, client: Client, options: Options, inputs: PolledInputs) -> None:
        self._client: Any = client
        self._options = options
        self._inputs = inputs
        client.connect(strip_brackets(options.host), options.rack, options.slot, options.port)

    def write(self, image: ProcessImage) -> None:
        block = bytearray(_register_codec.encode_outputs(image))
        options = self._options
        # One write, which fits the smallest PDU (240 bytes). Not every CPU writes that much
        # between two scans; ResultIdCheck at the end shows the PLC an incomplete block.
        try:
            self._client.db_write(options.output_db, options.output_start, block)
        except Exception as error:
            raise self._block_error("output", len(block), error) from error

    def read_commands(self) -> PlcCommands:
        return self._inputs.read_commands(self._read_block)

    def _read_block(self) -> bytes:
        options, size = self._options, 2 * self._inputs.word_count
        try:
            return bytes(self._client.db_read(options.input_db, options.input_start, size))
        except Exception as error:
            raise self._block_error("input", size, error) from error

    def close(self) -> None:
        try:
            if not self._client.get_connected():
                discard_unsent(self._client.connection.socket)
            self._client.disconnect()
        except Exception:  # disconnected already
            pass

    def _block_error(self, which: str, size: int, error: Exception) -> Exception:
        """Return an error that names the block and its problem.

        A CPU reports the same error for a missing, short or optimised block; so the block's
        length is determined by reading single bytes.
        """
        db: int = getattr(self._options, f"{which}_db")
        start: int = getattr(self._options, f"{which}_start")
        block = f"{which}_db {db}"
        wanted = start + size
        try:
            if not self._client.get_connected():
                return ConnectionError(f"{block}: {error}")
            length = self._readable_bytes(db, wanted)
        except Exception:  # the connection ends meanwhile
            return ConnectionError(f"{block}: {error}")
        if length == 0:
            return LookupError(f"{block}: does not exist, or is optimized: {error}")
        if length < wanted:
            need = f"{which}_start {start} and {size} bytes need {wanted}"
            return LookupError(f"{block} is {length} bytes long; {need}")
        return ConnectionError(f"{block}: {error}")

    def _readable_bytes(self, db: int, limit: int) -> int:
        """Return how many bytes of a block can be read, up to `limit`; 0 if it does not exist."""
        from snap7.error import S7ConnectionError, S7Error, S7TimeoutError

        known, missing = 0, limit + 1
        while known + 1 < missing:
            middle = (known + missing) // 2
            try:
                self._client.db_read(db, middle - 1, 1)
            except (S7ConnectionError, S7TimeoutError):
                raise
            except S7Error:
                missing = middle
            else:
                known = middle
        return known


def build(options: Options, clock: Clock) -> PlcLink:
    """Build the link, not opened yet.

    Raises:
        MissingExtraError: python-snap7 is not installed.
    """
    try:
        from snap7.client import Client
    except ImportError as error:
        raise MissingExtraError("plc", "snap7", where="link s7") from error
    logging.getLogger("snap7").setLevel(logging.CRITICAL)  # errors are raised, and logged once
    where = format_address(options.host, options.port)
    inputs = PolledInputs(clock, has_trigger_check=options.trigger_check)
    return SessionLink(
        lambda: _S7Session(Client(), options, inputs),
        clock,
        poll_ms=options.poll_ms,
        where=where,
        part_id_bytes=PART_ID_BYTES,
    )
