"""Which trigger id is a request for a frame. Pure: time and the PLC's words are arguments.

    id as before                        nothing
    the first since this start          refused: it may have stood there for hours
    0, but after 65535                  refused: a PLC that begins again writes zeros
    an id and its part once more        refused: a memory of the PLC, or somebody else's
    the one behind it, after a silence  refused: it may have stood there as long
    torn, or a part that has no name    refused
    older than it may be, or unknown    refused
    else                                asked for, until its age is used up

Refused is an answer, so a part that is not inspected is known not to be, and is ejected. A
trigger that is known from before this start needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeinspect.domain import PlcCommands, TriggerRefusal
from edgeinspect.services.gateway.part_memory import LastTrigger, TriggerState

_LAST_ID = 0xFFFF


@dataclass(frozen=True, slots=True)
class TriggerAnswer:
    """What the PLC is told of one trigger."""

    trigger_id: int
    refused: bool
    refusal: TriggerRefusal = TriggerRefusal.NONE


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """A trigger that the line must be asked for."""

    trigger_id: int
    commands: PlcCommands
    expires_at_ns: int
    """Monotonic; no frame is taken from here on."""


class TriggerValidator:
    """Hears what the PLC wrote. For one thread."""

    def __init__(
        self,
        last: LastTrigger | None,
        max_age_ns: int,
        is_repeat: Callable[[int, str], bool] = lambda _trigger_id, _part_id: False,
    ) -> None:
        """Nothing is heard yet.

        Args:
            last: Handled before this start; None if nothing is known.
            max_age_ns: From the PLC's wish to the frame.
            is_again: Whether a trigger of this id and part was heard before; called once for
                each, and remembers it.
        """
        self.initial_answer = (
            TriggerAnswer(last.trigger_id, last.state is not TriggerState.ACCEPTED, last.refusal)
            if last is not None
            else TriggerAnswer(0, False)
        )
        """Where it begins."""
        self._max_age_ns = max_age_ns
        self._last_id = None if last is None else last.trigger_id
        self._is_repeat = is_repeat
        self._has_received = False
        self._is_uncertain = False
        """The trigger before this one came again after a silence: two memories take turns, and
        what the other says now may have stood there as long."""

    def check(self, commands: PlcCommands, now_ns: int) -> FrameRequest | TriggerAnswer | None:
        """What to do about what the PLC wrote last; None if it is known already."""
        trigger_id, since_ns = commands.trigger_id, commands.trigger_since_ns
        if trigger_id is None:
            return None
        heard, self._has_received = self._has_received, True
        before, self._last_id = self._last_id, trigger_id
        if trigger_id == before:
            return None
        restarted = trigger_id == 0 and before != _LAST_ID
        in_doubt, self._is_uncertain = self._is_uncertain, False
        if commands.trigger_problem is not TriggerRefusal.NONE:
            return TriggerAnswer(trigger_id, True, commands.trigger_problem)
        part_id = commands.trigger_part_id
        again = bool(part_id) and not restarted and self._is_repeat(trigger_id, part_id)
        stale = since_ns is None or now_ns >= since_ns + self._max_age_ns
        self._is_uncertain = again and (stale or in_doubt)
        if since_ns is None or not heard or restarted or again or stale or in_doubt:
            return TriggerAnswer(trigger_id, True, TriggerRefusal.STALE)
        expires_at_ns = since_ns + self._max_age_ns
        return FrameRequest(trigger_id, commands, expires_at_ns)
