"""Counters of a camera, and gaps in its frame counter."""

from __future__ import annotations

import msgspec

from edgeinspect.domain.numbers import Int64

FRAME_NOT_RECEIVED = "counted by the camera, not received"
"""Problem of a frame that shows only as a gap in the frame counter."""
_GAP_FRAMES_MAX = 1000
"""A larger step of a frame counter is a restart of the counter, not lost frames."""


class FrameGapDetector:
    """Detects gaps in the frame counter of one camera. For one thread."""

    def __init__(self) -> None:
        self.last_id = 0
        """Id of the last frame; 0 before the first."""
        self._is_first = True

    def reset(self) -> None:
        """Accept any next id: the camera was opened again, and may count from the beginning."""
        self.last_id, self._is_first = 0, True

    def is_repeated(self, frame_id: int) -> bool:
        """Return True for a frame that is not newer than the last one."""
        return not self._is_first and -_GAP_FRAMES_MAX < frame_id - self.last_id <= 0

    def missing_ids(self, frame_id: int) -> range:
        """Return the ids between the last frame and this one, which becomes the last."""
        last = frame_id if self._is_first else self.last_id
        self.last_id, self._is_first = frame_id, False
        return range(last + 1, frame_id if frame_id - last <= _GAP_FRAMES_MAX else last + 1)


class CameraCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one camera since it was built, over all its connections."""

    frames: Int64 = 0
    """Complete frames that were delivered."""
    incomplete: Int64 = 0
    """Frames that arrived incomplete; each is a NO_VERDICT(capture_lost)."""
    missing: Int64 = 0
    """Frames that the camera counted and that did not arrive; the same."""
    unanswered: Int64 = 0
    """Triggers without a frame in time; the same."""
    late: Int64 = 0
    """Buffers that arrived after their frame's verdict, or twice; dropped."""
    resends: Int64 = 0
    """Packets that were requested again and arrived."""
    underruns: Int64 = 0
    """Frames without a free buffer; counted in `missing` as well."""
    copied_bytes: Int64 = 0
    """Bytes that were copied to convert frames; 0 while each frame is the camera's own buffer."""
    temperature_c: float | None = None
    """Temperature of the camera; None if it has no sensor."""
