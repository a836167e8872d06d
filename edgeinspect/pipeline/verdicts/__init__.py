"""Verdicts: open frames, the closer, the deadline guard."""

from edgeinspect.pipeline.verdicts.closer import (
    Measurements,
    Provenance,
    SlotTimings,
    VerdictCloser,
    VerdictCounters,
    restart_verdict,
)
from edgeinspect.pipeline.verdicts.deadline_guard import DeadlineGuard
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue, OpenFrame

__all__ = [
    # closer
    "Measurements",
    "Provenance",
    "SlotTimings",
    "VerdictCloser",
    "VerdictCounters",
    "restart_verdict",
    # deadline guard
    "DeadlineGuard",
    # open frames
    "FrameQueue",
    "OpenFrame",
]
