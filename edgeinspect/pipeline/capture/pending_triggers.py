"""Which seq a triggered frame got: the trigger is asked for in one thread, its frame comes in
another. The part itself is the link: a camera hands on the very object it was triggered with.
"""

from __future__ import annotations

from edgeinspect.domain.frame import Part

_HELD_MAX = 1024


class Ticket:
    """One trigger that somebody waits for. `seq` is set once, by the capture thread."""

    __slots__ = ("part", "seq")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.seq: int | None = None
        """The verdict that will judge its frame; None as long as no frame came."""


class Tickets:
    """Triggers of one camera without a frame yet. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def issue(self, part: Part) -> Ticket:
        """Take a part down before its trigger is sent. The oldest of too many is forgotten."""
        if len(self._waiting) >= _HELD_MAX:
            self._waiting.pop(next(iter(self._waiting)), None)
        ticket = self._waiting[id(part)] = Ticket(part)  # held, so nobody else gets its id
        return ticket

    def stamp(self, part: Part, seq: int) -> None:
        """A frame was opened."""
        ticket = self._waiting.pop(id(part), None)
        if ticket is not None:
            ticket.seq = seq

    def cancel(self, ticket: Ticket) -> None:
        """Its trigger was refused."""
        self._waiting.pop(id(ticket.part), None)
