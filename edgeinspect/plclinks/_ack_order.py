"""Which result the PLC can have meant by an id: the one it had been shown when it wrote the id.

A value stands where it was written until another one comes, so an id that is found there may
be years old. Where a link's memory is new, only the order of reading and writing tells.
"""

from __future__ import annotations


class AckTracker:
    """The order of one PLC's acknowledgements and of the images that reach it."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._ack: int | None = None
        self._revision_at_ack = -1

    def revision_at_ack(self, ack: int | None, delivered_revision: int) -> int:
        """The revision that had reached the PLC when it wrote this id; `PlcCommands.ack_after`.

        Args:
            ack: What stands there now; None if it was never written.
            reached: Revision of the newest image that has reached the PLC by now, but not
                later than it could have read it before it wrote; -1 for none.
        """
        if ack != self._ack:
            self._ack, self._revision_at_ack = ack, delivered_revision
        return self._revision_at_ack
