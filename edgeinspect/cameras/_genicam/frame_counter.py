"""Frame ids that never go back: the counter on the wire has 16 bits and leaves out zero."""

from __future__ import annotations


class FrameCount:
    """Continues a wrapping counter. For one thread.

    GigE Vision 1 counts 1 to 65535 and then 1 again; zero means "no frame". A device that
    counts in 64 bits has `wraps_at` 0.
    """

    def __init__(self, wraps_at: int) -> None:
        self._wraps_at = wraps_at
        self._last = 0
        self._known = False

    def unwrap(self, wire_id: int) -> int:
        """The count without wraps: the nearest one to the last that looks like `wire_id`."""
        count = wire_id
        if self._wraps_at and self._known:
            turns = round((self._last - wire_id) / self._wraps_at)
            count = wire_id + max(turns, 0) * self._wraps_at
        if not self._known or count > self._last:
            self._last = count
        self._known = True
        return count
