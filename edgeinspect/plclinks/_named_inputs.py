"""What clients wrote by name since the memory began, for protocols whose inputs have names.

One call here is one write of a client. A trigger is what one write says: its id, and the part
and the encoder that stand in the same write. What stands there from another write belongs to
another part, and the trigger is torn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from edgeinspect.domain import PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._input_age import PeerActivity

_PYTHON_TYPES: dict[str, type] = {
    **{bit.name: bool for bit in _register_map.COMMAND_BITS},
    **{
        tag.name: str if tag.type == "text" else int
        for tag in _register_map.INPUT_TAGS
        if tag.type != "bits"
    },
}
_PEERS_MAX = 256
_PART_TAGS = ("TriggerEncoder", "TriggerPartId")


class NamedInputs:
    """For one thread, or one event loop. `commands` may be called from any."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._values: dict[str, _register_map.TagValue] = {}
        self._commands = PlcCommands()
        self._last_trigger_ids: dict[int, tuple[PeerActivity, int]] = {}

    def write(
        self, peer: PeerActivity, values: Mapping[str, object], rejected_names: Collection[str] = ()
    ) -> None:
        """One write of one client.

        Args:
            contact: Of its session; `receive` has been called.
            values: By the map's names; a name or a type that is none is passed over.
            refused: Names in the same write that could not be taken.
        """
        taken = {
            name: value
            for name, value in values.items()
            if isinstance(value, bool | int | str) and type(value) is _PYTHON_TYPES.get(name)
        }
        bad = {name for name in (*rejected_names, *values) if name not in taken}
        self._values.update(taken)
        now = _register_map.commands_from_values(self._values)
        before, trigger_id = self._commands, taken.get("TriggerId")
        new = isinstance(trigger_id, int) and self._is_changed_by(peer, trigger_id)
        since_ns = peer.record_trigger() if isinstance(trigger_id, int) else None
        if new and trigger_id != before.trigger_id:
            torn = any(
                name in bad or (name not in taken and self._values.get(name)) for name in _PART_TAGS
            )
            problem = TriggerRefusal.TORN if torn else now.trigger_problem
            if "TriggerPartId" in bad:
                problem = TriggerRefusal.PART_ID
            self._commands = replace(now, trigger_problem=problem, trigger_since_ns=since_ns)
        else:
            self._commands = replace(
                before, enable=now.enable, fault_reset=now.fault_reset, results_ack=now.results_ack
            )

    def commands(self) -> PlcCommands:
        """What counts now."""
        return self._commands

    def _is_changed_by(self, peer: PeerActivity, trigger_id: int) -> bool:
        """Whether this client changed it; what another one wrote is no change of its own."""
        _held, last = self._last_trigger_ids.get(id(peer), (peer, None))
        if len(self._last_trigger_ids) >= _PEERS_MAX:
            self._last_trigger_ids.pop(next(iter(self._last_trigger_ids)))
        self._last_trigger_ids[id(peer)] = peer, trigger_id  # held, so nobody else gets its id
        return last != trigger_id
