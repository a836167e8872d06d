"""The inputs that clients have written by name, for protocols with named values.

One call of `write` is one write of a client. A trigger is the id, part and encoder of one
write. A part or encoder left from another write belongs to another part: the trigger is torn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from edgeinspect.domain import PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._input_age import LastTriggerIds, PeerActivity

_PYTHON_TYPES: dict[str, type] = {
    **{bit.name: bool for bit in _register_map.COMMAND_BITS},
    **{
        tag.name: str if tag.type == "text" else int
        for tag in _register_map.INPUT_TAGS
        if tag.type != "bits"
    },
}
_PART_TAGS = ("TriggerEncoder", "TriggerPartId")


class NamedInputs:
    """The inputs of one link. For one thread or event loop; `commands` may be called from any."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._values: dict[str, _register_map.TagValue] = {}
        self._commands = PlcCommands()
        self._last_trigger_ids = LastTriggerIds()

    def write(
        self, peer: PeerActivity, values: Mapping[str, object], rejected_names: Collection[str] = ()
    ) -> None:
        """Process one write of one client.

        Args:
            peer: Of its session; `record_message` has been called.
            values: By tag name; an unknown name or a wrong type is ignored.
            rejected_names: Names in the same write that were rejected.
        """
        accepted = {
            name: value
            for name, value in values.items()
            if isinstance(value, bool | int | str) and type(value) is _PYTHON_TYPES.get(name)
        }
        rejected = {name for name in (*rejected_names, *values) if name not in accepted}
        self._values.update(accepted)
        now = _register_codec.commands_from_values(self._values)
        before, trigger_id = self._commands, accepted.get("TriggerId")
        is_new = isinstance(trigger_id, int) and self._last_trigger_ids.is_changed_by(
            peer, trigger_id
        )
        since_ns = peer.record_trigger() if isinstance(trigger_id, int) else None
        if is_new and trigger_id != before.trigger_id:
            left = {name for name in _PART_TAGS if name not in accepted and self._values.get(name)}
            problem = now.trigger_problem
            if "TriggerPartId" in rejected:
                problem = TriggerRefusal.PART_ID
            elif left or rejected & set(_PART_TAGS):
                problem = TriggerRefusal.TORN
            self._commands = replace(now, trigger_problem=problem, trigger_since_ns=since_ns)
        else:
            self._commands = replace(
                before, enable=now.enable, fault_reset=now.fault_reset, results_ack=now.results_ack
            )

    def commands(self) -> PlcCommands:
        """Return the commands now in force."""
        return self._commands
