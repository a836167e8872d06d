"""Capture: from the camera to a frame in the ring, with triggers and challenge parts."""

from edgeinspect.pipeline.capture.camera_monitor import POLL_TIMEOUT_NS
from edgeinspect.pipeline.capture.camera_thread import CaptureThread
from edgeinspect.pipeline.capture.commands import CommandHandler
from edgeinspect.pipeline.capture.rules import capture_rules
from edgeinspect.pipeline.capture.triggers import PendingTrigger

__all__ = [
    # camera monitor
    "POLL_TIMEOUT_NS",
    # camera thread
    "CaptureThread",
    # commands
    "CommandHandler",
    # rules
    "capture_rules",
    # triggers
    "PendingTrigger",
]
