"""The input block of a Modbus server.

A register that the PLC has not written since the start is 0 and is not a command. A trigger
is the id and part of one request. Part words left from another request belong to another
part: the trigger is torn. A PLC without part ids leaves them 0 and writes the id alone.
"""

from __future__ import annotations

from dataclasses import replace

from edgeinspect.domain import PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._input_age import AckTracker, LastTriggerIds, PeerActivity
from edgeinspect.plclinks._modbus import protocol

_TRIGGER_ID_WORD, _ACK_WORD = 1, 2


class ModbusServerInputs:
    """The registers that the PLC writes. For the server's thread; `commands` for any."""

    def __init__(self, *, low_word_first: bool) -> None:
        """Start with a block of zeros; `low_word_first` is the order of 32-bit values."""
        self._low_word_first = low_word_first
        self._block = bytearray(2 * _register_map.INPUT_WORDS)
        self._written: set[int] = set()
        self._acks = AckTracker()
        self._commands = PlcCommands()
        self._last_trigger_ids = LastTriggerIds()

    def read(self, word: int, count: int) -> bytes:
        """Return words of the block."""
        return bytes(self._block[2 * word : 2 * (word + count)])

    def coils(self) -> list[bool]:
        """Return the command word as coils."""
        return protocol.unpack_bits(bytes(self._block[1::-1]), 16)

    def commands(self) -> PlcCommands:
        """Return the commands now in force."""
        return self._commands

    def write(self, word: int, words: bytes, peer: PeerActivity, delivered: int = -1) -> None:
        """Process one write request.

        Args:
            word: Index of the first word in the block.
            words: The registers, 2 bytes each.
            peer: Of the connection; `record_message` has been called.
            delivered: Revision of the newest image that had been read before.
        """
        self._block[2 * word : 2 * word + len(words)] = words
        covered = range(word, word + len(words) // 2)
        self._written.update(covered)
        block = bytes(self._block)
        if self._low_word_first:
            block = _register_codec.swap_words(block, _register_map.INPUT_TAGS)
        now, before = _register_codec.decode_commands(block), self._commands
        trigger = before
        if _TRIGGER_ID_WORD in covered:
            is_new = self._last_trigger_ids.is_changed_by(peer, now.trigger_id or 0)
            since_ns = peer.record_trigger()
            if is_new and now.trigger_id != before.trigger_id:
                problem = TriggerRefusal.TORN if self._is_torn(covered) else now.trigger_problem
                trigger = replace(now, trigger_problem=problem, trigger_since_ns=since_ns)
        ack = now.results_ack if {_ACK_WORD, _ACK_WORD + 1} <= self._written else None
        self._commands = replace(
            trigger,
            enable=now.enable,
            fault_reset=now.fault_reset,
            results_ack=ack,
            ack_after=self._acks.revision_at_ack(ack, delivered),
        )

    def peers(self) -> list[PeerActivity]:
        """Return the open connections that have written a trigger id."""
        return self._last_trigger_ids.peers()

    def remove_peer(self, peer: PeerActivity) -> int | None:
        """Remove a closed connection; return its last contact if it wrote a trigger id."""
        return peer.last_contact_ns if self._last_trigger_ids.remove(peer) else None

    def _is_torn(self, covered: range) -> bool:
        """Whether the part has words left from another request."""
        return any(
            word not in covered and any(self._block[2 * word : 2 * word + 2])
            for word in range(*_register_map.TRIGGER_PART_WORDS)
        )
