"""What a camera can say of itself beside its frames."""

from __future__ import annotations

import msgspec

from edgeinspect.domain.numbers import Int64


class CameraCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one camera counted since it was built, over all its connections."""

    frames: Int64 = 0
    """Whole frames handed over."""
    incomplete: Int64 = 0
    """Frames of which a part never arrived; each is a NO_VERDICT(capture_lost)."""
    missing: Int64 = 0
    """Frames that the camera counted and that never came at all; the same."""
    unanswered: Int64 = 0
    """Triggers without a frame in time; the same."""
    late: Int64 = 0
    """Buffers that came after their frame's verdict was given, or a second time; dropped."""
    resends: Int64 = 0
    """Packets that were asked for again and came."""
    underruns: Int64 = 0
    """Frames that found no free buffer; they are among `missing` too."""
    copied_bytes: Int64 = 0
    """Bytes written to convert frames; 0 as long as each frame is the camera's own buffer."""
    temperature_c: float | None = None
    """The camera's own temperature, where it offers one."""
