"""Which trigger id is a request for a frame. Pure: time and the PLC's words are arguments.

    id as before                        nothing
    the first since this start          refused: it may have stood there for hours
    0, but after 65535                  refused: a PLC that begins again writes zeros
    behind them the one from before     refused: it has found its old memory again
    torn, or a part that has no name    refused
    older than it may be, or unknown    refused
    else                                asked for, until its age is used up

Refused is an answer, so a part that is not inspected is known not to be, and is ejected. A
trigger that is known from before this start needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain.plc import PlcCommands, Refusal
from edgeinspect.gateway.memory import LastTrigger, TriggerState, digest

_LAST_ID = 0xFFFF


@dataclass(frozen=True, slots=True)
class Answer:
    """What the PLC is told of one trigger."""

    trigger_id: int
    refused: bool
    refusal: Refusal = Refusal.NONE


@dataclass(frozen=True, slots=True)
class Ask:
    """A trigger that the line must be asked for."""

    trigger_id: int
    commands: PlcCommands
    expires_at_ns: int
    """Monotonic; no frame is taken from here on."""


class TriggerWatch:
    """Hears what the PLC wrote. For one thread."""

    def __init__(self, last: LastTrigger | None, max_age_ns: int) -> None:
        """Nothing is heard yet.

        Args:
            last: Handled before this start; None if nothing is known.
            max_age_ns: From the PLC's wish to the frame.
        """
        self.answer = (
            Answer(last.trigger_id, last.state is not TriggerState.ACCEPTED, last.refusal)
            if last is not None
            else Answer(0, False)
        )
        """Where it begins."""
        self._max_age_ns = max_age_ns
        self._last_id = None if last is None else last.trigger_id
        self._heard = False
        self._before_zero = (last.trigger_id, last.part) if last is not None else None
        """Id and part of the last one that was no zero of a PLC that begins again."""
        self._zeroed = False

    def hear(self, commands: PlcCommands, now_ns: int) -> Ask | Answer | None:
        """What to do about what the PLC wrote last; None if it is known already."""
        trigger_id, since_ns = commands.trigger_id, commands.trigger_since_ns
        if trigger_id is None:
            return None
        heard, self._heard = self._heard, True
        before, self._last_id = self._last_id, trigger_id
        if trigger_id == before:
            return None
        restarted = trigger_id == 0 and before != _LAST_ID
        found_again = not restarted and self._is_found_again(commands, trigger_id)
        self._zeroed = restarted
        if commands.trigger_problem is not Refusal.NONE:
            return Answer(trigger_id, True, commands.trigger_problem)
        if not heard or since_ns is None or restarted or found_again:
            return Answer(trigger_id, True, Refusal.STALE)
        expires_at_ns = since_ns + self._max_age_ns
        if now_ns >= expires_at_ns:
            return Answer(trigger_id, True, Refusal.STALE)
        return Ask(trigger_id, commands, expires_at_ns)

    def _is_found_again(self, commands: PlcCommands, trigger_id: int) -> bool:
        """Whether this is the trigger that stood there before the PLC wrote zeros."""
        name = commands.trigger_part_id
        now = trigger_id, digest(name) if name else bytes(16)
        same = self._zeroed and bool(name) and now == self._before_zero
        self._before_zero = now
        return same
