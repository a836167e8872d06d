"""The input block in the PLC's own memory, which the gateway polls.

The PLC writes at any time, so a read may return the id of a trigger before its part. A new
id is therefore accepted when two reads of it and its part are equal and, if the PLC repeats
it in `TriggerIdCheck`, both ids are equal. Its age is bounded by the previous read, which
returned the old id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeinspect.domain import Clock, PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_codec, _register_map

TRIGGER_CHECK_WORDS = 1
"""Words after the input block, with `trigger_check`."""
_READS_MAX = 5


class PolledInputs:
    """The inputs of one PLC, across its connections. For the thread of the link."""

    def __init__(self, clock: Clock, *, has_trigger_check: bool = False) -> None:
        """Start without a read.

        Args:
            clock: For the age of a trigger.
            has_trigger_check: True if `TriggerIdCheck` follows the block.
        """
        self._clock = clock
        self._has_trigger_check = has_trigger_check
        self._trigger: PlcCommands | None = None
        self._unchanged_at_ns: int | None = None

    @property
    def word_count(self) -> int:
        """Number of words to read."""
        return _register_map.INPUT_WORDS + (TRIGGER_CHECK_WORDS if self._has_trigger_check else 0)

    def read_commands(self, read_block: Callable[[], bytes]) -> PlcCommands:
        """Read the block, more than once if the trigger id changes.

        Args:
            read_block: Reads `word_count` words, big-endian, high word first.
        """
        read_at_ns, block = self._clock.now_ns(), read_block()
        current = _register_codec.decode_commands(block[: 2 * _register_map.INPUT_WORDS])
        trigger = self._trigger
        if trigger is None or current.trigger_id != trigger.trigger_id:
            trigger = self._confirm_trigger(block, read_block)
        else:
            self._unchanged_at_ns = read_at_ns
        if trigger is not None:  # else it is not complete yet
            self._trigger = trigger
        return self._with_last_trigger(current)

    def _confirm_trigger(self, block: bytes, read_block: Callable[[], bytes]) -> PlcCommands | None:
        """Return a new trigger once two reads are equal; None if it is not complete yet."""
        since_ns, is_torn = self._unchanged_at_ns, False
        for _ in range(_READS_MAX):
            read_at_ns, second = self._clock.now_ns(), read_block()
            if _trigger_bytes(second) == _trigger_bytes(block):
                break
            block = second
        else:
            is_torn = True
        confirmed = _register_codec.decode_commands(block[: 2 * _register_map.INPUT_WORDS])
        if self._has_trigger_check and _trigger_bytes(block)[0] != block[-2:]:
            return None
        self._unchanged_at_ns = read_at_ns
        problem = TriggerRefusal.TORN if is_torn else confirmed.trigger_problem
        return replace(confirmed, trigger_problem=problem, trigger_since_ns=since_ns)

    def _with_last_trigger(self, current: PlcCommands) -> PlcCommands:
        """Return the current inputs with the last confirmed trigger, if there is one."""
        return replace(
            self._trigger or PlcCommands(),
            enable=current.enable,
            fault_reset=current.fault_reset,
            results_ack=current.results_ack,
        )


def _trigger_bytes(block: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of (id, encoder and part) in a block."""
    first, end = _register_map.TRIGGER_PART_WORDS
    return block[2:4], block[2 * first : 2 * end]
