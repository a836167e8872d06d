"""Decides which trigger id requests a frame. Pure: time and the PLC's inputs are arguments.

    the id is unchanged                     nothing
    the first one since this start          refused: it may be hours old
    0, not after 65535                      refused: a restarting PLC writes zeros
    an id and part received before          refused: stored by the PLC, or another writer's
    the next one after that, if it came     refused: it may be as old
      after a silence
    torn, or an invalid part id             refused
    too old, or of unknown age              refused
    else                                    requested, until it is too old

A refusal is an answer, so the PLC knows that the part is not inspected, and ejects it. A
trigger that was answered before this start needs no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeinspect.domain import PlcCommands, TriggerRefusal
from edgeinspect.services.gateway.part_memory import LastTrigger, TriggerState

_LAST_ID = 0xFFFF


@dataclass(frozen=True, slots=True)
class TriggerAnswer:
    """The answer to one trigger, as the PLC sees it."""

    trigger_id: int
    refused: bool
    refusal: TriggerRefusal = TriggerRefusal.NONE


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """A trigger to be forwarded to the line."""

    trigger_id: int
    commands: PlcCommands
    expires_at_ns: int
    """Monotonic; from then on no frame may be exposed for it."""


class TriggerValidator:
    """Checks each trigger id that the PLC writes. For one thread."""

    def __init__(
        self,
        last: LastTrigger | None,
        max_age_ns: int,
        is_repeat: Callable[[int, str], bool] = lambda _trigger_id, _part_id: False,
    ) -> None:
        """Start without a trigger received.

        Args:
            last: The last trigger before this start; None if not known.
            max_age_ns: Longest time from the PLC's request to the exposure.
            is_repeat: Returns whether a trigger of this id and part was received before;
                called once for each, and records it.
        """
        self.initial_answer = (
            TriggerAnswer(last.trigger_id, last.state is not TriggerState.ACCEPTED, last.refusal)
            if last is not None
            else TriggerAnswer(0, False)
        )
        """The answer to the last trigger before this start."""
        self._max_age_ns = max_age_ns
        self._last_id = None if last is None else last.trigger_id
        self._is_repeat = is_repeat
        self._has_received = False
        self._is_uncertain = False
        """The previous trigger was a repeat after a silence: two writers alternate, and what
        the other one writes now may be as old."""

    def check(self, commands: PlcCommands, now_ns: int) -> FrameRequest | TriggerAnswer | None:
        """Return the answer or the request for a new trigger id; None if it is unchanged."""
        trigger_id, since_ns = commands.trigger_id, commands.trigger_since_ns
        if trigger_id is None:
            return None
        has_received, self._has_received = self._has_received, True
        previous_id, self._last_id = self._last_id, trigger_id
        if trigger_id == previous_id:
            return None
        restarted = trigger_id == 0 and previous_id != _LAST_ID
        was_uncertain, self._is_uncertain = self._is_uncertain, False
        if commands.trigger_problem is not TriggerRefusal.NONE:
            return TriggerAnswer(trigger_id, True, commands.trigger_problem)
        part_id = commands.trigger_part_id
        is_repeat = bool(part_id) and not restarted and self._is_repeat(trigger_id, part_id)
        stale = since_ns is None or now_ns >= since_ns + self._max_age_ns
        self._is_uncertain = is_repeat and (stale or was_uncertain)
        if since_ns is None or not has_received or restarted or is_repeat or stale or was_uncertain:
            return TriggerAnswer(trigger_id, True, TriggerRefusal.STALE)
        expires_at_ns = since_ns + self._max_age_ns
        return FrameRequest(trigger_id, commands, expires_at_ns)
