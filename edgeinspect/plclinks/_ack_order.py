"""Which result the PLC can have meant by an id: the one it had been shown when it wrote the id.

A value stands where it was written until another one comes, so an id that is found there may
be years old. Where a link's memory is new, only the order of reading and writing tells.
"""

from __future__ import annotations


class AckTracker:
    """Relates a PLC's acknowledgements to the images that had reached it.

    An id stays in its register until the next one is written, so the id that is found there
    may be years old. A link that was just started can tell only by the order of reads and
    writes.
    """

    def __init__(self) -> None:
        self._ack: int | None = None
        self._revision_at_ack = -1

    def revision_at_ack(self, ack: int | None, delivered_revision: int) -> int:
        """Return the revision that had reached the PLC when it wrote `ack`.

        Args:
            ack: The acknowledged id; None if the PLC never wrote one.
            delivered_revision: Revision of the newest image that the PLC can have read before
                it wrote; -1 for none.
        """
        if ack != self._ack:
            self._ack, self._revision_at_ack = ack, delivered_revision
        return self._revision_at_ack
