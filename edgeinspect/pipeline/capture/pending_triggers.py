"""Which seq a triggered frame got: the trigger is asked for in one thread, its frame comes in
another. The part itself is the link: a camera hands on the very object it was triggered with.
"""

from __future__ import annotations

from edgeinspect.domain import Part

_PENDING_MAX = 1024


class PendingTrigger:
    """One trigger that somebody waits for. `seq` is set once, by the capture thread."""

    __slots__ = ("part", "seq")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.seq: int | None = None
        """The verdict that will judge its frame; None as long as no frame came."""


class PendingTriggers:
    """Triggers of one camera without a frame yet. Thread-safe."""

    def __init__(self) -> None:
        self._pending: dict[int, PendingTrigger] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, part: Part) -> PendingTrigger:
        """Take a part down before its trigger is sent. The oldest of too many is forgotten."""
        if len(self._pending) >= _PENDING_MAX:
            self._pending.pop(next(iter(self._pending)), None)
        ticket = self._pending[id(part)] = PendingTrigger(part)  # held, so nobody else gets its id
        return ticket

    def resolve(self, part: Part, seq: int) -> None:
        """A frame was opened."""
        ticket = self._pending.pop(id(part), None)
        if ticket is not None:
            ticket.seq = seq

    def cancel(self, pending: PendingTrigger) -> None:
        """Its trigger was refused."""
        self._pending.pop(id(pending.part), None)
