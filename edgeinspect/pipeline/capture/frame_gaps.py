"""Frames that a camera counted and nobody got."""

from __future__ import annotations

GAP_FRAMES_MAX = 1000
"""Most frames that one step of a camera's count is taken for: a larger one is a restart."""


class FrameGapDetector:
    """Follows the count of one camera. For its capture thread."""

    def __init__(self) -> None:
        self.last_id = 0
        """Of the last frame; 0 before the first."""

    def reset(self) -> None:
        """The camera was opened again and may count anew."""
        self.last_id = 0

    def missing_ids(self, frame_id: int) -> range:
        """The ids between the last frame and this one, which is the last one from now on."""
        last, self.last_id = self.last_id, frame_id
        if not last or not 1 < frame_id - last <= GAP_FRAMES_MAX:
            return range(0)
        return range(last + 1, frame_id)
