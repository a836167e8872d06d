"""Frame ids that never go back: the counter on the wire has 16 bits and leaves out zero."""

from __future__ import annotations


class WrappingCounter:
    """Continues a wrapping counter. For one thread.

    GigE Vision 1 counts 1 to 65535 and then 1 again; zero means "no frame". A device that
    counts in 64 bits has `wraps_at` 0.
    """

    def __init__(self, max_value: int) -> None:
        self._max_value = max_value
        self._last = 0
        self._has_started = False

    def unwrap(self, wrapped: int) -> int:
        """The count without wraps: the nearest one to the last that looks like `wire_id`."""
        count = wrapped
        if self._max_value and self._has_started:
            turns = round((self._last - wrapped) / self._max_value)
            count = wrapped + max(turns, 0) * self._max_value
        if not self._has_started or count > self._last:
            self._last = count
        self._has_started = True
        return count
