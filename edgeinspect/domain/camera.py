"""Counters of a camera."""

from __future__ import annotations

import msgspec

from edgeinspect.domain.numbers import Int64


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
