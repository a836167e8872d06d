"""Capture: from the camera to a frame in the ring, triggers included."""

from edgeinspect.pipeline.capture.camera_monitor import POLL_TIMEOUT_NS
from edgeinspect.pipeline.capture.camera_thread import CaptureThread
from edgeinspect.pipeline.capture.commands import CommandHandler
from edgeinspect.pipeline.capture.pending_triggers import PendingTrigger
from edgeinspect.pipeline.capture.rules import capture_rules

__all__ = [
    # camera monitor
    "POLL_TIMEOUT_NS",
    # camera thread
    "CaptureThread",
    # commands
    "CommandHandler",
    # pending triggers
    "PendingTrigger",
    # rules
    "capture_rules",
]
